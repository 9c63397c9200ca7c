//! Sends one HTTP request and reads the response.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use elb_common::redact::{redact_text, redact_url};
use elb_log::batch::{Body, Compression};
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::lock;
use super::outcome::{Fault, Outcome, Response, ResponseCheck};
use super::request_body::RequestBody;
use super::secrets::Secrets;
use super::tls_fault::TlsFault;

/// Maximum number of bytes of a response's body that are read so that the connection can be reused.
const RESPONSE_BYTES: usize = 64 * 1024;

/// Timeout for reading these bytes if the status alone decides what the response means.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of characters of a response's body in an error message.
const SHOWN_CHARS: usize = 200;

/// Maximum length of the registry's list, in bytes.
const MAX_LIST_BYTES: usize = 64 * 1024;

/// Sends requests. Tests implement it with faults of every kind.
pub trait Transport: Send + Sync + 'static {
    /// Posts a body once. Without a response within `timeout`, the outcome is [`Fault::Timeout`].
    fn post(
        &self,
        endpoint: &Endpoint,
        body: &Body,
        authorization: Option<&HeaderValue>,
        timeout: Duration,
    ) -> impl Future<Output = Outcome> + Send;

    /// Gets the registry's list once.
    ///
    /// # Errors
    /// The request failed, or it took longer than `timeout`.
    fn get(&self, url: &Url, timeout: Duration) -> impl Future<Output = Result<Bytes, String>> + Send;
}

/// The settings of an [`HttpTransport`].
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The trust store and the client certificate for https.
    pub tls: ClientConfig,
    /// Maximum number of idle connections to an endpoint: as many as requests run at the same time.
    pub concurrency: usize,
    /// See `CONNECT_TIMEOUT`.
    pub connect_timeout: Duration,
    /// See `RESPONSE_CHECK`.
    pub response_check: ResponseCheck,
    /// The wall clock. A date in `Retry-After` is compared with it.
    pub now: fn() -> Timestamp,
}

/// HTTP/1.1, the version of Logstash's http input. It follows no redirects and retries nothing by itself.
#[derive(Debug)]
pub struct HttpTransport {
    settings: HttpSettings,
    client: Client,
    /// Clients that connect to an address of the registry's list, under the host name in the URL.
    pinned: Mutex<HashMap<(String, SocketAddr), Client>>,
}

impl HttpTransport {
    /// Creates a transport. Connects to nothing yet.
    ///
    /// # Errors
    /// The TLS settings are invalid.
    pub fn new(settings: HttpSettings) -> Result<Self, String> {
        let client = client(&settings, None)?;
        Ok(HttpTransport { settings, client, pinned: Mutex::default() })
    }

    /// Connects to an endpoint once, without a request, and describes the connection.
    pub(super) async fn describe_connection(&self, endpoint: &Endpoint) -> Connection {
        Connection::describe(endpoint, &self.settings.tls, self.settings.connect_timeout).await
    }

