//! Notifications to object references: what happened, in whatever envelope it comes.
//!
//! The types are own ones: they demand the few fields that are needed and nothing else, so a notification is not refused for
//! something in it that nobody reads.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use crate::object::{ObjectName, ObjectRef, Skip, Task, skip_reason};

/// How much of an unknown event an error shows.
const SHOWN_CHARS: usize = 300;

/// What a notification asks for, in its order.
#[derive(Debug, PartialEq, Eq)]
pub struct Notification {
    /// One entry a record.
    pub tasks: Vec<Task>,
}

/// An event that cannot be understood. It is never an empty success.
#[derive(Debug, thiserror::Error)]
pub enum NotificationError {
    /// It is of no known form.
    #[error("not an S3 notification: {0}; send the S3 event itself (the key Records with eventSource aws:s3)")]
    Unknown(String),
    /// It is an S3 event in which something is missing or not as documented.
    #[error("S3 notification not understood ({reason}): {start}")]
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
/// Everything that is neither an S3 event nor S3's test event.
pub fn parse(event: &Value) -> Result<Notification, NotificationError> {
    if event.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        let bucket = event.get("Bucket").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Ok(Notification { tasks: vec![Task::Skip(ObjectName { bucket, key: String::new() }, Skip::TestEvent)] });
    }
    let Some(records) = event.get("Records").and_then(Value::as_array) else {
        return Err(NotificationError::Unknown(start_of(event)));
    };
    let tasks = records.iter().map(|record| read_record(record, event)).collect::<Result<_, _>>()?;
    Ok(Notification { tasks })
}

fn read_record(record: &Value, event: &Value) -> Result<Task, NotificationError> {
    let malformed = |reason: String| NotificationError::Malformed { reason, start: start_of(event) };
    if record.get("eventSource").and_then(Value::as_str) != Some("aws:s3") {
        return Err(NotificationError::Unknown(start_of(event)));
    }
    let record = S3Record::deserialize(record).map_err(|error| malformed(error.to_string()))?;
    let key = form_decoded(&record.s3.object.key).map_err(malformed)?;
    let name = ObjectName { bucket: record.s3.bucket.name, key };
    if !record.event_name.starts_with("ObjectCreated:") {
        return Ok(Task::Skip(name, Skip::OtherEvent(record.event_name)));
    }
    Ok(match skip_reason(&name.key) {
        Some(reason) => Task::Skip(name, reason),
        None => Task::Ship(ObjectRef::stored(name.bucket, name.key)),
    })
}

/// S3 writes keys as HTML forms do: a space is `+`, and what is not ASCII is percent-encoded UTF-8.
fn form_decoded(key: &str) -> Result<String, String> {
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| format!("the key {key:?} is not form-encoded UTF-8"))
}

fn start_of(event: &Value) -> String {
    let text = event.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[derive(Deserialize)]
struct S3Record {
    #[serde(rename = "eventName")]
    event_name: String,
    s3: S3Entity,
}

#[derive(Deserialize)]
struct S3Entity {
    bucket: S3Bucket,
    object: S3Object,
}

#[derive(Deserialize)]
struct S3Bucket {
    name: String,
}

#[derive(Deserialize)]
struct S3Object {
    key: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(event_name: &str, key: &str) -> Value {
        json!({"eventSource": "aws:s3", "eventName": event_name, "s3": {"bucket": {"name": "logs"}, "object": {"key": key}}})
    }

    /// One line a task, or the error.
    fn show(event: &Value) -> String {
        match parse(event) {
            Err(error) => format!("error: {error}"),
            Ok(Notification { tasks }) => {
                let show = |task: &Task| match task {
                    Task::Ship(object) => format!("ship {}", object.name()),
                    Task::Skip(name, reason) => format!("skip {name}: {reason}"),
                    Task::Fail(name, reason) => format!("fail {name}: {reason}"),
                };
                tasks.iter().map(show).collect::<Vec<_>>().join("\n")
            }
        }
    }

    #[test]
    fn all_records_are_read() {
        let event = json!({"Records": [record("ObjectCreated:Put", "a.log"), record("ObjectCreated:Copy", "b.log")]});
        assert_eq!(show(&event), "ship s3://logs/a.log\nship s3://logs/b.log");
    }

    #[test]
    fn keys_are_form_decoded_once() {
        let keys = [
            ("team+a%2Bb/x.log", "team a+b/x.log"),
            ("caf%C3%A9.log", "café.log"),
            ("100%2525.log", "100%25.log"),
            ("AWSLogs%2F1%2Fx.log", "AWSLogs/1/x.log"),
            ("a&b=c.log", "a&b=c.log"),
            ("q%EF%BF%BD.log", "q\u{FFFD}.log"),
        ];
        for (encoded, decoded) in keys {
            let event = json!({"Records": [record("ObjectCreated:Put", encoded)]});
            assert_eq!(show(&event), format!("ship s3://logs/{decoded}"));
        }
    }

    #[test]
    fn a_key_that_is_no_utf8_is_an_error_not_another_object() {
        let event = json!({"Records": [record("ObjectCreated:Put", "%FF.log")]});
        assert!(
            show(&event).starts_with("error: S3 notification not understood (the key \"%FF.log\" is not form-encoded UTF-8): {")
        );
    }

    #[test]
    fn test_events_and_empty_ones_ask_for_nothing() {
        let event =
            json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-02T10:00:00.000Z", "Bucket": "logs"});
        assert_eq!(show(&event), "skip s3://logs/: the test event that S3 sends when notifications are switched on");
        assert_eq!(show(&json!({"Records": []})), "");
    }

    #[test]
    fn other_events_and_other_objects_are_skipped() {
        let event = json!({"Records": [
            record("ObjectRemoved:Delete", "a.log"),
            record("ObjectRestore:Completed", "a.log"),
            record("ObjectCreated:Put", "p/AWSLogs/123456789012/ELBAccessLogTestFile"),
            record("ObjectCreated:Put", "folder/"),
            record("ObjectCreated:Put", "AWSLogs/123456789012/vpcflowlogs/x/y.log.gz"),
        ]});
        assert_eq!(
            show(&event),
            "skip s3://logs/a.log: no new object: ObjectRemoved:Delete\n\
             skip s3://logs/a.log: no new object: ObjectRestore:Completed\n\
             skip s3://logs/p/AWSLogs/123456789012/ELBAccessLogTestFile: the test object that AWS writes when logging is switched on\n\
             skip s3://logs/folder/: a folder marker\n\
             skip s3://logs/AWSLogs/123456789012/vpcflowlogs/x/y.log.gz: logs of another service: vpcflowlogs"
        );
    }

    #[test]
    fn anything_else_is_an_error_that_shows_it() {
        for event in
            [json!(null), json!("x"), json!({}), json!({"Records": {}}), json!({"Records": [{"eventSource": "aws:sqs"}]})]
        {
            assert_eq!(
                show(&event),
                format!(
                    "error: not an S3 notification: {event}; send the S3 event itself (the key Records with eventSource aws:s3)"
                )
            );
        }
        let long = show(&json!({"x": "é".repeat(1_000)}));
        assert!(long.chars().count() < 450 && long.contains('…'), "{long}");
    }

    #[test]
    fn one_malformed_record_fails_the_whole_event() {
        let event = json!({"Records": [record("ObjectCreated:Put", "a.log"), {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]});
        assert!(show(&event).starts_with("error: S3 notification not understood (missing field `s3`): "), "{}", show(&event));
    }
}
