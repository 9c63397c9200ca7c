//! The lines of dead letters: events that the receiver rejected, with the reasons, from which the events can be sent again.
//!
//! ```text
//! {"elbship":"dead-letter/1","id":…,"reason":…,"status":…,"answer":…,"endpoint":…,"bucket":…,"key":…,"event":{…}}
//! ```

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The first bytes of every line of a dead letter.
pub const DEAD_LETTER_START: &[u8] = br#"{"elbship":"dead-letter/1","#;

/// The version of the format, which is the value of the first member.
const VERSION: &str = "dead-letter/1";

/// Why an event was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// `refused`, `too_large` or `failing`.
    pub reason: &'static str,
    /// The status code of the response, if there was a response.
    pub status: Option<u16>,
    /// The beginning of the response.
    pub response: String,
    /// The endpoint that rejected the event, without secrets.
    pub endpoint: &'a str,
}

/// One line of a dead letter.
#[derive(Debug, Serialize)]
pub struct DeadLetterLine<'a> {
    elbship: &'static str,
    id: Cow<'a, str>,
    reason: &'static str,
    status: Option<u16>,
    answer: String,
    endpoint: &'a str,
    bucket: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    event: &'a RawValue,
}

impl<'a> DeadLetterLine<'a> {
    /// Creates the line of a rejected event. The event itself says its ID, and the bucket and key of its log object.
    ///
    /// # Errors
    /// The event is not JSON or has no ID.
    pub fn new(event: &'a [u8], rejection: Rejection<'a>) -> Result<Self, serde_json::Error> {
        let Rejection { reason, status, response, endpoint } = rejection;
        let Event { metadata, aws, log } = serde_json::from_slice(event)?;
        let (bucket, key) = match aws.s3 {
            Some(s3) => (Some(s3.bucket.name), Some(s3.object.key)),
            None => (None, log.file.map(|file| file.path)),
        };
        let event = serde_json::from_slice(event)?;
        Ok(DeadLetterLine { elbship: VERSION, id: metadata.id, reason, status, answer: response, endpoint, bucket, key, event })
    }

    /// Returns the ID of the event.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes the line and a line feed.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write_to(&self, mut out: impl io::Write) -> io::Result<()> {
        serde_json::to_writer(&mut out, self)?;
        out.write_all(b"\n")
    }
}

/// Returns the event in a line of a dead letter, unchanged, or none if the line is damaged.
pub fn event_of(line: &[u8]) -> Option<&RawValue> {
    let line: EventInLine<'_> = serde_json::from_slice(line).ok()?;
    line.event.get().starts_with('{').then_some(line.event)
}

#[derive(Deserialize)]
struct EventInLine<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
}

/// The members of an event that say where it is from, in both schemas.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "@metadata")]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    aws: Aws<'a>,
    #[serde(borrow, default)]
    log: Log<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, rename = "_id")]
    id: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Aws<'a> {
    #[serde(borrow)]
    s3: Option<S3<'a>>,
}

#[derive(Deserialize)]
struct S3<'a> {
    #[serde(borrow)]
    bucket: Bucket<'a>,
    #[serde(borrow)]
    object: Object<'a>,
}

#[derive(Deserialize)]
struct Bucket<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Log<'a> {
    #[serde(borrow)]
    file: Option<LogFile<'a>>,
}

#[derive(Deserialize)]
struct LogFile<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(event: &str) -> String {
        let rejection = Rejection {
            reason: "too_large",
            status: Some(413),
            response: "HTTP 413, \"no \\u{7f}\"".to_owned(),
            endpoint: "http://127.0.0.1:1/",
        };
        let mut out = Vec::new();
        DeadLetterLine::new(event.as_bytes(), rejection).unwrap().write_to(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_contains_the_unchanged_event_and_its_facts() {
        let event =
            r#"{"@metadata":{"_id":"aa-07"},"aws":{"s3":{"bucket":{"name":"logs"},"object":{"key":"a\"b.log"}}},"n":1.10}"#;
        let line = line_of(event);
        assert_eq!(
            line,
            format!(
                "{}{}{event}}}\n",
                r#"{"elbship":"dead-letter/1","id":"aa-07","reason":"too_large","status":413,"answer":"HTTP 413, \"no \\u{7f}\"","#,
                r#""endpoint":"http://127.0.0.1:1/","bucket":"logs","key":"a\"b.log","event":"#
            )
        );
        assert!(line.as_bytes().starts_with(DEAD_LETTER_START), "{line}");
        assert_eq!(event_of(line.as_bytes()).map(RawValue::get), Some(event));
    }

    #[test]
    fn the_path_of_a_local_file_is_the_key() {
        let line = line_of(r#"{"@metadata":{"_id":"aa-07"},"log":{"file":{"path":"x.log"}}}"#);
        assert!(line.contains(r#""bucket":null,"key":"x.log""#), "{line}");
    }

    #[test]
    fn a_damaged_line_has_no_event() {
        let event = |line: &str| event_of(line.as_bytes()).map(|event| event.get().to_owned());
        assert_eq!(event(r#"{"elbship":"dead-letter/1","event":{"n":1.10}}"#), Some(r#"{"n":1.10}"#.to_owned()));
        for damaged in ["", r#"{"elbship":"dead-letter/1","#, r#"{"elbship":"dead-letter/1","event":7}"#] {
            assert_eq!(event(damaged), None, "{damaged}");
        }
    }
}
