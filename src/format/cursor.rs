//! Splits a line into its fields.

use memchr::{memchr, memchr2};

use super::Quoting;

/// One field of a line as AWS wrote it: without the quotes around it, its escapes not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The bytes between the quotes, or between the spaces.
    pub raw: &'a [u8],
    /// Whether quotes stood around it.
    pub quoted: bool,
    /// The byte of the line at which the field begins, its quote included.
    pub at: usize,
}

impl Token<'_> {
    /// Whether the field says that there is nothing: `-`, `"-"` or an empty quoted string.
    pub fn is_absent(&self) -> bool {
        matches!(self.raw, b"" | b"-" | b"\"-\"" | b"\"\"")
    }
}

/// The byte of a quote that never closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnclosedQuote {
    pub at: usize,
}

/// Walks along a line, a field at a time.
pub(super) struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
    quoting: Quoting,
}

impl<'a> Cursor<'a> {
    pub fn new(line: &'a [u8], quoting: Quoting) -> Self {
        Cursor { line, at: 0, quoting }
    }

    /// The next field, or none at the end of the line. One or more spaces separate fields.
    pub fn next_token(&mut self) -> Result<Option<Token<'a>>, UnclosedQuote> {
        while self.line.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        match self.line.get(self.at) {
            None => Ok(None),
            Some(b'"') if self.quoting != Quoting::None => self.quoted().map(Some),
            Some(_) => Ok(Some(self.bare())),
        }
    }

    fn bare(&mut self) -> Token<'a> {
        let (line, at) = (self.line, self.at);
        self.at += memchr(b' ', &line[at..]).unwrap_or(line.len() - at);
        Token { raw: &line[at..self.at], quoted: false, at }
    }

    /// A quote inside a field is either escaped by a backslash, or not followed by what follows a closing quote.
    fn quoted(&mut self) -> Result<Token<'a>, UnclosedQuote> {
        let (line, opening) = (self.line, self.at);
        let mut at = opening + 1;
        while let Some(found) = memchr2(b'"', b'\\', &line[at..]) {
            at += found;
            if line[at] == b'\\' {
                at += if matches!(line.get(at + 1), Some(b'"' | b'\\')) { 2 } else { 1 };
            } else if self.closes(line.get(at + 1)) {
                self.at = at + 1;
                return Ok(Token { raw: &line[opening + 1..at], quoted: true, at: opening });
            } else {
                at += 1;
            }
        }
        Err(UnclosedQuote { at: opening })
    }

    fn closes(&self, following: Option<&u8>) -> bool {
        match following {
            None | Some(b' ') => true,
            Some(byte) => self.quoting == Quoting::SpacedOrDigit && byte.is_ascii_digit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, quoting: Quoting, expected: &[&str]) {
        let mut cursor = Cursor::new(line.as_bytes(), quoting);
        let mut found = Vec::new();
        loop {
            match cursor.next_token() {
                Ok(Some(token)) => found.push(String::from_utf8_lossy(token.raw).into_owned()),
                Ok(None) => break,
                Err(UnclosedQuote { at }) => {
                    found.push(format!("unclosed at {at}"));
                    break;
                }
            }
        }
        assert_eq!(found, expected, "fields of {line:?}");
    }

    macro_rules! splits {
        ($($name:ident: $line:literal => [$($field:literal),*],)*) => {
            $(#[test] fn $name() { check($line, Quoting::SpacedOrDigit, &[$($field),*]); })*
        };
    }

    splits! {
        spaces_between_and_around: "  a   b " => ["a", "b"],
        nothing: "" => [],
        only_spaces: "   " => [],
        quoted_with_spaces: r#"a "b c" d"# => ["a", "b c", "d"],
        empty_quoted: r#""" a"# => ["", "a"],
        escaped_quote_does_not_end: r#""b \" c" d"# => [r#"b \" c"#, "d"],
        escaped_backslash_before_the_closing_quote: r#""b\\" d"# => [r"b\\", "d"],
        other_backslash_is_text: r#""b\x22" d"# => [r"b\x22", "d"],
        bare_quote_inside: r#""b"c" d"# => [r#"b"c"#, "d"],
        quote_inside_a_bare_field: r#"b"c d"# => [r#"b"c"#, "d"],
        digit_after_the_closing_quote: r#""-"1 2018"# => ["-", "1", "2018"],
        quote_at_the_end: r#"a "b""# => ["a", "b"],
        unclosed: r#"a "b c"# => ["a", "unclosed at 2"],
        unclosed_after_an_escaped_quote: r#"a "b\""# => ["a", "unclosed at 2"],
        backslash_at_the_end: r#"a "b\"# => ["a", "unclosed at 2"],
    }

    #[test]
    fn quotes_mean_nothing_in_nlb_lines() {
        check(r#"a "h2","http/1.1" "b"#, Quoting::None, &["a", r#""h2","http/1.1""#, "\"b"]);
    }

    #[test]
    fn a_digit_closes_a_quote_in_alb_lines_only() {
        check(r#""-"1 2" x"#, Quoting::Spaced, &[r#"-"1 2"#, "x"]);
    }
}
