//! Writes one event a line.

use super::envelope::Envelope;
use super::fields::{Fields, Parsed};
use super::id::Offset;
use super::{EventSettings, Schema, ecs, json, native, vended};
use crate::buffer::Buffer;
use crate::dead_letter::{DEAD_LETTER_START, event_of};
use crate::format::{Kind, LineError, Record, TokenBuffer, parse, show_invalid};
use crate::lines::Line;
use crate::origin::Origin;

/// Writes the events of one object.
#[derive(Debug)]
pub struct EventWriter {
    schema: Schema,
    include_original: bool,
    resend: bool,
    envelope: Envelope,
}

/// The memory that writing an event needs, used again from line to line.
#[derive(Debug, Default)]
pub struct Scratch<'a> {
    tokens: TokenBuffer<'a>,
    fields: Fields<'a>,
}

/// What one line became.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The line's kind; none if it was not parsed, or held the event of a dead letter.
    pub kind: Option<Kind>,
    /// Whether the event has only the raw text.
    pub unparsed: bool,
    /// Whether the line has fewer fields than AWS ever wrote for its kind.
    pub short: bool,
    /// Whether the line is probably two lines without a line feed between them.
    pub joined: bool,
    /// Number of fields that are not of their type.
    pub invalid_fields: u32,
    /// Number of fields beyond the known ones that have a value.
    pub extra_fields: u32,
    /// Number of fields beyond the known ones, with or without a value.
    pub unknown_fields: u32,
}

impl EventWriter {
    /// Makes a writer for the lines of one object. A line without a time of its own gets the time in the object's key, or
    /// `modified` where the key has none.
    pub fn new(settings: &EventSettings, origin: &Origin, modified: jiff::Timestamp) -> Self {
        let EventSettings { schema, include_original, resend, .. } = *settings;
        EventWriter { schema, include_original, resend, envelope: Envelope::new(settings, origin, modified) }
    }

    /// Appends the event of one line: parsed, or unparsed with its raw text. Every line becomes exactly one event.
    pub fn write<'a>(&self, out: &mut Buffer, line: &Line<'a>, scratch: &mut Scratch<'a>) -> Written {
        let Scratch { tokens, fields } = scratch;
        let parsed = if line.truncated { Err(LineError::TooLong { at: line.text.len() }) } else { parse(line.text, tokens) };
        match parsed {
            Ok(record) => self.write_parsed(out, line, &record, fields),
            Err(LineError::Json) if line.text.starts_with(DEAD_LETTER_START) => self.write_dead_letter(out, line),
            Err(LineError::Json) => self.write_vended(out, line),
            Err(error) => self.write_unparsed(out, line, &error.to_string()),
        }
    }

    fn write_parsed<'a>(&self, out: &mut Buffer, line: &Line<'a>, record: &Record<'_, 'a>, fields: &mut Fields<'a>) -> Written {
        let Fields { invalid, .. } = fields;
        invalid.clear();
        match self.schema {
            Schema::Native => native::write(out, &self.envelope, line, record, invalid, self.include_original),
            Schema::Ecs => {
                fields.read(record);
                let parsed = Parsed { line, record, fields };
                ecs::write(out, ecs::plan(record.kind), &self.envelope, &parsed, self.include_original);
            }
        }
        Written {
            kind: Some(record.kind),
            unparsed: false,
            short: record.is_short(),
            joined: record.is_joined(),
            invalid_fields: count(fields.invalid.len()),
            extra_fields: count(record.extras().iter().filter(|token| !token.is_absent()).count()),
            unknown_fields: count(record.unknown_fields()),
        }
    }

    /// Writes a JSON line of a delivery through CloudWatch Logs: with its members in the order of the fields, it is read like any
    /// other line.
    fn write_vended(&self, out: &mut Buffer, line: &Line<'_>) -> Written {
        match vended::read(line.text) {
            Ok(vended) => {
                let tokens = vended.tokens();
                let written = self.write_parsed(out, line, &vended.record(&tokens), &mut Fields::default());
                Written { unknown_fields: written.unknown_fields.saturating_add(count(vended.absent_extras())), ..written }
            }
            Err(error) => self.write_unparsed(out, line, &error.message),
        }
    }

    /// Writes the event in a line of a dead letter, which keeps its id and every digit. Only a replay sends dead letters again.
    fn write_dead_letter(&self, out: &mut Buffer, line: &Line<'_>) -> Written {
        if !self.resend {
            return self.write_unparsed(out, line, "a dead letter, not a log line; replay it (byte 0)");
        }
        match event_of(line.text) {
            Some(event) => {
                out.put(event.get().as_bytes());
                Written::default()
            }
            None => self.write_unparsed(out, line, "a damaged line of a dead letter"),
        }
    }

    /// Writes an event with the raw text and the reason. Unparsed events are the same in both schemas.
    fn write_unparsed(&self, out: &mut Buffer, line: &Line<'_>, reason: &str) -> Written {
        let offset = Offset::of(line.offset);
        self.envelope.write_head(out, &offset, self.envelope.fallback_time.as_bytes());
        self.envelope.write_location(out, &offset);
        out.put(br#","event":{"original":"#);
        json::string(out, &show_invalid(line.text));
        let truncated: &[u8] = if line.truncated { br#","_elbtruncated""# } else { b"" };
        out.put(br#"},"tags":["_elbparsefailure""#);
        out.put(truncated);
        out.put(br#"],"error":{"message":"#);
        json::string(out, reason);
        out.put(b"}}");
        Written { unparsed: true, ..Written::default() }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
