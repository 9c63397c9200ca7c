//! S3 that is silent, slow, or sends something else than the program has asked for. Time is paused, so no test waits.

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
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use elb_common::aws::AwsConfig;
use elb_log::key::TimeRange;
use elb_log::origin::ObjectName;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::body::OpenedObject;
use super::error::ObjectError;
use super::s3::S3Store;
use super::store::Store;

/// The object that the server has.
const OBJECT: &[u8] = b"0123456789";

/// The ETag of the object.
const ETAG: &str = "\"0\"";

/// A step of a response's body.
#[derive(Clone, Copy)]
enum Step {
    Data(&'static [u8]),
    Pause(Duration),
    Break,
    Hang,
}

/// What the server does with a request.
enum Answer {
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
struct TestS3 {
    /// Returns the answer to a request from its number, which starts at 0.
    answer: Arc<Answering>,
    /// The requested range of each request so far.
    ranges: Arc<Mutex<Vec<Option<String>>>>,
    connect_timeouts: Arc<Mutex<Vec<Option<Duration>>>>,
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
    fn new(answer: impl Fn(usize, &HttpRequest) -> Answer + Send + Sync + 'static) -> Self {
        TestS3 { answer: Arc::new(answer), ranges: Arc::default(), connect_timeouts: Arc::default() }
    }

    /// A server that first sends `first`, and then `rest` to each request for the rest.
    fn resuming(first: &'static [Step], rest: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        TestS3::new(move |number, _| if number == 0 { whole(first) } else { rest() })
    }

    fn store(&self) -> S3Store {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url("http://s3")
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
            .retry_config(RetryConfig::standard())
            .http_client(self.clone());
        S3Store::new(AwsConfig::loaded(config.build()), true)
    }

    async fn open(&self) -> Result<OpenedObject, ObjectError> {
        self.store().open(&name()).await
    }

    /// Reads the whole object.
    async fn read(&self) -> Result<Vec<u8>, ObjectError> {
        let mut object = self.open().await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = object.body.next_chunk(&name(), 0).await? {
            bytes.extend(chunk);
        }
        Ok(bytes)
    }

