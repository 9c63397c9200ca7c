//! Credentials: where the password comes from, when it is read again, and that it is never shown.

use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::support::runtime::{Outcome, RuntimeApi, milliseconds_from_now};
use crate::support::tls::Authority;
use crate::support::{self, Object, Scripted, Seen, alb_key, alb_line, assert_books, closed_port, put, s3_event, status};

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:logstash-AbCdEf";

/// Many small batches, four at a time.
const MANY: [(&str, &str); 2] = [("BATCH_EVENTS", "20"), ("RETRY_BUDGET", "10s")];

/// Starts a Secrets Manager. `respond` returns the response to a request, by the number of the request.
async fn secrets_manager(respond: impl Fn(usize) -> Response<Body> + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |number, request| {
        assert_eq!(request.headers["x-amz-target"], "secretsmanager.GetSecretValue");
        assert!(String::from_utf8_lossy(&request.body).contains(ARN), "another secret is requested");
        respond(number)
    })
    .await
}

fn secret(text: &str) -> Response<Body> {
    let body = json!({"ARN": ARN, "Name": "logstash", "VersionId": "8a4e1f0c-0000-4000-8000-000000000000", "SecretString": text,
        "VersionStages": ["AWSCURRENT"], "CreatedDate": 1_770_000_000.5});
    amazon_json(200, &body.to_string())
}

fn pair(password: &str) -> Response<Body> {
    secret(&json!({"username": "shipper", "password": password}).to_string())
}

fn amazon_json(code: u16, body: &str) -> Response<Body> {
    let response = Response::builder().status(code).header("content-type", "application/x-amz-json-1.1");
    response.body(Body::from(body.to_owned())).expect("a response")
}

fn denied() -> Response<Body> {
    amazon_json(400, r#"{"__type":"AccessDeniedException","Message":"not authorized to perform secretsmanager:GetSecretValue"}"#)
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("shipper:{password}")))
}

fn has_password(request: &Seen, password: &str) -> bool {
    request.headers.get("authorization").is_some_and(|value| value == basic(password).as_str())
}

