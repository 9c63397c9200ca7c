//! Writes JSON values directly into a buffer.

use crate::buffer::Buffer;
use crate::format::{decode, without_zone};

/// Appends `text` as a JSON string.
pub(super) fn string(out: &mut Buffer, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Appends the text of a log line as a JSON string, with AWS's escapes decoded.
///
/// `clean` skips the check whether the text can be copied. It requires ASCII text without escapes, quotes and control characters.
pub(super) fn text(out: &mut Buffer, raw: &[u8], clean: bool) {
    out.push(b'"');
    if clean || can_be_copied(raw) {
        out.put(raw);
    } else {
        escaped(out, &decode(raw));
    }
    out.push(b'"');
}

/// Returns whether text can be copied unchanged. Most fields can, even in a line that as a whole cannot.
fn can_be_copied(raw: &[u8]) -> bool {
    // The fold does not stop early, so that the compiler checks many bytes per step.
    !raw.iter().fold(false, |special, &byte| special | !matches!(byte, 0x20..0x80) | (byte == b'"') | (byte == b'\\'))
}

/// Returns whether a logged number (see [`number`]) is surely also a valid JSON number. The check is fast and incomplete.
#[inline(always)]
pub(super) fn is_number(logged: &[u8]) -> bool {
    matches!(logged, [b'1'..=b'9', ..] | [b'0'] | [b'0', b'.', ..])
}

/// Appends a number that is logged as an optional `-`, digits and an optional fraction. JSON does not allow leading zeros.
pub(super) fn number(out: &mut Buffer, logged: &[u8]) {
    match logged {
        _ if is_number(logged) => out.put(logged),
        [b'-', rest @ ..] => {
            out.push(b'-');
            out.put(without_zeros(rest));
        }
        _ => out.put(without_zeros(logged)),
    }
}

/// Appends a logged time, cut to nanoseconds. Times without a zone are in UTC and get a `Z`.
pub(super) fn time(out: &mut Buffer, logged: &[u8]) {
    out.push(b'"');
    out.put(without_zone(logged));
    out.put(b"Z\"");
}

/// Appends `number` in decimal.
pub(super) fn integer(out: &mut Buffer, number: u64) {
    out.put(itoa::Buffer::new().format(number).as_bytes());
}

/// Removes leading zeros, but keeps one digit before a fraction or the end.
fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let starts_with_digit = digits.get(zeros).is_some_and(u8::is_ascii_digit);
    &digits[if starts_with_digit { zeros } else { zeros.saturating_sub(1) }..]
}

fn escaped(out: &mut Buffer, text: &str) {
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.put(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.put(br#"\""#),
            b'\\' => out.put(br"\\"),
            b'\n' => out.put(br"\n"),
            b'\r' => out.put(br"\r"),
            b'\t' => out.put(br"\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]);
                out.put(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.put(&bytes[written..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! numbers {
        ($($name:ident: $logged:literal => $json:literal,)*) => {
            $(#[test] fn $name() {
                let mut out = Buffer::default();
                number(&mut out, $logged.as_bytes());
                assert_eq!(String::from_utf8_lossy(&out), $json);
            })*
        };
    }

    numbers! {
        decimal_zero: "0.000" => "0.000",
        zero: "0" => "0",
        several_zeros: "000" => "0",
        leading_zero_of_an_integer: "0200" => "200",
        leading_zeros_of_a_decimal: "00.50" => "0.50",
        negative: "-1" => "-1",
        negative_with_leading_zeros: "-007" => "-7",
        negative_zero: "-0" => "-0",
        integer: "15342" => "15342",
    }

    #[test]
    fn serde_json_reads_every_escaped_control_character() {
        let text: String = (0_u8..0x80).map(char::from).collect();
        let mut out = Buffer::default();
        string(&mut out, &text);
        assert_eq!(serde_json::from_slice::<String>(&out).expect("valid JSON"), text);
    }
}
