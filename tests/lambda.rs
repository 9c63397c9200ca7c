//! The function's binary against a Lambda Runtime API, as AWS runs it.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

#[path = "support/runtime.rs"]
mod runtime;
mod support;

use runtime::{Outcome, RuntimeApi, log_lines, milliseconds_from_now, queue_event};
use support::{Receiver, Scripted, alb_key, alb_line, closed_port, gzip, id_of, put, run, s3_event, stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn one_process_serves_several_invocations_a_failing_one_among_them() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..50).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", &alb_key("one"), &gzip(text.as_bytes()));
    put(store.path(), "logs", &alb_key("two"), text.as_bytes());
    put(store.path(), "logs", &alb_key("broken"), &gzip(text.as_bytes())[..200]);
    let receiver = Receiver::start().await;
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let child = api.function(&[("LOGSTASH_URL", &receiver.url), ("OBJECT_STORE", &object_store)]).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));

    let Outcome::Response(report) = api.invoke(s3_event("logs", &alb_key("one")), deadline).await else {
        panic!("the first object is whole");
    };
    assert_eq!((&report["totals"]["lines"], &report["totals"]["delivered"]), (&json!(50), &json!(50)));
    assert_eq!(report["objects"][0]["kind"], "alb");

    for (event, error_type, message) in [
        (json!({"hello": "world"}), "UnknownEvent", "not a notification of an S3 object: {\"hello\":\"world\"}"),
        (s3_event("logs", &alb_key("missing")), "ObjectsFailed", "there is no object s3://logs/AWSLogs/"),
        (s3_event("logs", &alb_key("broken")), "ObjectsFailed", "truncated gzip: ends at compressed byte 200"),
    ] {
        let Outcome::Error(error) = api.invoke(event, deadline).await else { panic!("{message} is an error") };
        assert_eq!(error["errorType"], error_type);
        assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains(message)), "{error} should say {message:?}");
    }

    // The local emulator's deadline lies in 1970: it is unknown, not past.
    let Outcome::Response(report) = api.invoke(s3_event("logs", &alb_key("two")), 600_000).await else {
        panic!("the second object is whole, and a deadline in 1970 is none");
    };
    assert_eq!(report["totals"]["delivered"], 50);

    let ids = receiver.ids();
    assert!(ids.values().all(|&times| times == 1), "each line came once");
    let lines = log_lines(child).await;
    let shipped: Vec<&Value> = lines.iter().filter(|line| line["message"] == "object shipped").collect();
    assert_eq!(shipped.len(), 2, "one summary line an object: {lines:?}");
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
async fn an_invocation_ends_by_itself_before_its_deadline() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..50).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", &alb_key("one"), text.as_bytes());
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let variables = [("LOGSTASH_URL", closed_port()), ("OBJECT_STORE", object_store), ("DEADLINE_RESERVE", "1s".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let _child = api.function(&variables).spawn().expect("the function");

    let deadline = milliseconds_from_now(Duration::from_secs(3));
    let Outcome::Error(error) = api.invoke(s3_event("logs", &alb_key("one")), deadline).await else {
        panic!("nobody listens, so nothing can be delivered");
    };
    assert!(milliseconds_from_now(Duration::ZERO) < deadline, "the function answered only after its deadline");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("50 of 50 lines read are undelivered"), "{message}");
    assert!(message.contains("the last request: no connection"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_the_same_whatever_way_an_object_comes() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..20).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", &alb_key("one"), &gzip(text.as_bytes()));
    let (live, replayed) = (Receiver::start().await, Receiver::start().await);
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let _child = api.function(&[("LOGSTASH_URL", &live.url), ("OBJECT_STORE", &object_store)]).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));
    assert!(matches!(api.invoke(s3_event("logs", &alb_key("one")), deadline).await, Outcome::Response(_)));

    let root = store.path().join("logs").display().to_string();
    let output = run(&mut support::elbship(&["replay", &root, "--as", "s3://logs", "--to", &replayed.url])).await;
    support::assert_status(&output, 0);
    assert_eq!(live.ids(), replayed.ids());
    assert_eq!(id_of(&live.events()[0]).len(), 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_stops_the_start_with_every_mistake() {
    let api = RuntimeApi::start().await;
    let output = run(&mut api.function(&[("BATCH_EVENTS", "many"), ("RETRY_BUDGET", "long")])).await;
    assert!(!output.status.success(), "a function without a configuration starts");
    let log = stdout(&output) + &stderr(&output);
    for name in
        ["LOGSTASH_URL is missing", "BATCH_EVENTS=\\\"many\\\" is no whole number", "RETRY_BUDGET=\\\"long\\\" is no duration"]
    {
        assert!(log.contains(name), "{name} is not reported in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_queues_messages_just_the_failed_ones_come_again() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..10).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", &alb_key("one"), &gzip(text.as_bytes()));
    put(store.path(), "logs", &alb_key("two"), text.as_bytes());
    let receiver = Receiver::start().await;
    let sqs = Scripted::start(|_, _| {
        Response::builder().header("content-type", "application/x-amz-json-1.0").body(Body::from("{}")).expect("a response")
    })
    .await;
    let mut api = RuntimeApi::start().await;
    let object_store = format!("dir:{}", store.path().display());
    let variables = [
        ("LOGSTASH_URL", receiver.url.as_str()),
        ("OBJECT_STORE", &object_store),
        ("AWS_ENDPOINT_URL_SQS", &sqs.url),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let _child = api.function(&variables).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));

    let sns = json!({"Type": "Notification", "Message": s3_event("logs", &alb_key("two")).to_string()});
    let bodies = [
        s3_event("logs", &alb_key("one")).to_string(),
        "not JSON".to_owned(),
        s3_event("logs", &alb_key("missing")).to_string(),
        sns.to_string(),
    ];
    let Outcome::Response(reply) = api.invoke(queue_event(&bodies), deadline).await else { panic!("two messages are fine") };
    assert_eq!(reply, json!({"batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m2"}]}));
    assert_eq!(receiver.ids().len(), 20);
    let mut changes: Vec<Value> = sqs.seen().iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect();
    let change = |handle: &str| json!({"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/logs", "ReceiptHandle": handle, "VisibilityTimeout": 60});
    changes.sort_by_key(|change| change["ReceiptHandle"].to_string());
    assert_eq!(changes, [change("handle1"), change("handle2")]);
    assert!(sqs.seen().iter().all(|request| request.headers["x-amz-target"] == "AmazonSQS.ChangeMessageVisibility"));

    let Outcome::Response(reply) = api.invoke(queue_event(&bodies[..1]), deadline).await else { panic!("the message is fine") };
    assert_eq!(reply, json!({"batchItemFailures": []}));

    let Outcome::Error(error) = api.invoke(queue_event(&bodies[1..3]), deadline).await else {
        panic!("an invocation of which every message failed fails itself");
    };
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("1 of 1 objects failed") && message.contains("message m0: not a notification"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sender_gets_the_answer_that_it_reads() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..10).map(|number| alb_line(number) + "\n").collect();
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
        let Outcome::Response(report) = api.invoke(event.clone(), deadline).await else { panic!("{event} is fine") };
        assert_eq!(report["totals"]["delivered"], 10, "{event}");
    }

    let task = |id: &str, key: &str| json!({"taskId": id, "s3Key": key, "s3BucketArn": "arn:aws:s3:::logs"});
    let job = json!({"invocationSchemaVersion": "1.0", "invocationId": "invocation", "job": {"id": "job"},
        "tasks": [task("t0", "team+a%2Bb/one.log"), task("t1", "broken.log.gz"), task("t2", "folder/")]});
    let Outcome::Response(results) = api.invoke(job, deadline).await else { panic!("tasks fail for themselves") };
    assert_eq!((&results["invocationSchemaVersion"], &results["invocationId"]), (&json!("1.0"), &json!("invocation")));
    assert_eq!(results["treatMissingKeysAs"], "PermanentFailure");
    let results: Vec<&str> =
        results["results"].as_array().expect("results").iter().filter_map(|one| one["resultCode"].as_str()).collect();
    assert_eq!(results, ["Succeeded", "PermanentFailure", "Succeeded"]);
    assert_eq!(receiver.ids().len(), 10, "the same lines have the same ids whatever way they come");
}
