//! Objects to lines: where log objects are kept, and how one is read in bounded memory.

mod dir;
mod listing;
mod reader;
mod s3;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use elb_log::inflate::InflateError;
use elb_log::key::{NotALogObject, TimeRange};
use elb_log::origin::{ObjectName, Origin};

pub use self::dir::{DirStore, key_of, key_order};
use self::listing::Walk;
pub use self::reader::ObjectReader;
pub use self::s3::{S3Body, S3Store};

/// Why an object is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Its key names no object with log lines of a load balancer.
    #[error(transparent)]
    NotALogObject(#[from] NotALogObject),
    /// A body of no bytes.
    #[error("an empty object")]
    Empty,
    /// An object below `DEAD_LETTER_URL`.
    #[error("a dead letter; replay sends its events again")]
    DeadLetter,
    /// An object that the state of `--resume` knows.
    #[error("delivered by an earlier run (--resume)")]
    Resumed,
    /// `s3:TestEvent`.
    #[error("the test event that S3 sends when notifications are switched on")]
    TestEvent,
    /// `Records: []`.
    #[error("a notification without records")]
    NoRecords,
    /// A notification of something else than a new object.
    #[error("no new object: {0}")]
    OtherEvent(String),
}

/// One object to be shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// What its events say where they are from.
    pub origin: Origin,
    /// Where its bytes are.
    pub place: Location,
    /// Whether it was asked for by its own name. Then an empty body is no reason to skip it.
    pub asked_for: bool,
    /// When its notification was made, if one was.
    pub notified: Option<jiff::Timestamp>,
}

/// What is to be done about one object of a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Ship it.
    Ship(ObjectRef),
    /// Nothing, and why. The test event of S3 names a bucket and no key.
    Skip(ObjectName, Skip),
    /// It cannot even be named as an object: say why and fail.
    Fail(ObjectName, String),
}

/// An object that a listing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// Whether it has to be restored from an archive before it can be read.
    pub archived: bool,
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the configured store, under the origin's name.
    Store,
    /// In a local file, whatever the store.
    File(PathBuf),
}

/// Where objects are kept; `OBJECT_STORE`.
#[derive(Debug)]
pub enum Store {
    /// Amazon S3, or what speaks its protocol.
    S3(S3Store),
    /// A directory whose sub-directories are buckets.
    Dir(DirStore),
    /// Nowhere: all objects are files named on the command line.
    LocalFiles,
}

/// An object whose reading has begun.
#[derive(Debug)]
pub struct Opened {
    /// Its bytes.
    pub body: Body,
    /// The ETag without quotes, where the store has one.
    pub etag: Option<String>,
    /// The length of the body, where the store says so.
    pub length: Option<u64>,
    /// When it was written.
    pub modified: jiff::Timestamp,
}

/// An object's bytes as they come.
#[derive(Debug)]
pub enum Body {
    /// From S3.
    S3(Box<S3Body>),
    /// From a file.
    File(tokio::fs::File),
}

/// Why an object could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object.
    #[error("there is no {} {name}", if .name.bucket.is_empty() { "file" } else { "object" })]
    NotFound {
        /// Its name.
        name: ObjectName,
    },
    /// Reading it is not allowed.
    #[error("reading {name} is denied ({detail}); allow s3:GetObject on it")]
    Denied {
        /// Its name.
        name: ObjectName,
        /// What the store said.
        detail: String,
    },
    /// It is in an archive.
    #[error("{name} is archived; restore it, then replay it")]
    Archived {
        /// Its name.
        name: ObjectName,
    },
    /// It was overwritten while it was read.
    #[error("{name} has changed while it was read, at byte {at}; its new content comes with a notification of its own")]
    Changed {
        /// Its name.
        name: ObjectName,
        /// How many bytes had come.
        at: u64,
    },
    /// Its name cannot be one in this store.
    #[error("{name} is no name of an object in the directory {directory}")]
    BadName {
        /// Its name.
        name: ObjectName,
        /// The store's directory.
        directory: String,
    },
    /// The store did not give it, or stopped giving it.
    #[error("reading {name} failed at byte {at}: {detail}")]
    Unreadable {
        /// Its name.
        name: ObjectName,
        /// How many bytes had come.
        at: u64,
        /// What went wrong.
        detail: String,
    },
    /// Its body ended early.
    #[error("{name} ended at byte {at} of {length}")]
    Short {
        /// Its name.
        name: ObjectName,
        /// How many bytes came.
        at: u64,
        /// How many were announced.
        length: u64,
    },
    /// It is in a format of CloudWatch Logs deliveries that is not read.
    #[error(
        "{name} is {format}, which is not read; set the output format of the delivery destination in CloudWatch Logs (outputFormat) to json or plain"
    )]
    Format {
        /// Its name.
        name: ObjectName,
        /// `a W3C log` or `parquet`.
        format: &'static str,
    },
    /// Its data is not what it should be.
    #[error("{name}: {source}")]
    Data {
        /// Its name.
        name: ObjectName,
        /// What is wrong, and where.
        source: InflateError,
    },
}

