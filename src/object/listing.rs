//! Lists the objects below a prefix, without the directories of days outside a time range.

use std::collections::VecDeque;
use std::path::PathBuf;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{Object, ObjectStorageClass};
use elb_log::key::{DirectoryMatch, TimeRange};
use walkdir::{DirEntry, WalkDir};

use super::dir::{key_of, key_order};
use super::error::ListError;
use super::s3::{Pages, S3Store};
use super::s3_error::{S3Call, describe_s3_error};

/// The objects below a prefix, in the order of their keys. It holds a page of keys for each level of directories, so that a
/// listing of millions needs little memory.
#[derive(Debug)]
pub struct Listing {
    bucket: String,
    prefix: String,
    source: Source,
}

/// An object that a listing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The object's key.
    pub key: String,
    /// The object's length in bytes.
    pub bytes: u64,
    /// Whether the object must be restored from an archive before it can be read.
    pub archived: bool,
}

#[derive(Debug)]
enum Source {
    S3(Box<S3Listing>),
    Directory(Box<DirectoryListing>),
    Empty,
}

impl Listing {
    pub(super) fn in_s3(store: S3Store, bucket: &str, prefix: &str, time_range: TimeRange) -> Self {
        let source = Source::S3(Box::new(S3Listing::new(store, bucket, prefix, time_range)));
        Listing { source, ..Listing::empty(bucket, prefix) }
    }

    /// `root` is the bucket's directory.
    pub(super) fn in_directory(root: PathBuf, bucket: &str, prefix: &str, time_range: TimeRange) -> Self {
        let source = Source::Directory(Box::new(DirectoryListing::new(root, prefix, time_range)));
        Listing { source, ..Listing::empty(bucket, prefix) }
    }

    pub(super) fn empty(bucket: &str, prefix: &str) -> Self {
        Listing { bucket: bucket.to_owned(), prefix: prefix.to_owned(), source: Source::Empty }
    }

    /// Returns the next object, or none at the end.
    ///
    /// # Errors
    /// S3 or the file system cannot list the objects. In a directory, also a name that is not UTF-8: it is not a valid key, and
    /// two such names could become one key.
    pub async fn next(&mut self) -> Result<Option<ListedObject>, ListError> {
        let next = match &mut self.source {
            Source::S3(listing) => listing.next().await,
            Source::Directory(listing) => listing.next(),
            Source::Empty => Ok(None),
        };
        next.map_err(|detail| ListError { bucket: self.bucket.clone(), prefix: self.prefix.clone(), detail })
    }

    /// Returns whether directories have been left out so far because of the time range.
    pub fn left_out(&self) -> bool {
        match &self.source {
            Source::S3(listing) => listing.left_out,
            Source::Directory(listing) => listing.left_out,
            Source::Empty => false,
        }
    }
}

/// A depth-first walk through the directories of a bucket.
#[derive(Debug)]
struct S3Listing {
    store: S3Store,
    bucket: String,
    time_range: TimeRange,
    /// The prefix, until its first page is requested.
    start: Option<String>,
    /// The directories between the prefix and the next object.
    levels: Vec<Level>,
    left_out: bool,
}

#[derive(Debug)]
struct Level {
    pages: Pages,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
enum Entry {
    Object(ListedObject),
    /// The directory's prefix, which ends in a slash.
    Directory(String),
}

impl S3Listing {
    fn new(store: S3Store, bucket: &str, prefix: &str, time_range: TimeRange) -> Self {
        let (bucket, start) = (bucket.to_owned(), Some(prefix.to_owned()));
        S3Listing { store, bucket, time_range, start, levels: Vec::new(), left_out: false }
    }

    async fn next(&mut self) -> Result<Option<ListedObject>, String> {
        if let Some(prefix) = self.start.take() {
            self.descend(&prefix).await;
        }
        while let Some(level) = self.levels.last_mut() {
            match level.entries.pop_front() {
                Some(Entry::Object(object)) => return Ok(Some(object)),
                Some(Entry::Directory(directory)) => self.descend(&directory).await,
                None => match level.pages.next().await {
                    Some(page) => level.entries = entries(page.map_err(|error| describe_s3_error(S3Call::List, &error))?),
                    None => drop(self.levels.pop()),
                },
            }
        }
        Ok(None)
    }

