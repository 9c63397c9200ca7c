//! EventBridge: an event of a bucket, sent by S3 itself or by CloudTrail.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use elb_log::origin::ObjectName;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Content, NotificationError, Opened, task_for};
use crate::object::{SkipReason, Task};

/// The detail type of a new object.
const CREATED: &str = "Object Created";

/// The detail type of an API call that CloudTrail has recorded.
const API_CALL: &str = "AWS API Call via CloudTrail";

/// The detail types of events that are not about a new object.
const OTHERS: [&str; 12] = [
    "Object Deleted",
    "Object Restore Initiated",
    "Object Restore Completed",
    "Object Restore Expired",
    "Object Storage Class Changed",
    "Object Access Tier Changed",
    "Object ACL Updated",
    "Object Tags Added",
    "Object Tags Deleted",
    "AWS Service Event via CloudTrail",
    "AWS Insight via CloudTrail",
    "AWS Console Action via CloudTrail",
];

/// The API calls that make a new object.
const CREATING_CALLS: [&str; 4] = ["PutObject", "CompleteMultipartUpload", "CopyObject", "PostObject"];

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

/// The detail of an API call that makes a new object. An own type because the crate has none for CloudTrail.
///
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiCall {
    event_name: String,
    /// The error that S3 responded with, if the call has failed.
    error_code: Option<String>,
    /// None for calls without parameters.
    request_parameters: Option<Value>,
}

/// The parameters of a call that makes a new object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    bucket_name: String,
    /// Read without decoding, like the keys of S3's own events. No page of AWS says whether CloudTrail encodes keys.
    key: String,
}

/// Opens an event of S3.
pub(super) fn open(event: &Value) -> Option<Opened<'_>> {
    (event.get("source").and_then(Value::as_str) == Some("aws.s3")).then(|| task(event).map(Content::Task))
}

fn task(event: &Value) -> Result<Task, NotificationError> {
    let malformed = |error: serde_json::Error| NotificationError::malformed(error, event);
    let Event { detail_type, time, detail, .. } = Event::deserialize(event).map_err(malformed)?;
    let detail = detail.unwrap_or_default();
    let notified_at = time.and_then(|time| Timestamp::from_millisecond(time.timestamp_millis()).ok());
    match detail_type.as_str() {
        CREATED => {
            let Detail { bucket, object } = Detail::deserialize(detail).map_err(malformed)?;
            created(ObjectName { bucket: bucket.name, key: object.key }, notified_at, event)
        }
        API_CALL => api_call(detail, notified_at, event),
        other if OTHERS.contains(&other) => Ok(Task::Skip(name_of_other(&detail), SkipReason::OtherEvent(detail_type))),
        _ => Err(NotificationError::UnknownDetailType { detail_type, object: name_of_other(&detail).to_string() }),
    }
}

fn api_call(detail: Value, notified_at: Option<Timestamp>, event: &Value) -> Result<Task, NotificationError> {
    let malformed = |error: serde_json::Error| NotificationError::malformed(error, event);
    let name = name_of_other(&detail);
    let ApiCall { event_name, error_code, request_parameters } = ApiCall::deserialize(detail).map_err(malformed)?;
    match error_code {
        Some(error) => Ok(Task::Skip(name, SkipReason::FailedCall { call: event_name, error })),
        None if CREATING_CALLS.contains(&event_name.as_str()) => {
            let parameters = request_parameters.unwrap_or_default();
            let Parameters { bucket_name, key } = Parameters::deserialize(parameters).map_err(malformed)?;
            created(ObjectName { bucket: bucket_name, key }, notified_at, event)
        }
        None => Ok(Task::Skip(name, SkipReason::OtherEvent(event_name))),
    }
}

fn created(name: ObjectName, notified_at: Option<Timestamp>, event: &Value) -> Result<Task, NotificationError> {
    if name.bucket.is_empty() || name.key.is_empty() {
        return Err(NotificationError::malformed("the bucket or the key is empty", event));
    }
    Ok(task_for(name, notified_at))
}

/// Returns the name of an object that is not new, as far as the event contains it.
fn name_of_other(detail: &Value) -> ObjectName {
    let text = |pointers: [&str; 2]| {
        let found = pointers.into_iter().find_map(|pointer| detail.pointer(pointer)?.as_str());
        found.unwrap_or_default().to_owned()
    };
    ObjectName {
        bucket: text(["/bucket/name", "/requestParameters/bucketName"]),
        key: text(["/object/key", "/requestParameters/key"]),
    }
}
