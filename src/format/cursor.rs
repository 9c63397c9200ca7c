//! Splits a line into its fields.

use super::Quoting;
use super::scan::Scan;

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

/// Splits a line, of which `scan` is the scan, and appends its fields to `tokens`. One or more spaces separate fields.
pub(super) fn split<'a>(line: &'a [u8], scan: &Scan, quoting: Quoting, tokens: &mut Vec<Token<'a>>) -> Result<(), UnclosedQuote> {
    let mut at = 0;
    while let Some(&first) = line.get(at) {
        if first == b' ' {
            at += 1;
        } else if first == b'"' && quoting != Quoting::None {
            let closing = closing_quote(line, scan, quoting, at)?;
            tokens.push(Token { raw: &line[at + 1..closing], at, quoted: true });
            at = closing + 1;
        } else {
            let end = scan.next_space(at).unwrap_or(line.len());
            tokens.push(Token { raw: &line[at..end], at, quoted: false });
            at = end;
        }
    }
    Ok(())
}

/// A quote inside a field is either escaped by a backslash, or not followed by what follows a closing quote.
#[inline]
fn closing_quote(line: &[u8], scan: &Scan, quoting: Quoting, opening: usize) -> Result<usize, UnclosedQuote> {
    let mut at = opening + 1;
    while let Some(found) = scan.next_quote(at) {
        let following = line.get(found + 1);
        if line[found] == b'\\' {
            at = found + if matches!(following, Some(b'"' | b'\\')) { 2 } else { 1 };
        } else if closes(quoting, following) {
            return Ok(found);
        } else {
            at = found + 1;
        }
    }
    Err(UnclosedQuote { at: opening })
}

#[inline]
fn closes(quoting: Quoting, following: Option<&u8>) -> bool {
    match following {
        None | Some(b' ') => true,
        Some(byte) => quoting == Quoting::SpacedOrDigit && byte.is_ascii_digit(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, quoting: Quoting, expected: &[&str]) {
        let (mut scan, mut tokens) = (Scan::default(), Vec::new());
        scan.read(line.as_bytes());
        let end = split(line.as_bytes(), &scan, quoting, &mut tokens);
        let mut found: Vec<String> = tokens.iter().map(|token| String::from_utf8_lossy(token.raw).into_owned()).collect();
        found.extend(end.err().map(|UnclosedQuote { at }| format!("unclosed at {at}")));
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
