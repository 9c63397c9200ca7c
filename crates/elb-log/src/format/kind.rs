//! Detects which kind of log a line belongs to. The line alone decides: objects mix kinds, and copies of objects have other names.

use std::fmt;

use super::digits::are_digits;
use super::scan::Scan;
use super::time::is_time;
use super::value::is_ip;
use super::{Format, Kind};

/// What the third word of a line that begins with a time should be.
pub(super) const CLIENT_OR_PORT: &str = "the client's ip:port of a classic log, or a port of a connection log";

/// The largest number of words that a format is recognised by.
const MOST_WORDS: usize = 4;

/// What one of the first words of a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstWord {
    /// Any word.
    Any,
    /// This word.
    Literal(&'static str),
    /// A time.
    Time,
    /// Small letters and digits, a letter first: `https`.
    Type,
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
    /// A word with a colon, or `-`.
    ColonOrDash {
        /// What an error says was expected.
        expected: &'static str,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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
        recognise(line, &scan).ok()
    }
}

/// Detects the kind of a line from its first words. `scan` is the scan of the line.
pub(super) fn recognise(line: &[u8], scan: &Scan) -> Result<Kind, NoKind> {
    let words = first_words(line, scan);
    // A line may look like several formats, of which the later one in the list is the more special one.
    let recognised = Kind::ALL.into_iter().rev().find(|kind| kind.format().first_mismatch(&words).is_none());
    recognised.ok_or_else(|| explain(&words))
}

impl Format {
    /// Returns the index of the first word that is not as this format has it.
    #[inline]
    fn first_mismatch(&self, words: &[Word<'_>; MOST_WORDS]) -> Option<usize> {
        self.first_words.iter().zip(words).position(|(expected, word)| !expected.matches(word.text))
    }
}

/// Names what the formats expected that agree with the line the furthest.
#[cold]
fn explain(words: &[Word<'_>; MOST_WORDS]) -> NoKind {
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
            FirstWord::Any => true,
            FirstWord::Literal(text) => word == text.as_bytes(),
            FirstWord::Time => is_time(word),
            FirstWord::Type => is_type(word),
            FirstWord::Version => is_version(word),
            FirstWord::Ip => is_ip(word),
            FirstWord::NumberOrDash => is_number_or_dash(word),
            FirstWord::DigitsOrDash { .. } => word == b"-" || are_digits(word),
            FirstWord::ColonOrDash { .. } => word == b"-" || memchr::memchr(b':', word).is_some(),
        }
    }

    /// Returns what an error names. Words that are special cases of a type or a time are not worth naming.
    fn expected(self) -> Option<&'static str> {
        match self {
            FirstWord::Time => Some("a time"),
            FirstWord::Type => Some("a type such as https"),
            FirstWord::DigitsOrDash { expected } | FirstWord::ColonOrDash { expected } => Some(expected),
            FirstWord::Any | FirstWord::Literal(_) | FirstWord::Version | FirstWord::Ip | FirstWord::NumberOrDash => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a [u8],
    at: usize,
}

fn first_words<'a>(line: &'a [u8], scan: &Scan) -> [Word<'a>; MOST_WORDS] {
    let (mut words, mut end) = ([Word { text: b"", at: 0 }; MOST_WORDS], 0);
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
