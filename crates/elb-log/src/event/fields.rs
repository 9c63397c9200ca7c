//! The fields of one line, read by their types.

use crate::format::{Field, HostPort, Name, Port, Reading, ReadingVisitor, Record, Token, Value};
use crate::lines::Line;

/// The fields of one line, read.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    /// The readings in the order of the format's table, as many as the line has fields.
    pub(super) readings: Vec<Reading<'a>>,
    /// A bit for each reading that is a value.
    pub(super) values: u64,
    /// The fields that are not of their type.
    pub(super) invalid: Vec<InvalidField<'a>>,
}

/// A field that is not of its type.
#[derive(Clone, Copy, Debug)]
pub(super) struct InvalidField<'a> {
    pub(super) name: &'static Name,
    pub(super) raw: &'a [u8],
}

/// A parsed line whose event does not have its members in the order of the fields.
pub(super) struct Parsed<'e, 't, 'a> {
    pub(super) line: &'e Line<'a>,
    pub(super) record: &'e Record<'t, 'a>,
    pub(super) fields: &'e Fields<'a>,
}

impl<'a> Fields<'a> {
    /// Reads the fields of a record, in place of those of the record before.
    pub(super) fn read(&mut self, record: &Record<'_, 'a>) {
        self.readings.clear();
        self.invalid.clear();
        self.values = 0;
        if record.misplaced != 0 {
            return self.read_misplaced(record);
        }
        for (index, (field, token)) in record.fields().enumerate() {
            self.readings.push(Reading::Absent);
            if let Some(reading) = self.readings.last_mut() {
                let (invalid, values) = (&mut self.invalid, &mut self.values);
                field.ty.read_to(token, KeepField { reading, invalid, values, bit: bit_of(index), field, token });
            }
        }
    }

    /// Reads the fields of a record of which some have the text of other fields.
    #[cold]
    fn read_misplaced(&mut self, record: &Record<'_, 'a>) {
        for (index, (field, token)) in record.fields().enumerate() {
            let reading = if record.is_misplaced(index) { Reading::Invalid } else { field.ty.read(token) };
            self.invalid.extend(InvalidField::of(field, token, &reading));
            self.values |= if matches!(reading, Reading::Value(_)) { bit_of(index) } else { 0 };
            self.readings.push(reading);
        }
    }

    /// Returns the value of a field, if the line has one.
    pub(super) fn value(&self, index: usize) -> Option<Value<'a>> {
        match self.readings.get(index) {
            Some(Reading::Value(value)) => Some(*value),
            _ => None,
        }
    }
}

/// Returns the bit of a field in [`Fields::values`]. No format comes near 60 fields; the bits beyond have other purposes.
pub(super) const fn bit_of(index: usize) -> u64 {
    1 << index
}

/// Keeps the reading of a field.
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
    /// Returns the part of a field that is not of its type, if the field was read as `reading`.
    #[inline(always)]
    pub(super) fn of(field: &'static Field, token: &Token<'a>, reading: &Reading<'a>) -> Option<Self> {
        match *reading {
            Reading::Invalid => Some(InvalidField { name: &field.native.whole, raw: token.raw }),
            Reading::Value(Value::HostPort(HostPort { port: Port::Invalid(raw), .. })) => {
                Some(InvalidField { name: &field.native.port, raw })
            }
            Reading::Value(_) | Reading::Absent => None,
        }
    }
}

/// Returns the line's own time, as logged.
pub(super) fn own_time<'a>(record: &Record<'_, 'a>) -> Option<&'a [u8]> {
    let (field, token) = record.fields().find(|(field, _)| field.is_timestamp())?;
    match field.ty.read(token) {
        Reading::Value(Value::Time(time)) => Some(time),
        _ => None,
    }
}

/// Returns the tags of an event as a JSON array; none for an event without tags.
pub(super) fn tags(record: &Record<'_, '_>, invalid: &[InvalidField<'_>]) -> Option<&'static str> {
    // A line is never both short and joined.
    match (!invalid.is_empty(), record.is_short(), record.is_joined()) {
        (false, false, false) => None,
        (true, false, false) => Some(r#"["_elbfieldfailure"]"#),
        (false, true, _) => Some(r#"["_elbshortline"]"#),
        (true, true, _) => Some(r#"["_elbfieldfailure","_elbshortline"]"#),
        (false, false, true) => Some(r#"["_elbextrafields"]"#),
        (true, false, true) => Some(r#"["_elbfieldfailure","_elbextrafields"]"#),
    }
}
