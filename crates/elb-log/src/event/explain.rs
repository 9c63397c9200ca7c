//! How a line is read, for a person who wonders: the same parser and the same writers, a field at a time.

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

/// Names and values as they stand in an event, digits included.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// What a line was read as.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The line, bytes that are no UTF-8 written as `\xHH`.
    pub line: String,
    /// Its kind; none if it was not parsed.
    pub kind: Option<&'static str>,
    /// Why it was taken for that.
    pub reason: String,
    /// How many fields the kind has today.
    pub known_fields: usize,
    /// Whether it has fewer fields than its kind ever had.
    pub short: bool,
    /// Its known fields, in order.
    pub fields: Vec<ExplainedField>,
    /// The fields beyond them.
    pub extra: Vec<String>,
    /// Why it was not parsed.
    pub error: Option<ExplainedError>,
}

/// One field.
#[derive(Debug, Serialize)]
pub struct ExplainedField {
    /// Its place in the line, from 1.
    pub number: usize,
    /// AWS's name.
    pub aws: &'static str,
    /// Its text as it stands in the line, without quotes around it.
    pub raw: String,
    /// Whether the text says that there is no value.
    pub absent: bool,
    /// Whether it is not of its type.
    pub invalid: bool,
    /// What it becomes in the `native` schema, dotted names.
    pub native: Members,
    /// What it becomes in the `ecs` schema, dotted names.
    pub ecs: Members,
}

/// Where parsing stopped.
#[derive(Debug, Serialize)]
pub struct ExplainedError {
    /// What was wrong.
    pub message: String,
    /// The byte of the line.
    pub at: usize,
    /// The character of the line as it is shown.
    pub at_character: usize,
}

/// Explains one line, given without its line feed.
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
                // Members that are not there are none, not absent ones.
                explanation.fields.retain(|field| !field.absent);
                explanation
            }
            Err(error) => unparsed(line, error.message, error.at),
        },
        Err(error) => unparsed(line, error.to_string(), error.at()),
    }
}

fn unparsed(line: &[u8], message: String, at: usize) -> Explanation {
    let at_character = show_invalid(&line[..at.min(line.len())]).chars().count();
    Explanation {
        line: show_invalid(line).into_owned(),
        kind: None,
        reason: message.clone(),
        known_fields: 0,
        short: false,
        fields: Vec::new(),
        extra: Vec::new(),
        error: Some(ExplainedError { message, at, at_character }),
    }
}

pub(super) fn explain_record(line: &[u8], record: &Record<'_, '_>, plan: &ecs::Plan, reason: String) -> Explanation {
    let mut fields = Fields::default();
    fields.read(record);
    let line = Line { text: line, offset: 0, truncated: false };
    let parsed = Parsed { line: &line, record, fields: &fields };
    let nowhere = Origin::LocalFile(ObjectName { bucket: String::new(), key: String::new() });
    let envelope = Envelope::new(&EventSettings::default(), &nowhere, jiff::Timestamp::UNIX_EPOCH);
    Explanation {
        line: show_invalid(line.text).into_owned(),
        kind: Some(record.format.name),
        reason,
        known_fields: record.format.fields.len(),
        short: record.is_short(),
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

/// Whether `part` lies within `whole`, in memory: two fields can hold the same text.
fn is_part_of(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

/// Members that each begin with a comma, as one object with dotted names.
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
