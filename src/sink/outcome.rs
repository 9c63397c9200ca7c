//! How a request to an endpoint ended, and what that means for its body.

use std::fmt;
use std::time::Duration;

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
    /// The header `Location`, without secrets.
    pub location: Option<String>,
    /// The time to wait before the next request, from the header `Retry-After`.
    pub retry_after: Duration,
    /// The start of the body.
    pub text: String,
}

/// Why a request got no valid response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection failed: refused, unknown host, TLS.
    Connect(String),
    /// The connection was lost. A Logstash whose queue is blocked closes the connection after the header of a request.
    Broken(String),
    /// The response is not HTTP.
    NotHttp(String),
    /// No response arrived within the timeout.
    Timeout,
}

/// What an outcome means.
///
/// | outcome | verdict |
/// | --- | --- |
/// | 200, 201, 202, 204 | accepted: the events are in Logstash's queue |
/// | 408, 429, 5xx except 500, 501 and 505, no response | busy |
/// | 500 | failing: the endpoint is busy, or this body makes it fail |
/// | no connection, not HTTP | down |
/// | 413 | too large |
/// | 400, 415, 422 | refused |
/// | 401, 403 | denied |
/// | any other status | misconfigured: a wrong path, a wrong port, a proxy in between |
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
    /// The endpoint refuses the credentials.
    Denied,
    /// The endpoint will accept no body with this configuration.
    Misconfigured,
}

impl Outcome {
    /// Returns what the outcome means.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Outcome::NoResponse(Fault::Connect(_) | Fault::NotHttp(_)) => Verdict::Down,
            Outcome::NoResponse(Fault::Broken(_) | Fault::Timeout) => Verdict::Busy,
            Outcome::Response(response) => response.verdict(),
        }
    }

    /// Returns the time to wait before the next request, as the endpoint asked for it.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Outcome::Response(response) => response.retry_after,
            Outcome::NoResponse(_) => Duration::ZERO,
        }
    }

    /// Returns the status code, if there is a response.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Outcome::Response(response) => Some(response.status),
            Outcome::NoResponse(_) => None,
        }
    }
}

impl Response {
    fn verdict(&self) -> Verdict {
        match self.status {
            200 | 201 | 202 | 204 => Verdict::Accepted,
            500 => Verdict::Failing,
            501 | 505 => Verdict::Misconfigured,
            408 | 429 | 502..=599 => Verdict::Busy,
            413 => Verdict::TooLarge,
            400 | 415 | 422 => Verdict::Refused,
            401 | 403 => Verdict::Denied,
            _ => Verdict::Misconfigured,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Response(response) => response.fmt(f),
            Outcome::NoResponse(Fault::Connect(detail)) => write!(f, "no connection ({detail})"),
            Outcome::NoResponse(Fault::Broken(detail)) => write!(f, "the connection was lost ({detail})"),
            Outcome::NoResponse(Fault::NotHttp(detail)) => {
                write!(f, "the response is not HTTP ({detail}); is this the Beats port?")
            }
            Outcome::NoResponse(Fault::Timeout) => f.write_str("no response within REQUEST_TIMEOUT"),
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if let Some(location) = &self.location {
            write!(f, ", redirecting to {location}")?;
        }
        if !self.text.is_empty() {
            write!(f, ", {:?}", self.text)?;
        }
        match self.verdict() {
            Verdict::Denied => f.write_str("; check LOGSTASH_USER and LOGSTASH_PASSWORD, or the secret"),
            Verdict::TooLarge => f.write_str("; lower BATCH_BYTES or raise the input's max_content_length"),
            Verdict::Misconfigured => f.write_str("; check that LOGSTASH_URL is a Logstash http input"),
            Verdict::Accepted | Verdict::Busy | Verdict::Failing | Verdict::Down | Verdict::Refused => Ok(()),
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
                401 | 403 => Verdict::Denied,
                _ => Verdict::Misconfigured,
            };
            assert_eq!(outcome.verdict(), expected, "status {status}");
        }
    }

    #[test]
    fn a_response_is_shown_with_what_to_do() {
        let shown = |status, location: Option<&str>| {
            Response { status, location: location.map(str::to_owned), ..Response::default() }.to_string()
        };
        assert_eq!(shown(401, None), "HTTP 401; check LOGSTASH_USER and LOGSTASH_PASSWORD, or the secret");
        assert_eq!(
            shown(302, Some("https://login.example/")),
            "HTTP 302, redirecting to https://login.example/; check that LOGSTASH_URL is a Logstash http input"
        );
        assert_eq!(shown(413, None), "HTTP 413; lower BATCH_BYTES or raise the input's max_content_length");
        assert_eq!(shown(503, None), "HTTP 503");
    }
}
