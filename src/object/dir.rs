//! Objects in directories: the `dir:` store, and files named on the command line.

use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use walkdir::WalkDir;

use super::{Body, ObjectError, ObjectName, Opened};

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

    /// The keys below a prefix, in order. A name that is not UTF-8 is no key and an error: it could not be told from another.
    pub(super) fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, String> {
        let root = self.root.join(bucket);
        let mut keys = Vec::new();
        for entry in WalkDir::new(&root).follow_links(true) {
            let entry = entry.map_err(|error| error.to_string())?;
            if !entry.file_type().is_file() {
                continue;
            }
            let below = entry.path().strip_prefix(&root).ok().and_then(key_of);
            let key = below.ok_or_else(|| format!("the name {} is not UTF-8", entry.path().display()))?;
            if key.starts_with(prefix) {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        Ok(keys)
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
}
