//! Reads lines whose fields are separated by something other than spaces.
//!
//! A delivery through CloudWatch Logs in the output format `plain` separates fields by any text (`fieldDelimiter`). Tabs and commas
//! are read. Anything else is an error, because a field could contain it.

use memchr::memmem;

use super::kind::{MOST_WORDS, recognise_certain};
use super::time::is_time;
use super::{Kind, LineError, Quoting, Token, split_ingest_time};

/// Maximum length of a `fieldDelimiter`, as AWS documents it.
const LONGEST_DELIMITER: usize = 5;

/// A line with separators of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delimited<'a> {
    pub(super) kind: Kind,
    /// The timestamp of a log export before the line.
    pub(super) ingest_time: Option<&'a [u8]>,
    /// The byte at which the line begins, behind that timestamp.
    start: usize,
    delimiter: &'a [u8],
}

/// Detects the kind of a line with separators of its own.
#[cold]
pub(super) fn kind_of(line: &[u8]) -> Option<Kind> {
    Delimited::recognise(line).map(|delimited| delimited.kind)
}

impl<'a> Delimited<'a> {
    /// Recognises a line by its first words and by what stands between the first two of them.
    #[cold]
    pub(super) fn recognise(line: &'a [u8]) -> Option<Self> {
        let exported = split_ingest_time(line);
        let spaces = line.iter().take_while(|&&byte| byte == b' ').count();
        let plain = (None, &line[spaces..]);
        [plain, exported].into_iter().find_map(|(ingest_time, text)| {
            let delimiter = delimiter_of(text).or_else(|| delimiter_of(behind_a_word(text)))?;
            let kind = recognise_certain(&first_words(text, delimiter)).filter(|kind| kind.format().vended.is_some())?;
            Some(Delimited { kind, ingest_time, start: line.len() - text.len(), delimiter })
        })
    }

    /// Splits the line and appends its fields to `tokens`. Every separator ends a field, so that a field between two of them is
    /// empty.
    ///
    /// # Errors
    /// The separator is neither a tab nor a comma, a field without quotes has a space, or a quote never closes.
    pub(super) fn split(&self, line: &'a [u8], tokens: &mut Vec<Token<'a>>) -> Result<(), LineError> {
        let &[separator @ (b'\t' | b',')] = self.delimiter else {
            let at = memmem::find(&line[self.start..], self.delimiter).unwrap_or_default();
            return Err(LineError::FieldDelimiter { kind: self.kind, at: self.start + at });
        };
        let line = &line[..line.len() - line.iter().rev().take_while(|&&byte| byte == b' ').count()];
        let mut at = self.start;
        loop {
            let (token, end) = self.token(line, at, separator)?;
            tokens.push(token);
            match line.get(end) {
                Some(_) => at = end + 1,
                None => return Ok(()),
            }
        }
    }

    /// Returns the field that begins at `at`, and the position of the separator after it.
    fn token(&self, line: &'a [u8], at: usize, separator: u8) -> Result<(Token<'a>, usize), LineError> {
        if line.get(at) == Some(&b'"') && self.kind.format().quoting != Quoting::None {
            let closing = closing_quote(line, at, separator).ok_or(LineError::UnclosedQuote { kind: self.kind, at })?;
            return Ok((Token { raw: &line[at + 1..closing], at, quoted: true }, closing + 1));
        }
        let end = memchr::memchr(separator, &line[at..]).map_or(line.len(), |length| at + length);
        let raw = &line[at..end];
        match memchr::memchr(b' ', raw) {
            Some(space) => Err(LineError::FieldDelimiter { kind: self.kind, at: at + space }),
            None => Ok((Token { raw, at, quoted: false }, end)),
        }
    }
}

/// Returns what stands between the first two words of a line: up to five bytes behind a time or a type. None for nothing but spaces.
fn delimiter_of(text: &[u8]) -> Option<&[u8]> {
    let first = match text.first()? {
        b'0'..=b'9' => length_of(text, |byte| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'.' | b'T' | b'Z')),
        _ => length_of(text, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
    };
    let (first, rest) = text.split_at(first);
    let is_time_or_type = is_time(first) || first.first().is_some_and(u8::is_ascii_lowercase);
    let length = length_of(rest, |byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'"' | b'-' | b':' | b'['));
    let delimiter = &rest[..length];
    let is_delimiter = (1..=LONGEST_DELIMITER).contains(&length) && delimiter.iter().any(|&byte| byte != b' ');
    (is_time_or_type && is_delimiter).then_some(delimiter)
}

fn length_of(text: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|&byte| !is_part(byte)).unwrap_or(text.len())
}

/// Returns the text behind the first space. A line may have spaces at its start and another separator behind them.
fn behind_a_word(text: &[u8]) -> &[u8] {
    memchr::memchr(b' ', text).map_or(b"", |space| &text[space + 1..])
}

/// Returns the first words of a line, of which none has quotes. A line that also has spaces between them is recognised, so that it
/// is known to be a log line with an error.
fn first_words<'a>(text: &'a [u8], delimiter: &[u8]) -> [&'a [u8]; MOST_WORDS] {
    let separator = |text: &[u8]| {
        let delimiter_at = memmem::find(text, delimiter).map(|at| (at, delimiter.len()));
        let space_at = memchr::memchr(b' ', text).filter(|_| !delimiter.contains(&b' ')).map(|at| (at, 1));
        delimiter_at.into_iter().chain(space_at).min()
    };
    let mut rest = text;
    [(); MOST_WORDS].map(|()| match separator(rest) {
        Some((at, length)) => {
            let word = &rest[..at];
            rest = &rest[at + length..];
            word
        }
        None => std::mem::take(&mut rest),
    })
}

/// Finds the quote that closes a field: one without a backslash before it, with a separator or the end of the line after it.
fn closing_quote(line: &[u8], opening: usize, separator: u8) -> Option<usize> {
    let mut at = opening + 1;
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', &line[at.min(line.len())..])?;
        match (line[found], line.get(found + 1)) {
            (b'\\', Some(b'"' | b'\\')) => at = found + 2,
            (b'"', None) => return Some(found),
            (b'"', Some(&byte)) if byte == separator => return Some(found),
            _ => at = found + 1,
        }
    }
}
