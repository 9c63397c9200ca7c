//! Peers for the tests: servers on free ports of 127.0.0.1, and the program's own binaries.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod faulty;
pub(crate) mod moto;
pub(crate) mod pty;
pub(crate) mod runtime;
pub(crate) mod s3;
pub(crate) mod tls;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::serve::Listener;
use elb_log_shipper::receive::{EventStore, ReceiveSettings, router};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

/// Returns the key of an ALB access log object, with `random` as its random part.
pub(crate) fn alb_key(random: &str) -> String {
    format!(
        "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/\
         123456789012_elasticloadbalancing_eu-west-1_app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_{random}.log.gz"
    )
}

/// Returns an ALB line with all current fields. `number` makes it unique.
pub(crate) fn alb_line(number: usize) -> String {
    format!(
        "https 2026-03-02T10:15:{:02}.{:06}Z app/web/50dc6c495c0c9188 198.51.100.{}:{} 10.0.3.17:8080 0.000 0.012 0.000 200 200 \
         812 15342 \"GET https://shop.example:443/cart?id={number} HTTP/2.0\" \"Mozilla/5.0 (X11; Linux x86_64)\" \
         TLS_AES_128_GCM_SHA256 TLSv1.3 arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/a4c1be02977d5e63 \
         \"Root=1-69a56328-{number:024x}\" \"shop.example\" \"session-reused\" 10 2026-03-02T10:15:00.000000Z \"forward\" \"-\" \"-\" \
         \"10.0.3.17:8080\" \"200\" \"-\" \"-\" TID_{number:032x} \"-\" \"-\" \"-\" 203.0.113.7",
        number / 1_000_000 % 60,
        number % 1_000_000,
        number % 250,
        1_024 + number % 60_000,
    )
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("compressing into memory");
    encoder.finish().expect("compressing into memory")
}

pub(crate) fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(body), &mut text).expect("a gzip body");
    text
}

/// Writes an object below `root` and returns its path.
pub(crate) fn put(root: &Path, bucket: &str, key: &str, body: &[u8]) -> PathBuf {
    let path = root.join(bucket).join(key);
    std::fs::create_dir_all(path.parent().expect("a key has a parent")).expect("creating directories");
    std::fs::write(&path, body).expect("writing an object");
    path
}

/// Returns the text of an object with `count` lines.
pub(crate) fn lines(count: usize) -> String {
    (0..count).map(|number| alb_line(number) + "\n").collect()
}

/// Returns a path as an argument.
pub(crate) fn as_text(path: &Path) -> String {
    path.display().to_string()
}

/// Returns the S3 notification for one object. `key` is encoded as by S3.
pub(crate) fn s3_event(bucket: &str, key: &str) -> Value {
    let encoded: String = key
        .bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    serde_json::json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1", "eventTime": "2026-03-02T10:20:05.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket, "arn": format!("arn:aws:s3:::{bucket}")}, "object": {"key": encoded, "size": 1, "eTag": "0"}},
    }]})
}

/// Returns the command `elbship` with its own environment.
pub(crate) fn elbship(arguments: &[&str]) -> Command {
    program(env!("CARGO_BIN_EXE_elbship"), arguments)
}

/// Returns a command whose only variable is `PATH`, and which is killed when the test ends.
pub(crate) fn program(path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Timeout for a run of the program.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a command to its end.
pub(crate) async fn run(command: &mut Command) -> Output {
    let output = timeout(RUN_TIMEOUT, command.output()).await;
    output.expect("an end of the program within a minute").expect("starting the program")
}

/// Runs a command with `input` on its standard input.
pub(crate) async fn run_with_input(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("starting the program");
    let mut stdin = child.stdin.take().expect("a piped input");
    stdin.write_all(input.as_bytes()).await.expect("writing its input");
    drop(stdin);
    let output = timeout(RUN_TIMEOUT, child.wait_with_output()).await;
    output.expect("an end of the program within a minute").expect("waiting for the program")
}

#[track_caller]
pub(crate) fn assert_status(output: &Output, expected: i32) {
    assert_eq!(
        output.status.code(),
        Some(expected),
        "exit status; stdout:\n{}\nstderr:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8 on standard output")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8 on standard error")
}

/// Parses lines of JSON.
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

pub(crate) fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a report of JSON")
}

pub(crate) fn id_of(event: &Value) -> String {
    event["@metadata"]["_id"].as_str().unwrap_or_else(|| panic!("no id in {event}")).to_owned()
}

/// A listener that counts the connections it accepts.
pub(crate) struct CountingListener {
    listener: TcpListener,
    connections: Arc<AtomicUsize>,
}

impl CountingListener {
    pub(crate) async fn bind() -> (Self, SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        (CountingListener { listener, connections: Arc::clone(&connections) }, address, connections)
    }
}

impl Listener for CountingListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let accepted = Listener::accept(&mut self.listener).await;
        self.connections.fetch_add(1, Ordering::Relaxed);
        accepted
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The events received so far.
#[derive(Clone, Default)]
pub(crate) struct Keep(Arc<Mutex<Vec<String>>>);

impl EventStore for Keep {
    async fn store(&self, events: Vec<String>) -> Result<(), String> {
        self.0.lock().expect("no panic while holding").extend(events);
        Ok(())
    }
}

