//! The envelope of an event: time, id, location in S3, cloud account and labels. It is the same in both schemas and, except for
//! time and offset, for all lines of an object.

use super::id::Offset;
use super::{EventSettings, IdPrefix, json};
use crate::buffer::Buffer;
use crate::format::without_zone;
use crate::key::KeyFacts;
use crate::origin::Origin;

/// The parts of the envelope that all events of an object share, as JSON that is written once per object.
#[derive(Debug)]
pub(super) struct Envelope {
    /// The `@timestamp` of lines without a time of their own.
    pub fallback_time: String,
    /// The node's address from the key, as a JSON string.
    pub node_ip: Option<Vec<u8>>,
    /// The value of `aws.s3`.
    pub s3: Option<Buffer>,
    /// The value of `cloud`.
    pub cloud: Buffer,
    /// The value of `labels`.
    pub labels: Option<Buffer>,
    /// The JSON between the time and the offset in the first id, and between the offsets of the first and the second id.
    before_id: [Buffer; 2],
    /// The members `aws` and `log` up to the offset, for events in which `aws` has no other members.
    before_offset: Buffer,
    /// The rest of `log` after the offset, and the members `cloud` and `labels`.
    after_offset: Buffer,
    /// The rest of `log` after the offset.
    log_end: Buffer,
}

impl Envelope {
    /// Makes the envelope of an object. Lines without a time get the end time in the key, or `modified` if the key has none.
    pub(super) fn new(settings: &EventSettings, origin: &Origin, modified: jiff::Timestamp) -> Self {
        let facts = KeyFacts::from_key(&origin.name().key);
        let (s3, log_end, cloud, labels) = (s3(origin), log_end(origin), cloud(&facts), labels(&settings.labels));
        let id = IdPrefix::of(origin.name());
        let before_id = [r#"","@metadata":{"_id":""#, r#"","_ingest_document":{"id":""#];
        let before_id = before_id.map(|start| Buffer::from([start, id.as_str(), "-"].concat().as_bytes()));
        let mut before_offset = Buffer::default();
        if let Some(s3) = &s3 {
            before_offset.put(br#","aws":{"s3":"#);
            before_offset.put(s3);
            before_offset.push(b'}');
        }
        before_offset.put(br#","log":{"offset":"#);
        let mut after_offset = log_end.clone();
        after_offset.put(br#","cloud":"#);
        after_offset.put(&cloud);
        if let Some(labels) = &labels {
            after_offset.put(br#","labels":"#);
            after_offset.put(labels);
        }
        Envelope {
            fallback_time: facts.end_time.clone().unwrap_or_else(|| format!("{modified:.0}")),
            node_ip: facts.node_ip.map(|ip| format!("\"{ip}\"").into_bytes()),
            s3,
            cloud,
            labels,
            before_id,
            before_offset,
            after_offset,
            log_end,
        }
    }

    /// Writes the start of an event: the opening brace, the time, cut to nanoseconds, and the id.
    ///
    /// The id is written twice: `@metadata._id` for pipelines that set `document_id`, and `@metadata._ingest_document.id`, which
    /// the Elasticsearch output of Logstash uses if a pipeline does not set `document_id`.
    pub(super) fn write_head(&self, out: &mut Buffer, offset: &Offset, time: &[u8]) {
        out.put(br#"{"@timestamp":""#);
        out.put(without_zone(time));
        out.push(b'Z');
        for start in &self.before_id {
            out.put(start);
            offset.write(out);
        }
        out.put(br#""}}"#);
    }

    /// Writes the members `aws`, `log`, `cloud` and `labels`.
    pub(super) fn write_location(&self, out: &mut Buffer, offset: &Offset) {
        out.put(&self.before_offset);
        offset.write_number(out);
        out.put(&self.after_offset);
    }

    /// Writes the value of `log`.
    pub(super) fn write_log(&self, out: &mut Buffer, offset: &Offset) {
        out.put(br#"{"offset":"#);
        offset.write_number(out);
        out.put(&self.log_end);
    }
}

fn s3(origin: &Origin) -> Option<Buffer> {
    let Origin::Bucket(name) = origin else { return None };
    let mut out = Buffer::from(br#"{"bucket":{"name":"#.as_slice());
    json::string(&mut out, &name.bucket);
    out.put(br#"},"object":{"key":"#);
    json::string(&mut out, &name.key);
    out.put(b"}}");
    Some(out)
}

fn log_end(origin: &Origin) -> Buffer {
    let mut out = Buffer::default();
    if let Origin::LocalFile(name) = origin {
        out.put(br#","file":{"path":"#);
        json::string(&mut out, &name.key);
        out.push(b'}');
    }
    out.push(b'}');
    out
}

fn cloud(facts: &KeyFacts) -> Buffer {
    let mut out = Buffer::from(br#"{"provider":"aws""#.as_slice());
    if let Some(account) = &facts.account {
        out.put(br#","account":{"id":"#);
        json::string(&mut out, account);
        out.push(b'}');
    }
    if let Some(region) = &facts.region {
        out.put(br#","region":"#);
        json::string(&mut out, region);
    }
    out.push(b'}');
    out
}

fn labels(labels: &[(String, String)]) -> Option<Buffer> {
    let mut out = Buffer::default();
    for (index, (name, value)) in labels.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        json::string(&mut out, name);
        out.push(b':');
        json::string(&mut out, value);
    }
    out.push(b'}');
    (!labels.is_empty()).then_some(out)
}