/// Returns the variables for the SDK, and `LOGSTASH_SECRET_ARN`.
fn aws(secrets_manager: &str) -> Vec<(&str, &str)> {
    vec![
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_manager),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("LOGSTASH_SECRET_ARN", ARN),
        MANY[0],
        MANY[1],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_the_secret_once_for_many_batches() {
    let secrets = secrets_manager(|_| pair("first")).await;
    let server = Scripted::start(|_, request| status(if has_password(request, "first") { 200 } else { 401 })).await;
    let (exit, report, stderr) = Object::of_lines(1_000).ship(&server.url, &aws(&secrets.url)).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "1000 delivered, 0 undelivered, complete true");
    assert!(server.seen().len() >= 50, "there are too few batches");
    assert_eq!(secrets.seen().len(), 1, "the secret is read more than once");
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_read_the_secret_before_it_is_needed() {
    let secrets = secrets_manager(|_| pair("first")).await;
    let server = Scripted::start(|_, _| status(200)).await;
    let (exit, ..) = Object::of(b"").ship(&server.url, &aws(&secrets.url)).await;
    assert_eq!((exit, secrets.seen().len(), server.seen().len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_a_changed_password_and_delivers_everything() {
    let secrets = secrets_manager(|number| pair(if number == 0 { "first" } else { "second" })).await;
    let server = Scripted::start(|number, request| {
        let right = if number < 10 { "first" } else { "second" };
        status(if has_password(request, right) { 200 } else { 401 })
    })
    .await;
    let (exit, report, stderr) = Object::of_lines(1_000).ship(&server.url, &aws(&secrets.url)).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "1000 delivered, 0 undelivered, complete true");
    assert!(server.seen().iter().any(|request| has_password(request, "second")), "the password was never changed");
    assert_eq!(secrets.seen().len(), 2, "the secret is not read exactly twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_fails_after_one_more_read() {
    for code in [401, 403] {
        let secrets = secrets_manager(|_| pair("wrong")).await;
        let server = Scripted::start(move |_, _| status(code)).await;
        let (exit, report, _) = Object::of_lines(1_000).ship(&server.url, &aws(&secrets.url)).await;
        assert_eq!((exit, &report["delivered"], &report["complete"]), (1, &json!(0), &json!(false)), "{report}");
        assert!(report["error"].as_str().is_some_and(|error| error.contains(&format!("HTTP {code}"))), "{report}");
        assert_eq!(secrets.seen().len(), 2, "the secret is not read exactly twice");
        let (probes, batches): (Vec<_>, Vec<_>) = server.seen().into_iter().partition(|request| request.body == b"[]");
        assert!(batches.len() <= 4, "{} requests: more than the batches in flight", batches.len());
        assert!(probes.len() <= batches.len(), "{} probes for {} batches", probes.len(), batches.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_secret_fails_with_its_name() {
    type Respond = fn(usize) -> Response<Body>;
    let responses: [(Respond, &str); 6] = [
        (|_| denied(), "allow secretsmanager:GetSecretValue"),
        (|_| secret("hunter2"), "cannot use the secret"),
        (|_| secret(r#"{"user":"shipper","password":"hunter2"}"#), "cannot use the secret"),
        (|_| secret(r#"{"username":"shipper","password":"hunter2"#), "cannot use the secret"),
        (|_| amazon_json(200, &json!({"ARN": ARN, "SecretBinary": "aHVudGVyMg=="}).to_string()), "cannot use the secret"),
        (
            |_| amazon_json(200, r#"{"SecretString":"{\"username\":\"shipper\",\"password\":\"hunter2\"}","#),
            "cannot read the secret",
        ),
    ];
    for (respond, message) in responses {
        let secrets = secrets_manager(respond).await;
        let server = Scripted::start(|_, _| status(200)).await;
        let variables = [aws(&secrets.url), vec![("LOG_LEVEL", "trace")]].concat();
        let (exit, report, stderr) = Object::of_lines(100).ship(&server.url, &variables).await;
        assert_eq!((exit, server.seen().len()), (1, 0), "{stderr}");
        let error = report["error"].as_str().expect("an error");
        assert!(error.contains(ARN) && error.contains(message), "{error}");
        for shown in ["hunter2", "aHVudGVyMg=="] {
            assert!(!stderr.contains(shown) && !error.contains(shown), "{shown} is shown: {error}\n{stderr}");
        }
        assert!(!secrets.seen().is_empty(), "the secret was not requested");
    }
}

/// The texts that no output may contain.
struct Secrets {
    texts: Vec<String>,
    /// Number of outputs that were checked.
    checked: usize,
}

impl Secrets {
    fn new(client_key: &str) -> Self {
        let key_lines = client_key.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned);
        let words = ["hunter2", "url-token", "registry-token", "redirect-token", "other-form"].map(str::to_owned);
        let pairs = ["hunter2", "hunter2-of-the-secret"].map(|password| STANDARD.encode(format!("shipper:{password}")));
        let texts = words.into_iter().chain(pairs).chain(key_lines);
        Secrets { texts: texts.collect(), checked: 0 }
    }

    #[track_caller]
    fn check(&mut self, output: &Output, report: &std::path::Path) {
        assert!(!output.status.success(), "the run did not fail");
        let report = std::fs::read(report).unwrap_or_default();
        let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr, &report].concat()).into_owned();
        self.check_text(&text);
    }

    #[track_caller]
    fn check_text(&mut self, text: &str) {
        for secret in &self.texts {
            if let Some(at) = text.find(secret.as_str()) {
                let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
                panic!("{secret} is shown in: {}", text[start..].lines().next().unwrap_or_default());
            }
        }
        assert!(text.contains("undelivered"), "the output lacks the report: {text}");
        self.checked += 1;
    }
}

/// Names and values of variables.
type Variables<'a> = Vec<(&'a str, String)>;

/// The servers for runs that all fail, each in another way.
struct FailingRuns {
    server: Scripted,
    secrets: Scripted,
    registry: Scripted,
    tls_url: String,
    ca: String,
    identity: String,
}

impl FailingRuns {
    async fn start(identity: String) -> Self {
        let authority = Authority::new("trusted");
        let (tls_url, _) = support::tls::start(&Authority::new("other").sign("localhost", false), None).await;
        let counts = Arc::new(AtomicUsize::new(0));
        let server = Scripted::start(move |_, request| respond_badly(counts.fetch_add(1, Ordering::Relaxed), request)).await;
        let secrets = secrets_manager(|number| match number % 3 {
            0 => secret(r#"{"user":"shipper","password":"hunter2-of-the-secret other-form"}"#),
            1 => amazon_json(200, r#"{"SecretString":"{\"username\":\"shipper\",\"password\":\"hunter2-of-the-secret"#),
            _ => denied(),
        })
        .await;
        let registry = Scripted::start(|_, _| status(500)).await;
        FailingRuns { server, secrets, registry, tls_url, ca: authority.certificate.pem(), identity }
    }

    /// Returns the flag `--to`, if any, and the variables of each run.
    fn runs(&self) -> Vec<(Option<String>, Variables<'_>)> {
        let to = |url: &str| Some(format!("{url}in?token=url-token"));
        let registry = format!("{}logstash-ip?token=registry-token", self.registry.url);
        let allowed = || ("REGISTRY_ALLOWED_CIDRS", "127.0.0.0/8".to_owned());
        let wrong_registry = format!("{}?token=registry-token", closed_port());
        let tls = || vec![("LOGSTASH_CA", self.ca.clone()), ("LOGSTASH_CLIENT_IDENTITY", self.identity.clone())];
        let aws = || aws(&self.secrets.url).into_iter().map(|(name, value)| (name, value.to_owned())).collect::<Vec<_>>();
        let server = || to(&self.server.url);
        vec![
            (server(), vec![]),
            (server(), vec![]),
            (server(), vec![]),
            (server(), vec![]),
            (server(), vec![]),
            (to(&closed_port()), vec![]),
            (to(&self.tls_url), tls()),
            (to(&self.tls_url.replace("https", "http")), tls()),
            (None, vec![("REGISTRY_URL", registry), allowed()]),
            (None, vec![("REGISTRY_URL", wrong_registry), allowed()]),
            (server(), aws()),
            (server(), aws()),
            (server(), aws()),
        ]
    }
}

/// Responds with an error. Like some proxies, a redirect repeats the path and query of the request.
fn respond_badly(number: usize, request: &Seen) -> Response<Body> {
    let response = |code: u16| Response::builder().status(code).body(Body::empty()).expect("a response");
    match number {
        0 => response(401),
        1 => {
            let location = format!("https://user:redirect-token@logs.example{}", request.path);
            Response::builder().status(302).header("location", location).body(Body::empty()).expect("a response")
        }
        2 => response(404),
        3 => response(413),
        _ => response(503),
    }
}

/// Adds a user and a password, unless there is a secret, and the log level that logs the most.
fn with_password(mut variables: Variables<'_>) -> Variables<'_> {
    if !variables.iter().any(|(name, _)| *name == "LOGSTASH_SECRET_ARN") {
        variables.push(("LOGSTASH_USER", "shipper".to_owned()));
        variables.push(("LOGSTASH_PASSWORD", "hunter2".to_owned()));
    }
    variables.push(("LOG_LEVEL", "trace".to_owned()));
    variables.push(("RETRY_BUDGET", "200ms".to_owned()));
    variables
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_runs_show_no_secret() {
    let (certificate, key) = Authority::new("clients").sign("shipper", false);
    let mut secrets = Secrets::new(&key.serialize_pem());
    let failing = FailingRuns::start(certificate.pem() + &key.serialize_pem()).await;
    let runs = failing.runs();
    let count = runs.len();
    for (to, variables) in runs {
        let object = Object::of_lines(1);
        let flags: Vec<&str> = to.iter().flat_map(|url| ["--to", url.as_str()]).collect();
        let variables = with_password(variables);
        let borrowed: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = object.output_of(&flags, &borrowed).await;
        secrets.check(&output, &object.report_path());
    }
    assert_eq!(secrets.checked, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_function_shows_no_secret() {
    let store = tempfile::tempdir().expect("a directory");
    put(store.path(), "logs", &alb_key("one"), (alb_line(0) + "\n").as_bytes());
    let server = Scripted::start(|_, _| status(401)).await;
    let url = format!("{}in?token=url-token", server.url);
    let object_store = format!("dir:{}", store.path().display());
    let secrets_manager = secrets_manager(|_| pair("hunter2-of-the-secret")).await;
    let with_secret = aws(&secrets_manager.url);
    let with_password = vec![("LOGSTASH_USER", "shipper"), ("LOGSTASH_PASSWORD", "hunter2")];
    let mut secrets = Secrets::new("");
    for credentials in [with_secret, with_password] {
        let variables =
            [credentials, vec![("LOGSTASH_URL", &url), ("OBJECT_STORE", &object_store), ("LOG_LEVEL", "trace")]].concat();
        let mut api = RuntimeApi::start().await;
        // The log is larger than a pipe's buffer.
        let log = store.path().join("log");
        let file = std::fs::File::create(&log).expect("a file");
        let mut function = api.function(&variables);
        function.stdout(file.try_clone().expect("a file")).stderr(file);
        let mut child = function.spawn().expect("the function");
        let deadline = milliseconds_from_now(Duration::from_mins(1));
        let Outcome::Error(error) = api.invoke(s3_event("logs", &alb_key("one")), deadline).await else {
            panic!("nothing can be delivered");
        };
        child.kill().await.expect("stopping the function");
        let text = [std::fs::read(&log).expect("a log"), error.to_string().into_bytes()].concat();
        secrets.check_text(&String::from_utf8_lossy(&text));
    }
    assert!(server.seen().iter().any(|request| has_password(request, "hunter2-of-the-secret")), "the secret was never used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_secrets_manager_does_not_exceed_the_deadline() {
    let store = tempfile::tempdir().expect("a directory");
    put(store.path(), "logs", &alb_key("one"), (alb_line(0) + "\n").as_bytes());
    let (listener, connections) = silent_server().await;
    let object_store = format!("dir:{}", store.path().display());
    let url = closed_port();
    let variables =
        [aws(&listener), vec![("LOGSTASH_URL", &url), ("OBJECT_STORE", &object_store), ("DEADLINE_RESERVE", "1s")]].concat();
    let mut api = RuntimeApi::start().await;
    let _child = api.function(&variables).spawn().expect("the function");
    let deadline = milliseconds_from_now(Duration::from_secs(3));
    let outcome = api.invoke(s3_event("logs", &alb_key("one")), deadline).await;
    assert!(milliseconds_from_now(Duration::ZERO) < deadline, "the function ended after its deadline: {outcome:?}");
    assert!(matches!(outcome, Outcome::Error(_)), "nothing can be delivered: {outcome:?}");
    assert!(!connections.lock().expect("no panic while holding").is_empty(), "the secret was not requested");
}

/// Starts a server that accepts connections and never responds.
async fn silent_server() -> (String, Arc<Mutex<Vec<tokio::net::TcpStream>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let kept: Arc<Mutex<Vec<tokio::net::TcpStream>>> = Arc::default();
    let connections = Arc::clone(&kept);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.lock().expect("no panic while holding").push(stream);
        }
    });
    (url, kept)
}

/// The trust store is a pipe: reading it before it has a writer blocks, and so does reading it twice.
#[tokio::test(flavor = "multi_thread")]
async fn reads_the_trust_store_once_and_only_when_needed() {
    let authority = Authority::new("system");
    let server = authority.sign("localhost", false);
    let (logstash, kept) = support::tls::start(&server, None).await;
    let secrets = support::tls::serve(&server, None, Router::new().fallback(async || pair("first"))).await;
    let object = Object::of_lines(50);
    let (store, pipe) = (format!("dir:{}", object.root.path().display()), object.root.path().join("roots.pem"));
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    let mut variables = aws(&secrets);
    let roots = pipe.display().to_string();
    variables.extend([("LOGSTASH_URL", logstash.as_str()), ("OBJECT_STORE", &store), ("SSL_CERT_FILE", &roots)]);
    let mut api = RuntimeApi::start().await;
    let _child = api.function(&variables).spawn().expect("the function");

    let deadline = milliseconds_from_now(Duration::from_secs(25));
    assert!(
        matches!(api.invoke(json!({"hello": "world"}), deadline).await, Outcome::Error(_)),
        "the event is not a notification"
    );
    // The thread is not joined, because it waits for a reader.
    std::thread::spawn(move || std::fs::write(pipe, authority.certificate.pem()));
    let outcome = api.invoke(s3_event("logs", &object.key), deadline).await;
    assert!(matches!(outcome, Outcome::Response(_)), "{outcome:?}");
    assert_eq!(kept.drain().len(), 50);
}
