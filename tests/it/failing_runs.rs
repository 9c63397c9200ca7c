//! What a failing run shows: neither secrets nor texts in Rust's debug form.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};

use crate::support::runtime::{Outcome, RuntimeApi, milliseconds_from_now};
use crate::support::{
    Scripted, alb_line, as_text, closed_port, elbship, json_lines, lines, put, run, s3_event, status, stderr, stdout,
};

/// Texts that are planted as secrets, and the form in which basic authentication sends one.
const SECRETS: [&str; 6] =
    ["hunter2", "url-token", "aws-secret-key", "aws-session-token", "secret-of-the-manager", "c2hpcHBlcjpodW50ZXIy"];

/// Beginnings of Rust's debug form. It is for developers, and may show a whole response.
const DEBUG_FORMS: [&str; 9] =
    ["ServiceError(", "ServiceError {", "DispatchFailure", "Diagnostic {", "Err(", "Some(\"", "Error {", "source:", "Response {"];

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:logstash-AbCdEf";

/// One failing run: how it is called, its variables, and what its output must explain.
struct FailingRun {
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    expected: &'static str,
}

impl FailingRun {
    fn new(arguments: &[&str], expected: &'static str) -> Self {
        let variables = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "aws-key-id"),
            ("AWS_SECRET_ACCESS_KEY", "aws-secret-key"),
            ("AWS_SESSION_TOKEN", "aws-session-token"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_MAX_ATTEMPTS", "1"),
            ("RETRY_BUDGET", "100ms"),
        ];
        FailingRun {
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            variables: variables.map(|(name, value)| (name, value.to_owned())).to_vec(),
            expected,
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn with_password(self) -> Self {
        self.with("LOGSTASH_USER", "shipper").with("LOGSTASH_PASSWORD", "hunter2")
    }

    fn with_secret(self, secrets_manager: &str) -> Self {
        self.with("LOGSTASH_SECRET_ARN", ARN).with("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_manager)
    }

    async fn check(self) {
        let report = tempfile::NamedTempFile::new().expect("a file");
        for level in ["info", "trace"] {
            let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
            let mut command = elbship(&arguments);
            if self.arguments[0] == "replay" {
                command.args(["--report", &as_text(report.path())]);
            }
            command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str()))).env("LOG_LEVEL", level);
            let output = run(&mut command).await;
            let report = std::fs::read_to_string(report.path()).expect("the report");
            let shown = [stdout(&output), stderr(&output), report].concat();
            assert!(!output.status.success(), "{:?} should fail:\n{shown}", self.arguments);
            assert!(shown.contains(self.expected), "{:?} lacks {:?}:\n{shown}", self.arguments, self.expected);
            self.assert_absent(&SECRETS, "a secret", &shown);
            // The AWS SDK itself logs its structures at level trace.
            if level == "info" {
                self.assert_absent(&DEBUG_FORMS, "a text in debug form; describe the error in words", &shown);
            }
        }
    }

    fn assert_absent(&self, texts: &[&str], what: &str, shown: &str) {
        for text in texts {
            let line = shown.lines().find(|line| line.contains(text));
            assert_eq!(line, None, "{:?} shows {what}: {text}", self.arguments);
        }
    }
}

/// Returns a store with one object of this many lines, and the store's `OBJECT_STORE`.
fn object_of(count: usize) -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().expect("a directory");
    put(root.path(), "logs", "x.log", lines(count).as_bytes());
    let store = format!("dir:{}", root.path().display());
    (root, store)
}

/// Returns one object in a directory, and the path of the directory.
fn object() -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().expect("a directory");
    put(root.path(), "logs", "x.log", (alb_line(0) + "\n").as_bytes());
    let path = as_text(&root.path().join("logs"));
    (root, path)
}

