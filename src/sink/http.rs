//! Logstash's http input as a sink.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::{Answer, Delivery, Fault, SendError, Sink, Step, next_step};
use crate::batch::{Batch, Compression};
use crate::ledger::Fate;
use crate::stop::Stop;

/// How much of an answer is read, so that the connection can be used again.
const ANSWER_BYTES: usize = 64 * 1024;

/// How much of an answer is shown in an error.
const SHOWN_CHARS: usize = 200;

/// A URL to send to.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL.
    #[error("is no URL ({0}); write http://host:port/ or https://host:port/path")]
    NotAUrl(String),
    /// It has another scheme.
    #[error("has the scheme {0:?}; only http and https are spoken")]
    Scheme(String),
    /// It holds a user or a password.
    #[error("holds credentials; put them in LOGSTASH_USER and LOGSTASH_PASSWORD, where they are kept out of logs")]
    Credentials,
}

/// What an [`HttpSink`] needs to know.
#[derive(Debug)]
pub struct HttpSettings {
    /// Where to send, at least one.
    pub endpoints: Vec<Endpoint>,
    /// User and password for basic authentication.
    pub credentials: Option<(String, SecretString)>,
    /// Authorities to trust instead of the system's; none for those.
    pub authorities: Vec<Certificate>,
    /// What the client shows.
    pub identity: Option<Identity>,
    /// Requests in flight at once, and so connections kept.
    pub concurrency: usize,
    /// See `CONNECT_TIMEOUT`.
    pub connect_timeout: Duration,
    /// See `REQUEST_TIMEOUT`.
    pub request_timeout: Duration,
    /// See `RETRY_BUDGET`.
    pub retry_budget: Duration,
    /// Where the randomness of the back-off begins.
    pub seed: u64,
}

/// Sends batches by `POST`, each until it is accepted, refused, or its retry budget is spent.
#[derive(Debug)]
pub struct HttpSink {
    client: Client,
    endpoints: Vec<Endpoint>,
    authorization: Option<HeaderValue>,
    request_timeout: Duration,
    retry_budget: Duration,
    next_endpoint: AtomicUsize,
    random: Mutex<fastrand::Rng>,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// Anything but an http or https URL without user and password.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text).map_err(|error| EndpointError::NotAUrl(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Credentials);
        }
        Ok(Endpoint { url })
    }
}

/// The URL without its query, which may hold a token.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

impl HttpSink {
    /// Builds the client. No connection is made yet.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(settings: HttpSettings) -> Result<Self, String> {
        let mut builder = Client::builder();
        if !settings.authorities.is_empty() {
            builder = builder.tls_certs_only(settings.authorities);
        }
        if let Some(identity) = settings.identity {
            builder = builder.identity(identity);
        }
        let client = builder
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(settings.connect_timeout)
            .pool_max_idle_per_host(settings.concurrency)
            .build()
            .map_err(|error| causes(&error))?;
        Ok(HttpSink {
            client,
            endpoints: settings.endpoints,
            authorization: settings.credentials.map(|(user, password)| basic(&user, &password)),
            request_timeout: settings.request_timeout,
            retry_budget: settings.retry_budget,
            next_endpoint: AtomicUsize::new(0),
            random: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
        })
    }

    /// Sends a body once, for a person who wants to see the answer.
    pub async fn probe(&self, endpoint: &Endpoint, batch: &Batch) -> Answer {
        self.post(endpoint, batch, self.request_timeout).await
    }

    async fn post(&self, endpoint: &Endpoint, batch: &Batch, timeout: Duration) -> Answer {
        let mut request = self
            .client
            .post(endpoint.url.clone())
            .timeout(timeout)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(batch.body.clone());
        if let Compression::Gzip(_) = batch.compression {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        match request.send().await {
            Ok(response) => read_answer(response).await,
            Err(error) => Answer::NoResponse(fault(&error)),
        }
    }

    fn jitter(&self) -> f64 {
        // A poisoned lock holds a generator that is as random as before.
        self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner).f64()
    }
}

