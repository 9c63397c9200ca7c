//! The function's binary against a Lambda Runtime API, as AWS runs it.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

use crate::support::faulty::{Faulty, wait_for_the_end};
use crate::support::runtime::{Outcome, RuntimeApi, log_lines, milliseconds_from_now, queue_event};
use crate::support::{
    Receiver, Scripted, alb_key, alb_line, closed_port, gzip, id_of, put, run, s3_event, status, stderr, stdout,
};

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
        (s3_event("logs", &alb_key("missing")), "ObjectsFailed", "cannot read s3://logs/AWSLogs/"),
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
    assert!(message.contains("its last request: no connection"), "{message}");
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
    let output = run(&mut crate::support::elbship(&["replay", &root, "--as", "s3://logs", "--to", &replayed.url])).await;
    crate::support::assert_status(&output, 0);
    assert_eq!(live.ids(), replayed.ids());
    assert_eq!(id_of(&live.events()[0]).len(), 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_stops_the_start_with_every_mistake() {
    let api = RuntimeApi::start().await;
    let output = run(&mut api.function(&[("BATCH_EVENTS", "many"), ("RETRY_BUDGET", "long")])).await;
    assert!(!output.status.success(), "a function without a configuration starts");
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

/// What the SDK needs to know to reach the stand-in for SQS.
fn with_sqs<'a>(sqs: &'a Scripted, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let known = [
        ("AWS_ENDPOINT_URL_SQS", sqs.url.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("DEAD_LETTER_QUEUE_URL", DEAD_LETTER_QUEUE),
    ];
    [&known, others].concat()
}

const DEAD_LETTER_QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/dead";

/// An SQS that takes messages for the dead-letter queue, or denies it.
async fn sqs(takes_messages: bool) -> Scripted {
    Scripted::start(move |_, request| {
        let response = Response::builder().header("content-type", "application/x-amz-json-1.0");
        let is_message = request.headers["x-amz-target"] == "AmazonSQS.SendMessage";
        let (code, body) = match (is_message, takes_messages) {
            (true, true) => (200, json!({"MessageId": "m"})),
            (true, false) => (403, json!({"__type": "com.amazon.coral.service#AccessDeniedException", "message": "no"})),
            (false, _) => (200, json!({})),
        };
        response.status(code).body(Body::from(body.to_string())).expect("a response")
    })
    .await
}

/// The bodies of the messages that were sent to the dead-letter queue.
fn given_up(sqs: &Scripted) -> Vec<String> {
    let messages = sqs.seen().into_iter().filter(|request| request.headers["x-amz-target"] == "AmazonSQS.SendMessage");
    let message = |request: crate::support::Seen| {
        let message: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!(message["QueueUrl"], DEAD_LETTER_QUEUE);
        message["MessageBody"].as_str().expect("a body").to_owned()
    };
    messages.map(message).collect()
}

/// A notification whose text no serialiser would write so.
fn odd_text(key: &str) -> String {
    format!(
        "{{ \"Records\":[ {{\"eventSource\":\"aws:s3\",\"eventName\":\"ObjectCreated:Put\",\"x\":1.10,\"s3\":{{\"object\":\
         {{\"key\":\"{key}\"}},\"bucket\":{{\"name\":\"logs\"}} }}}}]}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_object_can_never_be_read_goes_to_the_dead_letter_queue_unchanged() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..10).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", "one.log", text.as_bytes());
    put(store.path(), "logs", "broken.log.gz", &gzip(text.as_bytes())[..50]);
    let (receiver, sqs) = (Receiver::start().await, sqs(true).await);
    let object_store = format!("dir:{}", store.path().display());
    let variables = with_sqs(&sqs, &[("LOGSTASH_URL", &receiver.url), ("OBJECT_STORE", &object_store)]);
    let mut api = RuntimeApi::start().await;
    let child = api.function(&variables).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));

    let bodies = [odd_text("missing.log"), odd_text("one.log"), odd_text("broken.log.gz")];
    let Outcome::Response(reply) = api.invoke(queue_event(&bodies), deadline).await else { panic!("all messages are done") };
    assert_eq!(reply, json!({"batchItemFailures": []}));
    let mut sent = given_up(&sqs);
    sent.sort();
    assert_eq!(sent, [odd_text("broken.log.gz"), odd_text("missing.log")]);

    // Even alone: it is done, and no outage.
    let Outcome::Response(reply) = api.invoke(queue_event(&bodies[..1]), deadline).await else { panic!("the message is done") };
    assert_eq!(reply, json!({"batchItemFailures": []}));
    assert!(sqs.seen().iter().all(|request| request.headers["x-amz-target"] == "AmazonSQS.SendMessage"), "made to come again");
    let failed = log_lines(child).await.iter().filter(|line| line["ObjectsFailed"] == 1).count();
    assert_eq!(failed, 3, "the objects still count as failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_may_be_shipped_later_is_never_given_up() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..10).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", "one.log", text.as_bytes());
    let object_store = format!("dir:{}", store.path().display());
    // A wrong URL, poison without a place to go, and nobody there: whatever Logstash does, later it may be otherwise.
    let wrong = Scripted::start(|_, _| status(404)).await;
    let refusing = Scripted::start(|_, request| status(if request.events().len() > 5 { 400 } else { 200 })).await;
    let poisoned = Scripted::start(|_, request| {
        let poison = request.events().iter().any(|event| event["elb"]["request"]["query"] == "id=3");
        status(if poison { 400 } else { 200 })
    })
    .await;
    let nobody = closed_port();
    for (url, ships) in [(&wrong.url, false), (&refusing.url, true), (&poisoned.url, false), (&nobody, false)] {
        let sqs = sqs(true).await;
        let variables = with_sqs(&sqs, &[("LOGSTASH_URL", url), ("OBJECT_STORE", &object_store), ("RETRY_BUDGET", "200ms")]);
        let mut api = RuntimeApi::start().await;
        let _child = api.function(&variables).spawn().expect("the function");
        let deadline = milliseconds_from_now(Duration::from_mins(1));
        let outcome = api.invoke(queue_event(&[odd_text("one.log")]), deadline).await;
        assert_eq!(matches!(outcome, Outcome::Response(_)), ships, "{outcome:?}");
        assert_eq!(given_up(&sqs), [""; 0], "a message that may be shipped later was given up");
        assert_eq!(sqs.seen().len(), usize::from(!ships), "a failed message is made to come again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_dead_letter_queue_does_not_take_stays_failed() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..10).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", "one.log", text.as_bytes());
    let (receiver, sqs) = (Receiver::start().await, sqs(false).await);
    let object_store = format!("dir:{}", store.path().display());
    let variables = with_sqs(&sqs, &[("LOGSTASH_URL", &receiver.url), ("OBJECT_STORE", &object_store)]);
    let mut api = RuntimeApi::start().await;
    let child = api.function(&variables).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_mins(1));
    let bodies = [odd_text("missing.log"), odd_text("one.log")];
    let Outcome::Response(reply) = api.invoke(queue_event(&bodies), deadline).await else { panic!("one message is done") };
    assert_eq!(reply, json!({"batchItemFailures": [{"itemIdentifier": "m0"}]}));
    let Outcome::Error(error) = api.invoke(queue_event(&bodies[..1]), deadline).await else {
        panic!("an invocation of which every message failed fails itself");
    };
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("no such object")), "{error}");
    let lines = log_lines(child).await;
    let advice = lines.iter().any(|line| line.to_string().contains("allow sqs:SendMessage on DEAD_LETTER_QUEUE_URL"));
    assert!(advice, "nobody is told what to allow: {lines:?}");
}