impl Keep {
    /// Removes and returns the events received since the last call.
    pub(crate) fn drain(&self) -> Vec<Value> {
        json_lines(&std::mem::take(&mut *self.0.lock().expect("no panic while holding")).join("\n"))
    }
}

/// A stand-in for Logstash that keeps the events.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) connections: Arc<AtomicUsize>,
    kept: Keep,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Receiver::with_settings(ReceiveSettings::default()).await
    }

    pub(crate) async fn with_settings(settings: ReceiveSettings) -> Self {
        let (listener, address, connections) = CountingListener::bind().await;
        let kept = Keep::default();
        let service = router(settings, kept.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        Receiver { url: format!("http://{address}/"), connections, kept }
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        json_lines(&self.kept.0.lock().expect("no panic while holding").join("\n"))
    }

    /// Returns each event ID with the number of times it was received.
    pub(crate) fn ids(&self) -> HashMap<String, usize> {
        let mut ids = HashMap::new();
        for event in self.events() {
            *ids.entry(id_of(&event)).or_default() += 1;
        }
        ids
    }
}

/// One request that a [`Scripted`] server received.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn events(&self) -> Vec<Value> {
        let gzipped = self.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
        let text = if gzipped { gunzip(&self.body) } else { self.body.clone() };
        serde_json::from_slice(&text).expect("a JSON array")
    }
}

/// A server whose responses are decided by a closure, from the request and its number, which starts at 0.
pub(crate) struct Scripted {
    pub(crate) url: String,
    pub(crate) connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    pub(crate) async fn start(answer: impl Fn(usize, &Seen) -> Response + Send + Sync + 'static) -> Self {
        let (listener, address, connections) = CountingListener::bind().await;
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (requests, answer) = (Arc::clone(&seen), Arc::new(answer));
        let service = Router::new().fallback(move |request: Request| {
            let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.expect("reading a request").to_vec();
                let request = Seen { method: head.method.to_string(), path: head.uri.to_string(), headers: head.headers, body };
                let number = {
                    let mut requests = requests.lock().expect("no panic while holding");
                    requests.push(request.clone());
                    requests.len() - 1
                };
                answer(number, &request)
            }
        });
        tokio::spawn(async move { axum::serve(listener, service).await });
        Scripted { url: format!("http://{address}/"), connections, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic while holding").clone()
    }
}

/// Returns a response as Logstash's http input sends it: a success has the body `ok`.
pub(crate) fn status(code: u16) -> Response {
    let body = if matches!(code, 200..=202) { Body::from("ok") } else { Body::empty() };
    Response::builder().status(code).body(body).expect("a response")
}

/// Returns a response with a content type and a body.
pub(crate) fn page(code: u16, content_type: &str, body: &str) -> Response {
    Response::builder().status(code).header("content-type", content_type).body(Body::from(body.to_owned())).expect("a response")
}

/// Returns a URL without a listener.
pub(crate) fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}/", listener.local_addr().expect("an address"))
}

/// One object in a directory that is used instead of S3.
pub(crate) struct Object {
    pub(crate) root: tempfile::TempDir,
    pub(crate) key: String,
}

impl Object {
    pub(crate) fn of_lines(lines: usize) -> Self {
        let text: String = (0..lines).map(|number| alb_line(number) + "\n").collect();
        Object::of(&gzip(text.as_bytes()))
    }

    pub(crate) fn of(body: &[u8]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let key = alb_key("object");
        put(root.path(), "logs", &key, body);
        Object { root, key }
    }

    pub(crate) fn report_path(&self) -> PathBuf {
        self.root.path().join("report.json")
    }

    /// Ships the object with `elbship invoke`, and returns the exit status, the object's report, and standard error.
    pub(crate) async fn ship(&self, to: &str, variables: &[(&str, &str)]) -> (i32, Value, String) {
        self.ship_by(&["--to", to], variables).await
    }

    /// Does the same as [`ship`](Self::ship), with other flags.
    pub(crate) async fn ship_by(&self, flags: &[&str], variables: &[(&str, &str)]) -> (i32, Value, String) {
        let output = self.output_of(flags, variables).await;
        let report = read_json(&self.report_path());
        (output.status.code().expect("an exit status"), report["objects"][0].clone(), stderr(&output))
    }

    /// Does the same as [`ship_by`](Self::ship_by), and returns the complete output.
    pub(crate) async fn output_of(&self, flags: &[&str], variables: &[(&str, &str)]) -> Output {
        let objects = self.root.path().display().to_string();
        let report = self.report_path().display().to_string();
        let mut command = elbship(&["invoke", "-", "--objects", &objects, "--report", &report]);
        command.args(flags).envs(variables.iter().copied());
        run_with_input(&mut command, &s3_event("logs", &self.key).to_string()).await
    }
}

#[track_caller]
pub(crate) fn assert_books(report: &Value, expected: &str) {
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"));
    let ends = ["delivered", "filtered", "dead_lettered", "undelivered"].map(number);
    assert_eq!(number("lines"), ends.iter().sum::<u64>(), "the dispositions do not add up to the lines: {report}");
    let complete = report["complete"].as_bool().expect("complete");
    let found = format!("{} delivered, {} undelivered, complete {complete}", ends[0], ends[3]);
    assert_eq!(found, expected, "{report}");
}
