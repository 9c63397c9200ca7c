//! The plan of an S3 Batch Operations job that runs the function over years of objects: objects come in; a manifest, the request
//! for the job, its shell commands and its price go out.
//!
//! AWS runs the job, with its own retries and its own report.

mod arn;
mod job;
mod manifest;
mod price;

use std::fmt;

pub use self::arn::Arn;
pub use self::job::BatchJob;
pub use self::manifest::{Manifest, ManifestError, ManifestWriter};
pub use self::price::Price;

/// An object or a prefix in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket.
    pub bucket: String,
    /// The key, or a prefix of keys.
    pub key: String,
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}