    /// Enters a directory, unless it is outside the time range. A directory that is inside is listed with all below it.
    async fn descend(&mut self, prefix: &str) {
        let directory = &prefix[..prefix.rfind('/').map_or(0, |slash| slash + 1)];
        let delimiter = match self.time_range.match_directory(directory) {
            DirectoryMatch::Outside => {
                self.left_out = true;
                return;
            }
            DirectoryMatch::Inside => None,
            DirectoryMatch::Partial => Some("/"),
        };
        let pages = self.store.list_pages(&self.bucket, prefix, delimiter).await;
        self.levels.push(Level { pages, entries: VecDeque::new() });
    }
}

/// Returns the objects and directories of a page, in the order of their keys.
fn entries(page: ListObjectsV2Output) -> VecDeque<Entry> {
    let objects = page.contents.unwrap_or_default().into_iter().filter_map(s3_object).map(Entry::Object);
    let directories = page.common_prefixes.unwrap_or_default().into_iter().filter_map(|common| common.prefix);
    let mut entries: Vec<Entry> = objects.chain(directories.map(Entry::Directory)).collect();
    entries.sort_by(|one, other| one.key().cmp(other.key()));
    entries.into()
}

fn s3_object(object: Object) -> Option<ListedObject> {
    let archived = matches!(object.storage_class, Some(ObjectStorageClass::Glacier | ObjectStorageClass::DeepArchive));
    let bytes = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    Some(ListedObject { key: object.key?, bytes, archived })
}

impl Entry {
    fn key(&self) -> &str {
        match self {
            Entry::Object(object) => &object.key,
            Entry::Directory(directory) => directory,
        }
    }
}

/// A depth-first walk through the directory of a bucket.
#[derive(Debug)]
struct DirectoryListing {
    root: PathBuf,
    prefix: String,
    time_range: TimeRange,
    entries: walkdir::IntoIter,
    left_out: bool,
}

impl DirectoryListing {
    fn new(root: PathBuf, prefix: &str, time_range: TimeRange) -> Self {
        let walk = WalkDir::new(&root).follow_links(true).sort_by(|one, other| key_order(one).cmp(&key_order(other)));
        DirectoryListing { root, prefix: prefix.to_owned(), time_range, entries: walk.into_iter(), left_out: false }
    }

    fn next(&mut self) -> Result<Option<ListedObject>, String> {
        while let Some(entry) = self.entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => match self.broken_link(&error) {
                    // It is listed, because reading it is an error that names it.
                    Some(object) if object.key.starts_with(&self.prefix) => return Ok(Some(object)),
                    Some(_) => continue,
                    None => return Err(error.to_string()),
                },
            };
            if entry.file_type().is_dir() {
                if !self.descends_into(&entry) {
                    self.entries.skip_current_dir();
                }
            } else {
                // A FIFO or a device is listed too, because reading it is an error that names it.
                let object = self.object(&entry)?;
                if object.key.starts_with(&self.prefix) {
                    return Ok(Some(object));
                }
            }
        }
        Ok(None)
    }

    /// Returns the object of a symbolic link whose target does not exist, if that is the error.
    fn broken_link(&self, error: &walkdir::Error) -> Option<ListedObject> {
        let path = error.path().filter(|path| path.is_symlink())?;
        Some(ListedObject { key: key_of(path.strip_prefix(&self.root).ok()?)?, bytes: 0, archived: false })
    }

    /// Returns whether a directory is in the prefix, or contains it, and is not outside the time range. A directory whose name
    /// is not UTF-8 is entered, because its files are errors.
    fn descends_into(&mut self, entry: &DirEntry) -> bool {
        let below = entry.path().strip_prefix(&self.root).ok().and_then(key_of);
        let Some(directory) = below.filter(|below| !below.is_empty()).map(|below| below + "/") else { return true };
        if !directory.starts_with(&self.prefix) && !self.prefix.starts_with(&directory) {
            return false;
        }
        let is_outside = self.time_range.match_directory(&directory) == DirectoryMatch::Outside;
        self.left_out |= is_outside;
        !is_outside
    }

    fn object(&self, entry: &DirEntry) -> Result<ListedObject, String> {
        let key = entry.path().strip_prefix(&self.root).ok().and_then(key_of);
        let key = key.ok_or_else(|| format!("the name {} is not UTF-8", entry.path().display()))?;
        let bytes = entry.metadata().map_err(|error| error.to_string())?.len();
        Ok(ListedObject { key, bytes, archived: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_in_an_archive_is_archived() {
        for (class, archived) in [
            (None, false),
            (Some("STANDARD"), false),
            (Some("GLACIER_IR"), false),
            (Some("GLACIER"), true),
            (Some("DEEP_ARCHIVE"), true),
        ] {
            let object = Object::builder().key("x").size(7).set_storage_class(class.map(ObjectStorageClass::from)).build();
            assert_eq!(s3_object(object), Some(ListedObject { key: "x".to_owned(), bytes: 7, archived }), "{class:?}");
        }
    }

    #[tokio::test]
    async fn lists_keys_in_order_and_only_below_the_prefix() {
        let root = tempfile::tempdir().unwrap();
        let dated = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03";
        let keys = [format!("{dated}/02/x.log"), "a-b".to_owned(), "a/b".to_owned(), "a/c/d".to_owned(), "a0".to_owned()];
        for key in keys.iter().chain([&format!("{dated}/09/x.log")]) {
            let path = root.path().join("logs").join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "four").unwrap();
        }
        let since = "2026-03-02T00:00:00Z".parse().ok();
        let time_range = TimeRange { since, until: "2026-03-03T00:00:00Z".parse().ok() };
        for (prefix, expected, left_out) in [
            ("", keys.to_vec(), true),
            ("a/", keys[2..4].to_vec(), false),
            ("a/c/", keys[3..4].to_vec(), false),
            ("nothing/", Vec::new(), false),
        ] {
            let mut listing = Listing::in_directory(root.path().join("logs"), "logs", prefix, time_range);
            let mut found = Vec::new();
            while let Some(object) = listing.next().await.unwrap() {
                assert_eq!(object.bytes, 4);
                found.push(object.key);
            }
            assert_eq!((found, listing.left_out()), (expected, left_out), "below {prefix:?}");
        }
    }
}
