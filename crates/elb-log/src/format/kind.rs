//! Which kind of log a line is. The line alone decides: objects mix kinds and are renamed when they are copied.

use std::fmt;

use super::scan::Scan;
use super::time::is_time;
use super::value::{are_digits, is_ip};
use super::{Format, alb, alb_connection, alb_health_check, classic, nlb};

/// The kinds of log line that Elastic Load Balancing writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Classic Load Balancer access log.
    Classic,
    /// Application Load Balancer access log.
    Alb,
    /// Application Load Balancer connection log.
    AlbConnection,
    /// Application Load Balancer health check log.
    AlbHealthCheck,
    /// Network Load Balancer access log (TLS listeners).
    Nlb,
}

impl Kind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Kind; 5] = [Kind::Classic, Kind::Alb, Kind::AlbConnection, Kind::AlbHealthCheck, Kind::Nlb];

    /// The value of `elb.kind`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Classic => "classic",
            Kind::Alb => "alb",
            Kind::AlbConnection => "alb_connection",
            Kind::AlbHealthCheck => "alb_health_check",
            Kind::Nlb => "nlb",
        }
    }

    /// The field list of this kind.
    pub fn format(self) -> &'static Format {
        match self {
            Kind::Classic => &classic::FORMAT,
            Kind::Alb => &alb::FORMAT,
            Kind::AlbConnection => &alb_connection::FORMAT,
            Kind::AlbHealthCheck => &alb_health_check::FORMAT,
            Kind::Nlb => &nlb::FORMAT,
        }
    }

    /// By what a line of this kind is recognised, as the end of a sentence.
    pub fn evidence(self) -> &'static str {
        match self {
            Kind::Classic => "a time comes first, and the third word holds a colon or is -",
            Kind::Alb => "a type and a time come first, and the fourth word holds a colon or is -",
            Kind::AlbConnection => "a time, an address and two ports come first",
            Kind::AlbHealthCheck => "a type, a time and a number come first",
            Kind::Nlb => "tls and a version come first",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a line is of no known kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoKind {
    /// The byte of the line at which it stopped looking like a log line.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

/// Recognises a line, of which `scan` is the scan, by its first four words.
pub(super) fn recognise(line: &[u8], scan: &Scan) -> Result<Kind, NoKind> {
    let [first, second, third, fourth] = first_words(line, scan);
    if first.text == b"tls" && is_version(second.text) {
        return Ok(Kind::Nlb);
    }
    if is_time(first.text) {
        if is_ip(second.text) && is_digits_or_dash(third.text) && is_digits_or_dash(fourth.text) {
            return Ok(Kind::AlbConnection);
        }
        if has_colon_or_dash(third.text) {
            return Ok(Kind::Classic);
        }
        return Err(NoKind { at: third.at, expected: "the client's ip:port of a classic log, or a port of a connection log" });
    }
    if !is_type(first.text) {
        return Err(NoKind { at: first.at, expected: "a time, or a type such as https" });
    }
    if !is_time(second.text) {
        return Err(NoKind { at: second.at, expected: "a time" });
    }
    if is_number_or_dash(third.text) {
        return Ok(Kind::AlbHealthCheck);
    }
    if has_colon_or_dash(fourth.text) {
        return Ok(Kind::Alb);
    }
    Err(NoKind { at: fourth.at, expected: "the client's ip:port" })
}

#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a [u8],
    at: usize,
}

fn first_words<'a>(line: &'a [u8], scan: &Scan) -> [Word<'a>; 4] {
    let (mut words, mut end) = ([Word { text: b"", at: 0 }; 4], 0);
    for word in &mut words {
        let mut at = end;
        while line.get(at) == Some(&b' ') {
            at += 1;
        }
        end = scan.next_space(at).unwrap_or(line.len());
        *word = Word { text: &line[at..end], at };
    }
    words
}

fn is_type(text: &[u8]) -> bool {
    matches!(text, [b'a'..=b'z', rest @ ..] if rest.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')))
}

fn is_version(text: &[u8]) -> bool {
    text.split_once_on(b'.').is_some_and(|(major, minor)| are_digits(major) && are_digits(minor))
}

fn is_number_or_dash(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    text == b"-"
        || are_digits(unsigned)
        || unsigned.split_once_on(b'.').is_some_and(|(whole, fraction)| are_digits(whole) && are_digits(fraction))
}

fn is_digits_or_dash(text: &[u8]) -> bool {
    text == b"-" || are_digits(text)
}

fn has_colon_or_dash(text: &[u8]) -> bool {
    text == b"-" || memchr::memchr(b':', text).is_some()
}

/// `slice::split_once` is not stable yet.
trait SplitOnce {
    fn split_once_on(&self, separator: u8) -> Option<(&[u8], &[u8])>;
}

impl SplitOnce for [u8] {
    fn split_once_on(&self, separator: u8) -> Option<(&[u8], &[u8])> {
        let at = memchr::memchr(separator, self)?;
        Some((&self[..at], &self[at + 1..]))
    }
}
