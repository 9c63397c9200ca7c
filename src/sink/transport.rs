//! One request, there and back.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use elb_common::redact::{redact_text, redact_url};
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};

use super::endpoint::Endpoint;
use super::outcome::{Fault, Outcome, Response};
use elb_log::batch::{Body, Compression};

/// How much of an answer is read, so that the connection can be used again.
const ANSWER_BYTES: usize = 64 * 1024;

/// How long that may take at most, once the status is known.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// How much of an answer is shown in an error.
const SHOWN_CHARS: usize = 200;

/// No list of endpoints is longer.
const LIST_BYTES: usize = 64 * 1024;

/// Carries requests. The tests have one that makes every fault there is, at the moment they want it.
pub trait Transport: Send + Sync + 'static {
    /// Posts a body, once. If nothing is answered within `limit`, that is [`Fault::Timeout`].
    fn post(
        &self,
        endpoint: &Endpoint,
        body: &Body,
        authorization: Option<&HeaderValue>,
        limit: Duration,
    ) -> impl Future<Output = Outcome> + Send;

    /// Gets the registry's list, once.
    ///
    /// # Errors
    /// What went wrong, also if it took longer than `limit`.
    fn get(&self, url: &Url, limit: Duration) -> impl Future<Output = Result<Bytes, String>> + Send;
}

/// What an [`HttpTransport`] needs to know.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Whom https trusts, and what it shows.
    pub tls: ClientConfig,
    /// Requests in flight at once, and so connections kept.
    pub concurrency: usize,
    /// See `CONNECT_TIMEOUT`.
    pub connect_timeout: Duration,
    /// The wall clock, against which a date in `Retry-After` is held.
    pub now: fn() -> Timestamp,
}

/// HTTP/1.1, as Logstash's http input speaks it. Redirects are not followed, and nothing is sent twice unasked.
#[derive(Debug)]
pub struct HttpTransport {
    settings: HttpSettings,
    client: Client,
    /// Clients that connect to an address of the registry's under the name in the URL.
    pinned: Mutex<HashMap<(String, SocketAddr), Client>>,
}

impl HttpTransport {
    /// Builds the client. No connection is made yet.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn new(settings: HttpSettings) -> Result<Self, String> {
        let client = client(&settings, None)?;
        Ok(HttpTransport { settings, client, pinned: Mutex::default() })
    }

    /// The client for an endpoint.
    fn client(&self, endpoint: &Endpoint) -> Result<Client, String> {
        let (Some(address), Some(host)) = (endpoint.address(), endpoint.url().host_str()) else { return Ok(self.client.clone()) };
        // A client that was being added when a thread panicked is added again.
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), address);
        if let Some(client) = pinned.get(&key) {
            return Ok(client.clone());
        }
        let client = client(&self.settings, Some((host, address)))?;
        pinned.insert(key, client.clone());
        Ok(client)
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        body: &Body,
        authorization: Option<&HeaderValue>,
    ) -> Result<reqwest::Response, Fault> {
        let client = self.client(endpoint).map_err(Fault::Connect)?;
        let json = HeaderValue::from_static("application/json");
        let mut request = client.post(endpoint.url().clone()).header(CONTENT_TYPE, json).body(body.bytes.clone());
        if let Compression::Gzip(_) = body.compression {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await.map_err(|error| fault(&error))
    }

    async fn read_answer(&self, response: reqwest::Response, limit: Duration) -> Outcome {
        let status = response.status().as_u16();
        let location = header(response.headers(), LOCATION).map(|location| without_secrets(&location));
        let retry_after = header(response.headers(), RETRY_AFTER);
        let retry_after = retry_after.and_then(|text| retry_after_of(&text, (self.settings.now)())).unwrap_or_default();
        let body = read_start(response, limit.min(ANSWER_TIME)).await;
        let text = String::from_utf8_lossy(&body).trim().chars().take(SHOWN_CHARS).collect();
        Outcome::Response(Response { status, location, retry_after, text })
    }
}

impl Transport for HttpTransport {
    async fn post(&self, endpoint: &Endpoint, body: &Body, authorization: Option<&HeaderValue>, limit: Duration) -> Outcome {
        let began = Instant::now();
        match timeout(limit, self.send(endpoint, body, authorization)).await {
            Ok(Ok(response)) => self.read_answer(response, limit.saturating_sub(began.elapsed())).await,
            Ok(Err(fault)) => Outcome::NoResponse(fault),
            Err(_) => Outcome::NoResponse(Fault::Timeout),
        }
    }

    async fn get(&self, url: &Url, limit: Duration) -> Result<Bytes, String> {
        let get = async {
            let mut response = self.client.get(url.clone()).send().await.map_err(|error| causes(&error))?;
            if response.status() != 200 {
                return Err(format!("HTTP {}", response.status().as_u16()));
            }
            let mut list = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error))? {
                list.extend_from_slice(&chunk);
                if list.len() > LIST_BYTES {
                    return Err(format!("the list is longer than {LIST_BYTES} bytes"));
                }
            }
            Ok(list.into())
        };
        timeout(limit, get).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

fn client(settings: &HttpSettings, pinned: Option<(&str, SocketAddr)>) -> Result<Client, String> {
    let mut builder = Client::builder().tls_backend_preconfigured(settings.tls.clone());
    if let Some((host, address)) = pinned {
        builder = builder.resolve(host, address);
    }
    builder
        .http1_only()
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(settings.connect_timeout)
        .pool_max_idle_per_host(settings.concurrency)
        .build()
        .map_err(|error| causes(&error))
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Seconds, or a date.
///
/// <https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>
fn retry_after_of(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    // A date that has passed asks for no wait.
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// The status says what became of the batch; a body that breaks off, or never ends, changes nothing about that.
async fn read_start(mut response: reqwest::Response, limit: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES {
                break;
            }
        }
    };
    // What has come until then is shown.
    let _ = timeout(limit, read).await;
    body
}

/// A redirect often repeats the query that it was asked with.
fn without_secrets(location: &str) -> String {
    Url::parse(location).map_or_else(|_| redact_text(location), |url| redact_url(&url))
}

fn fault(error: &reqwest::Error) -> Fault {
    if error.is_connect() {
        Fault::Connect(causes(error))
    } else if error.is_timeout() {
        Fault::Timeout
    } else if sources(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)) {
        Fault::NotHttp(causes(error))
    } else {
        Fault::Broken(causes(error))
    }
}

/// The innermost causes of an error. The outermost text repeats the URL, query included.
fn causes(error: &reqwest::Error) -> String {
    let texts: Vec<String> = sources(error).map(ToString::to_string).collect();
    if texts.is_empty() { "the request could not be made".to_owned() } else { texts.join(": ") }
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
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
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-03-02T10:15:00Z".parse().unwrap();
        let seconds = |text| retry_after_of(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("Mon, 02 Mar 2026 10:15:30 GMT"), Some(30));
        assert_eq!(seconds("Mon, 02 Mar 2026 10:14:30 GMT"), Some(0), "the date has passed");
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
    }
}
