//! What an event says about where its line stands: the same in both schemas and, but for a few bytes, for all lines of an object.

use super::{EventSettings, IdPrefix, json};
use crate::format::is_zoned;
use crate::object::{KeyFacts, Origin};

/// The parts of the envelope that all events of an object share, as JSON.
#[derive(Debug)]
pub(super) struct Envelope {
    id: IdPrefix,
    /// `@timestamp` of lines that have none of their own.
    pub fallback_time: String,
    /// The node's address from the key.
    pub node_ip: Option<Vec<u8>>,
    /// The value of `aws.s3`.
    pub s3: Option<Vec<u8>>,
    /// From behind the offset to the end of `log`.
    log_end: Vec<u8>,
    /// The value of `cloud`.
    pub cloud: Vec<u8>,
    /// The value of `labels`.
    pub labels: Option<Vec<u8>>,
    /// `aws`, and `log` up to the offset, as members of an event in which `aws` holds nothing else.
    before_offset: Vec<u8>,
    /// From behind the offset to the labels, as members.
    after_offset: Vec<u8>,
}

impl Envelope {
    /// `modified` stands in for the time of lines that have none where the key names none.
    pub fn new(settings: &EventSettings, origin: &Origin, modified: jiff::Timestamp) -> Self {
        let facts = KeyFacts::read(&origin.name().key);
        let (s3, log_end, cloud, labels) = (s3(origin), log_end(origin), cloud(&facts), labels(&settings.labels));
        let mut before_offset = Vec::new();
        if let Some(s3) = &s3 {
            before_offset.extend_from_slice(br#","aws":{"s3":"#);
            before_offset.extend_from_slice(s3);
            before_offset.push(b'}');
        }
        before_offset.extend_from_slice(br#","log":{"offset":"#);
        let mut after_offset = log_end.clone();
        after_offset.extend_from_slice(br#","cloud":"#);
        after_offset.extend_from_slice(&cloud);
        if let Some(labels) = &labels {
            after_offset.extend_from_slice(br#","labels":"#);
            after_offset.extend_from_slice(labels);
        }
        Envelope {
            id: IdPrefix::of(origin.name()),
            fallback_time: facts.end_time.clone().unwrap_or_else(|| format!("{modified:.0}")),
            node_ip: facts.node_ip.map(|ip| format!("\"{ip}\"").into_bytes()),
            s3,
            log_end,
            cloud,
            labels,
            before_offset,
            after_offset,
        }
    }

    /// Begins an event: the brace, the time, and the id for both of its readers.
    pub fn write_head(&self, out: &mut Vec<u8>, offset: u64, time: &[u8]) {
        out.extend_from_slice(br#"{"@timestamp":""#);
        out.extend_from_slice(time);
        if !is_zoned(time) {
            out.push(b'Z');
        }
        out.extend_from_slice(br#"","@metadata":{"_id":""#);
        self.id.write(out, offset);
        out.extend_from_slice(br#"","_ingest_document":{"id":""#);
        self.id.write(out, offset);
        out.extend_from_slice(br#""}}"#);
    }

    /// Goes on with `aws`, `log`, `cloud` and `labels`.
    pub fn write_place(&self, out: &mut Vec<u8>, offset: u64) {
        out.extend_from_slice(&self.before_offset);
        json::integer(out, offset);
        out.extend_from_slice(&self.after_offset);
    }

    /// The value of `log`.
    pub fn write_log(&self, out: &mut Vec<u8>, offset: u64) {
        out.extend_from_slice(br#"{"offset":"#);
        json::integer(out, offset);
        out.extend_from_slice(&self.log_end);
    }
}

fn s3(origin: &Origin) -> Option<Vec<u8>> {
    let Origin::Bucket(name) = origin else { return None };
    let mut out = br#"{"bucket":{"name":"#.to_vec();
    json::string(&mut out, &name.bucket);
    out.extend_from_slice(br#"},"object":{"key":"#);
    json::string(&mut out, &name.key);
    out.extend_from_slice(b"}}");
    Some(out)
}

fn log_end(origin: &Origin) -> Vec<u8> {
    let mut out = Vec::new();
    if let Origin::LocalFile(name) = origin {
        out.extend_from_slice(br#","file":{"path":"#);
        json::string(&mut out, &name.key);
        out.push(b'}');
    }
    out.push(b'}');
    out
}

fn cloud(facts: &KeyFacts) -> Vec<u8> {
    let mut out = br#"{"provider":"aws""#.to_vec();
    if let Some(account) = &facts.account {
        out.extend_from_slice(br#","account":{"id":"#);
        json::string(&mut out, account);
        out.push(b'}');
    }
    if let Some(region) = &facts.region {
        out.extend_from_slice(br#","region":"#);
        json::string(&mut out, region);
    }
    out.push(b'}');
    out
}

fn labels(labels: &[(String, String)]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (index, (name, value)) in labels.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        json::string(&mut out, name);
        out.push(b':');
        json::string(&mut out, value);
    }
    out.push(b'}');
    (!labels.is_empty()).then_some(out)
}
