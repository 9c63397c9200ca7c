//! What a run does with each object that it is asked about.

use std::path::PathBuf;

use elb_log::key::NotALogObject;
use elb_log::origin::{ObjectName, Origin};

/// What to do with one object of a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Ship the object.
    Ship(ObjectRef),
    /// Skip the object, and report why. The test event of S3 names a bucket and no key.
    Skip(ObjectName, SkipReason),
    /// Fail with this error, because no object can be named.
    Fail(ObjectName, String),
}

/// One object to ship.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// The object's name in its events.
    pub origin: Origin,
    /// Where the object's bytes are.
    pub location: Location,
    /// Whether the object was requested by its own name. If so, an empty body is not a reason to skip it, and a local file can be a
    /// FIFO or a device.
    pub requested_by_name: bool,
    /// The time of the object's notification, if there is one.
    pub notified_at: Option<jiff::Timestamp>,
    /// Whose checkpoint the object continues at and leaves; none for no checkpoints.
    pub checkpoint_owner: Option<CheckpointOwner>,
}

/// The delivery of a notification, with all of its repetitions. Only these share a checkpoint, so that a checkpoint never shortens
/// a later backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointOwner {
    /// The ID that stays the same when the notification is delivered again.
    pub id: String,
    /// Whether an earlier delivery can have left a checkpoint.
    pub is_repeated: bool,
}

/// Where an object's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the configured store, under the origin's name.
    Store,
    /// In a local file, independent of the store.
    File(PathBuf),
    /// On standard input.
    Stdin,
}

/// Why an object is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The key is not that of an object with log lines of a load balancer.
    #[error(transparent)]
    NotALogObject(#[from] NotALogObject),
    /// The body has no bytes.
    #[error("an empty object")]
    Empty,
    /// The object is below `DEAD_LETTER_URL`.
    #[error("a dead letter; elbship replay sends its events again")]
    DeadLetter,
    /// The object is a checkpoint of the function.
    #[error("a checkpoint of the function, which contains no events")]
    Checkpoint,
    /// The object is in the state file of `--resume`.
    #[error("delivered by an earlier run (--resume)")]
    Resumed,
    /// The notification is `s3:TestEvent`.
    #[error("the test event that S3 sends when notifications are switched on")]
    TestEvent,
    /// The notification is `Records: []`.
    #[error("a notification without records")]
    NoRecords,
    /// The notification is not about a new object.
    #[error("not a notification of a new object: {0}")]
    OtherEvent(String),
    /// The notification is about an upload that has failed, so it has created nothing.
    #[error("a call of {call} that has failed with {error}, so it has created nothing")]
    FailedCall {
        /// The name of the API call.
        call: String,
        /// The error code of S3.
        error: String,
    },
}

impl Task {
    /// Makes the object, if the task is to ship one, continue at the checkpoint of `owner`, and leave it one.
    pub(crate) fn set_checkpoint_owner(&mut self, owner: &CheckpointOwner) {
        if let Task::Ship(object) = self {
            object.checkpoint_owner = Some(owner.clone());
        }
    }
}

impl ObjectRef {
    /// Returns a reference to an object of the configured store.
    pub fn stored(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        let name = ObjectName { bucket: bucket.into(), key: key.into() };
        ObjectRef {
            origin: Origin::Bucket(name),
            location: Location::Store,
            requested_by_name: false,
            notified_at: None,
            checkpoint_owner: None,
        }
    }

    /// Returns the object's name.
    pub fn name(&self) -> &ObjectName {
        self.origin.name()
    }
}