    fn requests(&self) -> usize {
        self.ranges.lock().unwrap().len()
    }
}

fn name() -> ObjectName {
    ObjectName { bucket: "logs".to_owned(), key: "x.log".to_owned() }
}

fn whole(body: &[Step]) -> Answer {
    let headers = vec![("etag", ETAG.to_owned()), ("content-length", OBJECT.len().to_string())];
    Answer::Response { status: 200, headers, body: body.to_vec() }
}

/// Returns a response to a request for the bytes from 4 on.
fn rest(etag: Option<&str>, range: Option<&str>, body: &'static [u8]) -> Answer {
    let mut headers = vec![("content-length", body.len().to_string())];
    headers.extend(etag.map(|etag| ("etag", etag.to_owned())));
    headers.extend(range.map(|range| ("content-range", range.to_owned())));
    Answer::Response { status: if range.is_some() { 206 } else { 200 }, headers, body: vec![Step::Data(body)] }
}

/// Returns the response of S3 to a request for the bytes from 4 on.
fn right_rest() -> Answer {
    rest(Some(ETAG), Some("bytes 4-9/10"), b"456789")
}

fn secs(range: std::ops::RangeInclusive<u64>, since: Instant) {
    let elapsed = since.elapsed();
    assert!(range.contains(&elapsed.as_secs()), "took {elapsed:?} instead of {range:?} s");
}

#[tokio::test(start_paused = true)]
async fn reading_and_writing_end_in_time_if_s3_is_silent() {
    let s3 = TestS3::new(|_, _| Answer::Silence);
    let started = Instant::now();
    let error = s3.open().await.unwrap_err();
    let expected = "cannot read s3://logs/x.log at byte 0: S3 does not respond: ";
    assert!(error.to_string().starts_with(expected) && !error.is_permanent(), "{error}");
    secs(29..=30, started);
    assert_eq!(s3.requests(), 3, "an attempt has no timeout of its own");

    let started = Instant::now();
    let error = s3.store().put("logs", "x", ByteStream::from_static(b"x")).await.unwrap_err();
    assert!(error.starts_with("S3 does not respond: ") && !error.contains("s3:PutObject"), "{error}");
    secs(29..=30, started);
    assert_eq!(s3.requests(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_listing_ends_in_time_if_s3_is_silent() {
    let s3 = TestS3::new(|_, _| Answer::Silence);
    let started = Instant::now();
    let error = Store::S3(s3.store()).list("logs", "AWSLogs/", TimeRange::default()).next().await.unwrap_err();
    assert!(error.to_string().starts_with("cannot list s3://logs/AWSLogs/: S3 does not respond: "), "{error}");
    secs(59..=60, started);
    assert_eq!(s3.requests(), 3, "an attempt has no timeout of its own");
}

#[tokio::test(start_paused = true)]
async fn connecting_to_s3_has_a_timeout() {
    let s3 = TestS3::new(|_, _| whole(&[Step::Data(OBJECT)]));
    assert_eq!(s3.read().await.unwrap(), OBJECT);
    let timeouts = s3.connect_timeouts.lock().unwrap().clone();
    assert!(
        !timeouts.is_empty() && timeouts.iter().all(|timeout| *timeout == Some(Duration::from_millis(3_100))),
        "{timeouts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn resumes_a_body_that_stalls() {
    let s3 = TestS3::resuming(&[Step::Data(b"01"), Step::Data(b"23"), Step::Hang], right_rest);
    let started = Instant::now();
    assert_eq!(s3.read().await.unwrap(), OBJECT);
    secs(20..=21, started);
    assert_eq!(*s3.ranges.lock().unwrap(), [None, Some("bytes=4-".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_for_good_fails_in_time() {
    for (rest, most) in [((|| Answer::Silence) as fn() -> Answer, 75), (|| whole_rest(&[Step::Hang]), 130)] {
        let s3 = TestS3::resuming(&[Step::Data(b"0123"), Step::Hang], rest);
        let started = Instant::now();
        let error = s3.read().await.unwrap_err();
        assert!(error.to_string().starts_with("cannot read s3://logs/x.log at byte 4: S3 "), "{error}");
        secs(70..=most, started);
        assert_eq!(s3.requests(), 6);
    }
}

/// Returns a response to a request for the bytes from 4 on, with this body.
fn whole_rest(body: &[Step]) -> Answer {
    let headers = [("etag", ETAG), ("content-length", "6"), ("content-range", "bytes 4-9/10")]
        .map(|(name, value)| (name, value.to_owned()));
    Answer::Response { status: 206, headers: headers.to_vec(), body: body.to_vec() }
}

#[tokio::test(start_paused = true)]
async fn never_gives_up_a_slow_body() {
    let pause = Step::Pause(Duration::from_secs(19));
    let steps: Vec<Step> = OBJECT.chunks(1).flat_map(|byte| [pause, Step::Data(byte)]).collect();
    let s3 = TestS3::new(move |_, _| whole(&steps));
    assert_eq!(s3.read().await.unwrap(), OBJECT);
    assert_eq!(s3.requests(), 1, "the body was resumed although its bytes arrive");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_a_stalled_body() {
    let [short, long] = [2, 15].map(|secs| Step::Pause(Duration::from_secs(secs)));
    let s3 = TestS3::new(move |_, _| whole(&[Step::Data(b"0123"), short, long, Step::Data(b"456789")]));
    let mut object = s3.open().await.unwrap();
    let mut bytes = object.body.next_chunk(&name(), 0).await.unwrap().unwrap().to_vec();
    // The reader begins to wait, and then it is busy for a long time.
    timeout(Duration::from_secs(1), object.body.next_chunk(&name(), 0)).await.unwrap_err();
    sleep(Duration::from_secs(600)).await;
    bytes.extend(object.body.next_chunk(&name(), 0).await.unwrap().unwrap());
    assert_eq!((bytes.as_slice(), s3.requests()), (OBJECT, 1), "the body was resumed although only the reader was slow");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_drops_its_future_does_not_disturb_a_resume() {
    let late = || Answer::Late(Duration::from_secs(9), Box::new(right_rest()));
    let s3 = TestS3::resuming(&[Step::Data(b"0123"), Step::Break], late);
    let mut object = s3.open().await.unwrap();
    let mut bytes = object.body.next_chunk(&name(), 0).await.unwrap().unwrap().to_vec();
    let mut dropped = 0;
    while bytes.len() < OBJECT.len() {
        match timeout(Duration::from_millis(300), object.body.next_chunk(&name(), 0)).await {
            Ok(chunk) => bytes.extend(chunk.unwrap().unwrap()),
            Err(_) => dropped += 1,
        }
    }
    assert!(dropped > 20, "the future was dropped only {dropped} times");
    assert_eq!((bytes.as_slice(), s3.requests()), (OBJECT, 2), "the request was repeated");
}

#[tokio::test(start_paused = true)]
async fn a_resume_takes_no_bytes_of_another_version_or_place() {
    type Rest = fn() -> Answer;
    let cases: [(Rest, &str, usize); 7] = [
        (|| rest(Some("\"1\""), Some("bytes 4-9/10"), b"xxxxxx"), "the object changed while it was read", 2),
        (|| rest(None, Some("bytes 4-9/10"), b"xxxxxx"), "the store sent no ETag", 6),
        (|| rest(Some(ETAG), Some("bytes 3-8/10"), b"xxxxxx"), "the bytes from 3 on instead of those from 4 on", 6),
        (|| rest(Some(ETAG), Some("bytes 4-9/11"), b"xxxxxx"), "the object has 11 bytes", 6),
        (|| rest(Some(ETAG), Some("bytes 4-9/10"), b"xxxxxxxxxx"), "another Content-Length", 6),
        (|| rest(Some(ETAG), None, b"xxxxxxxxxx"), "the whole object instead of the rest", 6),
        (|| rest(Some(ETAG), Some("4-9"), b"xxxxxx"), "the invalid Content-Range \"4-9\"", 6),
    ];
    for (rest, expected, requests) in cases {
        let s3 = TestS3::resuming(&[Step::Data(b"0123"), Step::Break], rest);
        let error = s3.read().await.expect_err(expected);
        assert!(error.to_string().starts_with("cannot read s3://logs/x.log at byte 4: "), "{error}");
        assert!(error.to_string().contains(expected), "{expected:?} is not the error: {error}");
        assert_eq!((s3.requests(), error.is_permanent()), (requests, requests == 2), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resume_succeeds_after_wrong_responses() {
    let s3 = TestS3::new(|number, _| match number {
        0 => whole(&[Step::Data(b"0123"), Step::Break]),
        1 => rest(Some(ETAG), None, OBJECT),
        _ => right_rest(),
    });
    assert_eq!(s3.read().await.unwrap(), OBJECT);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_strong_etag_is_not_resumed() {
    for etag in [None, Some("W/\"0\"")] {
        let s3 = TestS3::new(move |_, _| {
            let headers = etag.map(|etag| ("etag", etag.to_owned())).into_iter().collect();
            Answer::Response { status: 200, headers, body: vec![Step::Data(b"0123"), Step::Break] }
        });
        let error = s3.read().await.unwrap_err();
        assert!(error.to_string().ends_with("; the body cannot be resumed, because the store sent no ETag"), "{error}");
        assert_eq!((s3.requests(), error.is_permanent()), (1, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_break_after_the_last_byte() {
    let s3 = TestS3::new(|_, _| whole(&[Step::Data(OBJECT), Step::Break]));
    assert_eq!(s3.read().await.unwrap(), OBJECT);
    assert_eq!(s3.requests(), 1, "the end of a complete body was requested again");
}
