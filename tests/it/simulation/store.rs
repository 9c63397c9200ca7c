//! Simulated S3: an HTTP client for the SDK that serves the schedule's objects, with faults.

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
use tokio::time::{Sleep, sleep};

use crate::simulation::schedule::{Availability, BUCKET};
use crate::simulation::world::Shared;

/// The simulated store, as the HTTP client of the SDK.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedS3(pub(crate) Arc<Shared>);

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Breaks,
    Early,
}

/// A body that arrives in pieces.
struct Pieces {
    pieces: VecDeque<Bytes>,
    end: End,
    wait: Option<Duration>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl HttpClient for SimulatedS3 {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SimulatedS3 {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.respond_to(&request).await })
    }
}

impl SimulatedS3 {
    async fn respond_to(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let shared = &self.0;
        sleep(Duration::from_millis(shared.with(|state| state.rng.u64(1..30)))).await;
        let path = request.uri().split(['?', '#']).next().unwrap_or_default();
        let key = path.split_once(&format!("/{BUCKET}/")).map_or("", |(_, key)| key).to_owned();
        if request.method() == "PUT" {
            return Ok(self.put(key, request));
        }
        if shared.store_fails() {
            match shared.with(|state| state.rng.u8(..4)) {
                0 => {
                    shared.fault("store busy (503)");
                    return Ok(error(503, "SlowDown"));
                }
                1 if shared.with(|state| state.rng.u8(..8)) == 0 => {
                    shared.fault("store never responds");
                    std::future::pending::<()>().await;
                }
                _ => {}
            }
        }
        Ok(self.get(&key, request.headers().get("range")))
    }

    fn get(&self, key: &str, range: Option<&str>) -> HttpResponse {
        let shared = &self.0;
        let Some(object) = shared.schedule.objects.iter().find(|object| object.key == key) else {
            return error(404, "NoSuchKey");
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
            Availability::Whole => {}
        }
        let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
        let rest = &object.body[start..];
        let (pieces, end, wait) = self.pieces(rest);
        let mut response =
            respond(if range.is_some() { 206 } else { 200 }, SdkBody::from_body_1_x(Pieces { pieces, end, wait, waiting: None }));
        let length = object.body.len();
        response.headers_mut().insert("etag", "\"0\"");
        response.headers_mut().insert("content-length", rest.len().to_string());
        if range.is_some() {
            response.headers_mut().insert("content-range", format!("bytes {start}-{}/{length}", length.saturating_sub(1)));
        }
        response
    }

    /// Splits the body into pieces, and truncates or delays it if the store has a fault.
    fn pieces(&self, body: &[u8]) -> (VecDeque<Bytes>, End, Option<Duration>) {
        let shared = &self.0;
        let (mut end, mut wait, mut length) = (End::Whole, None, body.len());
        if shared.store_fails() && !body.is_empty() {
            match shared.with(|state| state.rng.u8(..3)) {
                0 => (end, length) = (End::Breaks, shared.with(|state| state.rng.usize(..body.len()))),
                1 => (end, length) = (End::Early, shared.with(|state| state.rng.usize(..body.len()))),
                _ => wait = Some(Duration::from_millis(shared.with(|state| state.rng.u64(1..400)))),
            }
        }
        match (end, wait) {
            (End::Breaks, _) => shared.fault("store's body breaks"),
            (End::Early, _) => shared.fault("store's body ends early"),
            (End::Whole, Some(_)) => shared.fault("store's body is slow"),
            (End::Whole, None) => {}
        }
        let size = shared.with(|state| state.rng.usize(1..4_000));
        (body[..length].chunks(size).map(Bytes::copy_from_slice).collect(), end, wait)
    }

    fn put(&self, key: String, request: &HttpRequest) -> HttpResponse {
        let shared = &self.0;
        if shared.store_fails() {
            shared.fault("dead letter store busy (503)");
            return error(503, "SlowDown");
        }
        let ids = shared.dead_letter_ids(request.body().bytes().expect("a body in memory"));
        shared.check_witness(&ids);
        shared.with(|state| state.dead_letters.insert(key, ids));
        respond(200, SdkBody::empty())
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
        Poll::Ready(match (next, self.end) {
            (Some(piece), _) => Some(Ok(Frame::data(piece))),
            (None, End::Breaks) => Some(Err(std::io::ErrorKind::ConnectionReset.into())),
            (None, End::Whole | End::Early) => None,
        })
    }
}

fn respond(status: u16, body: SdkBody) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).expect("a status"), body)
}

fn error(status: u16, code: &str) -> HttpResponse {
    respond(status, SdkBody::from(format!("<Error><Code>{code}</Code><Message>no</Message></Error>")))
}