    /// Returns the client for an endpoint.
    fn client(&self, endpoint: &Endpoint) -> Result<Client, String> {
        let (Some(address), Some(host)) = (endpoint.address(), endpoint.url().host_str()) else { return Ok(self.client.clone()) };
        let mut pinned = lock(&self.pinned);
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
        let (content, is_sent) = RequestBody::new(body.bytes.clone());
        let mut request = client.post(endpoint.url().clone()).header(CONTENT_TYPE, json).body(reqwest::Body::wrap(content));
        if let Compression::Gzip(_) = body.compression {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let response = request.send().await.map_err(|error| fault(&error))?;
        if response.status().is_success() && !is_sent.get() {
            return Err(Fault::Broken("the server responded before it had the whole request".to_owned()));
        }
        Ok(response)
    }

    /// Reads what decides about a response, and what is shown of it. Fails if the body of a success breaks, because then it is
    /// unknown whether the receiver sent the response.
    async fn read_response(&self, mut response: reqwest::Response, secrets: &Secrets) -> Result<Response, Fault> {
        let check = self.settings.response_check;
        let status = response.status().as_u16();
        let needs_body = check == ResponseCheck::Logstash && response.status().is_success();
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
        let location = header(LOCATION).map(|location| shown_text(&secrets.remove(&redact_location(&location))));
        let retry_after = header(RETRY_AFTER).and_then(|text| parse_retry_after(&text, (self.settings.now)()));
        let content_type =
            header(CONTENT_TYPE).map(|text| shown_text(&secrets.remove(text.split(';').next().unwrap_or_default())));
        let mut body = Vec::new();
        let read = read_start(&mut response, &mut body);
        if needs_body {
            read.await?;
        } else {
            // The status alone decides, so a body that breaks or never ends is not an error.
            let _ = timeout(RESPONSE_TIMEOUT, read).await;
        }
        let text = shown_text(&secrets.remove_from_cut(&String::from_utf8_lossy(&body)));
        let is_foreign = check.is_foreign(status, &body);
        Ok(Response { status, is_foreign, content_type, location, retry_after: retry_after.unwrap_or_default(), text })
    }
}

impl Transport for HttpTransport {
    async fn post(&self, endpoint: &Endpoint, body: &Body, authorization: Option<&HeaderValue>, limit: Duration) -> Outcome {
        let secrets = Secrets::of(authorization, endpoint.url());
        let request = async {
            let response = self.send(endpoint, body, authorization).await?;
            self.read_response(response, &secrets).await
        };
        match timeout(limit, request).await {
            Ok(Ok(response)) => Outcome::Response(response),
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
                if list.len() > MAX_LIST_BYTES {
                    return Err(format!("the list is longer than {MAX_LIST_BYTES} bytes"));
                }
            }
            Ok(list.into())
        };
        timeout(limit, get).await.unwrap_or_else(|_| Err("no response within REQUEST_TIMEOUT".to_owned()))
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

/// Parses the value of `Retry-After`: seconds, or a date.
///
/// <https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    // A date in the past asks for no wait.
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// Reads the start of a response's body.
async fn read_start(response: &mut reqwest::Response, body: &mut Vec<u8>) -> Result<(), Fault> {
    while let Some(chunk) = response.chunk().await.map_err(|error| fault(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > RESPONSE_BYTES {
            break;
        }
    }
    Ok(())
}

/// Returns the start of a body in one line. Web pages have many spaces and line feeds.
fn shown_text(body: &str) -> String {
    let words: Vec<&str> = body.split_whitespace().collect();
    words.join(" ").chars().take(SHOWN_CHARS).collect()
}

/// Returns a redirect's destination without secrets: it often repeats the query of the request.
fn redact_location(location: &str) -> String {
    match Url::parse(location) {
        Ok(url) if url.has_host() => redact_url(&url),
        _ => redact_text(location),
    }
}

fn fault(error: &reqwest::Error) -> Fault {
    if let Some(tls) = TlsFault::find(sources(error)) {
        Fault::Tls(tls)
    } else if error.is_connect() {
        Fault::Connect(causes(error))
    } else if error.is_timeout() {
        Fault::Timeout
    } else if sources(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)) {
        Fault::NotHttp(causes(error))
    } else {
        Fault::Broken(causes(error))
    }
}

/// Returns the causes of an error. The error itself is left out, because its message contains the URL with its query, and so is the
/// HTTP client's name of the step that failed.
fn causes(error: &reqwest::Error) -> String {
    let texts = sources(error).map(ToString::to_string);
    let texts: Vec<String> = texts.filter(|text| !text.starts_with("client error (")).collect();
    if texts.is_empty() { "the request could not be sent".to_owned() } else { texts.join(": ") }
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_shown_without_secrets() {
        assert_eq!(redact_location("https://h/in?token=secret"), "https://h/in");
        assert_eq!(redact_location("https://user:secret@h/in#x"), "https://h/in");
        assert_eq!(redact_location("/in?token=secret"), "/in");
        assert_eq!(redact_location("//user:secret@h/in"), "…@h/in");
        assert_eq!(redact_location("user:secret@h/in"), "…@h/in");
    }

    #[test]
    fn a_page_is_shown_in_one_line() {
        assert_eq!(shown_text("\n<html>\n    <body>No</body>\r\n</html>\n"), "<html> <body>No</body> </html>");
        assert_eq!(shown_text(&"é".repeat(1_000)).chars().count(), SHOWN_CHARS);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-03-02T10:15:00Z".parse().unwrap();
        let seconds = |text| parse_retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("Mon, 02 Mar 2026 10:15:30 GMT"), Some(30));
        assert_eq!(seconds("Mon, 02 Mar 2026 10:14:30 GMT"), Some(0), "the date has passed");
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
    }
}
