//! S3's events, and what they come in: SNS, SQS, EventBridge, and the record that Lambda makes of a failed invocation.
//!
//! Each envelope has its own way of writing keys: S3's own events encode them as HTML forms do, EventBridge writes them as they are.

use std::borrow::Cow;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::{Message, NotificationError, Receipt};
use elb_log::key::skip_reason;
use elb_log::origin::ObjectName;

use crate::object::{ObjectRef, SkipReason, Task};

/// Envelopes within envelopes, at most. A redriven failure of a queue's message from a topic has five.
const DEEPEST: usize = 8;

/// What an event asks for, whatever it comes in.
pub(super) fn tasks_of(event: &Value) -> Result<Vec<Task>, NotificationError> {
    let mut tasks = Vec::new();
    open(event, &mut tasks, DEEPEST)?;
    Ok(tasks)
}

/// The records of a queue's event; none if it is another one.
pub(super) fn queue_records(event: &Value) -> Option<&Vec<Value>> {
    let records = event.get("Records")?.as_array()?;
    (source_of(records.first()?) == Some("aws:sqs")).then_some(records)
}

/// One message of a queue. What is in it may not be understood; then the message fails, and not those beside it.
pub(super) fn message(record: &Value) -> Result<Message, NotificationError> {
    let sqs = SqsRecord::deserialize(record).map_err(|error| NotificationError::malformed(error, record))?;
    let receipt = sqs.receipt();
    let event: Value = serde_json::from_str(&sqs.body).unwrap_or_else(|_| Value::from(sqs.body.as_str()));
    let tasks = tasks_of(&event).map_err(|error| error.to_string());
    Ok(Message { id: sqs.message_id, receipt, body: sqs.body, tasks })
}

fn open(event: &Value, tasks: &mut Vec<Task>, depth: usize) -> Result<(), NotificationError> {
    let Some(depth) = depth.checked_sub(1) else { return Err(NotificationError::malformed("too many envelopes", event)) };
    if event.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        let bucket = event.get("Bucket").and_then(Value::as_str).unwrap_or_default().to_owned();
        tasks.push(Task::Skip(ObjectName { bucket, key: String::new() }, SkipReason::TestEvent));
        return Ok(());
    }
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        if records.is_empty() {
            tasks.push(Task::Skip(ObjectName { bucket: String::new(), key: String::new() }, SkipReason::NoRecords));
        }
        return records.iter().try_for_each(|record| open_record(record, tasks, depth));
    }
    if event.get("Type").and_then(Value::as_str) == Some("Notification") {
        return open_text(event, event.get("Message"), tasks, depth);
    }
    if let (Some(payload), Some(_)) = (event.get("requestPayload"), event.get("requestContext")) {
        return open(payload, tasks, depth);
    }
    if event.get("source").and_then(Value::as_str) == Some("aws.s3") {
        tasks.push(event_bridge_task(event)?);
        return Ok(());
    }
    Err(NotificationError::unknown(event))
}

fn open_record(record: &Value, tasks: &mut Vec<Task>, depth: usize) -> Result<(), NotificationError> {
    match source_of(record) {
        Some("aws:s3") => {
            tasks.push(s3_task(record)?);
            Ok(())
        }
        Some("aws:sns") => open_text(record, record.pointer("/Sns/Message"), tasks, depth),
        Some("aws:sqs") => open_text(record, record.get("body"), tasks, depth),
        _ => Err(NotificationError::unknown(record)),
    }
}

/// SNS and SQS carry events as text.
fn open_text(envelope: &Value, text: Option<&Value>, tasks: &mut Vec<Task>, depth: usize) -> Result<(), NotificationError> {
    let Some(text) = text.and_then(Value::as_str) else {
        return Err(NotificationError::malformed("the envelope holds no message", envelope));
    };
    let event: Value = serde_json::from_str(text).map_err(|_| NotificationError::unknown(&Value::from(text)))?;
    open(&event, tasks, depth)
}

