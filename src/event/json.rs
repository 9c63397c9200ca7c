//! Writes JSON straight into a buffer.

use crate::format::{decode, is_zoned};

/// Appends `text` as a JSON string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Appends a log line's text as a JSON string, AWS's escapes decoded. `clean` says that no byte of it needs care: no escape,
/// no quote, no control character, all ASCII.
pub fn text(out: &mut Vec<u8>, raw: &[u8], clean: bool) {
    out.push(b'"');
    if clean {
        out.extend_from_slice(raw);
    } else {
        escaped(out, &decode(raw));
    }
    out.push(b'"');
}

/// Appends a number that is logged as an optional `-`, digits and an optional fraction. JSON knows no leading zeros.
pub fn number(out: &mut Vec<u8>, logged: &[u8]) {
    let digits = logged.strip_prefix(b"-").unwrap_or(logged);
    if digits.len() != logged.len() {
        out.push(b'-');
    }
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let starts_with_digit = digits.get(zeros).is_some_and(u8::is_ascii_digit);
    out.extend_from_slice(&digits[if starts_with_digit { zeros } else { zeros - 1 }..]);
}

/// Appends a logged time, in UTC whether it says so or not.
pub fn time(out: &mut Vec<u8>, logged: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(logged);
    out.extend_from_slice(if is_zoned(logged) { b"\"" } else { b"Z\"" });
}

/// Appends `number` in decimal.
pub fn integer(out: &mut Vec<u8>, number: u64) {
    use std::io::Write as _;
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}");
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(br#"\""#),
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! numbers {
        ($($name:ident: $logged:literal => $json:literal,)*) => {
            $(#[test] fn $name() {
                let mut out = Vec::new();
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
        let mut out = Vec::new();
        string(&mut out, &text);
        assert_eq!(serde_json::from_slice::<String>(&out).expect("valid JSON"), text);
    }
}
