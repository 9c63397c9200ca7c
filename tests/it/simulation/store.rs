//! Simulated AWS: an HTTP client for the SDK that is S3 with the schedule's objects, Secrets Manager and SQS, all with faults.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::Frame;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};

use crate::simulation::object::{Availability, Object, Version};
use crate::simulation::schedule::BUCKET;
use crate::simulation::world::Shared;

/// The directory of the checkpoints.
const CHECKPOINTS: &str = "/checkpoints/";

/// The simulated services, as the HTTP client of the SDK of one process.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedAws {
    pub(crate) shared: Arc<Shared>,
    pub(crate) process: usize,
}

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Breaks,
    Early,
    Stalls,
}

/// A body that arrives in pieces.
struct Pieces {
    pieces: VecDeque<Bytes>,
    end: End,
    wait: Option<Duration>,
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Which bytes of an object a response has.
struct Range {
    start: usize,
    /// Whether the response says that it is a part.
    is_part: bool,
}

impl HttpClient for SimulatedAws {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SimulatedAws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.respond_to(&request).await })
    }
}

impl SimulatedAws {
    async fn respond_to(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let shared = &self.shared;
        shared.step(self.process).await;
        sleep(Duration::from_millis(shared.with(|state| state.rng.u64(..30)))).await;
        let path = request.uri().split(['?', '#']).next().unwrap_or_default();
        let key = path.split_once(&format!("/{BUCKET}/")).map_or("", |(_, key)| key);
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        match (request.method(), request.headers().get("x-amz-target")) {
            (_, Some("secretsmanager.GetSecretValue")) => Ok(self.secret()),
            (_, Some("AmazonSQS.SendMessage")) => Ok(self.send_message(request)),
            (_, Some("AmazonSQS.ChangeMessageVisibility")) => Ok(self.queue_fault().unwrap_or_else(|| json_response(&json!({})))),
            (_, Some(other)) => panic!("the simulation has no {other}"),
            ("PUT", _) => self.put(key, request).await,
            ("DELETE", _) => Ok(self.delete(&key)),
            ("GET", _) => self.fail_at_times().await.map_or_else(|| Ok(self.get(&key, request)), Ok),
            (other, _) => panic!("the simulation has no {other}"),
        }
    }

    /// Returns an error in place of a response, or none; or never returns.
    async fn fail_at_times(&self) -> Option<HttpResponse> {
        let shared = &self.shared;
        if !shared.store_fails() {
            return None;
        }
        match shared.with(|state| state.rng.u8(..4)) {
            0 => {
                shared.fault("store busy (503)");
                Some(error(503, "SlowDown"))
            }
            1 if shared.with(|state| state.rng.u8(..8)) == 0 => {
                shared.fault("store never responds");
                std::future::pending().await
            }
            _ => None,
        }
    }

    fn get(&self, key: &str, request: &HttpRequest) -> HttpResponse {
        let shared = &self.shared;
        let Some(object) = shared.schedule.objects.iter().find(|object| object.key == key) else {
            return self.get_checkpoint(key);
        };
        match object.availability {
            Availability::Missing => {
                shared.fault("object missing");
                return error(404, "NoSuchKey");
            }
            Availability::Denied => {
                shared.fault("object denied");
                return error(403, "AccessDenied");
            }
            Availability::Truncated => shared.fault("object truncated"),
            Availability::Corrupt => shared.fault("object corrupt"),
            Availability::Whole => {}
        }
        let version = object.version(shared.now());
        if version == Version::Second {
            shared.fault("object replaced");
        }
        if request.headers().get("if-match").is_some_and(|expected| expected != etag(version)) {
            if !shared.has_faults() || shared.with(|state| state.rng.bool()) {
                shared.fault("object replaced while it is read (412)");
                return error(412, "PreconditionFailed");
            }
            shared.fault("store ignores If-Match");
        }
        self.send_object(object, version, request.headers().get("range"))
    }

