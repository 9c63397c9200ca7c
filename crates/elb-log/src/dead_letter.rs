//! Events that were made before: those in the lines of a dead letter.

use serde::Deserialize;
use serde_json::value::RawValue;

/// How every line of a dead letter begins.
pub const DEAD_LETTER_START: &[u8] = br#"{"elbship":"dead-letter/1","#;

#[derive(Deserialize)]
struct Letter<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
}

/// The event in a line of a dead letter, as it was made; none if the line is damaged.
pub fn event_of(line: &[u8]) -> Option<&RawValue> {
    let letter: Letter<'_> = serde_json::from_slice(line).ok()?;
    letter.event.get().starts_with('{').then_some(letter.event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_line_holds_no_event() {
        let event = |line: &str| event_of(line.as_bytes()).map(|event| event.get().to_owned());
        assert_eq!(event(r#"{"elbship":"dead-letter/1","event":{"n":1.10}}"#), Some(r#"{"n":1.10}"#.to_owned()));
        for damaged in ["", r#"{"elbship":"dead-letter/1","#, r#"{"elbship":"dead-letter/1","event":7}"#] {
            assert_eq!(event(damaged), None, "{damaged}");
        }
    }
}
