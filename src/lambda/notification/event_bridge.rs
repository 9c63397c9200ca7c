//! EventBridge: an event of a bucket.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use elb_log::origin::ObjectName;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Content, NotificationError, Opened, task_for};
use crate::object::{SkipReason, Task};

/// An event of S3. The detail is optional because only that of a new object is needed.
type Event = EventBridgeEvent<Option<Value>>;

/// The detail of a new object. An own type because the crate has none for S3's details.
#[derive(Deserialize)]
struct Detail {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    /// Not encoded, unlike in S3's own events.
    key: String,
}

/// Opens an event of S3.
pub(super) fn open(event: &Value) -> Option<Opened<'_>> {
    (event.get("source").and_then(Value::as_str) == Some("aws.s3")).then(|| task(event).map(Content::Task))
}

fn task(event: &Value) -> Result<Task, NotificationError> {
    let Event { detail_type, time, detail, .. } =
        Event::deserialize(event).map_err(|error| NotificationError::malformed(error, event))?;
    let detail = detail.unwrap_or_default();
    if detail_type != "Object Created" {
        return Ok(Task::Skip(name_of_other(&detail), SkipReason::OtherEvent(detail_type)));
    }
    let Detail { bucket, object } = Detail::deserialize(detail).map_err(|error| NotificationError::malformed(error, event))?;
    let notified_at = time.and_then(|time| Timestamp::from_millisecond(time.timestamp_millis()).ok());
    Ok(task_for(ObjectName { bucket: bucket.name, key: object.key }, notified_at))
}

/// Returns the name of an object that is not new, as far as the event contains it.
fn name_of_other(detail: &Value) -> ObjectName {
    let text = |pointer| detail.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    ObjectName { bucket: text("/bucket/name"), key: text("/object/key") }
}
