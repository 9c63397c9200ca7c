//! Writes JSON straight into a buffer.

use crate::buffer::Buffer;
use crate::format::{decode, is_zoned};

/// Appends `text` as a JSON string.
pub(super) fn string(out: &mut Buffer, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Appends a log line's text as a JSON string, AWS's escapes decoded. `clean` says that no byte of it needs care: no escape,
/// no quote, no control character, all ASCII.
pub(super) fn text(out: &mut Buffer, raw: &[u8], clean: bool) {
    out.push(b'"');
    if clean || is_ordinary(raw) {
        out.put(raw);
    } else {
        escaped(out, &decode(raw));
    }
    out.push(b'"');
}

/// Whether text can be written as it is. In a line that cannot be, most fields can.
fn is_ordinary(raw: &[u8]) -> bool {
    // Without an end in the middle, so that many bytes are looked at in one step.
    !raw.iter().fold(false, |odd, &byte| odd | !matches!(byte, 0x20..0x80) | (byte == b'"') | (byte == b'\\'))
}

/// Whether such a number (see [`number`]) is one in JSON as it is. This is quick rather than complete: it may say no.
#[inline(always)]
pub(super) fn is_number(logged: &[u8]) -> bool {
    matches!(logged, [b'1'..=b'9', ..] | [b'0'] | [b'0', b'.', ..])
}

/// Appends a number that is logged as an optional `-`, digits and an optional fraction. JSON knows no leading zeros.
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

/// Appends a logged time, in UTC whether it says so or not.
pub(super) fn time(out: &mut Buffer, logged: &[u8]) {
    out.push(b'"');
    out.put(logged);
    out.put(if is_zoned(logged) { b"\"" } else { b"Z\"" });
}

/// Appends `number` in decimal.
pub(super) fn integer(out: &mut Buffer, number: u64) {
    out.put(itoa::Buffer::new().format(number).as_bytes());
}

/// Digits without the zeros before the last one of the whole part.
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
        as_logged: "0.000" => "0.000",
        zero: "0" => "0",
        zeros: "000" => "0",
        leading_zero: "0200" => "200",
        leading_zeros_of_a_decimal: "00.50" => "0.50",
        negative: "-1" => "-1",
        negative_with_leading_zeros: "-007" => "-7",
        negative_zero: "-0" => "-0",
        usual: "15342" => "15342",
    }

    #[test]
    fn every_control_character_is_escaped_as_serde_json_reads_it() {
        let text: String = (0_u8..0x80).map(char::from).collect();
        let mut out = Buffer::default();
        string(&mut out, &text);
        assert_eq!(serde_json::from_slice::<String>(&out).expect("valid JSON"), text);
    }
}
