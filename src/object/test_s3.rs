//! A test double of S3 as the SDK's HTTP client. It works in paused time.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use elb_common::aws::AwsConfig;
use elb_log::origin::ObjectName;
use http_body::Frame;
use tokio::time::{Sleep, sleep};

use super::body::OpenedObject;
use super::error::ObjectError;
use super::s3::S3Store;

/// The object that the server has.
pub(super) const OBJECT: &[u8] = b"0123456789";

/// The ETag of the object.
pub(super) const ETAG: &str = "\"0\"";

/// A step of a response's body.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Data(&'static [u8]),
    Pause(Duration),
    Break,
    Hang,
}

/// What the server does with a request.
pub(super) enum Answer {
    Silence,
    /// A response after a wait.
    Late(Duration, Box<Answer>),
    Response {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<Step>,
    },
}

type Answering = dyn Fn(usize, &HttpRequest) -> Answer + Send + Sync;

/// A server of the S3 API as the SDK's HTTP client.
#[derive(Clone)]
pub(super) struct TestS3 {
    /// Returns the answer to a request from its number, which starts at 0.
    answer: Arc<Answering>,
    /// The requested range of each request so far.
    pub(super) ranges: Arc<Mutex<Vec<Option<String>>>>,
    pub(super) connect_timeouts: Arc<Mutex<Vec<Option<Duration>>>>,
}

struct Body {
    steps: VecDeque<Step>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for TestS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestS3")
    }
}

impl HttpClient for TestS3 {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.connect_timeouts.lock().unwrap().push(settings.connect_timeout());
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for TestS3 {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let number = {
            let mut ranges = self.ranges.lock().unwrap();
            ranges.push(request.headers().get("range").map(str::to_owned));
            ranges.len() - 1
        };
        let mut answer = (self.answer)(number, &request);
        HttpConnectorFuture::new(async move {
            loop {
                match answer {
                    Answer::Silence => std::future::pending().await,
                    Answer::Late(wait, then) => {
                        sleep(wait).await;
                        answer = *then;
                    }
                    Answer::Response { status, headers, body } => {
                        let body = SdkBody::from_body_1_x(Body { steps: body.into(), waiting: None });
                        let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), body);
                        for (name, value) in headers {
                            response.headers_mut().insert(name, value);
                        }
                        return Ok(response);
                    }
                }
            }
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            match self.steps.pop_front() {
                Some(Step::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(bytes))))),
                Some(Step::Pause(wait)) => self.waiting = Some(Box::pin(sleep(wait))),
                Some(Step::Break) => return Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
                Some(Step::Hang) => self.waiting = Some(Box::pin(sleep(Duration::from_secs(1_000_000)))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl TestS3 {
    pub(super) fn new(answer: impl Fn(usize, &HttpRequest) -> Answer + Send + Sync + 'static) -> Self {
        TestS3 { answer: Arc::new(answer), ranges: Arc::default(), connect_timeouts: Arc::default() }
    }

    /// A server that first sends `first`, and then `rest` to each request for the rest.
    pub(super) fn resuming(first: &'static [Step], rest: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        TestS3::new(move |number, _| if number == 0 { whole(first) } else { rest() })
    }

    pub(super) fn store(&self) -> S3Store {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url("http://s3")
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
            .retry_config(RetryConfig::standard())
            .http_client(self.clone());
        S3Store::new(AwsConfig::loaded(config.build()), true)
    }

    pub(super) async fn open(&self) -> Result<OpenedObject, ObjectError> {
        self.store().open(&name()).await
    }

    /// Reads the whole object.
    pub(super) async fn read(&self) -> Result<Vec<u8>, ObjectError> {
        let mut object = self.open().await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = object.body.next_chunk(&name(), 0).await? {
            bytes.extend(chunk);
        }
        Ok(bytes)
    }

    pub(super) fn requests(&self) -> usize {
        self.ranges.lock().unwrap().len()
    }
}

pub(super) fn name() -> ObjectName {
    ObjectName { bucket: "logs".to_owned(), key: "x.log".to_owned() }
}

pub(super) fn whole(body: &[Step]) -> Answer {
    let headers = vec![("etag", ETAG.to_owned()), ("content-length", OBJECT.len().to_string())];
    Answer::Response { status: 200, headers, body: body.to_vec() }
}

/// Returns a response to a request for the bytes from 4 on.
pub(super) fn rest(etag: Option<&str>, range: Option<&str>, body: &'static [u8]) -> Answer {
    let mut headers = vec![("content-length", body.len().to_string())];
    headers.extend(etag.map(|etag| ("etag", etag.to_owned())));
    headers.extend(range.map(|range| ("content-range", range.to_owned())));
    Answer::Response { status: if range.is_some() { 206 } else { 200 }, headers, body: vec![Step::Data(body)] }
}

/// Returns the response of S3 to a request for the bytes from 4 on.
pub(super) fn right_rest() -> Answer {
    rest(Some(ETAG), Some("bytes 4-9/10"), b"456789")
}
