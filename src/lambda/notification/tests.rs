//! Every envelope, opened by `parse`; and the samples, read by AWS's types and by our own.

use std::fs;

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use aws_lambda_events::event::s3::S3Event;
use aws_lambda_events::event::s3::batch_job::S3BatchJobEvent;
use aws_lambda_events::event::sns::{SnsEvent, SnsMessage};
use aws_lambda_events::event::sqs::SqsEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

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

fn failed_invocation(payload: &Value) -> Value {
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

/// Shows one task a line, after the id of its message.
fn show(event: &Value) -> String {
    match parse(event) {
        Err(error) => format!("error: {error}"),
        Ok(Notification::Event(tasks)) => show_tasks(&tasks),
        Ok(Notification::Queue(messages)) => {
            let show = |message: &QueueMessage| match &message.tasks {
                Ok(tasks) => format!("{}: {}", message.id, show_tasks(tasks)),
                Err(error) => format!("{}: error: {error}", message.id),
            };
            messages.iter().map(show).collect::<Vec<_>>().join("\n")
        }
        Ok(Notification::Job(job)) => format!("{job:?}"),
    }
}

#[test]
fn reads_every_record() {
    let records: Vec<Value> = ["a.log", "b.log"].iter().map(|key| s3("ObjectCreated:Copy", key)["Records"][0].clone()).collect();
    assert_eq!(show(&json!({"Records": records})), "ship s3://logs/a.log\nship s3://logs/b.log");
}

#[test]
fn decodes_form_keys_once() {
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
fn reads_event_bridge_keys_without_decoding() {
    assert_eq!(show(&event_bridge("Object Created", "a+b%20c.log")), "ship s3://logs/a+b%20c.log");
    assert_eq!(
        show(&event_bridge("Object Deleted", "a.log")),
        "skip s3://logs/a.log: not a notification of a new object: Object Deleted"
    );
}

fn cloud_trail(call: &str, members: &Value) -> Value {
    let mut event = json!({"version": "0", "source": "aws.s3", "detail-type": "AWS API Call via CloudTrail", "region": "eu-west-1",
        "time": "2026-03-02T10:20:05Z", "detail": {"eventVersion": "1.11", "eventSource": "s3.amazonaws.com", "eventName": call,
        "requestParameters": {"bucketName": "logs", "key": "team a+b/x%20.log", "Host": "logs.s3.eu-west-1.amazonaws.com"},
        "responseElements": null}});
    event["detail"].as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    event
}

#[test]
fn reads_uploads_that_cloud_trail_recorded() {
    for call in ["PutObject", "CompleteMultipartUpload", "CopyObject"] {
        let event = cloud_trail(call, &json!({}));
        assert_eq!(show(&event), "ship s3://logs/team a+b/x%20.log", "{call}");
        let Ok(Notification::Event(tasks)) = parse(&event) else { panic!("expected an event") };
        let Task::Ship(object) = &tasks[0] else { panic!("expected an object") };
        assert_eq!(object.notified_at.map(|time| time.to_string()).as_deref(), Some("2026-03-02T10:20:05Z"));
    }
    let failed = cloud_trail("PutObject", &json!({"errorCode": "AccessDenied", "errorMessage": "Access Denied"}));
    assert_eq!(
        show(&failed),
        "skip s3://logs/team a+b/x%20.log: a call of PutObject that has failed with AccessDenied, so it has created nothing"
    );
    assert_eq!(
        show(&cloud_trail("DeleteObject", &json!({}))),
        "skip s3://logs/team a+b/x%20.log: not a notification of a new object: DeleteObject"
    );
    for parameters in [json!(null), json!({"bucketName": "logs"}), json!({"bucketName": "logs", "key": ""})] {
        let shown = show(&cloud_trail("PutObject", &json!({"requestParameters": parameters})));
        assert!(shown.starts_with("error: cannot read the notification: "), "{shown}");
    }
}

#[test]
fn skips_known_detail_types_with_their_object() {
    for detail_type in [
        "Object Deleted",
        "Object Restore Initiated",
        "Object Restore Completed",
        "Object Restore Expired",
        "Object Storage Class Changed",
        "Object Access Tier Changed",
        "Object ACL Updated",
        "Object Tags Added",
        "Object Tags Deleted",
    ] {
        let expected = format!("skip s3://logs/a.log: not a notification of a new object: {detail_type}");
        assert_eq!(show(&event_bridge(detail_type, "a.log")), expected);
    }
}

#[test]
fn an_unknown_detail_type_is_a_permanent_error_with_its_name() {
    let event = event_bridge("Object Created Again", "a.log");
    let shown = show(&event);
    assert!(
        shown.starts_with(
            "error: cannot read the event of s3://logs/a.log: unknown detail type \"Object Created Again\" of aws.s3; "
        ),
        "{shown}"
    );
    assert!(parse(&event).is_err_and(|error| error.is_permanent()));
    assert!(parse(&json!({"x": 1})).is_err_and(|error| !error.is_permanent()));
    assert!(show(&sqs(&[event.to_string()])).starts_with("m0: error: cannot read the event of s3://logs/a.log"));
}

#[test]
fn rejects_a_key_that_is_not_utf8() {
    assert!(
        show(&put("%FF.log"))
            .starts_with("error: cannot read the notification: the key \"%FF.log\" is not form-encoded UTF-8; it begins with {")
    );
}

#[test]
fn opens_every_envelope() {
    let direct = put("a+b.log");
    for event in [
        direct.clone(),
        sns_record(&direct),
        failed_invocation(&direct),
        failed_invocation(&sns_record(&direct)),
        failed_invocation(&sqs(&[direct.to_string()])),
    ] {
        assert_eq!(show(&event), "ship s3://logs/a b.log", "{event}");
    }
}

#[test]
fn reads_each_message_of_a_queue_independently() {
    let event = sqs(&[
        put("a.log").to_string(),
        sns_body(&put("b.log")).to_string(),
        event_bridge("Object Created", "c+d.log").to_string(),
        failed_invocation(&put("e.log")).to_string(),
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
    assert!(lines[4].starts_with("m4: error: cannot read the event: not a notification of an S3 object: \"hello\""), "{shown}");
    assert!(lines[5].starts_with("m5: error: cannot read the event: not a notification of an S3 object: {\"x\":1}"), "{shown}");
    assert_eq!(
        lines[6..],
        [
            "m6: skip s3://logs/: the test event that S3 sends when notifications are switched on",
            "m7: skip : a notification without records"
        ]
    );
}

#[test]
fn reads_the_receipt_of_a_message() {
    let Ok(Notification::Queue(messages)) = parse(&sqs(&[put("a.log").to_string()])) else { panic!("an SQS event") };
    let expected = Receipt {
        queue: QueueArn { region: "eu-west-1".to_owned(), account: "123456789012".to_owned(), name: "logs".to_owned() },
        receipt_handle: "handle".to_owned(),
        receive_count: 3,
    };
    assert_eq!(messages[0].receipt, Some(expected));
}

#[test]
fn skips_test_events_and_events_without_records() {
    let event = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-02T10:00:00.000Z", "Bucket": "logs"});
    let skipped = "skip s3://logs/: the test event that S3 sends when notifications are switched on";
    assert_eq!((show(&event).as_str(), show(&sns_record(&event)).as_str()), (skipped, skipped));
    assert_eq!(show(&json!({"Records": []})), "skip : a notification without records");
}

#[test]
fn skips_other_events_and_objects_that_are_not_logs() {
    for (event, expected) in [
        (s3("ObjectRemoved:Delete", "a.log"), "skip s3://logs/a.log: not a notification of a new object: ObjectRemoved:Delete"),
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
fn rejects_other_events_and_shows_them() {
    for event in [json!(null), json!("x"), json!({}), json!({"Records": {}}), json!({"source": "aws.ec2", "detail-type": "x"})] {
        assert!(
            show(&event).starts_with(&format!("error: cannot read the event: not a notification of an S3 object: {event};")),
            "{}",
            show(&event)
        );
    }
    assert!(
        show(&json!({"Records": [{"eventSource": "aws:kinesis"}]}))
            .starts_with("error: cannot read the event: not a notification")
    );
    let long = show(&json!({"x": "é".repeat(1_000)}));
    assert!(long.chars().count() < 500 && long.contains('…'), "{long}");
}

#[test]
fn rejects_an_event_with_one_malformed_record() {
    let event = json!({"Records": [put("a.log")["Records"][0], {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]});
    assert!(
        show(&event).starts_with("error: cannot read the notification: missing field `s3`; it begins with "),
        "{}",
        show(&event)
    );
}

#[test]
fn rejects_too_many_envelopes() {
    let nested = (0..20).fold(put("a.log"), |event, _| failed_invocation(&event));
    assert!(show(&nested).starts_with("error: cannot read the notification: too many envelopes"), "{}", show(&nested));
}

/// Returns whether a type of the crate reads an event.
type Reads = fn(&Value) -> bool;

/// The samples that a type of the crate reads.
const READ_BY_THE_CRATE: [(&str, Reads); 7] = [
    ("eventbridge.json", reads::<EventBridgeEvent>),
    ("s3-key-with-space-and-plus.json", reads::<S3Event>),
    ("s3-missing-object.json", reads::<S3Event>),
    ("s3-put.json", reads::<S3Event>),
    ("s3-test-file.json", reads::<S3Event>),
    ("s3-two-records.json", reads::<S3Event>),
    ("sqs.json", reads::<SqsEvent>),
];

/// The samples that only our own types read, each with the crate's type that fails.
const READ_BY_OWN_TYPES: [(&str, Reads); 3] = [
    // Schema 2.0 names a task's bucket in a member that the crate's type does not have.
    ("s3-batch-operations.json", reads_bucket_of_job),
    // The test event has no records, because it is not about an object.
    ("s3-test-event.json", reads::<S3Event>),
    // The notification has no signature.
    ("sns.json", reads::<SnsEvent>),
];

fn reads<T: DeserializeOwned>(event: &Value) -> bool {
    T::deserialize(event).is_ok()
}

fn reads_bucket_of_job(event: &Value) -> bool {
    let job = S3BatchJobEvent::deserialize(event).expect("the type ignores unknown members");
    serde_json::to_value(job).unwrap()["tasks"][0].get("s3Bucket").is_some()
}

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/events");

fn sample(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(format!("{SAMPLES}/{name}")).unwrap()).unwrap()
}

#[test]
fn reads_every_sample() {
    for (name, _) in READ_BY_THE_CRATE.iter().chain(&READ_BY_OWN_TYPES) {
        let shown = show(&sample(name));
        assert!(!shown.contains("error"), "{name}: {shown}");
    }
}

#[test]
fn lists_every_sample() {
    let files = fs::read_dir(SAMPLES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The registry reads the others.
    let mut files: Vec<String> = files.filter(|name| !name.starts_with("asg-") && !name.starts_with("registry-")).collect();
    files.sort();
    let mut listed: Vec<&str> = READ_BY_THE_CRATE.iter().chain(&READ_BY_OWN_TYPES).map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(files, listed);
}

#[test]
fn own_types_read_only_what_the_crate_does_not() {
    for (name, reads) in READ_BY_THE_CRATE {
        assert!(reads(&sample(name)), "the crate does not read {name}; move it to READ_BY_OWN_TYPES");
    }
    for (name, reads) in READ_BY_OWN_TYPES {
        assert!(!reads(&sample(name)), "the crate reads {name} now; use its type instead of our own");
    }
}

#[test]
fn own_types_read_s3_records_without_optional_members() {
    for member in ["eventTime", "userIdentity", "requestParameters"] {
        let mut event = sample("s3-put.json");
        event["Records"][0].as_object_mut().unwrap().remove(member).expect("the sample has all members");
        assert!(!reads::<S3Event>(&event), "the crate reads records without {member} now; use its type instead of our own");
        assert!(show(&event).starts_with("ship s3://example-elb-logs/"), "{}", show(&event));
    }
}

#[test]
fn own_types_read_sns_notifications_without_a_signature() {
    let body: Value = serde_json::from_str(sample("sqs.json")["Records"][2]["body"].as_str().unwrap()).unwrap();
    assert!(!reads::<SnsMessage>(&body), "the crate reads notifications without a signature now; use its type");
    assert!(show(&body).starts_with("ship s3://example-elb-logs/"), "{}", show(&body));
}

#[test]
fn reads_messages_with_few_members() {
    let event = json!({"Records": [{"eventSource": "aws:sqs", "messageId": "m0", "body": put("a.log").to_string()}]});
    assert_eq!(show(&event), "m0: ship s3://logs/a.log");
    let event = json!({"Records": [{"eventSource": "aws:sqs", "messageId": "m0"}]});
    assert!(show(&event).starts_with("error: cannot read the notification: the message has no body"), "{}", show(&event));
}

#[test]
fn reads_event_bridge_events_with_few_members() {
    let event = json!({"source": "aws.s3", "detail-type": "Object Created",
        "detail": {"bucket": {"name": "logs"}, "object": {"key": "a.log"}}});
    assert_eq!(show(&event), "ship s3://logs/a.log");
    assert_eq!(
        show(&json!({"source": "aws.s3", "detail-type": "Object Tags Added"})),
        "skip : not a notification of a new object: Object Tags Added"
    );
}
