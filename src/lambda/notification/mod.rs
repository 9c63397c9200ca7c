//! Notifications to object references: what happened, in whatever envelope it comes, and in which form the answer is due.
//!
//! The types are own ones: they demand the few fields that are needed and nothing else, so a notification is not refused for
//! something in it that nobody reads. The outermost envelope decides the form of the answer.

mod batch_operations;
mod envelope;

use serde_json::Value;

use self::batch_operations::JobInvocation;
use self::envelope::tasks_of;
use crate::object::Task;

/// How much of an unknown event an error shows.
const SHOWN_CHARS: usize = 300;

/// What a function was invoked with.
#[derive(Debug, PartialEq, Eq)]
pub enum Notification {
    /// One event, from S3, SNS or EventBridge, or a failed invocation's record around one. It succeeds or fails as a whole.
    Event(Vec<Task>),
    /// Messages of a queue. Each succeeds or fails for itself.
    Queue(Vec<Message>),
    /// Tasks of an S3 Batch Operations job. Each gets a result of its own.
    Job(JobInvocation),
}

/// One message of a queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// By which the queue knows it.
    pub id: String,
    /// By which its visibility is changed; none where the event does not say.
    pub receipt: Option<Receipt>,
    /// As it was sent.
    pub body: String,
    /// What it asks for, or why it cannot be understood.
    pub tasks: Result<Vec<Task>, String>,
}

/// What is needed to change a message's visibility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The URL of the queue.
    pub queue_url: String,
    /// The handle of this delivery of the message.
    pub handle: String,
    /// How often the message has been received, this time included.
    pub receive_count: u32,
}

/// An event that cannot be understood. It is never an empty success.
#[derive(Debug, thiserror::Error)]
pub enum NotificationError {
    /// It is of no known form.
    #[error(
        "not a notification of an S3 object: {0}; known are S3 events, also within SNS, SQS and EventBridge, and S3 Batch Operations"
    )]
    Unknown(String),
    /// It is of a known form in which something is missing or not as documented.
    #[error("notification not understood ({reason}): {start}")]
    Malformed {
        /// What is wrong.
        reason: String,
        /// How the event begins.
        start: String,
    },
}

/// Reads the event that the function was invoked with.
///
/// # Errors
/// Everything that names no S3 objects in a known form. A single message of a queue that does not is no error here: it fails
/// for itself.
pub fn parse(event: &Value) -> Result<Notification, NotificationError> {
    if let Some(job) = batch_operations::parse(event)? {
        return Ok(Notification::Job(job));
    }
    if let Some(records) = envelope::queue_records(event) {
        return Ok(Notification::Queue(records.iter().map(envelope::message).collect::<Result<_, _>>()?));
    }
    tasks_of(event).map(Notification::Event)
}

impl NotificationError {
    fn unknown(event: &Value) -> Self {
        NotificationError::Unknown(start_of(event))
    }

    fn malformed(reason: impl ToString, event: &Value) -> Self {
        NotificationError::Malformed { reason: reason.to_string(), start: start_of(event) }
    }
}

fn start_of(event: &Value) -> String {
    let text = event.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
