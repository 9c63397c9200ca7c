//! Explains how a line is read, field by field, for a person. Uses the same parser and writers as [`EventWriter`].
//!
//! ```
//! use elb_log::event::explain::explain;
//!
//! let explanation = explain(b"https 2026-03-02T10:15:04Z app/web/1 192.0.2.1:80");
//! assert_eq!(explanation.kind, Some("alb"));
//! assert_eq!(explanation.fields[3].native["elb.client_ip"].get(), r#""192.0.2.1""#);
//! assert!(explanation.short);
//! ```
//!
//! [`EventWriter`]: super::EventWriter

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::envelope::Envelope;
use super::fields::{Fields, Parsed};
use super::{EventSettings, ecs, native, vended};
use crate::buffer::Buffer;
use crate::format::{LineError, Reading, Record, TokenBuffer, decode, parse, show_invalid};
use crate::lines::Line;
use crate::origin::{ObjectName, Origin};

/// Dotted names and the values that they have in an event. Numbers keep their digits.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// How a line was read.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The line. Bytes that are not valid UTF-8 are shown as `\xHH`.
    pub line: String,
    /// The log type; none if the line was not parsed.
    pub kind: Option<&'static str>,
    /// Why the line was recognised as this type, or why it was not parsed.
    pub reason: String,
    /// Number of fields that the format has today.
    pub known_fields: usize,
    /// Whether the line has fewer fields than AWS ever wrote for its type.
    pub short: bool,
    /// Number of fields of the line beyond the known ones, with or without a value.
    pub unknown_fields: usize,
    /// The timestamp that an export of CloudWatch Logs wrote before the line. It is not a field of the line.
    pub ingest_time: Option<String>,
    /// The known fields of the line, in their order.
    pub fields: Vec<ExplainedField>,
    /// The text of the fields after the known ones, unless all of them are absent.
    pub extra: Vec<String>,
    /// Why the line was not parsed, and where.
    pub error: Option<ExplainedError>,
}

/// One field of a line.
#[derive(Debug, Serialize)]
pub struct ExplainedField {
    /// The position in the line, from 1.
    pub number: usize,
    /// The field's name in AWS's documentation.
    pub aws: &'static str,
    /// The text of the field in the line, without the quotes around it.
    pub raw: String,
    /// Whether the field has no value.
    pub absent: bool,
    /// Whether the text is not valid for the field's type.
    pub invalid: bool,
    /// The members of an event in the `native` schema.
    pub native: Members,
    /// The members of an event in the `ecs` schema.
    pub ecs: Members,
}

/// Why and where parsing stopped.
#[derive(Debug, Serialize)]
pub struct ExplainedError {
    /// The reason.
    pub message: String,
    /// The position in the line, in bytes.
    pub at: usize,
    /// The position in [`Explanation::line`], in characters.
    pub at_character: usize,
}

/// Explains one line, which is passed without its line feed.
pub fn explain(line: &[u8]) -> Explanation {
    let mut tokens = TokenBuffer::default();
    match parse(line, &mut tokens) {
        Ok(record) => explain_record(line, &record, ecs::plan(record.kind), record.format.recognised_by.to_owned()),
        Err(LineError::Json) => match vended::read(line) {
            Ok(vended) => {
                let tokens = vended.tokens();
                let record = vended.record(&tokens);
                let reason = "JSON with members of this kind".to_owned();
                let mut explanation = explain_record(line, &record, ecs::plan(record.kind), reason);
                // A missing member of a JSON line is not shown as an absent field.
                explanation.fields.retain(|field| !field.absent);
                explanation.unknown_fields += vended.absent_extras();
                explanation
            }
            Err(error) => unparsed(line, error.message, error.at),
        },
        Err(error) => unparsed(line, error.to_string(), error.at()),
    }
}

