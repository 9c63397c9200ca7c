//! What an endpoint answered, and what that means.

use std::fmt;
use std::time::Duration;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered.
    Response(Response),
    /// There was no answer.
    NoResponse(Fault),
}

/// What is kept of an HTTP response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header `Location`, without what may be secret in it.
    pub location: Option<String>,
    /// How long not to ask again, by the header `Retry-After`.
    pub retry_after: Duration,
    /// The start of the body.
    pub text: String,
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection: refused, no such host, TLS.
    Connect(String),
    /// The connection broke. Logstash does that when its queue is blocked: it closes at the header of a request.
    Broken(String),
    /// What came is not HTTP.
    NotHttp(String),
    /// Nothing came in time.
    Timeout,
}

/// What an answer means.
///
/// | answer | meaning |
/// | --- | --- |
/// | 200, 201, 202, 204 | accepted: it is in Logstash's queue |
/// | 408, 429, 5xx but 500, 501 and 505, no answer | busy |
/// | 500 | failing: busy, or this body makes it fail |
/// | no connection, no HTTP | down |
/// | 413 | too large |
/// | 400, 415, 422 | refused |
/// | 401, 403 | denied |
/// | anything else | misconfigured: a wrong path, a wrong port, a proxy in between |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The body is delivered.
    Accepted,
    /// The same body may be accepted later.
    Busy,
    /// The same, but it may also be the body's fault.
    Failing,
    /// Nobody can be reached there now.
    Down,
    /// The body is larger than the endpoint takes.
    TooLarge,
    /// The body is not accepted.
    Refused,
    /// The credentials are not accepted.
    Denied,
    /// No body will be accepted as things are configured.
    Misconfigured,
}

impl Outcome {
    /// What it means.
    pub fn verdict(&self) -> Verdict {
        match self {
            Outcome::NoResponse(Fault::Connect(_) | Fault::NotHttp(_)) => Verdict::Down,
            Outcome::NoResponse(Fault::Broken(_) | Fault::Timeout) => Verdict::Busy,
            Outcome::Response(response) => response.verdict(),
        }
    }

    /// How long not to ask again.
    pub fn retry_after(&self) -> Duration {
        match self {
            Outcome::Response(response) => response.retry_after,
            Outcome::NoResponse(_) => Duration::ZERO,
        }
    }

    /// The status code, if there is one.
    pub fn status(&self) -> Option<u16> {
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
            Outcome::NoResponse(Fault::Broken(detail)) => write!(f, "the connection broke ({detail})"),
            Outcome::NoResponse(Fault::NotHttp(detail)) => {
                write!(f, "the answer is no HTTP ({detail}); is this the Beats port?")
            }
            Outcome::NoResponse(Fault::Timeout) => f.write_str("no answer in time (REQUEST_TIMEOUT)"),
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
            Verdict::Misconfigured => f.write_str("; is LOGSTASH_URL that of a Logstash http input?"),
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
            let answer = Outcome::Response(Response { status, ..Response::default() });
            let expected = match status {
                200 | 201 | 202 | 204 => Verdict::Accepted,
                500 => Verdict::Failing,
                408 | 429 | 502 | 503 | 504 | 506..=599 => Verdict::Busy,
                413 => Verdict::TooLarge,
                400 | 415 | 422 => Verdict::Refused,
                401 | 403 => Verdict::Denied,
                _ => Verdict::Misconfigured,
            };
            assert_eq!(answer.verdict(), expected, "status {status}");
        }
    }

    #[test]
    fn an_answer_says_what_to_do() {
        let answer = |status, location: Option<&str>| {
            Response { status, location: location.map(str::to_owned), ..Response::default() }.to_string()
        };
        assert_eq!(answer(401, None), "HTTP 401; check LOGSTASH_USER and LOGSTASH_PASSWORD, or the secret");
        assert_eq!(
            answer(302, Some("https://login.example/")),
            "HTTP 302, redirecting to https://login.example/; is LOGSTASH_URL that of a Logstash http input?"
        );
        assert_eq!(answer(413, None), "HTTP 413; lower BATCH_BYTES or raise the input's max_content_length");
        assert_eq!(answer(503, None), "HTTP 503");
    }
}