fn respond(status: u16, body: &str) -> Response {
    Response::builder().status(status).header("x-amz-request-id", "4Z2").body(Body::from(body.to_owned())).expect("a response")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_logstash_is_explained_without_secrets() {
    let (_root, path) = object();
    let url = format!("{}in?token=url-token", closed_port());
    FailingRun::new(&["replay", &path, "--to", &url], "Connection refused").with_password().check().await;
    FailingRun::new(&["check", "--to", &url], "Connection refused").with_password().check().await;
}

/// Like some proxies, the server repeats the request that it rejects.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_repeats_the_credentials_reveals_nothing() {
    let (_root, path) = object();
    let server = Scripted::start(|_, request| {
        let authorization = request.headers["authorization"].to_str().expect("text");
        respond(
            401,
            &format!("cannot {} {}: {authorization} is shipper:hunter2, and hunter2 is wrong", request.method, request.path),
        )
    })
    .await;
    let url = format!("{}in?token=url-token", server.url);
    FailingRun::new(&["replay", &path, "--to", &url], "HTTP 401, \\\"cannot POST /in?…: … is …, and … is wrong")
        .with_password()
        .check()
        .await;
    FailingRun::new(&["check", "--to", &url], "HTTP 401, \"cannot POST /in?…: … is …, and … is wrong")
        .with_password()
        .check()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_with_a_password_is_explained_without_it() {
    let (_root, path) = object();
    for url in ["https://shipper:hunter2@h/", "https:/shipper:hunter2@h", "https://shipper:1,hunter2@h", "shipper:hunter2@h"] {
        FailingRun::new(&["replay", &path, "--to", url], "contains credentials").check().await;
        FailingRun::new(&["check", "--to", url], "contains credentials").check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_s3_are_explained_in_words() {
    let denied = "<Error><Code>AccessDenied</Code><Message>User x is not authorized to perform: s3:GetObject</Message></Error>";
    for (status, body, expected) in [
        (403, denied, "AccessDenied: User x is not authorized to perform: s3:GetObject (HTTP 403, request ID 4Z2)"),
        (403, "", "HTTP 403, request ID 4Z2"),
        (400, "<html>this is not XML", "HTTP 400, request ID 4Z2"),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", "NoSuchBucket (HTTP 404, request ID 4Z2)"),
    ] {
        let server = Scripted::start(move |_, _| respond(status, body)).await;
        let run = FailingRun::new(&["replay", "s3://logs/AWSLogs/"], expected);
        run.with("AWS_ENDPOINT_URL_S3", server.url.trim_end_matches('/')).check().await;
    }
    let run = FailingRun::new(&["replay", "s3://logs/AWSLogs/"], "no response: ");
    run.with("AWS_ENDPOINT_URL_S3", closed_port().trim_end_matches('/')).check().await;
}

/// The function could not write a checkpoint, which is in the report of the object.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_written_is_explained_in_words() {
    let (_root, path) = object_of(2_000);
    let denied = "<Error><Code>AccessDenied</Code><Message>hunter2</Message></Error>";
    let s3 = Scripted::start(move |_, _| respond(403, denied)).await;
    let accepted = Scripted::start(|number, _| if number == 0 { status(200) } else { status(503) }).await;
    let mut api = RuntimeApi::start().await;
    let variables = [
        ("LOGSTASH_URL", accepted.url.as_str()),
        ("OBJECT_STORE", &path),
        ("SEND_CONCURRENCY", "1"),
        ("BATCH_EVENTS", "100"),
        ("DEADLINE_RESERVE", "1s"),
        ("DEAD_LETTER_URL", "s3://dead/elb"),
        ("AWS_ENDPOINT_URL_S3", s3.url.trim_end_matches('/')),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "aws-key-id"),
        ("AWS_SECRET_ACCESS_KEY", "aws-secret-key"),
    ];
    let _child = api.function(&variables).spawn().expect("the function");
    let outcome = api.invoke(s3_event("logs", "x.log"), milliseconds_from_now(Duration::from_secs(3))).await;
    let Outcome::Error(error) = outcome else { panic!("the object is shipped: {outcome:?}") };
    let shown = error["errorMessage"].as_str().expect("a message");
    let expected = "AccessDenied: hunter2 (HTTP 403, request ID 4Z2); allow s3:PutObject on it";
    assert!(shown.contains("cannot write the checkpoint s3://dead/elb/checkpoints/") && shown.contains(expected), "{shown}");
    assert!(!DEBUG_FORMS.iter().any(|form| shown.contains(form)), "the error has a text in debug form: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_read_is_explained_in_words() {
    let (_root, path) = object();
    let denied = r#"{"__type":"AccessDeniedException","Message":"not authorized"}"#;
    let broken = r#"{"SecretString":"{\"username\":\"shipper\",\"password\":\"secret-of-the-manager\"}","#;
    let other = r#"{"SecretString":"secret-of-the-manager"}"#;
    for (status, body, expected) in [
        (400, denied, "AccessDeniedException: not authorized (HTTP 400, request ID 4Z2)"),
        (200, broken, "invalid response (HTTP 200, request ID 4Z2)"),
        (200, other, "cannot use the secret"),
    ] {
        let server = Scripted::start(move |_, _| respond(status, body)).await;
        let to = closed_port();
        FailingRun::new(&["replay", &path, "--to", &to], expected).with_secret(&server.url).check().await;
        FailingRun::new(&["check", "--to", &to], expected).with_secret(&server.url).check().await;
    }
    let (to, secrets_manager) = (closed_port(), closed_port());
    FailingRun::new(&["replay", &path, "--to", &to], "no response: ").with_secret(&secrets_manager).check().await;
    FailingRun::new(&["check", "--to", &to], "no response: ").with_secret(&secrets_manager).check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_function_logs_sentences() {
    let root = tempfile::tempdir().expect("a directory");
    let store = format!("dir:{}", root.path().display());
    let log = root.path().join("log");
    let file = std::fs::File::create(&log).expect("a file");
    let mut api = RuntimeApi::start().await;
    let mut function = api.function(&[("LOGSTASH_URL", &closed_port()), ("OBJECT_STORE", &store)]);
    function.stdout(file.try_clone().expect("a file")).stderr(file);
    let mut child = function.spawn().expect("the function");
    for event in [json!({"hello": "world"}), s3_event("logs", "missing")] {
        let outcome = api.invoke(event, milliseconds_from_now(Duration::from_mins(1))).await;
        assert!(matches!(outcome, Outcome::Error(_)), "{outcome:?}");
    }
    child.kill().await.expect("stopping the function");
    let shown = std::fs::read_to_string(&log).expect("a log");
    let errors: Vec<Value> = json_lines(&shown).into_iter().filter(|line| line["level"] == "ERROR").collect();
    let of = |member: &str| errors.iter().map(|line| line[member].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    assert_eq!(of("message"), ["invocation failed", "object failed"], "expected one error for each cause:\n{shown}");
    assert_eq!(of("reason"), ["unknown_event", "not_found"], "{shown}");
    assert!(of("error")[0].starts_with("cannot read the event: not a notification of an S3 object"), "{shown}");
    let line = shown.lines().find(|line| DEBUG_FORMS.iter().any(|form| line.contains(form)));
    assert_eq!(line, None, "the log has a text in debug form; describe the error in words");
}
