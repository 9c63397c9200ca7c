//! The `reason` of the function's log lines: equal for equal causes, so that a failing run of many objects is one row of a query.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};

use crate::support::runtime::{Outcome, RuntimeApi, milliseconds_from_now};
use crate::support::{Scripted, alb_key, closed_port, json_lines, lines, put, s3_event, status};

/// Number of objects in a run.
const OBJECTS: usize = 50;

/// Returns one event with all objects of a run.
fn event() -> Value {
    let record = |number: usize| s3_event("logs", &alb_key(&format!("object{number}")))["Records"][0].clone();
    json!({"Records": (0..OBJECTS).map(record).collect::<Vec<_>>()})
}

/// Ships all objects in one invocation that fails, and returns the rows of a query that groups the errors in the log.
async fn failing_run(variables: &[(&str, &str)], timeout: Duration) -> BTreeMap<(String, String), usize> {
    let store = tempfile::tempdir().expect("a directory");
    for number in 0..OBJECTS {
        put(store.path(), "logs", &alb_key(&format!("object{number}")), lines(20).as_bytes());
    }
    let object_store = format!("dir:{}", store.path().display());
    let defaults = [
        ("OBJECT_STORE", object_store.as_str()),
        ("RETRY_BUDGET", "100ms"),
        ("DEADLINE_RESERVE", "1s"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ];
    let mut api = RuntimeApi::start().await;
    let mut function = api.function(&[&defaults[..], variables].concat());
    // The log is longer than what a pipe holds.
    let log = store.path().join("log");
    function.stdout(std::fs::File::create(&log).expect("a file"));
    let mut child = function.spawn().expect("the function");
    let outcome = api.invoke(event(), milliseconds_from_now(timeout)).await;
    assert!(matches!(outcome, Outcome::Error(_)), "the invocation succeeds: {outcome:?}");
    child.kill().await.expect("stopping the function");
    let log = json_lines(&std::fs::read_to_string(&log).expect("the log"));
    let mut rows = BTreeMap::new();
    for line in log.iter().filter(|line| line["level"] == "ERROR") {
        let value = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned();
        *rows.entry((value("reason"), value("load_balancer"))).or_insert(0) += 1;
    }
    rows
}

#[track_caller]
fn assert_one_row(rows: &BTreeMap<(String, String), usize>, reason: &str) {
    let expected = ((reason.to_owned(), "app/web/50dc6c495c0c9188".to_owned()), OBJECTS);
    assert_eq!(rows, &BTreeMap::from([expected]), "objects of one cause do not have one reason");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_objects_that_fail_for_one_cause_are_one_row() {
    let minute = Duration::from_mins(1);
    assert_one_row(&failing_run(&[("LOGSTASH_URL", &closed_port())], minute).await, "unreachable");
    for (code, reason) in [(503, "busy"), (401, "refused"), (404, "refused"), (400, "refused")] {
        let logstash = Scripted::start(move |_, _| status(code)).await;
        assert_one_row(&failing_run(&[("LOGSTASH_URL", &logstash.url)], minute).await, reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_until_the_deadline_is_the_reason_of_every_object() {
    let rows = failing_run(&[("LOGSTASH_URL", &closed_port()), ("RETRY_BUDGET", "10m")], Duration::from_secs(3)).await;
    assert_one_row(&rows, "unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_objects_that_s3_refuses_are_one_row() {
    for (code, name, reason) in [
        (403, "AccessDenied", "denied"),
        (404, "NoSuchBucket", "not_found"),
        (301, "PermanentRedirect", "wrong_region"),
        (400, "KMS.DisabledException", "encrypted"),
        (500, "InternalError", "unreadable"),
    ] {
        let s3 = Scripted::start(move |_, _| {
            let body = Body::from(format!("<Error><Code>{name}</Code><Message>no</Message></Error>"));
            Response::builder().status(code).header("x-amz-bucket-region", "eu-west-3").body(body).expect("a response")
        })
        .await;
        let (logstash, endpoint) = (closed_port(), s3.url.trim_end_matches('/'));
        let variables = [("LOGSTASH_URL", logstash.as_str()), ("AWS_ENDPOINT_URL_S3", endpoint), ("OBJECT_STORE", "s3")];
        assert_one_row(&failing_run(&variables, Duration::from_mins(1)).await, reason);
    }
}