fn s3_task(record: &Value) -> Result<Task, NotificationError> {
    let s3 = S3Record::deserialize(record).map_err(|error| NotificationError::malformed(error, record))?;
    let key = form_decoded(&s3.s3.object.key).map_err(|reason| NotificationError::malformed(reason, record))?;
    if key.is_empty() || s3.s3.bucket.name.is_empty() {
        return Err(NotificationError::malformed("bucket or key is empty", record));
    }
    let name = ObjectName { bucket: s3.s3.bucket.name, key };
    // SNS and SQS deliver the same names with a prefix in some accounts' old configurations: `s3:ObjectCreated:Put`.
    let event_name = s3.event_name.strip_prefix("s3:").unwrap_or(&s3.event_name);
    if event_name.starts_with("ObjectCreated:") {
        Ok(task_for(name, time_of(s3.event_time.as_deref())))
    } else {
        Ok(Task::Skip(name, SkipReason::OtherEvent(s3.event_name)))
    }
}

fn event_bridge_task(event: &Value) -> Result<Task, NotificationError> {
    let event_bridge = EventBridgeEvent::deserialize(event).map_err(|error| NotificationError::malformed(error, event))?;
    if event_bridge.detail_type != "Object Created" {
        let name = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = ObjectName { bucket: name("/detail/bucket/name"), key: name("/detail/object/key") };
        return Ok(Task::Skip(name, SkipReason::OtherEvent(event_bridge.detail_type)));
    }
    let detail = S3Entity::deserialize(&event["detail"]).map_err(|error| NotificationError::malformed(error, event))?;
    let name = ObjectName { bucket: detail.bucket.name, key: detail.object.key };
    Ok(task_for(name, time_of(event_bridge.time.as_deref())))
}

/// What is to be done about a new object.
pub(super) fn task_for(name: ObjectName, notified: Option<Timestamp>) -> Task {
    match skip_reason(&name.key) {
        Some(reason) => Task::Skip(name, reason.into()),
        None => Task::Ship(ObjectRef { notified_at: notified, ..ObjectRef::stored(name.bucket, name.key) }),
    }
}

/// The time serves a metric only, so one that does not read is none.
fn time_of(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

/// S3 writes keys as HTML forms do: a space is `+`, and what is not ASCII is percent-encoded UTF-8.
pub(super) fn form_decoded(key: &str) -> Result<String, String> {
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| format!("the key {key:?} is not form-encoded UTF-8"))
}

/// SNS spells the name with a capital.
fn source_of(record: &Value) -> Option<&str> {
    record.get("eventSource").or_else(|| record.get("EventSource"))?.as_str()
}

