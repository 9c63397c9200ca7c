//! How a request to an endpoint ended, and what that means for its body.

use std::fmt;
use std::time::Duration;

use super::tls_fault::TlsFault;
use crate::reason::Reason;

/// The body of the http input's response to a body that it has put into its queue.
///
/// <https://www.elastic.co/docs/reference/logstash/plugins/plugins-inputs-http>
const LOGSTASH_BODY: &[u8] = b"ok";

/// Maximum length of a response's body that is compared with [`LOGSTASH_BODY`], in bytes.
const COMPARED_BYTES: usize = 16;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint responded.
    Response(Response),
    /// No valid response arrived.
    NoResponse(Fault),
}

/// The parts of an HTTP response that decide what happens next, or that are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Whether the status means success, but the rest of the response shows that the receiver did not send it.
    pub is_foreign: bool,
    /// The header `Content-Type`, without its parameters.
    pub content_type: Option<String>,
    /// The header `Location`, without secrets.
    pub location: Option<String>,
    /// The time to wait before the next request, from the header `Retry-After`.
    pub retry_after: Duration,
    /// The start of the body.
    pub text: String,
}

/// Which responses show that the receiver has the events; `RESPONSE_CHECK`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseCheck {
    /// A success status with the body `ok`, or 204 without a body, as Logstash's http input responds. A firewall, a proxy or a
    /// web server can respond with a success status, too.
    #[default]
    Logstash,
    /// A success status.
    Status,
}

/// Why a request got no valid response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No endpoint is available, such as without a list of the registry.
    NoEndpoint(String),
    /// The connection failed: refused, unknown host, a broken TLS handshake.
    Connect(String),
    /// The client and the server cannot agree on TLS, or one does not accept the other's certificate.
    Tls(TlsFault),
    /// The connection was lost. A Logstash whose queue is blocked closes the connection after the header of a request.
    Broken(String),
    /// The response is not HTTP.
    NotHttp(String),
    /// No response arrived within the timeout.
    Timeout,
    /// The run ended before a response arrived.
    Abandoned,
}

/// What an outcome means.
///
/// | outcome | verdict |
/// | --- | --- |
/// | 200, 201, 202, 204, and the body is the receiver's | accepted: the events are in Logstash's queue |
/// | 408, 429, 5xx except 500, 501 and 505, no response | busy |
/// | 500 | failing: the endpoint is busy, or this body makes it fail |
/// | no connection, not HTTP | down |
/// | 413 | too large |
/// | 400, 415, 422 | refused |
/// | 401, 403, any other 4xx, a success status with a foreign body | blocked |
/// | 404, 405, 407, 421, 426, 501, 505, any other status, TLS | misconfigured: a wrong path, a wrong port, a proxy in between |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The body is delivered.
    Accepted,
    /// The same body may be accepted later.
    Busy,
    /// The same body may be accepted later, unless the body makes the endpoint fail.
    Failing,
    /// The endpoint cannot be reached now.
    Down,
    /// The body is larger than the endpoint allows.
    TooLarge,
    /// The endpoint refuses the body.
    Refused,
    /// The endpoint, or a firewall in front of it, refuses the body, the credentials or the sender. The response does not say
    /// which.
    Blocked,
    /// The endpoint will accept no body with this configuration.
    Misconfigured,
}

