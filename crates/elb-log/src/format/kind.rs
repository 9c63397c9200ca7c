//! Detects which kind of log a line belongs to. The line alone decides: objects mix kinds, and copies of objects have other names.

use std::fmt;

use super::digits::are_digits;
use super::scan::Scan;
use super::shape::{Shape, is_ip_with_port};
use super::time::is_time;
use super::value::is_ip;
use super::{Format, Kind, delimited};

/// What the third word of a line that begins with a time should be.
pub(super) const CLIENT_OR_PORT: &str = "the client's ip:port of a classic log, or a port of a connection log";

/// The largest number of words that a format is recognised by.
pub(super) const MOST_WORDS: usize = 4;

/// Maximum length of a version. A time is longer, so that it is told from a version at once.
const LONGEST_VERSION: usize = 16;

/// What one of the first words of a line looks like.
///
/// Load balancers write lines of which some words are unusual, so only what tells the kinds apart is required. Behind other text or
/// between unusual separators a line is less likely to be one of a load balancer. There the words must be [certain](Self::is_certain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstWord {
    /// A time.
    Time,
    /// Small letters and digits, a letter first: `https`.
    Type,
    /// Small letters: `tls`.
    Letters,
    /// `2.0`
    Version,
    /// An IP address.
    Ip,
    /// A number or `-`.
    NumberOrDash,
    /// Digits or `-`.
    DigitsOrDash {
        /// What an error says was expected.
        expected: &'static str,
    },
    /// A word with a colon, or `-`; certain if it is an address with a port, or `-`.
    ColonOrDash {
        /// What an error says was expected.
        expected: &'static str,
    },
    /// An address with a port, or `-`.
    Client {
        /// What an error says was expected.
        expected: &'static str,
    },
    /// Any word; certain if it is the ID of a load balancer.
    Id,
    /// Any word but a time; certain if it is a name of letters, digits and hyphens.
    Name,
    /// Any word or none; certain if it is an address with a port, an ARN, or `-`.
    Target,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a line was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recognised {
    pub(super) kind: Kind,
    /// Whether the first word is the timestamp of a log export, and the line begins with the second word.
    pub(super) exported: bool,
}

/// Why a line belongs to no known kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoKind {
    /// The byte of the line at which it stopped looking like a log line.
    pub(super) at: usize,
    /// What was expected there.
    pub(super) expected: String,
}

impl Kind {
    /// Detects the kind of a line, given without its line feed; none for a line that is not of a load balancer.
    ///
    /// ```
    /// use elb_log::format::Kind;
    ///
    /// let line = b"2026-03-02T10:15:04.123456Z my-lb 192.0.2.1:80 10.0.0.1:80 0.1 0.2 0.3 200 200 0 29";
    /// assert_eq!(Kind::of(line), Some(Kind::Classic));
    /// assert_eq!(Kind::of(b"hello"), None);
    /// ```
    pub fn of(line: &[u8]) -> Option<Kind> {
        let mut scan = Scan::default();
        scan.read(line);
        recognise(line, &scan).map(|recognised| recognised.kind).or_else(|| delimited::kind_of(line))
    }
}

/// Detects the kind of a line from its first words. `scan` is the scan of the line.
#[inline]
pub(super) fn recognise(line: &[u8], scan: &Scan) -> Option<Recognised> {
    let words = first_words(line, scan, 0);
    match kind_of(&words, Format::matches) {
        Some(kind) => Some(Recognised { kind, exported: false }),
        None => recognise_exported(line, scan, &words),
    }
}

/// Detects the kind of a line that CloudWatch Logs exported, with its own timestamp before the line.
#[cold]
fn recognise_exported(line: &[u8], scan: &Scan, words: &Words<'_>) -> Option<Recognised> {
    let [first, second, ..] = words;
    let words = is_time(first.text).then(|| first_words(line, scan, second.at))?;
    kind_of(&words, Format::is_certain).map(|kind| Recognised { kind, exported: true })
}

/// Detects the kind of a line of which only the first words are known, if they are certain.
pub(super) fn recognise_certain(words: &[&[u8]; MOST_WORDS]) -> Option<Kind> {
    kind_of(&words.map(|text| Word { text, at: 0 }), Format::is_certain)
}

/// Names what was expected in a line of no known kind.
#[cold]
pub(super) fn no_kind(line: &[u8], scan: &Scan) -> NoKind {
    explain(&first_words(line, scan, 0))
}

#[inline(always)]
fn kind_of(words: &Words<'_>, matches: impl Fn(&Format, &Words<'_>) -> bool) -> Option<Kind> {
    // A line may look like several formats, of which the later one in the list is the more special one.
    Kind::ALL.into_iter().rev().find(|kind| matches(kind.format(), words))
}

