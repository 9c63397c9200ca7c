//! Objects in directories: the `dir:` store, and files named on the command line.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use walkdir::{DirEntry, WalkDir};

use elb_log::key::{DirectoryMatch, TimeRange};
use elb_log::origin::ObjectName;

use super::{Body, Listed, ObjectError, Opened};

/// How much is read at once.
const CHUNK_BYTES: usize = 128 * 1024;

/// A directory whose sub-directories are buckets, for trying things without S3.
#[derive(Clone, Debug)]
pub struct DirStore {
    root: PathBuf,
}

impl DirStore {
    /// A store in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DirStore { root: root.into() }
    }

    pub(super) async fn open(&self, name: &ObjectName) -> Result<Opened, ObjectError> {
        open(name, &self.path(name)?).await
    }

    /// The objects below a prefix, in the order of keys, and whether directories were left out because of the time. A name that
    /// is not UTF-8 is no key and an error: it could not be told from another.
    pub(super) fn list<'a>(
        &self,
        bucket: &str,
        prefix: &'a str,
        period: &'a TimeRange,
        left_out: &'a AtomicBool,
    ) -> impl Iterator<Item = Result<Listed, String>> + use<'a> {
        let root = self.root.join(bucket);
        let walk = WalkDir::new(&root).follow_links(true).sort_by(|one, other| key_order(one).cmp(&key_order(other)));
        let top = root.clone();
        let of_time = walk.into_iter().filter_entry(move |entry| {
            let below = entry.path().strip_prefix(&top).ok().filter(|_| entry.file_type().is_dir()).and_then(key_of);
            let Some(directory) = below.filter(|below| !below.is_empty()).map(|below| below + "/") else { return true };
            if !directory.starts_with(prefix) && !prefix.starts_with(&directory) {
                return false;
            }
            let leave_out = period.visit(&directory) == DirectoryMatch::Outside;
            left_out.fetch_or(leave_out, Ordering::Relaxed);
            !leave_out
        });
        of_time
            .filter_map(move |entry| listed(&root, entry).transpose())
            .filter(move |listed| listed.as_ref().map_or(true, |object| object.key.starts_with(prefix)))
    }

    /// Keys come from notifications, so one that leads out of its bucket is refused.
    pub(super) fn path(&self, name: &ObjectName) -> Result<PathBuf, ObjectError> {
        let stays_inside = |text: &str| {
            let mut components = Path::new(text).components();
            !text.is_empty() && components.all(|component| matches!(component, Component::Normal(_)))
        };
        if stays_inside(&name.bucket) && stays_inside(&name.key) {
            Ok(self.root.join(&name.bucket).join(&name.key))
        } else {
            Err(ObjectError::BadName { name: name.clone(), directory: self.root.display().to_string() })
        }
    }
}

/// A directory's name with a slash behind it, as it stands in keys.
pub fn key_order(entry: &DirEntry) -> Vec<u8> {
    let mut name = entry.file_name().as_encoded_bytes().to_vec();
    if entry.file_type().is_dir() {
        name.push(b'/');
    }
    name
}

/// None for what is no file.
fn listed(root: &Path, entry: walkdir::Result<DirEntry>) -> Result<Option<Listed>, String> {
    let entry = entry.map_err(|error| error.to_string())?;
    if !entry.file_type().is_file() {
        return Ok(None);
    }
    let key = entry.path().strip_prefix(root).ok().and_then(key_of);
    let key = key.ok_or_else(|| format!("the name {} is not UTF-8", entry.path().display()))?;
    let bytes = entry.metadata().map_err(|error| error.to_string())?.len();
    Ok(Some(Listed { key, bytes, archived: false }))
}

/// A path below a bucket as a key.
pub fn key_of(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

pub(super) async fn open(name: &ObjectName, path: &Path) -> Result<Opened, ObjectError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ObjectError::NotFound { name: name.clone() },
        _ => ObjectError::Unreadable { name: name.clone(), at: 0, detail: error.to_string() },
    };
    let file = File::open(path).await.map_err(failed)?;
    let metadata = file.metadata().await.map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let modified = metadata.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_default();
    // A pipe has no length of its own.
    let length = metadata.is_file().then_some(metadata.len());
    Ok(Opened { body: Body::File(file), etag: None, length, modified })
}

pub(super) async fn chunk(file: &mut File) -> io::Result<Option<Bytes>> {
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    let read = file.read_buf(&mut buffer).await?;
    Ok((read > 0).then(|| buffer.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_lead_out_of_its_bucket() {
        let path = |bucket: &str, key: &str| {
            let name = ObjectName { bucket: bucket.to_owned(), key: key.to_owned() };
            DirStore::new("root").path(&name).map(|path| path.display().to_string()).ok()
        };
        assert_eq!(path("logs", "a/b c+d.log"), Some("root/logs/a/b c+d.log".to_owned()));
        assert_eq!(path("logs", "../secret"), None);
        assert_eq!(path("logs", "a/../../secret"), None);
        assert_eq!(path("logs", "/etc/passwd"), None);
        assert_eq!(path("..", "secret"), None);
        assert_eq!(path("", "secret"), None);
        assert_eq!(path("logs", ""), None);
    }

    #[test]
    fn keys_come_in_their_order_and_only_below_the_prefix() {
        let root = tempfile::tempdir().unwrap();
        let dated = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03";
        let keys = [format!("{dated}/02/x.log"), "a-b".to_owned(), "a/b".to_owned(), "a/c/d".to_owned(), "a0".to_owned()];
        for key in keys.iter().chain([&format!("{dated}/09/x.log")]) {
            let path = root.path().join("logs").join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "four").unwrap();
        }
        let since = "2026-03-02T00:00:00Z".parse().ok();
        let period = TimeRange { since, until: "2026-03-03T00:00:00Z".parse().ok() };
        let list = |prefix: &str| {
            let left_out = AtomicBool::new(false);
            let store = DirStore::new(root.path());
            let listed: Vec<Listed> = store.list("logs", prefix, &period, &left_out).map(Result::unwrap).collect();
            assert!(listed.iter().all(|object| object.bytes == 4));
            (listed.into_iter().map(|object| object.key).collect::<Vec<_>>(), left_out.into_inner())
        };
        assert_eq!(list(""), (keys.to_vec(), true));
        assert_eq!(list("a/"), (keys[2..4].to_vec(), false));
        assert_eq!(list("a/c/"), (keys[3..4].to_vec(), false));
        assert_eq!(list("nothing/"), (Vec::new(), false));
    }
}