impl Outcome {
    /// Returns what the outcome means.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Outcome::NoResponse(Fault::NoEndpoint(_) | Fault::Connect(_) | Fault::NotHttp(_)) => Verdict::Down,
            Outcome::NoResponse(Fault::Broken(_) | Fault::Timeout | Fault::Abandoned) => Verdict::Busy,
            Outcome::NoResponse(Fault::Tls(_)) => Verdict::Misconfigured,
            Outcome::Response(response) => response.verdict(),
        }
    }

    /// Returns the reason with which an object fails that needs this request to succeed.
    pub(crate) fn reason(&self) -> Reason {
        match (self, self.verdict()) {
            (Outcome::NoResponse(Fault::Tls(_)), _) => Reason::Tls,
            (Outcome::NoResponse(_), _) => Reason::Unreachable,
            (Outcome::Response(_), Verdict::Busy | Verdict::Failing) => Reason::Busy,
            (Outcome::Response(_), _) => Reason::Refused,
        }
    }

    /// Returns whether the request failed in a way that ends by itself, or that somebody else has to end.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self.verdict(), Verdict::Busy | Verdict::Failing | Verdict::Down)
    }

    /// Returns whether the receiver has accepted the body.
    pub fn is_accepted(&self) -> bool {
        self.verdict() == Verdict::Accepted
    }

    /// Returns the cause of a retry in a few words, for a progress display.
    pub(super) fn short_cause(&self) -> String {
        match self {
            Outcome::Response(response) => format!("HTTP {}", response.status),
            Outcome::NoResponse(Fault::Connect(detail) | Fault::Broken(detail) | Fault::NotHttp(detail)) => last_cause(detail),
            Outcome::NoResponse(Fault::NoEndpoint(reason)) => reason.clone(),
            Outcome::NoResponse(Fault::Tls(fault)) => fault.to_string(),
            Outcome::NoResponse(Fault::Timeout) => "no response in time".to_owned(),
            Outcome::NoResponse(Fault::Abandoned) => "the run ends".to_owned(),
        }
    }

    /// Returns the time to wait before the next request, as the endpoint asked for it.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Outcome::Response(response) => response.retry_after,
            Outcome::NoResponse(_) => Duration::ZERO,
        }
    }

    /// Returns whether the response may mean that the credentials are wrong.
    pub(super) fn doubts_credentials(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// Returns the status code, if there is a response.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Outcome::Response(response) => Some(response.status),
            Outcome::NoResponse(_) => None,
        }
    }
}

/// Returns the innermost of several causes, without the number of the operating system's error.
fn last_cause(causes: &str) -> String {
    let last = causes.rsplit(": ").next().unwrap_or(causes);
    last.split(" (os error").next().unwrap_or(last).to_lowercase()
}

impl ResponseCheck {
    /// Returns whether a response has a success status, but was not sent by the receiver.
    pub(super) fn is_foreign(self, status: u16, body: &[u8]) -> bool {
        let is_receivers = match status {
            200..=202 => body.len() <= COMPARED_BYTES && body.trim_ascii() == LOGSTASH_BODY,
            204 => body.is_empty(),
            _ => true,
        };
        self == ResponseCheck::Logstash && !is_receivers
    }
}

impl Response {
    fn verdict(&self) -> Verdict {
        match self.status {
            200 | 201 | 202 | 204 if self.is_foreign => Verdict::Blocked,
            200 | 201 | 202 | 204 => Verdict::Accepted,
            500 => Verdict::Failing,
            501 | 505 => Verdict::Misconfigured,
            408 | 429 | 502..=599 => Verdict::Busy,
            413 => Verdict::TooLarge,
            400 | 415 | 422 => Verdict::Refused,
            404 | 405 | 407 | 421 | 426 => Verdict::Misconfigured,
            401..=499 => Verdict::Blocked,
            _ => Verdict::Misconfigured,
        }
    }

