//! The event that the function is invoked with: JSON comes in, the objects that it names go out, whatever envelopes they are in.
//!
//! `parse` reads the outermost envelope, which decides the form of the response. `open_event` opens all envelopes inside it. Each
//! envelope is a module, with the decoding of object keys that is its own: S3's events encode keys as HTML forms do,
//! EventBridge writes them as they are.
//!
//! The types are those of `aws_lambda_events` where they accept every event that AWS, moto and people send. The other types are
//! our own, each with the reason in its documentation: they require the few members that are needed, so that an event is never
//! refused for a member that nothing reads.

mod batch_operations;
mod event_bridge;
mod failed_invocation;
mod s3;
mod sns;
mod sqs;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use elb_log::key::skip_reason;
use elb_log::origin::ObjectName;
use jiff::Timestamp;
use serde_json::Value;

use crate::object::{ObjectRef, SkipReason, Task};

/// Maximum number of nested envelopes. The record of a failed invocation with an SQS message from an SNS topic has five.
const MAX_ENVELOPES: usize = 8;

/// Maximum length of the part of an event that an error shows, in characters.
const SHOWN_CHARS: usize = 300;

/// What the function was invoked with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notification {
    /// A single event, from S3, SNS or EventBridge, or the record of a failed invocation. It succeeds or fails as a whole.
    Event(Vec<Task>),
    /// Messages of an SQS queue. Each message succeeds or fails independently.
    Queue(Vec<QueueMessage>),
    /// Tasks of an S3 Batch Operations job. Each task has its own result.
    Job(JobInvocation),
}

/// A message of an SQS queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueMessage {
    /// The message's id.
    pub(crate) id: String,
    /// The receipt of this delivery; `None` if the event does not contain it.
    pub(crate) receipt: Option<Receipt>,
    /// The body, unchanged.
    pub(crate) body: String,
    /// The objects that the body names, or the reason why it cannot be read.
    pub(crate) tasks: Result<Vec<Task>, NotificationError>,
}

/// The delivery of a message, as SQS needs it to change the message's visibility timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The queue.
    pub(crate) queue: QueueArn,
    /// The receipt handle of this delivery.
    pub(crate) receipt_handle: String,
    /// The number of deliveries so far, including this one.
    pub(crate) receive_count: u32,
}

/// A queue, by its ARN `arn:PARTITION:sqs:REGION:ACCOUNT:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueArn {
    /// The region.
    pub(crate) region: String,
    /// The account.
    pub(crate) account: String,
    /// The queue's name.
    pub(crate) name: String,
}

/// The tasks of one invocation by a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JobInvocation {
    /// The schema version of the event, and therefore of the response.
    pub(crate) schema_version: String,
    /// The id of the invocation.
    pub(crate) invocation_id: String,
    /// The id of the job, which is the same in all invocations; empty if the event does not contain it.
    pub(crate) job_id: String,
    /// The tasks, each with its id.
    pub(crate) tasks: Vec<(String, Task)>,
}

/// The reason why an event cannot be read. An unreadable event is never a success without objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// The event has no known form. The text is its beginning.
    #[error(
        "cannot read the event: not a notification of an S3 object: {0}; send an S3 event, alone or inside SNS, SQS or \
         EventBridge, or an S3 Batch Operations event"
    )]
    Unknown(String),
    /// An event of S3 through EventBridge of a type that S3 did not send when this version of the program was written.
    #[error(
        "cannot read the event of {object}: unknown detail type {detail_type:?} of aws.s3; if it is not about new objects, leave it \
         out of the EventBridge rule; if it is, upgrade the shipper"
    )]
    UnknownDetailType {
        /// The detail type.
        detail_type: String,
        /// Bucket and key, as far as the event contains them.
        object: String,
    },
    /// The event has a known form, but a member is missing or invalid.
    #[error("cannot read the notification: {reason}; it begins with {start}")]
    Malformed {
        /// What is missing or invalid.
        reason: String,
        /// The beginning of the event.
        start: String,
    },
}