impl Sink for HttpSink {
    async fn deliver(&self, batch: &Batch, stop: &Stop) -> Delivery {
        let spent_at = Instant::now() + self.retry_budget;
        let first = self.next_endpoint.fetch_add(1, Ordering::Relaxed);
        let mut requests = 0;
        let mut last = None;
        loop {
            if stop.is_stopped() {
                return Delivery { result: Err(SendError::Stopped { last }), requests };
            }
            let endpoint = &self.endpoints[first.wrapping_add(requests as usize) % self.endpoints.len()];
            requests += 1;
            let answer = self.post(endpoint, batch, stop.cap(self.request_timeout)).await;
            let attempt = u32::try_from(requests).unwrap_or(u32::MAX);
            let result = match next_step(&answer, attempt, self.jitter()) {
                Step::Done => Ok(Fate::Delivered),
                Step::Refused(refusal) => Err(SendError::Refused { endpoint: endpoint.to_string(), refusal }),
                Step::Misconfigured(refusal) => Err(SendError::Misconfigured { endpoint: endpoint.to_string(), refusal }),
                Step::Retry(wait) if wait < spent_at.saturating_duration_since(Instant::now()) => {
                    tracing::debug!(%endpoint, attempt, wait_ms = wait.as_millis() as u64, %answer, "sending a batch again");
                    last = Some(answer.to_string());
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.stopped() => {}
                    }
                    continue;
                }
                Step::Retry(_) => Err(SendError::BudgetSpent {
                    endpoint: endpoint.to_string(),
                    requests,
                    budget_s: self.retry_budget.as_secs(),
                    last: answer.to_string(),
                }),
            };
            return Delivery { result, requests };
        }
    }
}

fn basic(user: &str, password: &SecretString) -> HeaderValue {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.expose_secret()));
    // Base64 is always a valid header value.
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

async fn read_answer(mut response: Response) -> Answer {
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    let location = header(LOCATION).map(|location| without_secrets(&location));
    let retry_after = header(RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    let mut body = Vec::new();
    // The status says what became of the batch; a body that breaks off changes nothing about that.
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body).trim().chars().take(SHOWN_CHARS).collect();
    Answer::Response { status, location, retry_after, text }
}

/// A redirect often repeats the query that it was asked with.
fn without_secrets(location: &str) -> String {
    let location = location.split(['?', '#']).next().unwrap_or_default();
    match location.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (_, host))) => format!("{scheme}://{host}"),
        None => location.to_owned(),
    }
}

fn fault(error: &reqwest::Error) -> Fault {
    if error.is_connect() {
        Fault::Connect(causes(error))
    } else if error.is_timeout() {
        Fault::Timeout
    } else {
        Fault::Broken(causes(error))
    }
}

/// The innermost causes of an error. The outermost text repeats the URL, query included.
fn causes(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    if texts.is_empty() { "the request could not be made".to_owned() } else { texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_loses_what_may_be_secret() {
        assert_eq!(without_secrets("https://h/in?token=secret"), "https://h/in");
        assert_eq!(without_secrets("https://user:secret@h/in#x"), "https://h/in");
        assert_eq!(without_secrets("/in?token=secret"), "/in");
    }

    #[test]
    fn endpoints_are_http_urls_and_are_shown_without_their_query() {
        let parse = |text: &str| Endpoint::parse(text).map(|endpoint| endpoint.to_string()).map_err(|error| error.to_string());
        assert_eq!(parse("http://127.0.0.1:8080"), Ok("http://127.0.0.1:8080/".to_owned()));
        assert_eq!(parse("https://logs.example/in?token=secret#x"), Ok("https://logs.example/in".to_owned()));
        let error = |text: &str| parse(text).unwrap_err();
        assert!(error("logs.example:8080").starts_with("has the scheme \"logs.example\""), "{}", error("logs.example:8080"));
        assert!(error("8080").starts_with("is no URL"), "{}", error("8080"));
        assert!(error("https://user:secret@logs.example/").starts_with("holds credentials"));
        assert!(!error("https://user:secret@logs.example/").contains("secret"));
        assert!(!format!("{:?}", Endpoint::parse("http://h/?token=secret")).contains("secret"));
    }
}
