//! Records to events: one JSON object a line, written straight into a batch's buffer.

mod ecs;
mod envelope;
mod id;
mod json;
mod native;
mod vended;

pub mod explain;

use self::envelope::Envelope;
pub use self::id::IdPrefix;
use self::id::Offset;
use crate::buffer::Buffer;
use crate::dead_letter::{DEAD_LETTER_START, event_of};
use crate::format::{
    Field, Format, HostPort, Kind, LineError, Name, Port, Reading, ReadingVisitor, Record, Token, TokenBuffer, Type, Value,
    parse, show_invalid,
};
use crate::lines::Line;
use crate::origin::Origin;

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
pub fn names(schema: Schema, format: &Format) -> Vec<MemberName> {
    match schema {
        Schema::Native => native::names(format),
        Schema::Ecs => ecs::names(format),
    }
}

impl Shape {
    /// The shape of a whole field of this type; none for a type whose fields have parts instead.
    fn of(ty: Type) -> Option<Shape> {
        match ty {
            Type::Integer | Type::Port | Type::IntegerList => Some(Shape::Integer),
            Type::Decimal | Type::ProcessingTime => Some(Shape::Decimal),
            Type::Ip | Type::NodeIp => Some(Shape::Ip),
            Type::Time | Type::Timestamp => Some(Shape::Time),
            Type::Text | Type::CommaList | Type::SpaceList | Type::AlpnList => Some(Shape::Text),
            Type::HostPort | Type::Request | Type::Validity => None,
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
    tokens: TokenBuffer<'a>,
    fields: Fields<'a>,
}

/// The fields of one line, read.
#[derive(Debug, Default)]
struct Fields<'a> {
    /// In the order of the format's table, as many as the line has.
    readings: Vec<Reading<'a>>,
    /// A bit for each of them that is a value.
    values: u64,
    invalid: Vec<InvalidField<'a>>,
}

/// A field that is not of its type.
#[derive(Clone, Copy, Debug)]
struct InvalidField<'a> {
    name: &'static Name,
    raw: &'a [u8],
}

/// A parsed line on its way into an event whose members are not in the order of fields.
struct Parsed<'e, 't, 'a> {
    line: &'e Line<'a>,
    record: &'e Record<'t, 'a>,
    fields: &'e Fields<'a>,
}

impl EventWriter {
    /// A writer for the lines of one object. `modified` stands in for the time of lines that have none of their own where the
    /// key names none.
    pub fn new(settings: &EventSettings, origin: &Origin, modified: jiff::Timestamp) -> Self {
        let EventSettings { schema, include_original, resend, .. } = *settings;
        EventWriter { schema, include_original, resend, envelope: Envelope::new(settings, origin, modified) }
    }

    /// Appends the event of one line: parsed, or unparsed with its raw text. There is no line without an event.
    pub fn write<'a>(&self, out: &mut Buffer, line: &Line<'a>, scratch: &mut Scratch<'a>) -> Written {
        let Scratch { tokens, fields } = scratch;
        let parsed = if line.truncated { Err(LineError::TooLong { at: line.text.len() }) } else { parse(line.text, tokens) };
        match parsed {
            Ok(record) => self.write_parsed(out, line, &record, fields),
            Err(LineError::Json) if self.resend && line.text.starts_with(DEAD_LETTER_START) => self.write_again(out, line),
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
            invalid_fields: count(fields.invalid.len()),
            extra_fields: count(record.extras().iter().filter(|token| !token.is_absent()).count()),
        }
    }

    /// A JSON line of a delivery through CloudWatch Logs is read like any other, once its members stand in the order of fields.
    fn write_vended(&self, out: &mut Buffer, line: &Line<'_>) -> Written {
        match vended::read(line.text) {
            Ok(vended) => {
                let tokens = vended.tokens();
                self.write_parsed(out, line, &vended.record(&tokens), &mut Fields::default())
            }
            Err(error) => self.write_unparsed(out, line, &error.message),
        }
    }

    /// The event of a dead letter keeps its id, and every digit.
    fn write_again(&self, out: &mut Buffer, line: &Line<'_>) -> Written {
        match event_of(line.text) {
            Some(event) => {
                out.put(event.get().as_bytes());
                Written::default()
            }
            None => self.write_unparsed(out, line, "a damaged line of a dead letter"),
        }
    }

    /// Unparsed events are the same in both schemas.
    fn write_unparsed(&self, out: &mut Buffer, line: &Line<'_>, reason: &str) -> Written {
        let offset = Offset::of(line.offset);
        self.envelope.write_head(out, &offset, self.envelope.fallback_time.as_bytes());
        self.envelope.write_place(out, &offset);
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

impl<'a> Fields<'a> {
    fn read(&mut self, record: &Record<'_, 'a>) {
        self.readings.clear();
        self.invalid.clear();
        self.values = 0;
        for (index, (field, token)) in record.fields().enumerate() {
            self.readings.push(Reading::Absent);
            if let Some(reading) = self.readings.last_mut() {
                let (invalid, values) = (&mut self.invalid, &mut self.values);
                field.ty.read_to(token, KeepField { reading, invalid, values, bit: bit_of(index), field, token });
            }
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

/// The bit of a field in [`Fields::values`]. No format comes near 60 fields; the bits beyond are for other purposes.
const fn bit_of(index: usize) -> u64 {
    1 << index
}

/// Keeps what a field was read as.
struct KeepField<'f, 't, 'a> {
    reading: &'f mut Reading<'a>,
    invalid: &'f mut Vec<InvalidField<'a>>,
    values: &'f mut u64,
    bit: u64,
    field: &'static Field,
    token: &'t Token<'a>,
}

impl<'a> ReadingVisitor<'a> for KeepField<'_, '_, 'a> {
    #[inline(always)]
    fn visit(self, reading: Reading<'a>) {
        if let Some(field) = InvalidField::of(self.field, self.token, &reading) {
            self.invalid.push(field);
        }
        if matches!(reading, Reading::Value(_)) {
            *self.values |= self.bit;
        }
        *self.reading = reading;
    }
}

impl<'a> InvalidField<'a> {
    /// What of a field is not of its type, if it was read as `reading`.
    #[inline(always)]
    fn of(field: &'static Field, token: &Token<'a>, reading: &Reading<'a>) -> Option<Self> {
        match *reading {
            Reading::Invalid => Some(InvalidField { name: &field.native.whole, raw: token.raw }),
            Reading::Value(Value::HostPort(HostPort { port: Port::Invalid(raw), .. })) => {
                Some(InvalidField { name: &field.native.port, raw })
            }
            Reading::Value(_) | Reading::Absent => None,
        }
    }
}

/// The line's own time, as logged.
fn own_time<'a>(record: &Record<'_, 'a>) -> Option<&'a [u8]> {
    let (field, token) = record.fields().find(|(field, _)| field.is_timestamp())?;
    match field.ty.read(token) {
        Reading::Value(Value::Time(time)) => Some(time),
        _ => None,
    }
}

/// The tags as a JSON array; none if there is nothing to say.
fn tags(record: &Record<'_, '_>, invalid: &[InvalidField<'_>]) -> Option<&'static str> {
    match (!invalid.is_empty(), record.is_short()) {
        (false, false) => None,
        (true, false) => Some(r#"["_elbfieldfailure"]"#),
        (false, true) => Some(r#"["_elbshortline"]"#),
        (true, true) => Some(r#"["_elbfieldfailure","_elbshortline"]"#),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