/// Explains a line that was not parsed.
fn unparsed(line: &[u8], message: String, at: usize) -> Explanation {
    let at_character = show_invalid(&line[..at.min(line.len())]).chars().count();
    Explanation {
        line: show_invalid(line).into_owned(),
        kind: None,
        reason: message.clone(),
        known_fields: 0,
        short: false,
        unknown_fields: 0,
        ingest_time: None,
        fields: Vec::new(),
        extra: Vec::new(),
        error: Some(ExplainedError { message, at, at_character }),
    }
}

/// Explains a parsed line.
pub(super) fn explain_record(line: &[u8], record: &Record<'_, '_>, plan: &ecs::Plan, reason: String) -> Explanation {
    let mut fields = Fields::default();
    fields.read(record);
    let line = Line { text: line, offset: 0, truncated: false };
    let parsed = Parsed { line: &line, record, fields: &fields };
    let no_origin = Origin::LocalFile(ObjectName { bucket: String::new(), key: String::new() });
    let envelope = Envelope::new(&EventSettings::default(), &no_origin, jiff::Timestamp::UNIX_EPOCH);
    Explanation {
        line: show_invalid(line.text).into_owned(),
        kind: Some(record.format.name),
        reason,
        known_fields: record.format.fields.len(),
        short: record.is_short(),
        unknown_fields: record.unknown_fields(),
        ingest_time: record.ingest_time.map(|time| show_invalid(time).into_owned()),
        fields: (0..fields.readings.len()).map(|index| explain_field(index, plan, &envelope, &parsed)).collect(),
        extra: record.extras().iter().map(|token| show_invalid(token.raw).into_owned()).collect(),
        error: None,
    }
}

fn explain_field(index: usize, plan: &ecs::Plan, envelope: &Envelope, parsed: &Parsed<'_, '_, '_>) -> ExplainedField {
    let field = &parsed.record.format.fields[index];
    let reading = parsed.fields.readings[index];
    let (mut native, mut ecs) = (Buffer::default(), Buffer::default());
    if let Reading::Value(value) = reading {
        native::write_value(&mut native, field, value, false);
        ecs::write_field(&mut ecs, plan, index, envelope, parsed);
    }
    let mut native = flattened("elb.", &native);
    let mut ecs = flattened("", &ecs);
    if let (true, Some(end)) = (field.is_timestamp(), ecs.get("event.end").cloned()) {
        native.insert("@timestamp".to_owned(), end.clone());
        ecs.insert("@timestamp".to_owned(), end);
    }
    for invalid in parsed.fields.invalid.iter().filter(|invalid| is_part_of(invalid.raw, parsed.record.tokens[index].raw)) {
        if let Ok(text) = to_raw_value(&decode(invalid.raw)) {
            native.insert(format!("elb.invalid.{}", invalid.name.text), text.clone());
            ecs.insert(format!("aws.elb.invalid.{}", invalid.name.text), text);
        }
    }
    ExplainedField {
        number: index + 1,
        aws: field.aws,
        raw: show_invalid(parsed.record.tokens[index].raw).into_owned(),
        absent: reading == Reading::Absent,
        invalid: native.keys().any(|name| name.starts_with("elb.invalid.")),
        native,
        ecs,
    }
}

/// Returns whether `part` is a slice of `whole`. Memory addresses are compared, because two fields can have the same text.
fn is_part_of(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

/// Reads members that each start with a comma, and returns them with dotted names.
fn flattened(prefix: &str, members: &[u8]) -> Members {
    let object = [b"{", members.get(1..).unwrap_or_default(), b"}"].concat();
    let mut flat = Members::new();
    for (name, value) in serde_json::from_slice::<Members>(&object).unwrap_or_default() {
        match serde_json::from_str::<Members>(value.get()) {
            Ok(parts) => flat.extend(parts.into_iter().map(|(part, value)| (format!("{prefix}{name}.{part}"), value))),
            Err(_) => {
                flat.insert(format!("{prefix}{name}"), value);
            }
        }
    }
    flat
}