    /// Describes a success status that the receiver did not send.
    fn fmt_foreign(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = match (&self.content_type, self.text.is_empty()) {
            (_, true) => "an empty body",
            (Some(content_type), false) => content_type,
            (None, false) => "another body",
        };
        write!(f, "HTTP {} with {content}, not as a Logstash http input responds", self.status)?;
        if !self.text.is_empty() {
            write!(f, ", {:?}", self.text)?;
        }
        f.write_str("; is this the URL of an http input? For another receiver, set RESPONSE_CHECK=status")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Response(response) => response.fmt(f),
            Outcome::NoResponse(Fault::NoEndpoint(reason)) => f.write_str(reason),
            Outcome::NoResponse(Fault::Connect(detail)) => {
                write!(f, "no connection ({detail}); check host and port, and whether Logstash is running")
            }
            Outcome::NoResponse(Fault::Tls(fault)) => fault.fmt(f),
            Outcome::NoResponse(Fault::Broken(detail)) => write!(f, "the connection was lost ({detail})"),
            Outcome::NoResponse(Fault::NotHttp(detail)) => {
                write!(f, "the response is not HTTP ({detail}); is this the Beats port, or a port with TLS?")
            }
            Outcome::NoResponse(Fault::Timeout) => f.write_str("no response within REQUEST_TIMEOUT"),
            Outcome::NoResponse(Fault::Abandoned) => f.write_str("the run ended before the response arrived"),
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_foreign {
            return self.fmt_foreign(f);
        }
        write!(f, "HTTP {}", self.status)?;
        if let Some(location) = &self.location {
            write!(f, ", redirecting to {location}")?;
        }
        if !self.retry_after.is_zero() {
            write!(f, ", asking to wait {} s", self.retry_after.as_secs())?;
        }
        if !self.text.is_empty() {
            write!(f, ", {:?}", self.text)?;
        }
        match (self.status, self.verdict()) {
            (401 | 403, _) => f.write_str("; check LOGSTASH_USER and LOGSTASH_PASSWORD, or the secret, and firewalls"),
            (_, Verdict::TooLarge) => f.write_str("; lower BATCH_BYTES or raise the input's max_content_length"),
            (_, Verdict::Misconfigured | Verdict::Blocked) => {
                f.write_str("; check that this is the URL of a Logstash http input")
            }
            (_, Verdict::Accepted | Verdict::Busy | Verdict::Failing | Verdict::Down | Verdict::Refused) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_verdict() {
        for status in 100..=599 {
            let outcome = Outcome::Response(Response { status, ..Response::default() });
            let expected = match status {
                200 | 201 | 202 | 204 => Verdict::Accepted,
                500 => Verdict::Failing,
                408 | 429 | 502 | 503 | 504 | 506..=599 => Verdict::Busy,
                413 => Verdict::TooLarge,
                400 | 415 | 422 => Verdict::Refused,
                404 | 405 | 407 | 421 | 426 => Verdict::Misconfigured,
                400..=499 => Verdict::Blocked,
                _ => Verdict::Misconfigured,
            };
            assert_eq!(outcome.verdict(), expected, "status {status}");
        }
    }

    #[test]
    fn only_the_body_of_the_http_input_is_a_delivery() {
        let foreign = |status, body: &str| ResponseCheck::Logstash.is_foreign(status, body.as_bytes());
        for (status, body) in [(200, "ok"), (201, "ok"), (202, "ok\r\n"), (204, ""), (503, "<html>"), (404, "")] {
            assert!(!foreign(status, body), "{status} {body:?} is not foreign");
        }
        let others = ["", "<html>blocked</html>", r#"{"message":"Forbidden"}"#, r#"{"errors":true}"#, "OK", "ok ok"];
        for body in others {
            assert!(foreign(200, body), "{body:?} is not what the http input sends");
            assert!(!ResponseCheck::Status.is_foreign(200, body.as_bytes()), "RESPONSE_CHECK=status looks at the status only");
        }
        assert!(foreign(204, "ok") && foreign(200, &format!("ok{}", " ".repeat(100))));
        let response = Response { status: 200, is_foreign: true, ..Response::default() };
        assert_eq!(Outcome::Response(response).verdict(), Verdict::Blocked);
    }

    #[test]
    fn a_response_is_shown_with_what_to_do() {
        let shown = |status, location: Option<&str>| {
            Response { status, location: location.map(str::to_owned), ..Response::default() }.to_string()
        };
        assert_eq!(shown(401, None), "HTTP 401; check LOGSTASH_USER and LOGSTASH_PASSWORD, or the secret, and firewalls");
        assert_eq!(
            shown(302, Some("https://login.example/")),
            "HTTP 302, redirecting to https://login.example/; check that this is the URL of a Logstash http input"
        );
        assert_eq!(shown(413, None), "HTTP 413; lower BATCH_BYTES or raise the input's max_content_length");
        assert_eq!(shown(503, None), "HTTP 503");
        let busy = Response { status: 503, retry_after: Duration::from_secs(3_600), ..Response::default() };
        assert_eq!(busy.to_string(), "HTTP 503, asking to wait 3600 s");
    }

    #[test]
    fn a_short_cause_is_the_innermost_one() {
        let connect = |detail: &str| Outcome::NoResponse(Fault::Connect(detail.to_owned())).short_cause();
        assert_eq!(connect("tcp connect error: Connection refused (os error 111)"), "connection refused");
        assert_eq!(
            connect("dns error: failed to lookup address information: Name or service not known"),
            "name or service not known"
        );
        let busy = Response { status: 503, text: "a long page".to_owned(), ..Response::default() };
        assert_eq!(Outcome::Response(busy).short_cause(), "HTTP 503");
    }

    #[test]
    fn a_foreign_response_asks_whether_the_url_is_right() {
        let html = Some("text/html".to_owned());
        let page =
            Response { status: 200, is_foreign: true, content_type: html, text: "<html>".to_owned(), ..Response::default() };
        assert_eq!(
            page.to_string(),
            "HTTP 200 with text/html, not as a Logstash http input responds, \"<html>\"; is this the URL of an http input? For another \
             receiver, set RESPONSE_CHECK=status"
        );
        let empty = Response { status: 200, is_foreign: true, ..Response::default() };
        assert!(empty.to_string().starts_with("HTTP 200 with an empty body, not as"), "{empty}");
    }
}
