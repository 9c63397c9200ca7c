//! Records to events: one JSON object a line, written straight into a batch's buffer.

mod ecs;
mod envelope;
mod id;
mod json;
mod native;
mod resend;
mod vended;

pub mod explain;

use self::envelope::Envelope;
pub use self::id::IdPrefix;
pub use self::resend::{DEAD_LETTER_START, event_of};
use crate::format::{Endpoint, Field, Kind, LineError, Name, Port, Reading, Record, Token, Type, Value, parse, show_invalid};
use crate::object::{Line, Origin};

/// Whose names the fields of an event have; `EVENT_SCHEMA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schema {
    /// AWS's own names below `elb`, which no setting of Logstash's http input touches.
    #[default]
    Native,
    /// Those of the Elastic Common Schema.
    Ecs,
}

/// How events are to look, for all objects of a run.
#[derive(Clone, Debug, Default)]
pub struct EventSettings {
    /// Whose names they use.
    pub schema: Schema,
    /// Also send the raw line of parsed events in `event.original`.
    pub include_original: bool,
    /// Constant members of `labels`.
    pub labels: Vec<(String, String)>,
    /// Send the events of dead letters again. Otherwise their lines are as unknown as any other.
    pub resend: bool,
}

/// A name that lines of some kind can have in an event, dotted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberName {
    /// `elb.client_ip`
    pub name: String,
    /// The index of the field that it comes from; none for what is made of several fields or of none.
    pub field: Option<usize>,
    /// What its value is.
    pub shape: Shape,
}

/// What kind of JSON value a name has, which decides about its mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Text, or an array of texts.
    Text,
    /// A whole number, or an array of such.
    Integer,
    /// A decimal.
    Decimal,
    /// An address.
    Ip,
    /// An instant.
    Time,
    /// An object with members of its own.
    Object,
}

/// Every name that lines of a kind can have, beside those of the envelope.
pub fn names(schema: Schema, kind: Kind) -> Vec<MemberName> {
    match schema {
        Schema::Native => native::names(kind),
        Schema::Ecs => ecs::names(kind),
    }
}

impl Shape {
    /// The shape of a whole field of this type; none for a type whose fields have parts instead.
    fn of(ty: Type) -> Option<Shape> {
        match ty {
            Type::Integer | Type::Port | Type::IntegerList => Some(Shape::Integer),
            Type::Decimal | Type::ProcessingTime => Some(Shape::Decimal),
            Type::Ip => Some(Shape::Ip),
            Type::Time | Type::Timestamp => Some(Shape::Time),
            Type::Text | Type::CommaList | Type::SpaceList | Type::AlpnList => Some(Shape::Text),
            Type::Endpoint | Type::Request | Type::Validity => None,
        }
    }
}

/// What one line became.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The line's kind; none if it was not parsed, or held an event that was made before.
    pub kind: Option<Kind>,
    /// Whether the event has the raw text only.
    pub unparsed: bool,
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
    schema: Schema,
    include_original: bool,
    resend: bool,
    envelope: Envelope,
}

/// What is needed to write one event, reused from line to line.
#[derive(Debug, Default)]
pub struct Scratch<'a> {
    tokens: Vec<Token<'a>>,
    fields: Fields<'a>,
}

/// The fields of one line, read.
#[derive(Debug, Default)]
struct Fields<'a> {
    /// In the order of the format's table, as many as the line has.
    readings: Vec<Reading<'a>>,
    invalid: Vec<InvalidField<'a>>,
}

/// A field that is not of its type.
#[derive(Clone, Copy, Debug)]
struct InvalidField<'a> {
    name: Name,
    raw: &'a [u8],
}

/// A parsed line on its way into an event.
struct Parsed<'e, 't, 'a> {
    line: &'e Line<'a>,
    record: &'e Record<'t, 'a>,
    fields: &'e Fields<'a>,
    /// No field needs decoding or escaping.
    clean: bool,
}

impl EventWriter {
    /// A writer for the lines of one object. `modified` stands in for the time of lines that have none of their own where the
    /// key names none.
    pub fn new(settings: &EventSettings, origin: &Origin, modified: jiff::Timestamp) -> Self {
        let EventSettings { schema, include_original, resend, .. } = *settings;
        EventWriter { schema, include_original, resend, envelope: Envelope::new(settings, origin, modified) }
    }

