//! Splits a line into its fields.

use super::Quoting;
use super::scan::Scan;

/// One field of a line as AWS wrote it: without the quotes around it, its escapes not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The bytes between the quotes, or between the spaces.
    pub raw: &'a [u8],
    /// Whether it was in quotes.
    pub quoted: bool,
    /// The byte of the line at which the field begins, its quote included.
    pub at: usize,
}

impl Token<'_> {
    /// Returns whether the field says that there is no value: `-`, `"-"` or an empty quoted string.
    pub fn is_absent(&self) -> bool {
        matches!(self.raw, b"" | b"-" | b"\"-\"" | b"\"\"")
    }
}

/// A quote that opens a field and never closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnclosedQuote {
    pub at: usize,
}

/// Splits a line and appends its fields to `tokens`, which are empty. `scan` is the scan of the line. One or more spaces separate
/// fields.
///
/// Returns whether the line is plain: each field can be copied as it is, because the line has only ASCII characters, no control
/// character except DEL, no backslash, and no quotes except those around fields.
pub(super) fn split<'a>(
    line: &'a [u8],
    scan: &Scan,
    quoting: Quoting,
    tokens: &mut Vec<Token<'a>>,
) -> Result<bool, UnclosedQuote> {
    let plain = split_plain(line, scan, tokens) && (quoting != Quoting::None || tokens.iter().all(|token| !token.quoted));
    if !plain {
        tokens.clear();
        split_any(line, scan, quoting, tokens)?;
    }
    Ok(plain)
}

/// Splits a plain line, which nearly every line is. Returns false for any other line; `tokens` are then meaningless.
fn split_plain<'a>(line: &'a [u8], scan: &Scan, tokens: &mut Vec<Token<'a>>) -> bool {
    scan.split_plain(|start, end| match line.get(start..end) {
        Some([b'"', raw @ .., b'"']) => tokens.push(Token { raw, at: start, quoted: true }),
        Some(raw @ [_, ..]) => tokens.push(Token { raw, at: start, quoted: false }),
        // Nothing is between two spaces next to each other, or after the end of the line.
        Some([]) | None => {}
    })
}

/// Splits any line, from quote to quote.
fn split_any<'a>(line: &'a [u8], scan: &Scan, quoting: Quoting, tokens: &mut Vec<Token<'a>>) -> Result<(), UnclosedQuote> {
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

/// Finds the quote that closes a field. A quote inside a field is either escaped by a backslash, or not followed by what follows
/// a closing quote.
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
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(line: &str, quoting: Quoting, expected: &[&str]) {
        let (mut scan, mut tokens) = (Scan::default(), Vec::new());
        scan.read(line.as_bytes());
        let end = split(line.as_bytes(), &scan, quoting, &mut tokens);
        assert!(end != Ok(true) || is_plain(line.as_bytes(), &tokens), "{line:?} is not plain");
        let mut found: Vec<String> = tokens.iter().map(|token| String::from_utf8_lossy(token.raw).into_owned()).collect();
        found.extend(end.err().map(|UnclosedQuote { at }| format!("unclosed at {at}")));
        assert_eq!(found, expected, "fields of {line:?}");
    }

    fn is_plain(line: &[u8], tokens: &[Token<'_>]) -> bool {
        let quotes = line.iter().filter(|&&byte| byte == b'"').count();
        line.iter().all(|&byte| matches!(byte, 0x20..0x80) && byte != b'\\')
            && quotes == 2 * tokens.iter().filter(|token| token.quoted).count()
    }

    proptest! {
        #[test]
        fn splits_plain_lines_like_any_line(
            line in prop::collection::vec(prop_oneof![
                6 => "[ -~]{0,3}",
                4 => r#" ?"[a-z ]{0,70}"[ 1]?"#,
                1 => "[a-z ]{0,70}",
                1 => r"\\PC|\\\\",
            ], 0..30).prop_map(|parts| parts.concat()),
            quoting in prop::sample::select(&[Quoting::None, Quoting::Spaced, Quoting::SpacedOrDigit]),
        ) {
            let (mut scan, mut tokens, mut others) = (Scan::default(), Vec::new(), Vec::new());
            scan.read(line.as_bytes());
            let end = split(line.as_bytes(), &scan, quoting, &mut tokens);
            let other_end = split_any(line.as_bytes(), &scan, quoting, &mut others);
            prop_assert_eq!(end.map(|_| ()), other_end);
            prop_assert_eq!(&tokens, &others);
            prop_assert!(end != Ok(true) || is_plain(line.as_bytes(), &tokens));
        }
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
    fn recognises_plain_lines() {
        for (line, quoting, plain) in [
            (
                r#"h2 1.2.3.4:80 "GET / HTTP/1.1" "an agent (of 65 bytes, more than are looked at at once)" - """#,
                Quoting::SpacedOrDigit,
                true,
            ),
            ("tls 2.0 -", Quoting::None, true),
            (r#"tls "h2" -"#, Quoting::None, false),
            (r#"a "b\x22" c"#, Quoting::Spaced, false),
            ("a \u{e4} b", Quoting::Spaced, false),
            ("a \t b", Quoting::Spaced, false),
            (r#"a b"c d"#, Quoting::Spaced, false),
        ] {
            let mut scan = Scan::default();
            scan.read(line.as_bytes());
            assert_eq!(split(line.as_bytes(), &scan, quoting, &mut Vec::new()), Ok(plain), "whether {line:?} is plain");
        }
    }

    #[test]
    fn ignores_quotes_in_nlb_lines() {
        check(r#"a "h2","http/1.1" "b"#, Quoting::None, &["a", r#""h2","http/1.1""#, "\"b"]);
    }

    #[test]
    fn a_digit_closes_a_quote_only_in_alb_lines() {
        check(r#""-"1 2" x"#, Quoting::Spaced, &[r#"-"1 2"#, "x"]);
    }
}
