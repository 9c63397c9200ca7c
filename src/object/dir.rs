//! Objects in directories: the store `dir:PATH`, and files named on the command line.

use std::fs::{FileType, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};

use elb_log::origin::ObjectName;
use tokio::fs::File;
use walkdir::DirEntry;

use super::body::{Body, OpenedObject};
use super::error::ObjectError;
use super::stream;

/// A directory whose sub-directories are buckets, for trying things without S3.
#[derive(Clone, Debug)]
pub struct DirStore {
    root: PathBuf,
}

impl DirStore {
    /// Creates a store in the directory `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DirStore { root: root.into() }
    }

    pub(super) async fn open(&self, name: &ObjectName) -> Result<OpenedObject, ObjectError> {
        open_file(name, &self.file_path(name)?).await
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

/// Begins to read a regular file. Opening a FIFO would block until another process writes to it, and opening a device can change
/// its state, so the type is checked before.
pub(super) async fn open_file(name: &ObjectName, path: &Path) -> Result<OpenedObject, ObjectError> {
    if let Some(found) = special_type(metadata(name, path).await?.file_type()) {
        return Err(ObjectError::NotAFile { name: name.clone(), found });
    }
    let file = File::open(path).await.map_err(|error| open_error(name, &error))?;
    // The path can name another file by now.
    let metadata = file.metadata().await.map_err(|error| open_error(name, &error))?;
    Ok(OpenedObject { body: Body::File(file), etag: None, length: Some(metadata.len()), modified: modified(&metadata) })
}

/// Begins to read a path that the user has named. It can also be a FIFO or a device, for example `/dev/stdin`.
pub(super) async fn open_named(name: &ObjectName, path: &Path) -> Result<OpenedObject, ObjectError> {
    let metadata = metadata(name, path).await?;
    if special_type(metadata.file_type()).is_none() {
        return open_file(name, path).await;
    }
    let path = path.to_owned();
    let chunks = stream::read_in_thread(|| std::fs::File::open(path)).map_err(|error| open_error(name, &error))?;
    Ok(OpenedObject { body: Body::Stream(chunks), etag: None, length: None, modified: modified(&metadata) })
}

/// Begins to read standard input. Its path `/dev/stdin` cannot be opened if it is a socket.
pub(super) async fn open_stdin(name: &ObjectName) -> Result<OpenedObject, ObjectError> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let stdin = stdin.map_err(|error| open_error(name, &error))?;
    let modified = stdin.metadata().map(|metadata| modified(&metadata)).unwrap_or_default();
    let chunks = stream::read_in_thread(|| Ok(stdin)).map_err(|error| open_error(name, &error))?;
    Ok(OpenedObject { body: Body::Stream(chunks), etag: None, length: None, modified })
}

/// Returns the metadata of a file or a special file.
async fn metadata(name: &ObjectName, path: &Path) -> Result<Metadata, ObjectError> {
    let metadata = tokio::fs::metadata(path).await.map_err(|error| open_error(name, &error))?;
    if metadata.is_dir() {
        return Err(open_error(name, &io::ErrorKind::IsADirectory.into()));
    }
    Ok(metadata)
}

fn modified(metadata: &Metadata) -> jiff::Timestamp {
    metadata.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_default()
}

fn open_error(name: &ObjectName, error: &io::Error) -> ObjectError {
    match error.kind() {
        io::ErrorKind::NotFound => ObjectError::NotFound { name: name.clone() },
        _ => ObjectError::Unreadable { name: name.clone(), at: 0, detail: error.to_string() },
    }
}

/// Returns what a file is, unless it is a regular file.
fn special_type(file_type: FileType) -> Option<&'static str> {
    if file_type.is_file() {
        None
    } else if file_type.is_fifo() {
        Some("a FIFO")
    } else if file_type.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
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

    #[tokio::test]
    async fn refuses_a_fifo_a_socket_and_a_device_without_opening_them() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("logs");
        std::fs::create_dir(&directory).unwrap();
        nix::unistd::mkfifo(&directory.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(directory.join("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", directory.join("device")).unwrap();
        for (key, found) in [("fifo", "a FIFO"), ("socket", "a socket"), ("device", "a device")] {
            let name = ObjectName { bucket: "logs".to_owned(), key: key.to_owned() };
            let store = DirStore::new(root.path());
            let opened = tokio::time::timeout(std::time::Duration::from_secs(10), store.open(&name)).await;
            let error = opened.expect("an error at once; the file was opened").unwrap_err();
            let expected = format!("cannot read s3://logs/{key}: {found} is not a log object; remove it from the directory");
            assert_eq!((error.to_string(), error.is_permanent()), (expected, true));
        }
    }

    #[tokio::test]
    async fn a_file_has_its_length_and_its_time() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("logs/directory")).unwrap();
        let file = std::fs::File::create(root.path().join("logs/x.log")).unwrap();
        file.set_len(7).unwrap();
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_772_446_805);
        file.set_modified(modified).unwrap();
        let store = DirStore::new(root.path());
        let open = async |key: &str| store.open(&ObjectName { bucket: "logs".to_owned(), key: key.to_owned() }).await;
        let object = open("x.log").await.unwrap();
        assert_eq!((object.length, object.modified.to_string()), (Some(7), "2026-03-02T10:20:05Z".to_owned()));
        assert!(matches!(open("directory").await, Err(ObjectError::Unreadable { at: 0, .. })), "a directory was opened");
        assert!(matches!(open("missing").await, Err(ObjectError::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_named_path_can_be_a_fifo_and_not_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let name = ObjectName { bucket: String::new(), key: "fifo".to_owned() };
        let mut object = open_named(&name, &path).await.unwrap();
        let body = vec![b'x'; 1_000_000];
        let writer = std::thread::spawn({
            let body = body.clone();
            move || std::fs::write(path, body)
        });
        let mut read = Vec::new();
        while let Some(chunk) = object.body.next_chunk(&name, 0).await.unwrap() {
            read.extend(chunk);
        }
        writer.join().unwrap().unwrap();
        assert_eq!((read == body, object.length), (true, None), "the stream has other bytes");
        assert!(
            matches!(open_named(&name, root.path()).await, Err(ObjectError::Unreadable { at: 0, .. })),
            "a directory was opened"
        );
        assert!(matches!(open_named(&name, &root.path().join("missing")).await, Err(ObjectError::NotFound { .. })));
    }
}
