//! The stores that objects are read from.

use std::path::PathBuf;

use elb_log::key::TimeRange;
use elb_log::origin::ObjectName;

use super::body::OpenedObject;
use super::dir::{self, DirStore};
use super::error::ObjectError;
use super::listing::Listing;
use super::s3::S3Store;
use super::task::{Location, ObjectRef};

/// The store that objects are read from; `OBJECT_STORE`.
#[derive(Debug)]
pub enum Store {
    /// Amazon S3, or a server with the same API.
    S3(S3Store),
    /// A directory whose sub-directories are buckets.
    Dir(DirStore),
    /// No store: all objects are files named on the command line.
    LocalFiles,
}

impl Store {
    /// Begins to read an object.
    pub(crate) async fn open(&self, object: &ObjectRef) -> Result<OpenedObject, ObjectError> {
        match (&object.location, self) {
            (Location::File(path), _) if object.requested_by_name => dir::open_named(object.name(), path).await,
            (Location::File(path), _) => dir::open_file(object.name(), path).await,
            (Location::Stdin, _) => dir::open_stdin(object.name()).await,
            (Location::Store, Store::Dir(store)) => store.open(object.name()).await,
            (Location::Store, Store::S3(store)) => store.open(object.name()).await,
            (Location::Store, Store::LocalFiles) => Err(ObjectError::NotFound { name: object.name().clone() }),
        }
    }

    /// Lists the objects below a prefix, in the order of their keys. Directories of other days than those of `time_range` are
    /// left out; objects of other times can be listed all the same.
    pub fn list(&self, bucket: &str, prefix: &str, time_range: TimeRange) -> Listing {
        match self {
            Store::S3(store) => Listing::in_s3(store.clone(), bucket, prefix, time_range),
            Store::Dir(store) => Listing::in_directory(store.bucket_path(bucket), bucket, prefix, time_range),
            Store::LocalFiles => Listing::empty(bucket, prefix),
        }
    }

    /// Reads the start of an object, to find out whether it can be read.
    ///
    /// # Errors
    /// Why the object cannot be read, and what to do.
    pub async fn try_read(&self, bucket: &str, key: &str) -> Result<(), String> {
        let object = ObjectRef::stored(bucket, key);
        let read = async {
            let mut opened = self.open(&object).await?;
            opened.body.next_chunk(object.name(), 0).await
        };
        read.await.map(drop).map_err(|error| error.to_string())
    }

    /// Returns the path of an object's file, if the store is a directory.
    pub(crate) fn file_path(&self, name: &ObjectName) -> Option<PathBuf> {
        match self {
            Store::Dir(store) => store.file_path(name).ok(),
            Store::S3(_) | Store::LocalFiles => None,
        }
    }
}
