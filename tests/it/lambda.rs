//! The function's binary with a Lambda Runtime API, as AWS runs it.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

use crate::support::faulty::{Faulty, wait_for_close};
use crate::support::runtime::{Outcome, RuntimeApi, log_lines, milliseconds_from_now, queue_event};
use crate::support::{
    Receiver, Scripted, alb_key, alb_line, closed_port, gzip, id_of, put, run, s3_event, status, stderr, stdout,
};

/// Returns the text of an object with `count` lines.
fn alb_lines(count: usize) -> String {
    (0..count).map(|number| alb_line(number) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_invocations_after_failed_ones() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(50);
    put(store.path(), "logs", &alb_key("one"), &gzip(text.as_bytes()));
    put(store.path(), "logs", &alb_key("two"), text.as_bytes());
    put(store.path(), "logs", &alb_key("broken"), &gzip(text.as_bytes())[..200]);
    let receiver = Receiver::start().await;
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let child = api.function(&[("LOGSTASH_URL", &receiver.url), ("OBJECT_STORE", &object_store)]).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));

    let Outcome::Response(report) = api.invoke(s3_event("logs", &alb_key("one")), deadline).await else {
        panic!("the first object is complete");
    };
    assert_eq!((&report["totals"]["lines"], &report["totals"]["delivered"]), (&json!(50), &json!(50)));
    assert_eq!(report["objects"][0]["kind"], "alb");

    for (event, error_type, message) in [
        (json!({"hello": "world"}), "UnknownEvent", "not a notification of an S3 object: {\"hello\":\"world\"}"),
        (s3_event("logs", &alb_key("missing")), "ObjectsFailed", "cannot read s3://logs/AWSLogs/"),
        (s3_event("logs", &alb_key("broken")), "ObjectsFailed", "truncated gzip: ends at compressed byte 200"),
    ] {
        let Outcome::Error(error) = api.invoke(event, deadline).await else {
            panic!("the invocation succeeds instead of failing with {message:?}")
        };
        assert_eq!(error["errorType"], error_type);
        assert!(
            error["errorMessage"].as_str().is_some_and(|text| text.contains(message)),
            "{error} does not contain {message:?}"
        );
    }

    // The local emulator sets a deadline in 1970, which means that the deadline is unknown.
    let Outcome::Response(report) = api.invoke(s3_event("logs", &alb_key("two")), 600_000).await else {
        panic!("the second object is complete, and a deadline in 1970 is ignored");
    };
    assert_eq!(report["totals"]["delivered"], 50);

    let ids = receiver.ids();
    assert!(ids.values().all(|&times| times == 1), "a line arrived more than once");
    let lines = log_lines(child).await;
    let shipped: Vec<&Value> = lines.iter().filter(|line| line["message"] == "object shipped").collect();
    assert_eq!(shipped.len(), 2, "expected one summary line for each object: {lines:?}");
    assert_eq!(
        (&shipped[0]["lines"], &shipped[0]["LinesRead"], &shipped[0]["FunctionName"]),
        (&json!(50), &json!(50), &json!("shipper"))
    );
    assert_eq!(shipped[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"], "ElbLogShipper");
    assert!(shipped[0]["ShipDelay"].is_u64() && shipped[0]["DeliveryDelay"].is_u64(), "{}", shipped[0]);
    assert_eq!(
        lines.iter().filter(|line| line["level"] == "ERROR" && line["message"] == "object failed").count(),
        2,
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fails_before_the_deadline_without_a_receiver() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(50);
    put(store.path(), "logs", &alb_key("one"), text.as_bytes());
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let variables = [("LOGSTASH_URL", closed_port()), ("OBJECT_STORE", object_store), ("DEADLINE_RESERVE", "1s".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let _child = api.function(&variables).spawn().expect("the function");

    let deadline = milliseconds_from_now(Duration::from_secs(3));
    let Outcome::Error(error) = api.invoke(s3_event("logs", &alb_key("one")), deadline).await else {
        panic!("the invocation succeeds although nothing listens at LOGSTASH_URL");
    };
    assert!(milliseconds_from_now(Duration::ZERO) < deadline, "the function responded after its deadline");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("50 of 50 lines read are undelivered"), "{message}");
    assert!(message.contains("its last request: no connection"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_and_replayed_objects_have_the_same_ids() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(20);
    put(store.path(), "logs", &alb_key("one"), &gzip(text.as_bytes()));
    let (live, replayed) = (Receiver::start().await, Receiver::start().await);
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let _child = api.function(&[("LOGSTASH_URL", &live.url), ("OBJECT_STORE", &object_store)]).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));
    assert!(matches!(api.invoke(s3_event("logs", &alb_key("one")), deadline).await, Outcome::Response(_)));

    let root = store.path().join("logs").display().to_string();
    let output = run(&mut crate::support::elbship(&["replay", &root, "--as", "s3://logs", "--to", &replayed.url])).await;
    crate::support::assert_status(&output, 0);
    assert_eq!(live.ids(), replayed.ids());
    assert_eq!(id_of(&live.events()[0]).len(), 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_every_invalid_variable_at_start() {
    let api = RuntimeApi::start().await;
    let output = run(&mut api.function(&[("BATCH_EVENTS", "many"), ("RETRY_BUDGET", "long")])).await;
    assert!(!output.status.success(), "the function starts with an invalid configuration");
    let log = stdout(&output) + &stderr(&output);
    for name in [
        "LOGSTASH_URL is missing",
        "BATCH_EVENTS=\\\"many\\\" is not a whole number",
        "RETRY_BUDGET=\\\"long\\\" is not a duration",
    ] {
        assert!(log.contains(name), "{name} is not reported in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn returns_only_the_failed_messages_of_a_queue() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(10);
    put(store.path(), "logs", &alb_key("one"), &gzip(text.as_bytes()));
    put(store.path(), "logs", &alb_key("two"), text.as_bytes());
    let receiver = Receiver::start().await;
    let sqs = sqs(true).await;
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let variables = [&with_aws(&sqs)[..], &[("LOGSTASH_URL", &receiver.url), ("OBJECT_STORE", &object_store)]].concat();
    let _child = api.function(&variables).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));

    let sns = json!({"Type": "Notification", "Message": s3_event("logs", &alb_key("two")).to_string()});
    let bodies = [
        s3_event("logs", &alb_key("one")).to_string(),
        "not JSON".to_owned(),
        s3_event("logs", &alb_key("missing")).to_string(),
        sns.to_string(),
    ];
    let Outcome::Response(response) = api.invoke(queue_event(&bodies), deadline).await else {
        panic!("the invocation fails although two messages succeed")
    };
    assert_eq!(response, json!({"batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m2"}]}));
    assert_eq!(receiver.ids().len(), 20);
    let mut changes: Vec<Value> = sqs.seen().iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect();
    let change = |handle: &str| json!({"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/logs", "ReceiptHandle": handle, "VisibilityTimeout": 60});
    changes.sort_by_key(|change| change["ReceiptHandle"].to_string());
    assert_eq!(changes, [change("handle1"), change("handle2")]);
    assert!(sqs.seen().iter().all(|request| request.headers["x-amz-target"] == "AmazonSQS.ChangeMessageVisibility"));

    let Outcome::Response(response) = api.invoke(queue_event(&bodies[..1]), deadline).await else {
        panic!("the invocation fails although its message succeeds")
    };
    assert_eq!(response, json!({"batchItemFailures": []}));

    let Outcome::Error(error) = api.invoke(queue_event(&bodies[1..3]), deadline).await else {
        panic!("the invocation succeeds although all messages fail");
    };
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(
        message.contains("1 of 1 objects failed") && message.contains("message m0: cannot read the event: not a notification"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_every_event_source_in_its_own_form() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(10);
    put(store.path(), "logs", "team a+b/one.log", text.as_bytes());
    put(store.path(), "logs", "broken.log.gz", &gzip(text.as_bytes())[..50]);
    let receiver = Receiver::start().await;
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let _child = api.function(&[("LOGSTASH_URL", &receiver.url), ("OBJECT_STORE", &object_store)]).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));

    let s3 = s3_event("logs", "team a+b/one.log");
    let sns = json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": s3.to_string()}}]});
    let event_bridge = json!({"source": "aws.s3", "detail-type": "Object Created",
        "detail": {"bucket": {"name": "logs"}, "object": {"key": "team a+b/one.log"}}});
    let redriven = json!({"version": "1.0", "requestContext": {}, "requestPayload": queue_event(&[s3.to_string()])});
    for event in [sns, event_bridge, redriven] {
        let Outcome::Response(report) = api.invoke(event.clone(), deadline).await else {
            panic!("the invocation fails for {event}")
        };
        assert_eq!(report["totals"]["delivered"], 10, "{event}");
    }

    let task = |id: &str, key: &str| json!({"taskId": id, "s3Key": key, "s3BucketArn": "arn:aws:s3:::logs"});
    let job = json!({"invocationSchemaVersion": "1.0", "invocationId": "invocation", "job": {"id": "job"},
        "tasks": [task("t0", "team+a%2Bb/one.log"), task("t1", "broken.log.gz"), task("t2", "folder/")]});
    let Outcome::Response(results) = api.invoke(job, deadline).await else { panic!("the invocation fails instead of its task") };
    assert_eq!((&results["invocationSchemaVersion"], &results["invocationId"]), (&json!("1.0"), &json!("invocation")));
    assert_eq!(results["treatMissingKeysAs"], "PermanentFailure");
    let results: Vec<&str> =
        results["results"].as_array().expect("results").iter().filter_map(|one| one["resultCode"].as_str()).collect();
    assert_eq!(results, ["Succeeded", "PermanentFailure", "Succeeded"]);
    assert_eq!(receiver.ids().len(), 10, "the ids of the same lines differ between event sources");
}

/// Returns the variables with which the SDK calls the SQS stand-in.
fn with_aws(sqs: &Scripted) -> [(&str, &str); 4] {
    [
        ("AWS_ENDPOINT_URL_SQS", &sqs.url),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]
}

/// Returns the variables of a function with a dead-letter queue.
fn with_sqs<'a>(sqs: &'a Scripted, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&with_aws(sqs)[..], &[("DEAD_LETTER_QUEUE_URL", DEAD_LETTER_QUEUE)], others].concat()
}

const DEAD_LETTER_QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/dead";

/// Starts an SQS stand-in that accepts messages for the dead-letter queue, or denies access to it.
async fn sqs(accepts_messages: bool) -> Scripted {
    Scripted::start(move |_, request| {
        let response = Response::builder().header("content-type", "application/x-amz-json-1.0");
        let is_message = request.headers["x-amz-target"] == "AmazonSQS.SendMessage";
        let (code, body) = match (is_message, accepts_messages) {
            (true, true) => (200, json!({"MessageId": "m"})),
            (true, false) => (403, json!({"__type": "com.amazon.coral.service#AccessDeniedException", "message": "no"})),
            (false, _) => (200, json!({})),
        };
        response.status(code).body(Body::from(body.to_string())).expect("a response")
    })
    .await
}

/// Returns the bodies of the messages that were sent to the dead-letter queue.
fn dead_lettered(sqs: &Scripted) -> Vec<String> {
    let messages = sqs.seen().into_iter().filter(|request| request.headers["x-amz-target"] == "AmazonSQS.SendMessage");
    let message = |request: crate::support::Seen| {
        let message: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!(message["QueueUrl"], DEAD_LETTER_QUEUE);
        message["MessageBody"].as_str().expect("a body").to_owned()
    };
    messages.map(message).collect()
}

/// Returns a notification as no serializer formats it, so that a changed body is noticed.
fn odd_notification(key: &str) -> String {
    format!(
        "{{ \"Records\":[ {{\"eventSource\":\"aws:s3\",\"eventName\":\"ObjectCreated:Put\",\"x\":1.10,\"s3\":{{\"object\":\
         {{\"key\":\"{key}\"}},\"bucket\":{{\"name\":\"logs\"}} }}}}]}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_unreadable_objects_to_the_dead_letter_queue_unchanged() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(10);
    put(store.path(), "logs", "one.log", text.as_bytes());
    put(store.path(), "logs", "broken.log.gz", &gzip(text.as_bytes())[..50]);
    let (receiver, sqs) = (Receiver::start().await, sqs(true).await);
    let object_store = format!("dir:{}", store.path().display());
    let variables = with_sqs(&sqs, &[("LOGSTASH_URL", &receiver.url), ("OBJECT_STORE", &object_store)]);
    let mut api = RuntimeApi::start().await;
    let child = api.function(&variables).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));

    let bodies = [odd_notification("missing.log"), odd_notification("one.log"), odd_notification("broken.log.gz")];
    let Outcome::Response(response) = api.invoke(queue_event(&bodies), deadline).await else {
        panic!("the invocation fails although all messages are done")
    };
    assert_eq!(response, json!({"batchItemFailures": []}));
    let mut sent = dead_lettered(&sqs);
    sent.sort();
    assert_eq!(sent, [odd_notification("broken.log.gz"), odd_notification("missing.log")]);

    // A single message is done, too, and does not look like an outage.
    let Outcome::Response(response) = api.invoke(queue_event(&bodies[..1]), deadline).await else {
        panic!("the invocation fails although its message is done")
    };
    assert_eq!(response, json!({"batchItemFailures": []}));
    assert!(
        sqs.seen().iter().all(|request| request.headers["x-amz-target"] == "AmazonSQS.SendMessage"),
        "the redelivery of a message that is done was delayed"
    );
    let failed = log_lines(child).await.iter().filter(|line| line["ObjectsFailed"] == 1).count();
    assert_eq!(failed, 3, "an object in the dead-letter queue does not count as failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_an_event_of_an_unknown_type_to_the_dead_letter_queue() {
    let store = tempfile::tempdir().expect("a directory");
    let (closed, sqs) = (closed_port(), sqs(true).await);
    let object_store = format!("dir:{}", store.path().display());
    let variables = with_sqs(&sqs, &[("LOGSTASH_URL", &closed), ("OBJECT_STORE", &object_store)]);
    let mut api = RuntimeApi::start().await;
    let child = api.function(&variables).spawn().expect("the function");
    let event = |detail_type: &str| json!({"source": "aws.s3", "detail-type": detail_type, "detail": {"bucket": {"name": "logs"}, "object": {"key": "x.log"}}});
    let bodies = [event("Object Teleported").to_string(), event("Object Tags Added").to_string()];
    let deadline = milliseconds_from_now(Duration::from_mins(1));
    let Outcome::Response(response) = api.invoke(queue_event(&bodies), deadline).await else {
        panic!("the invocation fails although both messages are done")
    };
    assert_eq!((response, dead_lettered(&sqs)), (json!({"batchItemFailures": []}), vec![bodies[0].clone()]));

    let Outcome::Error(error) = api.invoke(event("Object Teleported"), deadline).await else {
        panic!("the invocation succeeds although the event cannot be read")
    };
    assert_eq!(error["errorType"], "UnknownEvent");
    let lines = log_lines(child).await;
    let errors: Vec<&Value> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    for line in errors {
        let named = line["error"]
            .as_str()
            .is_some_and(|error| error.contains("s3://logs/x.log: unknown detail type \"Object Teleported\""));
        assert!(named && line["reason"] == "unknown_event", "{line}");
    }
    let skipped = lines.iter().find(|line| line["message"] == "object skipped").expect("a line of the other event");
    assert_eq!((&skipped["key"], &skipped["bucket"]), (&json!("x.log"), &json!("logs")));
}

#[tokio::test(flavor = "multi_thread")]
async fn never_dead_letters_a_message_that_may_be_shipped_later() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(10);
    put(store.path(), "logs", "one.log", text.as_bytes());
    let object_store = format!("dir:{}", store.path().display());
    // A wrong URL, rejected events without a dead-letter destination, and a closed port: Logstash may accept all of them later.
    let wrong = Scripted::start(|_, _| status(404)).await;
    let refusing = Scripted::start(|_, request| status(if request.events().len() > 5 { 400 } else { 200 })).await;
    let rejecting = Scripted::start(|_, request| {
        let rejected = request.events().iter().any(|event| event["elb"]["request"]["query"] == "id=3");
        status(if rejected { 400 } else { 200 })
    })
    .await;
    let closed = closed_port();
    for (url, ships) in [(&wrong.url, false), (&refusing.url, true), (&rejecting.url, false), (&closed, false)] {
        let sqs = sqs(true).await;
        let variables = with_sqs(&sqs, &[("LOGSTASH_URL", url), ("OBJECT_STORE", &object_store), ("RETRY_BUDGET", "200ms")]);
        let mut api = RuntimeApi::start().await;
        let _child = api.function(&variables).spawn().expect("the function");
        let deadline = milliseconds_from_now(Duration::from_mins(1));
        let outcome = api.invoke(queue_event(&[odd_notification("one.log")]), deadline).await;
        assert_eq!(matches!(outcome, Outcome::Response(_)), ships, "{outcome:?}");
        assert_eq!(dead_lettered(&sqs), [""; 0], "a message that may be shipped later is in the dead-letter queue");
        assert_eq!(sqs.seen().len(), usize::from(!ships), "the redelivery of a failed message is delayed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_fails_if_the_dead_letter_queue_rejects_it() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(10);
    put(store.path(), "logs", "one.log", text.as_bytes());
    let (receiver, sqs) = (Receiver::start().await, sqs(false).await);
    let object_store = format!("dir:{}", store.path().display());
    let variables = with_sqs(&sqs, &[("LOGSTASH_URL", &receiver.url), ("OBJECT_STORE", &object_store)]);
    let mut api = RuntimeApi::start().await;
    let child = api.function(&variables).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));
    let bodies = [odd_notification("missing.log"), odd_notification("one.log")];
    let Outcome::Response(response) = api.invoke(queue_event(&bodies), deadline).await else {
        panic!("the invocation fails although one message is done")
    };
    assert_eq!(response, json!({"batchItemFailures": [{"itemIdentifier": "m0"}]}));
    let Outcome::Error(error) = api.invoke(queue_event(&bodies[..1]), deadline).await else {
        panic!("the invocation succeeds although all messages fail");
    };
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("no such object")), "{error}");
    let lines = log_lines(child).await;
    let advice = lines.iter().any(|line| line.to_string().contains("allow sqs:SendMessage on DEAD_LETTER_QUEUE_URL"));
    assert!(advice, "no log line names the missing permission: {lines:?}");
}

