//! Escapes text for terminals: names and responses come from others, and a control character in them could move the cursor, hide
//! text, change the title, or reverse the order of what is shown.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

/// Returns a text in one line: control characters and characters that change the direction of text become `\\u{1b}` and so on.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_as(text, is_unsafe, |out, letter| write!(out, "\\u{{{:x}}}", u32::from(letter)))
}

/// Does the same as [`escape`], but keeps line feeds: for a text whose lines are the program's own.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    let is_unsafe_in_line = |letter| letter != '\n' && is_unsafe(letter);
    escape_as(text, is_unsafe_in_line, |out, letter| write!(out, "\\u{{{:x}}}", u32::from(letter)))
}

/// Returns a JSON text with the same meaning that is safe to show: JSON itself escapes only the control characters below space.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // Outside of strings, the only control characters of JSON are white space.
    let is_unsafe_in_string = |letter| letter >= ' ' && is_unsafe(letter);
    escape_as(json, is_unsafe_in_string, |out, letter| write!(out, "\\u{:04x}", u32::from(letter)))
}

/// Returns whether a character can change how a terminal shows other text: the control characters (C0, DEL, C1), and the marks,
/// embeddings, overrides and isolates of bidirectional text.
///
/// <https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters>
pub fn is_unsafe(letter: char) -> bool {
    let changes_direction =
        matches!(letter, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || changes_direction
}

fn escape_as(
    text: &str,
    is_unsafe: impl Fn(char) -> bool,
    write_escape: impl Fn(&mut String, char) -> std::fmt::Result,
) -> Cow<'_, str> {
    if !text.contains(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_unsafe(letter) {
            // Writing to a text cannot fail.
            let _ = write_escape(&mut escaped, letter);
        } else {
            escaped.push(letter);
        }
    }
    Cow::Owned(escaped)
}

/// Escapes lines on their way to a terminal. Each call of `write` gets one complete line, as the log writes it.
#[derive(Debug)]
pub struct EscapingWriter<W>(pub W);

impl<W: io::Write> io::Write for EscapingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (content, end) = text.strip_suffix('\n').map_or((&*text, ""), |content| (content, "\n"));
        self.0.write_all(format!("{}{end}", escape(content)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn escapes_control_characters_and_directions() {
        for (text, shown) in [
            ("", ""),
            ("AWSLogs/ä 日本.log.gz", "AWSLogs/ä 日本.log.gz"),
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("a\r\n\tb\0", "a\\u{d}\\u{a}\\u{9}b\\u{0}"),
            ("\u{7f}\u{80}\u{9b}31m\u{9f}", "\\u{7f}\\u{80}\\u{9b}31m\\u{9f}"),
            ("\u{202a}\u{202e}gz.\u{2066}x\u{2069}", "\\u{202a}\\u{202e}gz.\\u{2066}x\\u{2069}"),
        ] {
            assert_eq!(escape(text), shown);
        }
        assert_eq!(escape_lines("a\n\u{1b}b\r\n"), "a\n\\u{1b}b\\u{d}\n");
    }

    #[test]
    fn escaped_json_has_the_same_meaning() {
        let text = "{\n  \"key\": \"a\\u001b\u{9b}\u{7f}\u{202e}b\"\n}";
        let escaped = escape_json(text);
        assert_eq!(escaped, "{\n  \"key\": \"a\\u001b\\u009b\\u007f\\u202eb\"\n}");
        assert!(!escaped.contains(|letter| letter != '\n' && is_unsafe(letter)));
    }

    #[test]
    fn a_log_line_stays_one_line() {
        let mut written = Vec::new();
        EscapingWriter(&mut written).write_all("INFO key=a\n\u{9b}b\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "INFO key=a\\u{a}\\u{9b}b\n");
    }
}
