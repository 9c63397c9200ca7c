//! Objects in directories: the store `dir:PATH`, and files named on the command line.

use std::io;
use std::path::{Component, Path, PathBuf};

use elb_log::origin::ObjectName;
use tokio::fs::File;
use walkdir::DirEntry;

use super::body::{Body, OpenedObject};
use super::error::ObjectError;

/// A directory whose sub-directories are buckets, for trying things without S3.
#[derive(Clone, Debug)]
pub struct DirStore {
    root: PathBuf,
}

impl DirStore {
    /// Creates a store in the directory `root`.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        DirStore { root: root.into() }
    }

    pub(super) async fn open(&self, name: &ObjectName) -> Result<OpenedObject, ObjectError> {
        open(name, &self.file_path(name)?).await
    }

    pub(super) fn bucket_path(&self, bucket: &str) -> PathBuf {
        self.root.join(bucket)
    }

    /// Returns the path of an object's file. Keys come from notifications, so a key that leads out of its bucket is rejected.
    pub(super) fn file_path(&self, name: &ObjectName) -> Result<PathBuf, ObjectError> {
        let stays_inside = |text: &str| {
            let mut components = Path::new(text).components();
            !text.is_empty() && components.all(|component| matches!(component, Component::Normal(_)))
        };
        if stays_inside(&name.bucket) && stays_inside(&name.key) {
            Ok(self.root.join(&name.bucket).join(&name.key))
        } else {
            Err(ObjectError::InvalidName { name: name.clone(), directory: self.root.display().to_string() })
        }
    }
}

/// Begins to read a file.
pub(super) async fn open(name: &ObjectName, path: &Path) -> Result<OpenedObject, ObjectError> {
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
    // The length of a pipe is unknown.
    let length = metadata.is_file().then_some(metadata.len());
    Ok(OpenedObject { body: Body::File(file), etag: None, length, modified })
}

/// Returns the bytes by which to sort the entries of a directory, so that files come in the order of their keys: in a key, the
/// name of a directory is followed by a slash.
pub fn key_order(entry: &DirEntry) -> Vec<u8> {
    let mut name = entry.file_name().as_encoded_bytes().to_vec();
    if entry.file_type().is_dir() {
        name.push(b'/');
    }
    name
}

/// Returns the key of a path below a bucket, or none if the path is not UTF-8.
pub fn key_of(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_keys_that_lead_out_of_their_bucket() {
        let path = |bucket: &str, key: &str| {
            let name = ObjectName { bucket: bucket.to_owned(), key: key.to_owned() };
            DirStore::new("root").file_path(&name).map(|path| path.display().to_string()).ok()
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