/// Starts a server that accepts connections and never responds.
async fn silent_server() -> Faulty {
    Faulty::always(|mut stream| async move { wait_for_close(&mut stream).await }).await
}

/// Invokes a function with a deadline in 3 s and a reserve of 1 s. Returns the outcome if it arrives before the deadline.
async fn invoke_shortly(variables: &[(&str, &str)], event: Value) -> Outcome {
    let mut api = RuntimeApi::start().await;
    let _child = api.function(variables).env("DEADLINE_RESERVE", "1s").spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_secs(3));
    let outcome = api.invoke(event, deadline).await;
    let late = milliseconds_from_now(Duration::ZERO).saturating_sub(deadline);
    assert_eq!(late, 0, "the function responded {late} ms after its deadline: {outcome:?}");
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_deadline_with_a_hanging_receiver() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(50);
    put(store.path(), "logs", "one.log", text.as_bytes());
    let (hanging, object_store) = (silent_server().await, format!("dir:{}", store.path().display()));
    let variables = [("LOGSTASH_URL", hanging.url.as_str()), ("OBJECT_STORE", &object_store)];
    let Outcome::Error(error) = invoke_shortly(&variables, s3_event("logs", "one.log")).await else {
        panic!("the invocation succeeds although the receiver never responds");
    };
    assert!(hanging.faults() > 0, "the receiver got no request");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(
        message.contains("50 of 50 lines read are undelivered") && message.contains("no response within REQUEST_TIMEOUT"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_deadline_with_a_hanging_dead_letter_store() {
    let store = tempfile::tempdir().expect("a directory");
    let text = alb_lines(50);
    put(store.path(), "logs", "one.log", text.as_bytes());
    let server = Scripted::start(|_, request| {
        let rejected = request.events().iter().any(|event| event["elb"]["request"]["query"] == "id=3");
        status(if rejected { 400 } else { 200 })
    })
    .await;
    let (hanging, object_store) = (silent_server().await, format!("dir:{}", store.path().display()));
    let variables = [
        ("LOGSTASH_URL", server.url.as_str()),
        ("OBJECT_STORE", &object_store),
        ("DEAD_LETTER_URL", "s3://logs/dead"),
        ("AWS_ENDPOINT_URL_S3", &hanging.url),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let Outcome::Error(error) = invoke_shortly(&variables, s3_event("logs", "one.log")).await else {
        panic!("the invocation succeeds although an event is not stored anywhere");
    };
    assert!(hanging.faults() > 0, "the dead-letter store got no request");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("1 of 50 lines read are undelivered") && message.contains("dead letter"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_deadline_with_hanging_queues() {
    let store = tempfile::tempdir().expect("a directory");
    let (hanging, object_store) = (silent_server().await, format!("dir:{}", store.path().display()));
    let (replaced, closed) = (Scripted::start(|_, _| status(200)).await, closed_port());
    let mut variables = with_sqs(&replaced, &[("LOGSTASH_URL", &closed), ("OBJECT_STORE", &object_store)]);
    variables[0] = ("AWS_ENDPOINT_URL_SQS", &hanging.url);
    let Outcome::Error(error) = invoke_shortly(&variables, queue_event(&[odd_notification("missing.log")])).await else {
        panic!("the invocation succeeds although the message is not in the dead-letter queue");
    };
    assert!(hanging.faults() > 0, "the queue got no request");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("no such object")), "{error}");
}