impl Format {
    #[inline]
    fn matches(&self, words: &Words<'_>) -> bool {
        self.first_mismatch(words).is_none()
    }

    fn is_certain(&self, words: &Words<'_>) -> bool {
        self.first_words.iter().zip(words).all(|(expected, word)| expected.matches(word.text) && expected.is_certain(word.text))
    }

    /// Returns the index of the first word that is not as this format has it.
    #[inline]
    fn first_mismatch(&self, words: &Words<'_>) -> Option<usize> {
        self.first_words.iter().zip(words).position(|(expected, word)| !expected.matches(word.text))
    }
}

/// Names what the formats expected that agree with the line the furthest.
fn explain(words: &Words<'_>) -> NoKind {
    let mismatches = Kind::ALL.map(|kind| kind.format().first_mismatch(words).unwrap_or(0));
    let furthest = mismatches.into_iter().max().unwrap_or(0);
    let mut expected: Vec<&str> = Vec::new();
    for (kind, mismatch) in Kind::ALL.into_iter().zip(mismatches) {
        let text = kind.format().first_words[mismatch].expected().filter(|_| mismatch == furthest);
        expected.extend(text.filter(|text| !expected.contains(text)));
    }
    NoKind { at: words[furthest].at, expected: expected.join(", or ") }
}

impl FirstWord {
    #[inline]
    fn matches(self, word: &[u8]) -> bool {
        match self {
            FirstWord::Id | FirstWord::Target => true,
            FirstWord::Name => !is_time(word),
            FirstWord::Time => is_time(word),
            FirstWord::Type => is_type(word),
            FirstWord::Letters => !word.is_empty() && word.iter().all(u8::is_ascii_lowercase),
            FirstWord::Version => is_version(word),
            FirstWord::Ip => is_ip(word),
            FirstWord::NumberOrDash => is_number_or_dash(word),
            FirstWord::DigitsOrDash { .. } => word == b"-" || are_digits(word),
            FirstWord::ColonOrDash { .. } => word == b"-" || memchr::memchr(b':', word).is_some(),
            FirstWord::Client { .. } => is_client(word),
        }
    }

    /// Returns whether a word that [matches](Self::matches) is one that hardly anything but a load balancer writes.
    fn is_certain(self, word: &[u8]) -> bool {
        match self {
            FirstWord::Id => Shape::of(word) == Shape::LoadBalancer,
            FirstWord::Name => !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-'),
            FirstWord::ColonOrDash { .. } => is_client(word),
            FirstWord::Target => is_client(word) || Shape::of(word) == Shape::Arn,
            FirstWord::Time
            | FirstWord::Type
            | FirstWord::Letters
            | FirstWord::Version
            | FirstWord::Ip
            | FirstWord::NumberOrDash
            | FirstWord::DigitsOrDash { .. }
            | FirstWord::Client { .. } => true,
        }
    }

    /// Returns what an error names. Words that are special cases of a type or a time are not worth naming.
    fn expected(self) -> Option<&'static str> {
        match self {
            FirstWord::Time => Some("a time"),
            FirstWord::Type => Some("a type such as https"),
            FirstWord::Name => Some("a load balancer's name"),
            FirstWord::DigitsOrDash { expected } | FirstWord::ColonOrDash { expected } | FirstWord::Client { expected } => {
                Some(expected)
            }
            FirstWord::Id
            | FirstWord::Target
            | FirstWord::Letters
            | FirstWord::Version
            | FirstWord::Ip
            | FirstWord::NumberOrDash => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a [u8],
    at: usize,
}

type Words<'a> = [Word<'a>; MOST_WORDS];

/// Returns the first words at or after `end`.
#[inline(always)]
fn first_words<'a>(line: &'a [u8], scan: &Scan, mut end: usize) -> Words<'a> {
    let mut words = [Word { text: b"", at: 0 }; MOST_WORDS];
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

fn is_client(word: &[u8]) -> bool {
    word == b"-" || is_ip_with_port(word)
}

fn is_type(text: &[u8]) -> bool {
    matches!(text, [b'a'..=b'z', rest @ ..] if rest.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')))
}

fn is_version(text: &[u8]) -> bool {
    text.len() <= LONGEST_VERSION && text.split_once_on(b'.').is_some_and(|(major, minor)| are_digits(major) && are_digits(minor))
}

fn is_number_or_dash(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    text == b"-"
        || are_digits(unsigned)
        || unsigned.split_once_on(b'.').is_some_and(|(whole, fraction)| are_digits(whole) && are_digits(fraction))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_recognised_by_few_enough_words() {
        for kind in Kind::ALL {
            let words = kind.format().first_words.len();
            assert!((1..=MOST_WORDS).contains(&words), "{kind} has {words} first words; raise MOST_WORDS");
        }
    }

    #[test]
    fn kinds_are_in_the_order_of_declaration() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind}");
        }
    }
}