    fn send_object(&self, object: &Object, version: Version, range: Option<&str>) -> HttpResponse {
        let body = &object.bodies[version as usize];
        let Range { start, is_part } = self.range(range, body.len());
        if start > body.len() {
            return error(416, "InvalidRange");
        }
        let rest = &body[start..];
        let mut response = respond(if is_part { 206 } else { 200 }, SdkBody::from_body_1_x(self.pieces(rest)));
        let headers = response.headers_mut();
        if object.has_etag {
            headers.insert("etag", etag(version));
        } else {
            self.shared.fault("object without an ETag");
        }
        headers.insert(
            "last-modified",
            if version == Version::First { "Mon, 02 Mar 2026 10:20:05 GMT" } else { "Mon, 02 Mar 2026 10:20:06 GMT" },
        );
        headers.insert("content-length", rest.len().to_string());
        if is_part {
            headers.insert("content-range", format!("bytes {start}-{}/{}", body.len().saturating_sub(1), body.len()));
        }
        response
    }

    /// Returns the range of a response. A store with a fault sends another one than was asked for, and says so.
    fn range(&self, asked: Option<&str>, length: usize) -> Range {
        let shared = &self.shared;
        let Some(start) = asked.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()) else {
            return Range { start: 0, is_part: false };
        };
        if shared.store_fails() {
            match shared.with(|state| state.rng.u8(..4)) {
                0 => {
                    shared.fault("store ignores the range");
                    return Range { start: 0, is_part: false };
                }
                1 => {
                    let other = shared.with(|state| state.rng.usize(..=length));
                    if other != start {
                        shared.fault("store sends another range");
                    }
                    return Range { start: other, is_part: true };
                }
                _ => {}
            }
        }
        Range { start, is_part: true }
    }

    /// Splits the body into pieces, and truncates or delays it if the store has a fault.
    fn pieces(&self, body: &[u8]) -> Pieces {
        let shared = &self.shared;
        let (mut end, mut wait, mut length) = (End::Whole, None, body.len());
        if shared.store_fails() && !body.is_empty() {
            length = shared.with(|state| state.rng.usize(..body.len()));
            let fault = match shared.with(|state| state.rng.u8(..7)) {
                0 | 1 => {
                    end = End::Breaks;
                    "store's body breaks"
                }
                2 | 3 => {
                    end = End::Early;
                    "store's body ends early"
                }
                4 => {
                    end = End::Stalls;
                    "store's body stalls"
                }
                _ => {
                    (wait, length) = (Some(Duration::from_millis(shared.with(|state| state.rng.u64(1..400)))), body.len());
                    "store's body is slow"
                }
            };
            shared.fault(fault);
        }
        let size = shared.with(|state| state.rng.usize(1..4_000));
        Pieces { pieces: body[..length].chunks(size).map(Bytes::copy_from_slice).collect(), end, wait, waiting: None }
    }

    fn get_checkpoint(&self, key: &str) -> HttpResponse {
        let shared = &self.shared;
        match shared.with(|state| state.checkpoints.get(key).cloned()) {
            Some(text) => {
                shared.fault("checkpoint read");
                let length = text.len().to_string();
                let mut response = respond(200, SdkBody::from(text));
                response.headers_mut().insert("content-length", length);
                response
            }
            None if shared.with(|state| state.rng.bool()) => error(403, "AccessDenied"),
            None => error(404, "NoSuchKey"),
        }
    }

    /// Stores a checkpoint. At times another message for the same object, of which everything was delivered elsewhere, replaces
    /// it: it says that nothing is left to do.
    fn put_checkpoint(&self, key: String, text: &[u8]) {
        let shared = &self.shared;
        shared.fault("checkpoint written");
        shared.check_checkpoint(text);
        let mut text = text.to_vec();
        if shared.has_faults() && shared.with(|state| state.rng.u8(..4)) == 0 {
            shared.fault("checkpoint of another message");
            let mut checkpoint: Value = serde_json::from_slice(&text).expect("a checkpoint is JSON");
            let member = if shared.with(|state| state.rng.bool()) { "owner" } else { "settings" };
            let object = shared.schedule.objects.iter().find(|object| checkpoint["key"] == object.key);
            let end = object.map_or(0, |object| object.text_bytes);
            (checkpoint[member], checkpoint["offset"]) = ("other".into(), end.into());
            text = checkpoint.to_string().into_bytes();
        }
        shared.with(|state| state.checkpoints.insert(key, text));
    }

    fn delete(&self, key: &str) -> HttpResponse {
        let shared = &self.shared;
        if shared.has_faults() && shared.with(|state| state.rng.bool()) {
            shared.fault("checkpoint cannot be deleted (503)");
            return error(503, "SlowDown");
        }
        shared.with(|state| state.checkpoints.remove(key));
        respond(204, SdkBody::empty())
    }

    /// Stores a dead letter or a checkpoint. With a fault it may be stored although the client learns nothing of it.
    async fn put(&self, key: String, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let shared = &self.shared;
        let fault = if shared.store_fails() { shared.with(|state| state.rng.u8(..3)) } else { u8::MAX };
        if fault == 0 {
            shared.fault("dead letter store busy (503)");
            return Ok(error(503, "SlowDown"));
        }
        let body = request.body().bytes().expect("a body in memory");
        if key.contains(CHECKPOINTS) {
            self.put_checkpoint(key, body);
        } else {
            let events = shared.dead_letter_events(self.process, body);
            shared.with(|state| state.dead_letters.insert(key, events));
        }
        shared.step(self.process).await;
        match fault {
            1 => {
                shared.fault("dead letter stored, response lost");
                Err(ConnectorError::io("the connection was lost".into()))
            }
            2 => {
                shared.fault("dead letter store never responds");
                std::future::pending().await
            }
            _ => Ok(respond(200, SdkBody::empty())),
        }
    }

    fn secret(&self) -> HttpResponse {
        let shared = &self.shared;
        if shared.store_fails() && shared.with(|state| state.rng.u8(..4)) == 0 {
            shared.fault("secret cannot be read");
            return respond(500, SdkBody::from(r#"{"__type":"InternalServiceError"}"#));
        }
        let password = shared.password(shared.schedule.rotation.map_or(0, |rotation| rotation.secret_ms));
        let secret = json!({"username": "shipper", "password": password});
        json_response(&json!({"ARN": "arn", "Name": "logstash", "SecretString": secret.to_string(), "VersionId": password}))
    }

    fn queue_fault(&self) -> Option<HttpResponse> {
        if !self.shared.store_fails() {
            return None;
        }
        self.shared.fault("queue busy (500)");
        Some(respond(500, SdkBody::from(r#"{"__type":"InternalError"}"#)))
    }

    /// Puts a message into the dead-letter queue.
    fn send_message(&self, request: &HttpRequest) -> HttpResponse {
        if let Some(fault) = self.queue_fault() {
            return fault;
        }
        let shared = &self.shared;
        let request: Value = serde_json::from_slice(request.body().bytes().expect("a body in memory")).expect("JSON");
        let body = request["MessageBody"].as_str().unwrap_or_default();
        let messages = 0..shared.schedule.messages.len();
        let Some(message) = messages.into_iter().find(|&message| shared.message_body(message) == body) else {
            shared.violation(format!("a message in the dead-letter queue is not one of the queue: {body}"));
            return json_response(&json!({}));
        };
        shared.fault("message moved to the dead-letter queue");
        shared.with(|state| state.moved.insert(message));
        json_response(&json!({"MessageId": "moved", "MD5OfMessageBody": "0"}))
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Some(waiting) = &mut self.waiting {
            std::task::ready!(waiting.as_mut().poll(context));
            self.waiting = None;
        }
        let next = self.pieces.pop_front();
        self.waiting = self.wait.map(|wait| Box::pin(sleep(wait)));
        match (next, self.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, End::Breaks) => Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
            (None, End::Whole | End::Early) => Poll::Ready(None),
            (None, End::Stalls) => Poll::Pending,
        }
    }
}

fn etag(version: Version) -> &'static str {
    match version {
        Version::First => "\"1\"",
        Version::Second => "\"2\"",
    }
}

fn respond(status: u16, body: SdkBody) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).expect("a status"), body)
}

fn json_response(body: &Value) -> HttpResponse {
    respond(200, SdkBody::from(body.to_string()))
}

fn error(status: u16, code: &str) -> HttpResponse {
    respond(status, SdkBody::from(format!("<Error><Code>{code}</Code><Message>no</Message></Error>")))
}
