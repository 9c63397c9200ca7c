//! Where events go that no endpoint will ever take: objects of gzipped lines, from which they can be sent again.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout;

use elb_log::origin::ObjectName;

use crate::object::S3Store;
use crate::sink::{Outcome, RejectedEvent, Verdict};

/// The version of the form of a line, which begins with it.
const VERSION: &str = "dead-letter/1";

/// Where dead letters are kept; `DEAD_LETTER_URL`.
#[derive(Debug)]
pub enum DeadLetterDestination {
    /// Below a prefix in a bucket.
    S3 {
        /// The store.
        store: S3Store,
        /// The bucket.
        bucket: String,
        /// Without a slash at its end.
        prefix: String,
    },
    /// In a directory.
    Dir(PathBuf),
}

/// Dead letters of one batch, written.
#[derive(Debug, PartialEq, Eq)]
struct DeadLetterObject {
    /// The object's name below the prefix.
    name: String,
    /// Gzipped lines.
    body: Vec<u8>,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    elbship: &'static str,
    id: &'a str,
    reason: &'static str,
    status: Option<u16>,
    answer: String,
    endpoint: &'a str,
    bucket: Option<&'a str>,
    key: Option<&'a str>,
    event: &'a RawValue,
}

/// What a line says about its event's place, as the event itself says it.
#[derive(Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "@metadata")]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    aws: Aws<'a>,
    #[serde(borrow, default)]
    log: Log<'a>,
}

#[derive(Default, Deserialize)]
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

impl DeadLetterDestination {
    /// Keeps the poison events of one batch. Once it returns they are safe. Written again, they replace themselves.
    ///
    /// # Errors
    /// They could not be written within `limit`, in words for the object's report.
    pub async fn write(&self, poison: &[RejectedEvent], limit: Duration) -> Result<(), String> {
        for letters in letters(poison)? {
            let name = letters.name.clone();
            let written = timeout(limit, self.put(letters)).await.unwrap_or_else(|_| Err("there was no time left".to_owned()));
            written.map_err(|error| format!("writing the dead letter {} failed: {error}", self.place(&name)))?;
        }
        Ok(())
    }

    /// Whether an object is a dead letter. `path` is its place where the store is a directory.
    pub fn holds(&self, object: &ObjectName, path: Option<PathBuf>) -> bool {
        match (self, path) {
            (DeadLetterDestination::S3 { bucket, prefix, .. }, None) => {
                object.bucket == *bucket && object.key.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
            (DeadLetterDestination::Dir(directory), Some(path)) => real(&path).starts_with(real(directory)),
            _ => false,
        }
    }

    async fn put(&self, letters: DeadLetterObject) -> Result<(), String> {
        match self {
            DeadLetterDestination::S3 { store, bucket, prefix } => {
                let key = format!("{prefix}/{}", letters.name);
                store.put(bucket, &key, ByteStream::from(letters.body)).await
            }
            DeadLetterDestination::Dir(directory) => {
                let path = directory.join(&letters.name);
                let written = tokio::task::spawn_blocking(move || write_file(&path, &letters.body)).await;
                written.map_err(io::Error::other).flatten().map_err(|error| error.to_string())
            }
        }
    }

    fn place(&self, name: &str) -> String {
        match self {
            DeadLetterDestination::S3 { bucket, prefix, .. } => format!("s3://{bucket}/{prefix}/{name}"),
            DeadLetterDestination::Dir(directory) => directory.join(name).display().to_string(),
        }
    }
}

/// A path as the file system knows it: two ways of writing it are one place.
fn real(path: &Path) -> Cow<'_, Path> {
    path.canonicalize().map_or(Cow::Borrowed(path), Cow::Owned)
}

