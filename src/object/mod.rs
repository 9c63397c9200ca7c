//! Log objects: a bucket and a key come in, blocks of lines go out in bounded memory.
//!
//! Objects are in S3, or in directories that stand for it.

mod body;
mod content_range;
mod dir;
mod error;
mod listing;
mod reader;
#[cfg(test)]
mod reader_tests;
mod s3;
mod s3_body;
mod s3_error;
#[cfg(test)]
mod s3_tests;
mod store;
mod stream;
mod task;
#[cfg(test)]
mod test_s3;

pub(crate) use self::body::OpenedObject;
pub use self::dir::{DirStore, key_of, key_order};
pub use self::error::ListError;
pub(crate) use self::error::ObjectError;
pub use self::listing::{ListedObject, Listing};
pub(crate) use self::reader::ObjectReader;
pub use self::s3::S3Store;
pub(crate) use self::s3_error::{S3Call, describe_s3_error};
pub use self::store::Store;
pub use self::task::{CheckpointOwner, Location, ObjectRef, SkipReason, Task};
