//! Where log lines come from: the name of their object, and whether the name is an S3 key or a local path.

use std::fmt;

/// The name of an object. Event ids are made from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// The bucket; empty for a local file without a bucket.
    pub bucket: String,
    /// The decoded key; for a local file without a bucket, its path as given.
    pub key: String,
}

/// The origin of an object's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An object in a bucket, or a local copy that is read under the name of such an object.
    Bucket(ObjectName),
    /// A local file without a bucket.
    LocalFile(ObjectName),
}

impl Origin {
    /// Returns the name of the object or file.
    pub fn name(&self) -> &ObjectName {
        match self {
            Origin::Bucket(name) | Origin::LocalFile(name) => name,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bucket.is_empty() { f.write_str(&self.key) } else { write!(f, "s3://{}/{}", self.bucket, self.key) }
    }
}
