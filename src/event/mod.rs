//! Records to events: one JSON object a line, written straight into a batch's buffer.
//!
//! The envelope around the record is the same in both schemas and, but for a few bytes, the same for all lines of an object;
//! those parts are made once an object.

mod id;
mod json;
mod native;

pub use self::id::IdPrefix;
use self::native::write_elb;
use crate::format::{Kind, LineError, Name, Record, Token, is_zoned, parse};
use crate::object::{KeyFacts, Line, Origin};

/// How events are to look, for all objects of a run.
#[derive(Clone, Debug, Default)]
pub struct EventSettings {
    /// Also send the raw line of parsed events in `event.original`.
    pub include_original: bool,
    /// Constant members of `labels`.
    pub labels: Vec<(String, String)>,
}

/// What one line became.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The line's kind; none if it was not parsed.
    pub kind: Option<Kind>,
    /// Whether it has fewer fields than its kind ever had.
    pub short: bool,
    /// Fields that were not of their type.
    pub invalid_fields: u32,
    /// Fields beyond the known ones that hold something.
    pub extra_fields: u32,
}

/// Writes the events of one object.
#[derive(Debug)]
pub struct EventWriter {
    include_original: bool,
    id: IdPrefix,
    /// The node's address from the key, as JSON.
    node_ip: Option<Vec<u8>>,
    /// `@timestamp` of lines that have none of their own.
    fallback_time: String,
    /// From behind the ids to the offset.
    before_offset: Vec<u8>,
    /// From behind the offset to the labels.
    after_offset: Vec<u8>,
}

/// What is needed to write one event, reused from line to line.
#[derive(Debug, Default)]
pub struct Scratch<'a> {
    tokens: Vec<Token<'a>>,
    invalid: Vec<InvalidField<'a>>,
}

/// A field that is not of its type.
#[derive(Clone, Copy, Debug)]
struct InvalidField<'a> {
    name: Name,
    raw: &'a [u8],
}

impl EventWriter {
    /// A writer for the lines of one object. `modified` stands in for the time of unparsed lines where the key names none.
    pub fn new(settings: &EventSettings, origin: &Origin, modified: jiff::Timestamp) -> Self {
        let facts = KeyFacts::read(&origin.name().key);
        EventWriter {
            include_original: settings.include_original,
            id: IdPrefix::of(origin.name()),
            node_ip: facts.node_ip.map(|ip| format!("\"{ip}\"").into_bytes()),
            fallback_time: facts.end_time.clone().unwrap_or_else(|| format!("{modified:.0}")),
            before_offset: before_offset(origin),
            after_offset: after_offset(origin, &facts, &settings.labels),
        }
    }

