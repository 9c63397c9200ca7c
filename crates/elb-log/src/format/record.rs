//! Parses one line into its kind and its fields.

use std::fmt;

use super::delimited::Delimited;
use super::kind::{NoKind, Recognised, no_kind, recognise};
use super::placement::misplaced;
use super::scan::Scan;
use super::split::{UnclosedQuote, split};
use super::time::is_time;
use super::{Field, Format, Kind, Token};

/// Maximum number of unknown fields that AWS may have added since this version. A line with more is tagged `_elbextrafields`.
const MOST_UNKNOWN_FIELDS: usize = 8;

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
    /// A bit for each known field that has the text of another field, the first field being the lowest bit. The line lacks a field
    /// before it. Such a field is invalid, whatever its type makes of its text.
    pub misplaced: u64,
    /// The timestamp that an export of CloudWatch Logs wrote before the line.
    pub ingest_time: Option<&'a [u8]>,
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
    /// Fields are separated by something other than spaces, tabs or commas throughout.
    FieldDelimiter {
        /// The line's kind.
        kind: Kind,
        /// The byte of the other separator.
        at: usize,
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
/// Spaces separate fields, or tabs or commas throughout. The timestamp that an export of CloudWatch Logs writes before a line is not a
/// field of the line.
///
/// # Errors
/// A [`LineError`] for a line of no known kind, for other separators, and for a quote that never closes.
pub fn parse<'t, 'a>(line: &'a [u8], tokens: &'t mut TokenBuffer<'a>) -> Result<Record<'t, 'a>, LineError> {
    let TokenBuffer { list, scan } = tokens;
    scan.read(line);
    list.clear();
    let Some(Recognised { kind, exported }) = recognise(line, scan) else { return parse_unusual(line, scan, list) };
    let format = kind.format();
    let plain = split(line, scan, format.quoting, list).map_err(|UnclosedQuote { at }| LineError::UnclosedQuote { kind, at })?;
    let (ingest_time, tokens) = match &list[..] {
        [time, tokens @ ..] if exported => (Some(time.raw), tokens),
        tokens => (None, tokens),
    };
    let misplaced = misplaced(format, tokens);
    Ok(Record { kind, format, tokens, misplaced, ingest_time, plain })
}

/// Parses a line that is not recognised by words between spaces.
#[cold]
fn parse_unusual<'t, 'a>(line: &'a [u8], scan: &Scan, list: &'t mut Vec<Token<'a>>) -> Result<Record<'t, 'a>, LineError> {
    let Some(delimited) = Delimited::recognise(line) else { return Err(explain(line, scan)) };
    delimited.split(line, list)?;
    let Delimited { kind, ingest_time, .. } = delimited;
    let (format, tokens) = (kind.format(), &list[..]);
    // A line with tabs is not plain, and one with commas is rare.
    Ok(Record { kind, format, tokens, misplaced: misplaced(format, tokens), ingest_time, plain: false })
}

/// Splits the timestamp off that an export of CloudWatch Logs writes before each line, with the spaces around it. Returns the
/// timestamp, if the line begins with one, and the rest of the line.
pub(crate) fn split_ingest_time(line: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let spaces = |text: &[u8]| text.iter().take_while(|&&byte| byte == b' ').count();
    let text = &line[spaces(line)..];
    let (first, rest) = text.split_at(memchr::memchr(b' ', text).unwrap_or(text.len()));
    let rest = &rest[spaces(rest)..];
    if is_time(first) && !rest.is_empty() { (Some(first), rest) } else { (None, text) }
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

    /// Returns whether a known field has the text of another field.
    #[inline]
    pub fn is_misplaced(&self, index: usize) -> bool {
        self.misplaced >> index & 1 == 1
    }

    /// Returns the number of fields beyond the known ones, with or without a value. AWS writes `-` for a field in preparation.
    #[inline]
    pub fn unknown_fields(&self) -> usize {
        self.tokens.len().saturating_sub(self.format.fields.len())
    }

    /// Returns whether the line has so many unknown fields that it is probably two lines without a line feed between them. AWS has
    /// never added so many fields at once.
    #[inline]
    pub fn is_joined(&self) -> bool {
        self.unknown_fields() > MOST_UNKNOWN_FIELDS
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
            LineError::NoKind { at, .. }
            | LineError::FieldDelimiter { at, .. }
            | LineError::UnclosedQuote { at, .. }
            | LineError::TooLong { at } => *at,
            LineError::ControlLine | LineError::HeaderLine | LineError::Json => 0,
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::NoKind { at, expected } => write!(f, "no known kind of log line: expected {expected} at byte {at}"),
            LineError::FieldDelimiter { kind, at } => write!(
                f,
                "{kind}: fields are not separated by spaces, tabs or commas throughout (byte {at}); set the fieldDelimiter of the \
                 delivery in CloudWatch Logs to one of them"
            ),
            LineError::UnclosedQuote { kind, at } => write!(f, "{kind}: the quote at byte {at} never closes"),
            LineError::ControlLine => write!(f, "control line, written by AWS when logging is switched on; no request (byte 0)"),
            LineError::HeaderLine => write!(f, "W3C header line in an object that does not begin with one (byte 0)"),
            LineError::Json => write!(f, "JSON, not a log line (byte 0)"),
            LineError::TooLong { at } => write!(f, "longer than MAX_LINE_BYTES: cut off at byte {at}"),
        }
    }
}

impl std::error::Error for LineError {}

#[cold]
fn explain(line: &[u8], scan: &Scan) -> LineError {
    let text = &line[line.iter().take_while(|&&byte| byte == b' ').count()..];
    match text {
        [b'{', ..] => LineError::Json,
        [b'#', ..] => LineError::HeaderLine,
        _ if matches!(split_ingest_time(line), (Some(_), [b'{', ..])) => LineError::Json,
        _ if text.starts_with(b"Enable ") && memchr::memmem::find(text, b" for ELB: ").is_some() => LineError::ControlLine,
        _ => {
            let NoKind { at, expected } = no_kind(line, scan);
            LineError::NoKind { at, expected }
        }
    }
}
