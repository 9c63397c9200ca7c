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
use tokio::time::timeout;

use crate::atomic_file::write_atomically;
use crate::object::S3Store;
use crate::sink::{RejectedEvent, Verdict};

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
    /// Writes the rejected events of one batch. Writing the same events again replaces the same objects.
    ///
    /// # Errors
    /// The events could not be written within `limit`. The text is for the object's report.
    pub(crate) async fn write(&self, rejected: &[RejectedEvent], limit: Duration) -> Result<(), String> {
        for object in dead_letter_objects(rejected)? {
            let url = self.url_of(&object.name);
            let written = timeout(limit, self.put(object)).await.unwrap_or_else(|_| Err("no time is left".to_owned()));
            written.map_err(|error| format!("cannot write the dead letter {url}: {error}"))?;
        }
        Ok(())
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

/// The rejected events of one batch and one log object.
#[derive(Debug, PartialEq, Eq)]
struct DeadLetterObject {
    /// The object's name below the destination's prefix.
    name: String,
    /// Gzipped lines.
    body: Vec<u8>,
}

/// Returns one object for the events of each log object: a batch that is sent again from dead letters can contain events of
/// several log objects.
fn dead_letter_objects(rejected: &[RejectedEvent]) -> Result<Vec<DeadLetterObject>, String> {
    let lines: Result<Vec<DeadLetterLine<'_>>, String> = rejected.iter().map(line_of).collect();
    lines?.chunk_by(|one, next| id_prefix(one) == id_prefix(next)).map(dead_letter_object).collect()
}

fn line_of(rejected: &RejectedEvent) -> Result<DeadLetterLine<'_>, String> {
    let RejectedEvent { event, endpoint, outcome } = rejected;
    let reason = match outcome.verdict() {
        Verdict::TooLarge => "too_large",
        Verdict::Failing => "failing",
        _ => "refused",
    };
    let rejection = Rejection { reason, status: outcome.status(), response: outcome.to_string(), endpoint };
    DeadLetterLine::new(event, rejection).map_err(|error| format!("cannot read the ID of a rejected event: {error}"))
}

/// Returns the part of the event ID before the offset. It identifies the log object.
fn id_prefix<'a>(line: &'a DeadLetterLine<'_>) -> &'a str {
    line.id().rsplit_once('-').map_or("", |(prefix, _)| prefix)
}

/// The object's name contains the first and last ID and the number of lines. So a retry replaces its own objects and no others.
fn dead_letter_object(lines: &[DeadLetterLine<'_>]) -> Result<DeadLetterObject, String> {
    let ids = || lines.iter().map(DeadLetterLine::id);
    let last_offset = ids().max().and_then(|id| id.rsplit('-').next()).unwrap_or_default();
    let name = format!("{}-{last_offset}-{}.ndjson.gz", ids().min().unwrap_or_default(), lines.len());
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.') {
        return Err(format!("cannot write a dead letter: {name} contains an invalid event ID"));
    }
    let body = gzip(lines).map_err(|error| error.to_string())?;
    Ok(DeadLetterObject { name, body })
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
        let objects = dead_letter_objects(&rejected).unwrap();
        assert_eq!(objects.len(), 1);
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
    fn each_log_object_has_its_own_dead_letters() {
        let objects = dead_letter_objects(&[rejected("aa-000000000007", 400), rejected("bb-000000000001", 500)]).unwrap();
        let names: Vec<&str> = objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["aa-000000000007-000000000007-1.ndjson.gz", "bb-000000000001-000000000001-1.ndjson.gz"]);
        assert!(text_of(&objects[1].body).contains(r#""reason":"failing""#));
    }

    #[test]
    fn rejects_ids_that_lead_out_of_the_directory() {
        assert!(dead_letter_objects(&[rejected("../../etc/passwd-1", 400)]).is_err());
    }
}