/// One object for the events of each log object: a batch that is sent again from a dead letter can hold those of several.
///
/// Its name says which lines are in it and how many of them, so that a retry replaces its own and hides no others.
fn letters(poison: &[RejectedEvent]) -> Result<Vec<DeadLetterObject>, String> {
    let mut read: Vec<(Event<'_>, &RejectedEvent)> = Vec::with_capacity(poison.len());
    for rejected in poison {
        let event = serde_json::from_slice(&rejected.event).map_err(|error| format!("an event has no id ({error})"))?;
        read.push((event, rejected));
    }
    read.chunk_by(|(one, _), (next, _)| prefix_of(one) == prefix_of(next)).map(of_one_object).collect()
}

fn of_one_object(poison: &[(Event<'_>, &RejectedEvent)]) -> Result<DeadLetterObject, String> {
    let ids = || poison.iter().map(|(event, _)| event.metadata.id.as_ref());
    let last = ids().max().and_then(|id| id.rsplit('-').next()).unwrap_or_default();
    // The first id is the prefix and the first offset.
    let name = format!("{}-{last}-{}.ndjson.gz", ids().min().unwrap_or_default(), poison.len());
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.') {
        return Err(format!("the id of an event is not one of this program's: {name}"));
    }
    let body = gzipped_lines(poison).map_err(|error| error.to_string())?;
    Ok(DeadLetterObject { name, body })
}

fn gzipped_lines(poison: &[(Event<'_>, &RejectedEvent)]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for (event, rejected) in poison {
        let s3 = event.aws.s3.as_ref();
        let line = Line {
            elbship: VERSION,
            id: &event.metadata.id,
            reason: reason(&rejected.outcome),
            status: rejected.outcome.status(),
            answer: rejected.outcome.to_string(),
            endpoint: &rejected.endpoint,
            bucket: s3.map(|s3| s3.bucket.name.as_ref()),
            key: s3.map(|s3| s3.object.key.as_ref()).or(event.log.file.as_ref().map(|file| file.path.as_ref())),
            event: serde_json::from_slice(&rejected.event)?,
        };
        serde_json::to_writer(&mut encoder, &line)?;
        encoder.write_all(b"\n")?;
    }
    encoder.finish()
}

/// Everything before the offset.
fn prefix_of<'a>(event: &'a Event<'_>) -> &'a str {
    event.metadata.id.rsplit_once('-').map_or("", |(prefix, _)| prefix)
}

fn reason(outcome: &Outcome) -> &'static str {
    match outcome.verdict() {
        Verdict::TooLarge => "too_large",
        Verdict::Failing => "failing",
        _ => "refused",
    }
}

/// A reader never sees half a file, and what is said to be written survives a power cut.
fn write_file(path: &Path, body: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(body)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bytes::Bytes;

    use super::*;
    use crate::sink::Response;
    use elb_log::dead_letter::{DEAD_LETTER_START, event_of};

    fn rejected(id: &str, status: u16) -> RejectedEvent {
        let event = format!(
            r#"{{"@timestamp":"2026-03-02T10:15:00Z","@metadata":{{"_id":"{id}"}},"aws":{{"s3":{{"bucket":{{"name":"logs"}},"object":{{"key":"a\"b.log"}}}}}},"n":1.10}}"#
        );
        let outcome = Outcome::Response(Response { status, text: "no \u{7f}".to_owned(), ..Response::default() });
        RejectedEvent { event: Bytes::from(event), endpoint: "http://127.0.0.1:1/".to_owned(), outcome }
    }

    fn text(body: &[u8]) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_holds_the_event_as_it_is_and_all_that_is_known() {
        let prefix = "303024456c5ba67324277814fb68c45c";
        let poison = [rejected(&format!("{prefix}-000000000000"), 400), rejected(&format!("{prefix}-000000001834"), 413)];
        let letters = letters(&poison).unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].name, format!("{prefix}-000000000000-000000001834-2.ndjson.gz"));
        let text = text(&letters[0].body);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.as_bytes().starts_with(DEAD_LETTER_START)), "{text}");
        let line: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        let of = |name: &str| line[name].as_str().unwrap().to_owned();
        assert_eq!((of("id"), of("reason")), (format!("{prefix}-000000001834"), "too_large".to_owned()));
        assert_eq!((of("bucket"), of("key"), of("endpoint")), ("logs".into(), "a\"b.log".into(), "http://127.0.0.1:1/".into()));
        assert!(line["status"] == 413 && of("answer").starts_with("HTTP 413, \"no "), "{line}");
        assert_eq!(event_of(lines[1].as_bytes()).unwrap().get().as_bytes(), poison[1].event, "not a digit of it changes");
    }

    #[test]
    fn each_log_object_has_letters_of_its_own() {
        let letters = letters(&[rejected("aa-000000000007", 400), rejected("bb-000000000001", 500)]).unwrap();
        let names: Vec<&str> = letters.iter().map(|letters| letters.name.as_str()).collect();
        assert_eq!(names, ["aa-000000000007-000000000007-1.ndjson.gz", "bb-000000000001-000000000001-1.ndjson.gz"]);
        assert!(text(&letters[1].body).contains(r#""reason":"failing""#));
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_directory() {
        assert!(letters(&[rejected("../../etc/passwd-1", 400)]).is_err());
    }
}
