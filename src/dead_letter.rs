//! Dead letters: the events of a batch that the receiver rejects come in, and objects of gzipped lines are written from which the
//! events can be sent again.
//!
//! [`elb_log::dead_letter`] defines the lines.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use elb_log::dead_letter::{DeadLetterLine, Rejection};
use elb_log::origin::ObjectName;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::atomic_file::write_atomically;
use crate::object::S3Store;
use crate::sink::{RejectedEvent, Verdict};

/// Maximum length of an event ID in bytes. Two of them must fit into a file name of 255 bytes. An ID of the shipper has at most 53.
const MAX_ID_BYTES: usize = 100;

/// Number of bytes of an event that an error shows.
const SHOWN_EVENT_BYTES: usize = 100;

/// Where dead letters are written; `DEAD_LETTER_URL`.
#[derive(Debug)]
pub enum DeadLetterDestination {
    /// Below a prefix in a bucket.
    S3 {
        /// The store.
        store: S3Store,
        /// The bucket.
        bucket: String,
        /// The prefix, without a slash at its end.
        prefix: String,
    },
    /// In a directory.
    Dir(PathBuf),
}

impl DeadLetterDestination {
    /// Writes the rejected events of one batch, each of them that can be written. Writing the same events again replaces the same
    /// objects. All objects together get `limit`.
    pub(crate) async fn write(&self, rejected: &[RejectedEvent], limit: Duration) -> WrittenDeadLetters {
        let deadline = Instant::now() + limit;
        let Prepared { objects, errors } = prepare(rejected);
        let mut result = WrittenDeadLetters { events: 0, errors };
        for object in objects {
            let (url, events) = (self.url_of(&object.name), object.events);
            match timeout_at(deadline, self.put(object)).await.unwrap_or_else(|_| Err("no time is left".to_owned())) {
                Ok(()) => result.events += events,
                Err(error) => result.errors.push(format!("cannot write the dead letter {url}: {error}")),
            }
        }
        result
    }

    /// Returns whether an object is a dead letter. `path` is the path of its file, if the store is a directory.
    pub(crate) fn contains(&self, object: &ObjectName, path: Option<PathBuf>) -> bool {
        match (self, path) {
            (DeadLetterDestination::S3 { bucket, prefix, .. }, None) => {
                object.bucket == *bucket && object.key.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
            (DeadLetterDestination::Dir(directory), Some(path)) => real_path(&path).starts_with(real_path(directory)),
            _ => false,
        }
    }

    async fn put(&self, object: DeadLetterObject) -> Result<(), String> {
        match self {
            DeadLetterDestination::S3 { store, bucket, prefix } => {
                let key = format!("{prefix}/{}", object.name);
                store.put(bucket, &key, ByteStream::from(object.body)).await
            }
            DeadLetterDestination::Dir(directory) => {
                let path = directory.join(&object.name);
                let written = tokio::task::spawn_blocking(move || write_atomically(&path, &object.body)).await;
                written.map_err(io::Error::other).flatten().map_err(|error| error.to_string())
            }
        }
    }

    /// Returns the URL or path of a dead letter.
    fn url_of(&self, name: &str) -> String {
        match self {
            DeadLetterDestination::S3 { bucket, prefix, .. } => format!("s3://{bucket}/{prefix}/{name}"),
            DeadLetterDestination::Dir(directory) => directory.join(name).display().to_string(),
        }
    }
}

/// What became of the rejected events of one batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrittenDeadLetters {
    /// Number of events that are in dead letters.
    pub(crate) events: usize,
    /// Why the other events are not, one error for each object or event that could not be written.
    errors: Vec<String>,
}

impl WrittenDeadLetters {
    /// Returns why some events are not in dead letters, as a text for the object's report, or none if all of them are.
    pub(crate) fn error(&self) -> Option<String> {
        let first = self.errors.first()?;
        Some(match self.errors.len() - 1 {
            0 => first.clone(),
            others => format!("{first} (further errors: {others})"),
        })
    }
}

/// The rejected events of one batch and one log object.
#[derive(Debug, PartialEq, Eq)]
struct DeadLetterObject {
    /// The object's name below the destination's prefix.
    name: String,
    /// Gzipped lines.
    body: Vec<u8>,
    /// Number of lines.
    events: usize,
}

/// The dead letters of one batch.
#[derive(Debug, Default, PartialEq, Eq)]
struct Prepared {
    objects: Vec<DeadLetterObject>,
    /// Why an event is in none of them.
    errors: Vec<String>,
}

/// Returns one object for the events of each log object: a batch that is sent again from dead letters can contain events of
/// several log objects.
fn prepare(rejected: &[RejectedEvent]) -> Prepared {
    let mut prepared = Prepared::default();
    let mut lines = Vec::with_capacity(rejected.len());
    for event in rejected {
        match line_of(event) {
            Ok(line) => lines.push(line),
            Err(error) => prepared.errors.push(error),
        }
    }
    for lines in lines.chunk_by(|one, next| id_prefix(one) == id_prefix(next)) {
        match dead_letter_object(lines) {
            Ok(object) => prepared.objects.push(object),
            Err(error) => prepared.errors.push(error.to_string()),
        }
    }
    prepared
}

