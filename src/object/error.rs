//! Why an object cannot be read, and why a listing cannot continue.

use elb_log::inflate::InflateError;
use elb_log::object_format::UnsupportedFormat;
use elb_log::origin::ObjectName;

use crate::reason::Reason;

/// Why an object cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// The object does not exist.
    #[error("cannot read {name}: no such {}", if .name.bucket.is_empty() { "file" } else { "object" })]
    NotFound {
        /// The object's name.
        name: ObjectName,
    },
    /// The bucket does not exist.
    #[error("cannot read {name}: no such bucket")]
    NoBucket {
        /// The object's name.
        name: ObjectName,
    },
    /// S3 refuses to send the object.
    #[error("cannot read {name}: {detail}")]
    Refused {
        /// The object's name.
        name: ObjectName,
        /// Why.
        refusal: Refusal,
        /// The error of S3, and what to do.
        detail: String,
    },
    /// The object is in an archive.
    #[error("cannot read {name}: the object is archived; restore it, then replay it")]
    Archived {
        /// The object's name.
        name: ObjectName,
    },
    /// The object was overwritten while it was read.
    #[error("cannot read {name} at byte {at}: the object changed while it was read; its new version has its own notification")]
    Changed {
        /// The object's name.
        name: ObjectName,
        /// Bytes received.
        at: u64,
    },
    /// The object's name is not valid in this store.
    #[error("cannot read {name}: not a valid name of an object in the directory {directory}")]
    InvalidName {
        /// The object's name.
        name: ObjectName,
        /// The store's directory.
        directory: String,
    },
    /// The object's name is that of a FIFO, a socket or a device in a directory.
    #[error("cannot read {name}: {found} is not a log object; remove it from the directory")]
    NotAFile {
        /// The object's name.
        name: ObjectName,
        /// What it is.
        found: &'static str,
    },
    /// The store did not send the object, or stopped sending it.
    #[error("cannot read {name} at byte {at}: {detail}")]
    Unreadable {
        /// The object's name.
        name: ObjectName,
        /// Bytes received.
        at: u64,
        /// What went wrong.
        detail: String,
    },
    /// The body ended early.
    #[error("cannot read {name}: the body ended at byte {at} of {length}")]
    Short {
        /// The object's name.
        name: ObjectName,
        /// Bytes received.
        at: u64,
        /// The announced length in bytes.
        length: u64,
    },
    /// The text is shorter than the part that an earlier attempt delivered.
    #[error(
        "cannot continue {name} at byte {offset} of its text: the text ends at byte {length}; the next attempt begins at its start"
    )]
    BeforeCheckpoint {
        /// The object's name.
        name: ObjectName,
        /// The offset of the checkpoint.
        offset: u64,
        /// The length of the text in bytes.
        length: u64,
    },
    /// The object is in a format that is not supported, such as an output format of CloudWatch Logs deliveries.
    #[error("cannot read {name}: {} is not supported; {}", .format.name, .format.advice)]
    UnsupportedFormat {
        /// The object's name.
        name: ObjectName,
        /// Its format.
        format: UnsupportedFormat,
    },
    /// The object's data is corrupt.
    #[error("cannot read {name}: {source}")]
    Corrupt {
        /// The object's name.
        name: ObjectName,
        /// What is wrong, and at which byte.
        source: InflateError,
    },
}

/// Why S3 refuses to send an object, however often it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Reading the object is not allowed.
    Denied,
    /// The bucket is in another region.
    WrongRegion,
    /// S3 cannot decrypt the object.
    Encrypted,
    /// The request is never valid for this name.
    InvalidRequest,
}

impl ObjectError {
    /// Returns the reason with which the object fails.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            ObjectError::NotFound { .. } | ObjectError::NoBucket { .. } => Reason::NotFound,
            ObjectError::Refused { refusal, .. } => match refusal {
                Refusal::Denied => Reason::Denied,
                Refusal::WrongRegion => Reason::WrongRegion,
                Refusal::Encrypted => Reason::Encrypted,
                Refusal::InvalidRequest => Reason::InvalidName,
            },
            ObjectError::Archived { .. } => Reason::Archived,
            ObjectError::Changed { .. } => Reason::Changed,
            ObjectError::InvalidName { .. } | ObjectError::NotAFile { .. } => Reason::InvalidName,
            ObjectError::UnsupportedFormat { .. } => Reason::UnsupportedFormat,
            ObjectError::Corrupt { .. } => Reason::Corrupt,
            ObjectError::Unreadable { .. } | ObjectError::Short { .. } | ObjectError::BeforeCheckpoint { .. } => {
                Reason::Unreadable
            }
        }
    }

    /// Returns whether another attempt cannot succeed.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            ObjectError::NotFound { .. }
            | ObjectError::NoBucket { .. }
            | ObjectError::Refused { .. }
            | ObjectError::Archived { .. }
            | ObjectError::Changed { .. }
            | ObjectError::InvalidName { .. }
            | ObjectError::NotAFile { .. }
            | ObjectError::UnsupportedFormat { .. }
            | ObjectError::Corrupt { .. } => true,
            ObjectError::Unreadable { .. } | ObjectError::Short { .. } | ObjectError::BeforeCheckpoint { .. } => false,
        }
    }
}

/// Why a listing cannot continue.
#[derive(Debug, thiserror::Error)]
#[error("cannot list s3://{bucket}/{prefix}: {detail}")]
pub struct ListError {
    /// The bucket.
    pub bucket: String,
    /// The prefix.
    pub prefix: String,
    /// What went wrong.
    pub detail: String,
}