/// What an envelope contains.
enum Content<'a> {
    Task(Task),
    Event(Cow<'a, Value>),
}

type Opened<'a> = Result<Content<'a>, NotificationError>;

/// Opens an envelope of one form; `None` if the event has another form.
type Open = for<'a> fn(&'a Value) -> Option<Opened<'a>>;

/// The envelopes of a single event.
const EVENTS: [Open; 4] = [s3::open_test_event, sns::open_notification, failed_invocation::open, event_bridge::open];

/// The envelopes that are entries of `Records`.
const RECORDS: [Open; 3] = [s3::open_record, sns::open_record, sqs::open_record];

/// Reads the event that the function was invoked with.
///
/// # Errors
/// The event does not name S3 objects in a known form. A message of a queue that cannot be read is not an error here, because
/// each message fails independently.
pub(crate) fn parse(event: &Value) -> Result<Notification, NotificationError> {
    if let Some(job) = batch_operations::read(event) {
        return job.map(Notification::Job);
    }
    if let Some(records) = sqs::records(event) {
        return records.iter().map(sqs::read_message).collect::<Result<_, _>>().map(Notification::Queue);
    }
    open_event(event).map(Notification::Event)
}

/// Opens all envelopes of an event and returns the tasks inside.
fn open_event(event: &Value) -> Result<Vec<Task>, NotificationError> {
    let mut tasks = Vec::new();
    open_envelope(event, &mut tasks, MAX_ENVELOPES)?;
    Ok(tasks)
}

fn open_envelope(event: &Value, tasks: &mut Vec<Task>, depth: usize) -> Result<(), NotificationError> {
    let Some(depth) = depth.checked_sub(1) else { return Err(NotificationError::malformed("too many envelopes", event)) };
    let Some(records) = event.get("Records").and_then(Value::as_array) else {
        return open_one_of(&EVENTS, event, tasks, depth);
    };
    if records.is_empty() {
        tasks.push(Task::Skip(ObjectName { bucket: String::new(), key: String::new() }, SkipReason::NoRecords));
    }
    records.iter().try_for_each(|record| open_one_of(&RECORDS, record, tasks, depth))
}

fn open_one_of(envelopes: &[Open], event: &Value, tasks: &mut Vec<Task>, depth: usize) -> Result<(), NotificationError> {
    let opened = envelopes.iter().find_map(|open| open(event));
    match opened.ok_or_else(|| NotificationError::unknown(event))?? {
        Content::Task(task) => tasks.push(task),
        Content::Event(inner) => open_envelope(&inner, tasks, depth)?,
    }
    Ok(())
}

/// Reads the event that SNS and SQS carry as text.
fn event_in_text<'a>(envelope: &Value, text: Option<&Value>) -> Opened<'a> {
    let Some(text) = text.and_then(Value::as_str) else {
        return Err(NotificationError::malformed("the envelope holds no message", envelope));
    };
    let event = serde_json::from_str(text).map_err(|_| NotificationError::unknown(&Value::from(text)))?;
    Ok(Content::Event(Cow::Owned(event)))
}

/// Returns whether an entry of `Records` comes from an AWS service, for example `aws:s3`. SNS capitalizes the member's name.
fn is_record_of(record: &Value, service: &str) -> bool {
    record.get("eventSource").or_else(|| record.get("EventSource")).and_then(Value::as_str) == Some(service)
}

/// Returns the task for a new object: to ship it, or to skip it if its key says that it is not a log.
fn task_for(name: ObjectName, notified_at: Option<Timestamp>) -> Task {
    match skip_reason(&name.key) {
        Some(reason) => Task::Skip(name, reason.into()),
        None => Task::Ship(ObjectRef { notified_at, ..ObjectRef::stored(name.bucket, name.key) }),
    }
}

impl NotificationError {
    /// Returns whether this version of the program can never read the event, so that another delivery of it is useless.
    pub(crate) fn is_permanent(&self) -> bool {
        matches!(self, NotificationError::UnknownDetailType { .. })
    }

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