/// A server that takes requests and never answers, and what it was connected to by.
async fn silent_server() -> Faulty {
    Faulty::always(|mut stream| async move { wait_for_the_end(&mut stream).await }).await
}

/// Invokes a function whose deadline is in three seconds, with a reserve of one, and gives the answer if it came in time.
async fn invoke_shortly(variables: &[(&str, &str)], event: Value) -> Outcome {
    let mut api = RuntimeApi::start().await;
    let _child = api.function(variables).env("DEADLINE_RESERVE", "1s").spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_secs(3));
    let outcome = api.invoke(event, deadline).await;
    let late = milliseconds_from_now(Duration::ZERO).saturating_sub(deadline);
    assert_eq!(late, 0, "the function answered {late} ms after its deadline: {outcome:?}");
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_does_not_hold_an_invocation_beyond_its_deadline() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..50).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", "one.log", text.as_bytes());
    let (hanging, object_store) = (silent_server().await, format!("dir:{}", store.path().display()));
    let variables = [("LOGSTASH_URL", hanging.url.as_str()), ("OBJECT_STORE", &object_store)];
    let Outcome::Error(error) = invoke_shortly(&variables, s3_event("logs", "one.log")).await else {
        panic!("nobody answers, so nothing is delivered");
    };
    assert!(hanging.met() > 0, "the receiver was not asked");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("50 of 50 lines read are undelivered") && message.contains("no answer in time"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_store_that_hangs_does_not_hold_an_invocation_beyond_its_deadline() {
    let store = tempfile::tempdir().expect("a directory");
    let text: String = (0..50).map(|number| alb_line(number) + "\n").collect();
    put(store.path(), "logs", "one.log", text.as_bytes());
    let server = Scripted::start(|_, request| {
        let poison = request.events().iter().any(|event| event["elb"]["request"]["query"] == "id=3");
        status(if poison { 400 } else { 200 })
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
        panic!("an event is nowhere");
    };
    assert!(hanging.met() > 0, "nothing was written to the dead-letter store");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("1 of 50 lines read are undelivered") && message.contains("dead letter"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_hang_do_not_hold_an_invocation_beyond_its_deadline() {
    let store = tempfile::tempdir().expect("a directory");
    let (hanging, object_store) = (silent_server().await, format!("dir:{}", store.path().display()));
    let (wrong, nobody) = (Scripted::start(|_, _| status(200)).await, closed_port());
    let mut variables = with_sqs(&wrong, &[("LOGSTASH_URL", &nobody), ("OBJECT_STORE", &object_store)]);
    variables[0] = ("AWS_ENDPOINT_URL_SQS", &hanging.url);
    let Outcome::Error(error) = invoke_shortly(&variables, queue_event(&[odd_text("missing.log")])).await else {
        panic!("the message is nowhere else, so it is not done");
    };
    assert!(hanging.met() > 0, "the queue was not told");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("no such object")), "{error}");
}