impl ObjectError {
    /// Whether no other attempt can end better.
    pub fn is_permanent(&self) -> bool {
        match self {
            ObjectError::NotFound { .. }
            | ObjectError::Denied { .. }
            | ObjectError::Archived { .. }
            | ObjectError::Changed { .. }
            | ObjectError::BadName { .. }
            | ObjectError::Format { .. }
            | ObjectError::Data { .. } => true,
            ObjectError::Unreadable { .. } | ObjectError::Short { .. } => false,
        }
    }
}

impl ObjectRef {
    /// An object of the configured store.
    pub fn stored(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        let name = ObjectName { bucket: bucket.into(), key: key.into() };
        ObjectRef { origin: Origin::Bucket(name), place: Location::Store, asked_for: false, notified: None }
    }

    /// The object's name.
    pub fn name(&self) -> &ObjectName {
        self.origin.name()
    }
}

impl Store {
    /// Begins to read an object.
    ///
    /// # Errors
    /// The object is not there, or the store does not give it.
    pub async fn open(&self, object: &ObjectRef) -> Result<Opened, ObjectError> {
        match (&object.place, self) {
            (Location::File(path), _) => dir::open(object.name(), path).await,
            (Location::Store, Store::Dir(store)) => store.open(object.name()).await,
            (Location::Store, Store::S3(store)) => store.open(object.name()).await,
            (Location::Store, Store::LocalFiles) => Err(ObjectError::NotFound { name: object.name().clone() }),
        }
    }

    /// The file of an object, where the store is a directory.
    pub fn path(&self, name: &ObjectName) -> Option<PathBuf> {
        match self {
            Store::Dir(store) => store.path(name).ok(),
            Store::S3(_) | Store::LocalFiles => None,
        }
    }

    /// Hands every object below a prefix to `found`, in the order of keys, until that says to stop by returning false. A page of
    /// keys at a time, so that millions need no memory. Directories of other days than those of `period` are not listed; whether
    /// there were any is returned. Objects of other times may be found all the same.
    ///
    /// # Errors
    /// What the store's client says. Objects before the fault have been handed on.
    pub async fn list<F: Future<Output = bool>>(
        &self,
        bucket: &str,
        prefix: &str,
        period: &TimeRange,
        mut found: impl FnMut(Listed) -> F,
    ) -> Result<bool, String> {
        match self {
            Store::S3(store) => {
                let mut walk = Walk::new(store, bucket, prefix, period).await;
                while let Some(object) = walk.next().await? {
                    if !found(object).await {
                        break;
                    }
                }
                Ok(walk.left_out)
            }
            Store::Dir(store) => {
                let left_out = AtomicBool::new(false);
                for object in store.list(bucket, prefix, period, &left_out) {
                    if !found(object?).await {
                        break;
                    }
                }
                Ok(left_out.load(Ordering::Relaxed))
            }
            Store::LocalFiles => Ok(false),
        }
    }
}

impl Body {
    /// The next bytes, at most a few hundred KiB; none at the end. `name` is for errors.
    ///
    /// # Errors
    /// What the store's client says.
    pub async fn chunk(&mut self, name: &ObjectName, at: u64) -> Result<Option<Bytes>, ObjectError> {
        match self {
            Body::S3(body) => body.chunk().await,
            Body::File(file) => {
                let chunk = dir::chunk(file).await;
                chunk.map_err(|error| ObjectError::Unreadable { name: name.clone(), at, detail: error.to_string() })
            }
        }
    }
}
