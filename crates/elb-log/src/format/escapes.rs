//! Decodes AWS's escapes in text fields, and shows bytes that are not UTF-8.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Decodes the escapes of a text field, and writes each byte that is not UTF-8 as `\xHH`.
pub fn decode(raw: &[u8]) -> Cow<'_, str> {
    match decode_escapes(raw) {
        Cow::Borrowed(bytes) => show_invalid(bytes),
        Cow::Owned(bytes) => Cow::Owned(show_invalid(&bytes).into_owned()),
    }
}

/// Decodes `\"`, `\\`, `\xHH` and `\x000000HH` in one pass from left to right. Any other backslash stays.
///
/// Classic load balancers write the eight-digit form. It is read only where its first six digits are zeros, because `\x22` may
/// be followed by text that looks like digits.
pub fn decode_escapes(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else { return Cow::Borrowed(raw) };
    let mut bytes = raw[..first].to_vec();
    let mut rest = &raw[first..];
    while !rest.is_empty() {
        let (byte, length) = escape(rest).unwrap_or((rest[0], 1));
        bytes.push(byte);
        rest = &rest[length..];
    }
    Cow::Owned(bytes)
}

/// Returns the text as UTF-8, with each byte that is not part of a character written as `\xHH`.
pub(crate) fn show_invalid(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    Cow::Owned(text)
}

/// Returns the byte that an escape at the start of `text` stands for, and the escape's length.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'\\', quoted @ (b'"' | b'\\'), ..] => Some((*quoted, 2)),
        [b'\\', b'x', b'0', b'0', b'0', b'0', b'0', b'0', high, low, ..] if hex(*high).is_some() && hex(*low).is_some() => {
            Some((hex(*high)? << 4 | hex(*low)?, 10))
        }
        [b'\\', b'x', high, low, ..] => Some((hex(*high)? << 4 | hex(*low)?, 4)),
        _ => None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::decode;

    macro_rules! texts {
        ($($name:ident: $raw:expr => $expected:literal,)*) => {
            $(#[test] fn $name() { assert_eq!(decode($raw), $expected); })*
        };
    }

    texts! {
        plain: b"Mozilla/5.0" => "Mozilla/5.0",
        quote: br#"a\"b"# => "a\"b",
        backslash: br"a\\b" => r"a\b",
        hex_quote: br"\x22a\x22" => "\"a\"",
        hex_in_either_case: br"\x5c\x5C" => r"\\",
        eight_digits: br"\x00000022" => "\"",
        eight_digits_only_after_zeros: br"\x22deadbeef" => "\"deadbeef",
        seven_digits_are_two: br"\x0000002" => "\u{0}00002",
        one_pass: br"\\x22" => r"\x22",
        unknown_escape_stays: br"\n\q" => r"\n\q",
        cut_off_escape_stays: br"ab\x2" => r"ab\x2",
        backslash_at_the_end_stays: br"ab\" => r"ab\",
        percent_encoding_stays: b"%22%5C" => "%22%5C",
        escaped_utf8_is_a_character: br"\xC3\xA9" => "é",
        escaped_bytes_that_are_not_utf8: br"a\xffb" => r"a\xFFb",
        raw_bytes_that_are_not_utf8: b"a\xC3(" => r"a\xC3(",
    }
}