    /// Appends the event of one line: parsed, or unparsed with its raw text. There is no line without an event.
    pub fn write<'a>(&self, out: &mut Vec<u8>, line: &Line<'a>, scratch: &mut Scratch<'a>) -> Written {
        let Scratch { tokens, fields } = scratch;
        let parsed = if line.truncated { Err(LineError::TooLong { at: line.text.len() }) } else { parse(line.text, tokens) };
        match parsed {
            Ok(record) => self.write_parsed(out, line, &record, fields),
            Err(LineError::Json) if self.resend && line.text.starts_with(DEAD_LETTER_START) => self.write_again(out, line),
            Err(LineError::Json) => self.write_vended(out, line),
            Err(error) => self.write_unparsed(out, line, &error.to_string()),
        }
    }

    fn write_parsed<'a>(&self, out: &mut Vec<u8>, line: &Line<'a>, record: &Record<'_, 'a>, fields: &mut Fields<'a>) -> Written {
        fields.read(record);
        let parsed = Parsed { line, record, fields, clean: is_clean(line.text, record.tokens) };
        match self.schema {
            Schema::Native => native::write(out, &self.envelope, &parsed, self.include_original),
            Schema::Ecs => ecs::write(out, &self.envelope, &parsed, self.include_original),
        }
        Written {
            kind: Some(record.kind),
            unparsed: false,
            short: record.is_short(),
            invalid_fields: count(fields.invalid.len()),
            extra_fields: count(record.extras().iter().filter(|token| !token.is_absent()).count()),
        }
    }

    /// A JSON line of a delivery through CloudWatch Logs is read like any other, once its members stand in the order of fields.
    fn write_vended(&self, out: &mut Vec<u8>, line: &Line<'_>) -> Written {
        match vended::read(line.text) {
            Ok(vended) => {
                let tokens = vended.tokens();
                self.write_parsed(out, line, &vended.record(&tokens), &mut Fields::default())
            }
            Err(error) => self.write_unparsed(out, line, &error.message),
        }
    }

    /// The event of a dead letter keeps its id, and every digit.
    fn write_again(&self, out: &mut Vec<u8>, line: &Line<'_>) -> Written {
        match event_of(line.text) {
            Some(event) => {
                out.extend_from_slice(event.get().as_bytes());
                Written::default()
            }
            None => self.write_unparsed(out, line, "a damaged line of a dead letter"),
        }
    }

    /// Unparsed events are the same in both schemas.
    fn write_unparsed(&self, out: &mut Vec<u8>, line: &Line<'_>, reason: &str) -> Written {
        self.envelope.write_head(out, line.offset, self.envelope.fallback_time.as_bytes());
        self.envelope.write_place(out, line.offset);
        out.extend_from_slice(br#","event":{"original":"#);
        json::string(out, &show_invalid(line.text));
        let truncated: &[u8] = if line.truncated { br#","_elbtruncated""# } else { b"" };
        out.extend_from_slice(br#"},"tags":["_elbparsefailure""#);
        out.extend_from_slice(truncated);
        out.extend_from_slice(br#"],"error":{"message":"#);
        json::string(out, reason);
        out.extend_from_slice(b"}}");
        Written { unparsed: true, ..Written::default() }
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self, record: &Record<'_, 'a>) {
        self.readings.clear();
        self.invalid.clear();
        for (field, token) in record.fields() {
            let reading = field.ty.read(token);
            match reading {
                Reading::Invalid => self.invalid.push(InvalidField { name: field.native.whole, raw: token.raw }),
                Reading::Value(Value::Endpoint(Endpoint { port: Port::Invalid(raw), .. })) => {
                    self.invalid.push(InvalidField { name: field.native.port, raw });
                }
                Reading::Value(_) | Reading::Absent => {}
            }
            self.readings.push(reading);
        }
    }

    /// The value of a field, if the line has one.
    fn value(&self, index: usize) -> Option<Value<'a>> {
        match self.readings.get(index) {
            Some(Reading::Value(value)) => Some(*value),
            _ => None,
        }
    }
}

impl<'a> Parsed<'_, '_, 'a> {
    /// The line's own time, as logged.
    fn own_time(&self) -> Option<&'a [u8]> {
        self.fields().find_map(|(field, value)| match value {
            Value::Time(time) if field.is_timestamp() => Some(time),
            _ => None,
        })
    }

    /// The event's time.
    fn time<'e>(&self, envelope: &'e Envelope) -> &'e [u8]
    where
        'a: 'e,
    {
        self.own_time().unwrap_or(envelope.fallback_time.as_bytes())
    }

    fn fields(&self) -> impl Iterator<Item = (&'static Field, Value<'a>)> {
        self.record.format.fields.iter().zip(&self.fields.readings).filter_map(|(field, reading)| match reading {
            Reading::Value(value) => Some((field, *value)),
            Reading::Absent | Reading::Invalid => None,
        })
    }

    /// The tags as a JSON array; none if there is nothing to say.
    fn tags(&self) -> Option<&'static str> {
        match (!self.fields.invalid.is_empty(), self.record.is_short()) {
            (false, false) => None,
            (true, false) => Some(r#"["_elbfieldfailure"]"#),
            (false, true) => Some(r#"["_elbshortline"]"#),
            (true, true) => Some(r#"["_elbfieldfailure","_elbshortline"]"#),
        }
    }
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
