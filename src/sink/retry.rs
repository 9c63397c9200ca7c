//! What to do about an answer: a pure decision, apart from the I/O that carries it out.

use std::fmt;
use std::time::Duration;

/// The wait before the first retry is drawn from nothing to this.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// No wait is drawn from more than this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The endpoint answered.
    Response {
        /// The status code.
        status: u16,
        /// The header `Location`.
        location: Option<String>,
        /// The header `Retry-After`, where it is a number of seconds.
        retry_after: Option<Duration>,
        /// The start of the body.
        text: String,
    },
    /// There was no answer.
    NoResponse(Fault),
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection: refused, no such host, TLS.
    Connect(String),
    /// The connection broke. Logstash does that when its queue is blocked: it closes at the header of a request.
    Broken(String),
    /// Nothing came in time.
    Timeout,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The batch is delivered.
    Done,
    /// Send it again after this wait.
    Retry(Duration),
    /// This body will never be accepted.
    Refused(Refusal),
    /// No body will be accepted as things are configured.
    Misconfigured(Refusal),
}

/// An answer that ends the trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// Where a redirect points.
    pub location: Option<String>,
    /// The start of the body.
    pub text: String,
}

/// Decides by the answer to the batch's request number `attempt`, counted from 1. `jitter` is drawn evenly from 0 to 1.
///
/// | answer | step |
/// | --- | --- |
/// | 200, 201, 202, 204 | done: it is in Logstash's queue |
/// | 408, 429, 5xx but 501 and 505, no answer | the same batch again, after full jitter and not before `Retry-After` |
/// | 400, 413, 415, 422 | refused |
/// | anything else | misconfigured: a wrong path, a wrong port, wrong credentials, a proxy in between |
pub fn next_step(answer: &Answer, attempt: u32, jitter: f64) -> Step {
    let (status, location, retry_after, text) = match answer {
        Answer::NoResponse(_) => return Step::Retry(backoff(attempt, jitter)),
        Answer::Response { status, location, retry_after, text } => (*status, location, *retry_after, text),
    };
    let refusal = || Refusal { status, location: location.clone(), text: text.clone() };
    match status {
        200 | 201 | 202 | 204 => Step::Done,
        501 | 505 => Step::Misconfigured(refusal()),
        408 | 429 | 500..=599 => Step::Retry(backoff(attempt, jitter).max(retry_after.unwrap_or_default())),
        400 | 413 | 415 | 422 => Step::Refused(refusal()),
        _ => Step::Misconfigured(refusal()),
    }
}

/// Full jitter: evenly from nothing to a bound that doubles, so that many senders do not come back at once.
fn backoff(attempt: u32, jitter: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(LONGEST_WAIT).mul_f64(jitter.clamp(0.0, 1.0))
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Response { status, location, text, .. } => {
                Refusal { status: *status, location: location.clone(), text: text.clone() }.fmt(f)
            }
            Answer::NoResponse(Fault::Connect(detail)) => write!(f, "no connection ({detail})"),
            Answer::NoResponse(Fault::Broken(detail)) => write!(f, "the connection broke ({detail})"),
            Answer::NoResponse(Fault::Timeout) => f.write_str("no answer in time (REQUEST_TIMEOUT)"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if let Some(location) = &self.location {
            write!(f, ", redirecting to {location}")?;
        }
        if !self.text.is_empty() {
            write!(f, ", {:?}", self.text)?;
        }
        match self.status {
            401 | 403 => f.write_str("; check LOGSTASH_USER and LOGSTASH_PASSWORD"),
            413 => f.write_str("; lower BATCH_BYTES or raise the input's max_content_length"),
            400 | 415 | 422 => Ok(()),
            status if status < 500 || matches!(status, 501 | 505) => {
                f.write_str("; is LOGSTASH_URL that of a Logstash http input?")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16) -> Answer {
        Answer::Response { status, location: None, retry_after: None, text: String::new() }
    }

    #[test]
    fn every_status_has_its_step() {
        for status in 100..=599 {
            let step = match next_step(&response(status), 1, 0.5) {
                Step::Done => "done",
                Step::Retry(_) => "retry",
                Step::Refused(_) => "refused",
                Step::Misconfigured(_) => "misconfigured",
            };
            let expected = match status {
                200 | 201 | 202 | 204 => "done",
                408 | 429 => "retry",
                400 | 413 | 415 | 422 => "refused",
                501 | 505 => "misconfigured",
                500..=599 => "retry",
                _ => "misconfigured",
            };
            assert_eq!(step, expected, "status {status}");
        }
    }

    #[test]
    fn waits_double_up_to_a_limit_and_are_drawn_from_all_of_it() {
        let wait = |attempt, jitter| match next_step(&Answer::NoResponse(Fault::Timeout), attempt, jitter) {
            Step::Retry(wait) => wait.as_millis(),
            other => panic!("a time-out is retried, not {other:?}"),
        };
        assert_eq!([1, 2, 3, 6, 7, 1_000].map(|attempt| wait(attempt, 1.0)), [100, 200, 400, 3_200, 5_000, 5_000]);
        assert_eq!(wait(3, 0.0), 0);
        assert_eq!(wait(3, 0.25), 100);
    }

    #[test]
    fn retry_after_is_a_lower_bound() {
        let busy = |seconds| Answer::Response {
            status: 429,
            location: None,
            retry_after: Some(Duration::from_secs(seconds)),
            text: String::new(),
        };
        assert_eq!(next_step(&busy(7), 1, 0.5), Step::Retry(Duration::from_secs(7)));
        assert_eq!(next_step(&busy(0), 1, 0.5), Step::Retry(Duration::from_millis(50)));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refusal = |status, location: Option<&str>| {
            Refusal { status, location: location.map(str::to_owned), text: String::new() }.to_string()
        };
        assert_eq!(refusal(401, None), "HTTP 401; check LOGSTASH_USER and LOGSTASH_PASSWORD");
        assert_eq!(
            refusal(302, Some("https://login.example/")),
            "HTTP 302, redirecting to https://login.example/; is LOGSTASH_URL that of a Logstash http input?"
        );
        assert_eq!(refusal(413, None), "HTTP 413; lower BATCH_BYTES or raise the input's max_content_length");
        assert_eq!(refusal(503, None), "HTTP 503");
    }
}