    /// Appends the event of one line: parsed, or unparsed with its raw text. There is no line without an event.
    pub fn write<'a>(&self, out: &mut Vec<u8>, line: &Line<'a>, scratch: &mut Scratch<'a>) -> Written {
        let Scratch { tokens, invalid } = scratch;
        let parsed = if line.truncated { Err(LineError::TooLong { at: line.text.len() }) } else { parse(line.text, tokens) };
        match parsed {
            Ok(record) => self.write_parsed(out, line, &record, invalid),
            Err(error) => {
                self.write_unparsed(out, line, error);
                Written::default()
            }
        }
    }

    fn write_parsed<'a>(
        &self,
        out: &mut Vec<u8>,
        line: &Line<'a>,
        record: &Record<'_, 'a>,
        invalid: &mut Vec<InvalidField<'a>>,
    ) -> Written {
        self.write_envelope(out, line.offset, record.timestamp().unwrap_or(self.fallback_time.as_bytes()));
        if self.include_original {
            write_original(out, line.text);
        }
        let tags_at = out.len();
        invalid.clear();
        let node_ip = self.node_ip.as_deref();
        write_elb(out, record, is_clean(line.text, record.tokens), node_ip, invalid);
        out.push(b'}');
        if record.is_short() || !invalid.is_empty() {
            // The tags stand before what they are about, and are rare enough to be put in behind it.
            out.splice(tags_at..tags_at, tags(record.is_short(), !invalid.is_empty()));
        }
        Written {
            kind: Some(record.kind),
            short: record.is_short(),
            invalid_fields: count(invalid.len()),
            extra_fields: count(record.extras().iter().filter(|token| !token.is_absent()).count()),
        }
    }

    fn write_unparsed(&self, out: &mut Vec<u8>, line: &Line<'_>, error: LineError) {
        self.write_envelope(out, line.offset, self.fallback_time.as_bytes());
        write_original(out, line.text);
        let tags: &[u8] = if line.truncated {
            br#","tags":["_elbparsefailure","_elbtruncated"],"error":{"message":"#
        } else {
            br#","tags":["_elbparsefailure"],"error":{"message":"#
        };
        out.extend_from_slice(tags);
        json::string(out, &error.to_string());
        out.extend_from_slice(b"}}");
    }

    fn write_envelope(&self, out: &mut Vec<u8>, offset: u64, time: &[u8]) {
        out.extend_from_slice(br#"{"@timestamp":""#);
        out.extend_from_slice(time);
        if !is_zoned(time) {
            out.push(b'Z');
        }
        out.extend_from_slice(br#"","@metadata":{"_id":""#);
        self.id.write(out, offset);
        out.extend_from_slice(br#"","_ingest_document":{"id":""#);
        self.id.write(out, offset);
        out.extend_from_slice(&self.before_offset);
        json::integer(out, offset);
        out.extend_from_slice(&self.after_offset);
    }
}

fn before_offset(origin: &Origin) -> Vec<u8> {
    let mut out = br#""}}"#.to_vec();
    if let Origin::Bucket(name) = origin {
        out.extend_from_slice(br#","aws":{"s3":{"bucket":{"name":"#);
        json::string(&mut out, &name.bucket);
        out.extend_from_slice(br#"},"object":{"key":"#);
        json::string(&mut out, &name.key);
        out.extend_from_slice(b"}}}");
    }
    out.extend_from_slice(br#","log":{"offset":"#);
    out
}

fn after_offset(origin: &Origin, facts: &KeyFacts, labels: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    if let Origin::LocalFile(name) = origin {
        out.extend_from_slice(br#","file":{"path":"#);
        json::string(&mut out, &name.key);
        out.push(b'}');
    }
    out.extend_from_slice(br#"},"cloud":{"provider":"aws""#);
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
    for (index, (name, value)) in labels.iter().enumerate() {
        out.extend_from_slice(if index == 0 { br#","labels":{"# } else { b"," });
        json::string(&mut out, name);
        out.push(b':');
        json::string(&mut out, value);
    }
    if !labels.is_empty() {
        out.push(b'}');
    }
    out
}

fn write_original(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(br#","event":{"original":"#);
    json::string(out, &crate::format::show_invalid(line));
    out.push(b'}');
}

fn tags(short: bool, invalid: bool) -> Vec<u8> {
    let names = [(invalid, r#""_elbfieldfailure""#), (short, r#""_elbshortline""#)];
    let names: Vec<&str> = names.into_iter().filter_map(|(applies, name)| applies.then_some(name)).collect();
    format!(r#","tags":[{}]"#, names.join(",")).into_bytes()
}

/// Whether every field of the line can be copied as it is: ASCII without control characters, backslashes, or quotes other than
/// those around fields. One vectorised look at the line is cheaper than one at each byte of each field.
fn is_clean(line: &[u8], tokens: &[Token<'_>]) -> bool {
    let special = line.iter().fold(false, |found, &byte| found | !matches!(byte, 0x20..0x80) | (byte == b'\\'));
    let quotes = memchr::memchr_iter(b'"', line).count();
    !special && quotes == 2 * tokens.iter().filter(|token| token.quoted).count()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