#[derive(Deserialize)]
struct S3Record {
    #[serde(rename = "eventName")]
    event_name: String,
    #[serde(rename = "eventTime")]
    event_time: Option<String>,
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

#[derive(Deserialize)]
struct EventBridgeEvent {
    #[serde(rename = "detail-type")]
    detail_type: String,
    time: Option<String>,
}

#[derive(Deserialize)]
struct SqsRecord {
    #[serde(rename = "messageId")]
    message_id: String,
    body: String,
    #[serde(rename = "receiptHandle")]
    receipt_handle: Option<String>,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: Option<String>,
    #[serde(default)]
    attributes: SqsAttributes,
}

#[derive(Default, Deserialize)]
struct SqsAttributes {
    #[serde(rename = "ApproximateReceiveCount")]
    receive_count: Option<String>,
}

impl SqsRecord {
    fn receipt(&self) -> Option<Receipt> {
        Some(Receipt {
            queue_url: queue_url(self.event_source_arn.as_deref()?)?,
            handle: self.receipt_handle.clone()?,
            receive_count: self.attributes.receive_count.as_deref().and_then(|count| count.parse().ok()).unwrap_or(1),
        })
    }
}

/// `arn:aws:sqs:REGION:ACCOUNT:NAME` as the queue's URL.
fn queue_url(arn: &str) -> Option<String> {
    let mut parts = arn.split(':').skip(1);
    let (partition, service) = (parts.next()?, parts.next()?);
    let (region, account, name) = (parts.next()?, parts.next()?, parts.next()?);
    let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    (service == "sqs").then(|| format!("https://sqs.{region}.{domain}/{account}/{name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Notification, parse};
    use super::*;

    fn s3(event_name: &str, key: &str) -> Value {
        json!({"Records": [{"eventSource": "aws:s3", "eventName": event_name, "s3": {"bucket": {"name": "logs"}, "object": {"key": key}}}]})
    }

    fn put(key: &str) -> Value {
        s3("ObjectCreated:Put", key)
    }

    fn sns_record(message: &Value) -> Value {
        json!({"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": {"Type": "Notification", "Message": message.to_string()}}]})
    }

    fn sns_body(message: &Value) -> Value {
        json!({"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:t", "Message": message.to_string()})
    }

    fn sqs(bodies: &[String]) -> Value {
        let record = |(index, body): (usize, &String)| {
            json!({"messageId": format!("m{index}"), "receiptHandle": "handle", "body": body, "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:logs", "attributes": {"ApproximateReceiveCount": "3"}})
        };
        json!({"Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>()})
    }

    fn event_bridge(detail_type: &str, key: &str) -> Value {
        json!({"version": "0", "source": "aws.s3", "detail-type": detail_type, "account": "123456789012", "region": "eu-west-1",
            "detail": {"bucket": {"name": "logs"}, "object": {"key": key, "size": 1, "etag": "0"}}})
    }

    fn destination(payload: &Value) -> Value {
        json!({"version": "1.0", "requestContext": {"condition": "RetriesExhausted"}, "requestPayload": payload, "responsePayload": {}})
    }

    fn show_tasks(tasks: &[Task]) -> String {
        let show = |task: &Task| match task {
            Task::Ship(object) => format!("ship {}", object.name()),
            Task::Skip(name, reason) => format!("skip {name}: {reason}"),
            Task::Fail(name, reason) => format!("fail {name}: {reason}"),
        };
        tasks.iter().map(show).collect::<Vec<_>>().join("\n")
    }

    /// One line a task, behind the message that it is of.
    fn show(event: &Value) -> String {
        match parse(event) {
            Err(error) => format!("error: {error}"),
            Ok(Notification::Event(tasks)) => show_tasks(&tasks),
            Ok(Notification::Queue(messages)) => {
                let show = |message: &Message| match &message.tasks {
                    Ok(tasks) => format!("{}: {}", message.id, show_tasks(tasks)),
                    Err(error) => format!("{}: error: {error}", message.id),
                };
                messages.iter().map(show).collect::<Vec<_>>().join("\n")
            }
            Ok(Notification::Job(job)) => format!("{job:?}"),
        }
    }

    #[test]
    fn all_records_are_read() {
        let records: Vec<Value> =
            ["a.log", "b.log"].iter().map(|key| s3("ObjectCreated:Copy", key)["Records"][0].clone()).collect();
        assert_eq!(show(&json!({"Records": records})), "ship s3://logs/a.log\nship s3://logs/b.log");
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
            assert_eq!(show(&put(encoded)), format!("ship s3://logs/{decoded}"));
        }
    }

    #[test]
    fn event_bridge_writes_keys_as_they_are() {
        assert_eq!(show(&event_bridge("Object Created", "a+b%20c.log")), "ship s3://logs/a+b%20c.log");
        assert_eq!(
            show(&event_bridge("Object Deleted", "a.log")),
            "skip s3://logs/a.log: not a notification of a new object: Object Deleted"
        );
    }

    #[test]
    fn a_key_that_is_no_utf8_is_an_error_not_another_object() {
        assert!(
            show(&put("%FF.log"))
                .starts_with("error: notification not understood (the key \"%FF.log\" is not form-encoded UTF-8): {")
        );
    }

    #[test]
    fn every_envelope_is_opened() {
        let direct = put("a+b.log");
        for event in [
            direct.clone(),
            sns_record(&direct),
            destination(&direct),
            destination(&sns_record(&direct)),
            destination(&sqs(&[direct.to_string()])),
        ] {
            assert_eq!(show(&event), "ship s3://logs/a b.log", "{event}");
        }
    }

    #[test]
    fn a_queue_may_hold_bodies_of_every_kind_and_each_message_stands_for_itself() {
        let event = sqs(&[
            put("a.log").to_string(),
            sns_body(&put("b.log")).to_string(),
            event_bridge("Object Created", "c+d.log").to_string(),
            destination(&put("e.log")).to_string(),
            "hello".to_owned(),
            json!({"x": 1}).to_string(),
            json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"}).to_string(),
            json!({"Records": []}).to_string(),
        ]);
        let shown = show(&event);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines[..4],
            ["m0: ship s3://logs/a.log", "m1: ship s3://logs/b.log", "m2: ship s3://logs/c+d.log", "m3: ship s3://logs/e.log"]
        );
        assert!(lines[4].starts_with("m4: error: not a notification of an S3 object: \"hello\""), "{shown}");
        assert!(lines[5].starts_with("m5: error: not a notification of an S3 object: {\"x\":1}"), "{shown}");
        assert_eq!(
            lines[6..],
            [
                "m6: skip s3://logs/: the test event that S3 sends when notifications are switched on",
                "m7: skip : a notification without records"
            ]
        );
    }

    #[test]
    fn a_message_says_how_its_visibility_is_changed() {
        let Ok(Notification::Queue(messages)) = parse(&sqs(&[put("a.log").to_string()])) else { panic!("a queue's event") };
        let expected = Receipt {
            queue_url: "https://sqs.eu-west-1.amazonaws.com/123456789012/logs".to_owned(),
            handle: "handle".to_owned(),
            receive_count: 3,
        };
        assert_eq!(messages[0].receipt, Some(expected));
    }

    #[test]
    fn test_events_and_empty_ones_ask_for_nothing() {
        let event =
            json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-02T10:00:00.000Z", "Bucket": "logs"});
        let skipped = "skip s3://logs/: the test event that S3 sends when notifications are switched on";
        assert_eq!((show(&event).as_str(), show(&sns_record(&event)).as_str()), (skipped, skipped));
        assert_eq!(show(&json!({"Records": []})), "skip : a notification without records");
    }

    #[test]
    fn other_events_and_other_objects_are_skipped() {
        for (event, expected) in [
            (
                s3("ObjectRemoved:Delete", "a.log"),
                "skip s3://logs/a.log: not a notification of a new object: ObjectRemoved:Delete",
            ),
            (
                s3("ObjectRestore:Completed", "a.log"),
                "skip s3://logs/a.log: not a notification of a new object: ObjectRestore:Completed",
            ),
            (
                put("p/AWSLogs/123456789012/ELBAccessLogTestFile"),
                "skip s3://logs/p/AWSLogs/123456789012/ELBAccessLogTestFile: the test object that AWS writes when logging is switched on",
            ),
            (put("folder/"), "skip s3://logs/folder/: a folder marker"),
            (
                put("AWSLogs/123456789012/vpcflowlogs/x/y.log.gz"),
                "skip s3://logs/AWSLogs/123456789012/vpcflowlogs/x/y.log.gz: logs of another service: vpcflowlogs",
            ),
        ] {
            assert_eq!(show(&event), expected);
        }
    }

    #[test]
    fn anything_else_is_an_error_that_shows_it() {
        for event in
            [json!(null), json!("x"), json!({}), json!({"Records": {}}), json!({"source": "aws.ec2", "detail-type": "x"})]
        {
            assert!(
                show(&event).starts_with(&format!("error: not a notification of an S3 object: {event};")),
                "{}",
                show(&event)
            );
        }
        assert!(show(&json!({"Records": [{"eventSource": "aws:kinesis"}]})).starts_with("error: not a notification"));
        let long = show(&json!({"x": "é".repeat(1_000)}));
        assert!(long.chars().count() < 500 && long.contains('…'), "{long}");
    }

    #[test]
    fn one_malformed_record_fails_the_whole_event() {
        let event = json!({"Records": [put("a.log")["Records"][0], {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]});
        assert!(show(&event).starts_with("error: notification not understood (missing field `s3`): "), "{}", show(&event));
    }

    #[test]
    fn envelopes_have_an_end() {
        let endless = (0..20).fold(put("a.log"), |event, _| destination(&event));
        assert!(show(&endless).starts_with("error: notification not understood (too many envelopes)"), "{}", show(&endless));
    }
}
