//! S3's own events: the record of an object, and the test event that S3 sends when notifications are configured.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use std::borrow::Cow;

use elb_log::origin::ObjectName;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::{Content, NotificationError, Opened, is_record_of, task_for};
use crate::object::{SkipReason, Task};

/// A record of an object. An own type because the crate's `S3EventRecord` refuses records without `userIdentity`,
/// `requestParameters` or an `eventTime` with an offset: those of moto and those that people write to replay an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    /// Serves a metric only, so an invalid time is ignored.
    event_time: Option<String>,
    s3: Entity,
}

/// The `s3` member of a record. An own type because the crate's `S3Entity` makes the bucket's name and the key optional, so
/// that an event without them would be read.
#[derive(Deserialize)]
struct Entity {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
}

/// Opens `s3:TestEvent`, for which the crate has no type: it names a bucket and no object.
pub(super) fn open_test_event(event: &Value) -> Option<Opened<'_>> {
    if event.get("Event").and_then(Value::as_str) != Some("s3:TestEvent") {
        return None;
    }
    let bucket = event.get("Bucket").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Ok(Content::Task(Task::Skip(ObjectName { bucket, key: String::new() }, SkipReason::TestEvent))))
}

/// Opens the record of an object.
pub(super) fn open_record(record: &Value) -> Option<Opened<'_>> {
    is_record_of(record, "aws:s3").then(|| task(record).map(Content::Task))
}

fn task(event: &Value) -> Result<Task, NotificationError> {
    let record = Record::deserialize(event).map_err(|error| NotificationError::malformed(error, event))?;
    let key = decode_form_key(&record.s3.object.key).map_err(|reason| NotificationError::malformed(reason, event))?;
    let name = ObjectName { bucket: record.s3.bucket.name, key };
    if name.key.is_empty() || name.bucket.is_empty() {
        return Err(NotificationError::malformed("the bucket or the key is empty", event));
    }
    // In old configurations of some accounts, SNS and SQS deliver the names with a prefix: `s3:ObjectCreated:Put`.
    if record.event_name.strip_prefix("s3:").unwrap_or(&record.event_name).starts_with("ObjectCreated:") {
        Ok(task_for(name, record.event_time.and_then(|time| time.parse().ok())))
    } else {
        Ok(Task::Skip(name, SkipReason::OtherEvent(record.event_name)))
    }
}

/// Decodes a key that is encoded as HTML forms do it: a space is `+`, and the bytes of non-ASCII characters are percent-encoded
/// UTF-8.
pub(super) fn decode_form_key(key: &str) -> Result<String, String> {
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| format!("the key {key:?} is not form-encoded UTF-8"))
}
