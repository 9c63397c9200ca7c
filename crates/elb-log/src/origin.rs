//! Where the lines of an object come from: its name, and what the name means.

use std::fmt;

/// The name under which an object's lines are known: event ids are made from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// The bucket; empty for a local file that stands for itself.
    pub bucket: String,
    /// The key, decoded; for a local file its path as given.
    pub key: String,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The object is in a bucket, or a local copy stands for one that is.
    Bucket(ObjectName),
    /// A local file that stands for itself.
    LocalFile(ObjectName),
}

impl Origin {
    /// The name, whatever it means.
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