/// Returns the line of an event. An event has no valid ID only if somebody has changed it in the dead letter that it comes from.
fn line_of(rejected: &RejectedEvent) -> Result<DeadLetterLine<'_>, String> {
    let RejectedEvent { event, endpoint, outcome } = rejected;
    let reason = match outcome.verdict() {
        Verdict::TooLarge => "too_large",
        Verdict::Failing => "failing",
        _ => "refused",
    };
    let rejection = Rejection { reason, status: outcome.status(), response: outcome.to_string(), endpoint };
    let problem = match DeadLetterLine::new(event, rejection) {
        Ok(line) if is_valid_id(line.id()) => return Ok(line),
        Ok(line) => format!("{:?} is not a valid event ID", start_of(line.id(), MAX_ID_BYTES)),
        Err(error) => format!("cannot read its event ID: {error}"),
    };
    let event = String::from_utf8_lossy(event);
    Err(format!(
        "cannot write a dead letter for the rejected event {}…: {problem}; correct @metadata._id in the dead letter that was sent again",
        start_of(&event, SHOWN_EVENT_BYTES)
    ))
}

/// Returns whether an event ID can be part of a file name. It must not lead out of a directory.
fn is_valid_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns at most the first `bytes` bytes of a text.
fn start_of(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Returns the part of the event ID before the offset. It identifies the log object.
fn id_prefix<'a>(line: &'a DeadLetterLine<'_>) -> &'a str {
    line.id().rsplit_once('-').map_or("", |(prefix, _)| prefix)
}

/// The object's name contains the first and last ID, the number of lines, and a digest of the IDs in between, if there are any. So a
/// retry replaces its own objects and no others.
fn dead_letter_object(lines: &[DeadLetterLine<'_>]) -> io::Result<DeadLetterObject> {
    let mut ids: Vec<&str> = lines.iter().map(DeadLetterLine::id).collect();
    ids.sort_unstable();
    let first = ids.first().copied().unwrap_or_default();
    let last_offset = ids.last().and_then(|id| id.rsplit('-').next()).unwrap_or_default();
    let name = format!("{first}-{last_offset}-{}{}.ndjson.gz", lines.len(), digest_between(&ids));
    Ok(DeadLetterObject { name, body: gzip(lines)?, events: lines.len() })
}

/// Returns a digest of the IDs between the first and the last one, with a hyphen before it, or nothing if there are none.
fn digest_between(ids: &[&str]) -> String {
    let Some(between) = ids.get(1..ids.len().saturating_sub(1)).filter(|between| !between.is_empty()) else {
        return String::new();
    };
    let digest = Sha256::digest(between.join(" "));
    format!("-{:08x}", u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

fn gzip(lines: &[DeadLetterLine<'_>]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for line in lines {
        line.write_to(&mut encoder)?;
    }
    encoder.finish()
}

/// Returns the canonical path, so that different spellings of one path are equal.
fn real_path(path: &Path) -> Cow<'_, Path> {
    path.canonicalize().map_or(Cow::Borrowed(path), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bytes::Bytes;
    use elb_common::aws::AwsConfig;
    use elb_log::dead_letter::{DEAD_LETTER_START, event_of};

    use super::*;
    use crate::sink::{Outcome, Response};

    fn rejected(id: &str, status: u16) -> RejectedEvent {
        let event = format!(
            r#"{{"@timestamp":"2026-03-02T10:15:00Z","@metadata":{{"_id":"{id}"}},"aws":{{"s3":{{"bucket":{{"name":"logs"}},"object":{{"key":"a\"b.log"}}}}}},"n":1.10}}"#
        );
        let outcome = Outcome::Response(Response { status, text: "no \u{7f}".to_owned(), ..Response::default() });
        RejectedEvent { event: Bytes::from(event), endpoint: "http://127.0.0.1:1/".to_owned(), outcome }
    }

    fn text_of(body: &[u8]) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_contains_the_unchanged_event_and_all_facts() {
        let prefix = "303024456c5ba67324277814fb68c45c";
        let rejected = [rejected(&format!("{prefix}-000000000000"), 400), rejected(&format!("{prefix}-000000001834"), 413)];
        let Prepared { objects, errors } = prepare(&rejected);
        assert_eq!((objects.len(), errors.len(), objects[0].events), (1, 0, 2));
        assert_eq!(objects[0].name, format!("{prefix}-000000000000-000000001834-2.ndjson.gz"));
        let text = text_of(&objects[0].body);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.as_bytes().starts_with(DEAD_LETTER_START)), "{text}");
        let line: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        let of = |name: &str| line[name].as_str().unwrap().to_owned();
        assert_eq!((of("id"), of("reason")), (format!("{prefix}-000000001834"), "too_large".to_owned()));
        assert_eq!((of("bucket"), of("key"), of("endpoint")), ("logs".into(), "a\"b.log".into(), "http://127.0.0.1:1/".into()));
        assert!(line["status"] == 413 && of("answer").starts_with("HTTP 413, \"no "), "{line}");
        assert_eq!(event_of(lines[1].as_bytes()).unwrap().get().as_bytes(), rejected[1].event, "the event has changed");
    }

    #[test]
    fn dead_letters_of_other_events_have_other_names() {
        let name = |offsets: [u32; 3]| {
            let rejected = offsets.map(|offset| rejected(&format!("aa-{offset:012}"), 400));
            prepare(&rejected).objects[0].name.clone()
        };
        assert_eq!(name([1, 3, 9]), name([9, 3, 1]), "a retry replaces its own dead letter");
        assert_ne!(name([1, 3, 9]), name([1, 5, 9]), "a duplicate with other rejected events replaces the dead letter");
    }

    #[test]
    fn each_log_object_has_its_own_dead_letters() {
        let objects = prepare(&[rejected("aa-000000000007", 400), rejected("bb-000000000001", 500)]).objects;
        let names: Vec<&str> = objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["aa-000000000007-000000000007-1.ndjson.gz", "bb-000000000001-000000000001-1.ndjson.gz"]);
        assert!(text_of(&objects[1].body).contains(r#""reason":"failing""#));
    }

    #[test]
    fn an_invalid_id_fails_its_own_event_only() {
        let no_id = RejectedEvent { event: Bytes::from_static(b"{\"message\":\"no id\"}"), ..rejected("", 400) };
        let valid = "303024456c5ba67324277814fb68c45c-000000000000";
        let prepared = prepare(&[rejected("../../etc/passwd-1", 400), rejected(valid, 400), no_id, rejected("", 400)]);
        let names: Vec<&str> = prepared.objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, [format!("{valid}-000000000000-1.ndjson.gz")]);
        let start = "cannot write a dead letter for the rejected event {\"";
        assert!(prepared.errors.len() == 3 && prepared.errors.iter().all(|error| error.starts_with(start)), "{prepared:?}");
        assert!(prepared.errors[0].contains(r#"…: "../../etc/passwd-1" is not a valid event ID; correct @metadata._id"#));
        assert!(prepared.errors[1].contains(r#"{"message":"no id"}…: cannot read its event ID: missing field `@metadata`"#));
    }

    #[test]
    fn ids_must_be_valid_in_a_file_name() {
        let longest = "7".repeat(MAX_ID_BYTES);
        for (id, valid) in
            [("a-7", true), (&longest, true), (&(longest.clone() + "7"), false), ("", false), ("a/b", false), ("..", false)]
        {
            assert_eq!(is_valid_id(id), valid, "{id:?}");
        }
        let events = [rejected(&longest, 400), rejected(&"8".repeat(MAX_ID_BYTES), 400)];
        assert!(prepare(&events).objects[0].name.len() <= 255, "too long for a file name");
    }

    #[tokio::test]
    async fn writes_the_other_objects_if_one_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let events = [rejected("aa-1", 400), rejected("bb-1", 400), rejected("bb-2", 400), rejected("..", 400)];
        std::fs::create_dir(root.path().join("aa-1-1-1.ndjson.gz")).unwrap();
        let destination = DeadLetterDestination::Dir(root.path().to_owned());
        let written = destination.write(&events, Duration::from_secs(60)).await;
        assert_eq!((written.events, written.errors.len()), (2, 2), "{written:?}");
        assert!(root.path().join("bb-1-2-2.ndjson.gz").is_file(), "{written:?}");
        let error = written.error().unwrap();
        assert!(error.starts_with("cannot write a dead letter") && error.ends_with(" (further errors: 1)"), "{error}");
    }

    #[test]
    fn only_objects_below_the_prefix_are_dead_letters() {
        let store = S3Store::new(AwsConfig::new(std::future::pending), true);
        let destination = DeadLetterDestination::S3 { store, bucket: "logs".to_owned(), prefix: "dead/letters".to_owned() };
        for (bucket, key, expected) in [
            ("logs", "dead/letters/x", true),
            ("logs", "dead/letters", false),
            ("logs", "dead/letters2/x", false),
            ("logs", "team/dead/letters/x", false),
            ("other", "dead/letters/x", false),
        ] {
            let object = ObjectName { bucket: bucket.to_owned(), key: key.to_owned() };
            assert_eq!(destination.contains(&object, None), expected, "s3://{bucket}/{key}");
            assert!(!destination.contains(&object, Some(PathBuf::from(key))), "a file is not an object in S3");
        }
    }

    #[test]
    fn a_directory_is_the_same_under_every_spelling() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("x.gz"), "").unwrap();
        std::os::unix::fs::symlink(&real, root.path().join("link")).unwrap();
        let object = ObjectName { bucket: "logs".to_owned(), key: "x.gz".to_owned() };
        for directory in [real.clone(), root.path().join("link"), root.path().join("real/../real")] {
            let destination = DeadLetterDestination::Dir(directory);
            assert!(destination.contains(&object, Some(real.join("x.gz"))), "{destination:?}");
            assert!(!destination.contains(&object, Some(root.path().join("x.gz"))) && !destination.contains(&object, None));
        }
    }
}
