//! Parses one line into its kind and its fields.

use std::fmt;

use super::kind::{NoKind, recognise};
use super::scan::Scan;
use super::split::{UnclosedQuote, split};
use super::{Field, Format, Kind, Token};

/// The memory that parsing a line needs, used again from line to line.
#[derive(Debug, Default)]
pub struct TokenBuffer<'a> {
    list: Vec<Token<'a>>,
    scan: Scan,
}

/// A parsed line. Its fields are read when they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Record<'t, 'a> {
    /// The kind of log that the line belongs to.
    pub kind: Kind,
    /// The kind's format.
    pub format: &'static Format,
    /// The line's fields, including those that the format does not know.
    pub tokens: &'t [Token<'a>],
    /// Whether every field can be written as it is: the line has only ASCII characters, no control character except DEL, no
    /// backslash, and no quotes except those around fields.
    pub plain: bool,
}

/// Why a line could not be parsed, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineError {
    /// The line belongs to no known kind.
    NoKind {
        /// The byte at which the line stopped looking like a log line.
        at: usize,
        /// What was expected there.
        expected: String,
    },
    /// A quote that opens a field never closes.
    UnclosedQuote {
        /// The line's kind.
        kind: Kind,
        /// The byte of the quote.
        at: usize,
    },
    /// `Enable … for ELB: …`, which AWS writes when logging is switched on.
    ControlLine,
    /// `#…`: a header of W3C logs, in an object that does not begin with one.
    HeaderLine,
    /// JSON. Load balancers do not write it to S3 themselves; deliveries through CloudWatch Logs do.
    Json,
    /// The line is longer than the limit and was cut off there.
    TooLong {
        /// The byte at which it was cut.
        at: usize,
    },
}

/// Parses a line, given without its line feed. The record borrows `tokens`, so that their memory serves many lines.
///
/// A line with too few or too many fields, or with fields that are not of their type, is parsed all the same: see
/// [`Record::is_short`], [`Record::extras`] and [`Reading::Invalid`](super::Reading::Invalid).
///
/// # Errors
/// A [`LineError`] for a line of no known kind, and for a quote that never closes.
pub fn parse<'t, 'a>(line: &'a [u8], tokens: &'t mut TokenBuffer<'a>) -> Result<Record<'t, 'a>, LineError> {
    let TokenBuffer { list, scan } = tokens;
    scan.read(line);
    let kind = recognise(line, scan).map_err(|no_kind| explain(line, no_kind))?;
    let format = kind.format();
    list.clear();
    let plain = split(line, scan, format.quoting, list).map_err(|UnclosedQuote { at }| LineError::UnclosedQuote { kind, at })?;
    Ok(Record { kind, format, tokens: list, plain })
}

impl<'t, 'a> Record<'t, 'a> {
    /// Returns the known fields that the line has, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static Field, &'t Token<'a>)> + use<'t, 'a> {
        self.format.fields.iter().zip(self.tokens)
    }

    /// Returns the fields beyond the known ones; none if all of them are absent, as when AWS prepares a new field.
    pub fn extras(&self) -> &'t [Token<'a>] {
        match self.tokens.get(self.format.fields.len()..) {
            Some(extras) if extras.iter().any(|token| !token.is_absent()) => extras,
            _ => &[],
        }
    }

    /// Returns whether the line has fewer fields than AWS ever wrote for its kind.
    pub fn is_short(&self) -> bool {
        self.tokens.len() < self.format.shortest
    }
}

impl LineError {
    /// Returns the byte of the line at which parsing stopped.
    pub fn at(&self) -> usize {
        match self {
            LineError::NoKind { at, .. } | LineError::UnclosedQuote { at, .. } | LineError::TooLong { at } => *at,
            LineError::ControlLine | LineError::HeaderLine | LineError::Json => 0,
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::NoKind { at, expected } => write!(f, "no known kind of log line: expected {expected} at byte {at}"),
            LineError::UnclosedQuote { kind, at } => write!(f, "{kind}: the quote at byte {at} never closes"),
            LineError::ControlLine => write!(f, "control line, written by AWS when logging is switched on; no request (byte 0)"),
            LineError::HeaderLine => write!(f, "W3C header line in an object that does not begin with one (byte 0)"),
            LineError::Json => write!(f, "JSON, not a log line (byte 0)"),
            LineError::TooLong { at } => write!(f, "longer than MAX_LINE_BYTES: cut off at byte {at}"),
        }
    }
}

impl std::error::Error for LineError {}

fn explain(line: &[u8], NoKind { at, expected }: NoKind) -> LineError {
    let spaces = line.iter().take_while(|&&byte| byte == b' ').count();
    let line = &line[spaces..];
    match line {
        [b'{', ..] => LineError::Json,
        [b'#', ..] => LineError::HeaderLine,
        _ if line.starts_with(b"Enable ") && memchr::memmem::find(line, b" for ELB: ").is_some() => LineError::ControlLine,
        _ => LineError::NoKind { at, expected },
    }
}
