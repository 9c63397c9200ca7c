//! Reads JSON lines, which CloudWatch Logs deliveries write to S3.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/AWS-logs-and-resource-policy.html>
//!
//! The member names are those that AWS documents for these deliveries; no real sample was available for comparison.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::format::{Format, Kind, Record, Token, VendedMark};

/// A JSON line with its members in the order of its format's fields.
#[derive(Debug)]
pub(super) struct Vended<'a> {
    kind: Kind,
    format: &'static Format,
    /// The value of each field of the format.
    values: Vec<Option<Cow<'a, str>>>,
    /// Members that are not fields of the format, as `key=value`.
    extras: Vec<String>,
}

/// Why a JSON line cannot be read as a load balancer log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VendedError {
    /// The reason, for the event's `error.message`.
    pub message: String,
    /// The position in the line, in bytes.
    pub at: usize,
}

/// Reads a JSON line.
///
/// # Errors
/// The line is not a JSON object, or it has no member that identifies a load balancer log.
pub(super) fn read(line: &[u8]) -> Result<Vended<'_>, VendedError> {
    let members = members_of(line)?;
    let Some(kind) = kind_of(&members) else {
        let message = format!("JSON that is no log line: it has none of the members {} (byte 0)", identifying_members());
        return Err(VendedError { message, at: 0 });
    };
    Ok(Vended::of(kind, kind.format(), members))
}

impl<'a> Vended<'a> {
    /// Puts the members into the order of a format's fields.
    pub(super) fn of(kind: Kind, format: &'static Format, members: Vec<(Key<'a>, Cow<'a, str>)>) -> Self {
        let fields = format.fields;
        let mut vended = Vended { kind, format, values: vec![None; fields.len()], extras: Vec::new() };
        // Most lines have their members in the order of the fields.
        let mut next = 0;
        for (Key(key), value) in members {
            let is_next = fields.get(next).is_some_and(|field| field.is_called(&key));
            let found = if is_next { Some(next) } else { fields.iter().position(|field| field.is_called(&key)) };
            next = found.map_or(next, |index| index + 1);
            match found {
                Some(index) if vended.values[index].is_none() => vended.values[index] = Some(value),
                _ if matches!(&*value, "" | "-") => {}
                // An unknown member, or the second value of a field.
                _ => vended.extras.push(format!("{key}={value}")),
            }
        }
        vended
    }
}

impl Vended<'_> {
    /// Returns the fields as the tokens of a complete line. A missing member becomes `-`.
    pub(super) fn tokens(&self) -> Vec<Token<'_>> {
        let known = self.values.iter().map(|value| value.as_deref().unwrap_or("-"));
        let extras = self.extras.iter().map(String::as_str);
        known.chain(extras).map(|text| Token { raw: text.as_bytes(), quoted: false, at: 0 }).collect()
    }

    /// Returns the record of the tokens that [`Vended::tokens`] returned.
    pub(super) fn record<'t, 'v>(&self, tokens: &'t [Token<'v>]) -> Record<'t, 'v> {
        Record { kind: self.kind, format: self.format, tokens, plain: false }
    }
}

/// Reads the members of a JSON object in their order.
pub(super) fn members_of(line: &[u8]) -> Result<Vec<(Key<'_>, Cow<'_, str>)>, VendedError> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let members = deserializer.deserialize_map(Members).and_then(|members| deserializer.end().map(|()| members));
    members.map_err(|error| {
        let at = error.column().saturating_sub(1);
        VendedError { message: format!("JSON that is no log line: {error} (byte {at})"), at }
    })
}

/// Returns the kind of log that the members identify.
fn kind_of(members: &[(Key<'_>, Cow<'_, str>)]) -> Option<Kind> {
    let has = |name: &str, value: Option<&str>| {
        members.iter().any(|(key, found)| key.0 == name && value.is_none_or(|value| found == value))
    };
    let is_marked = |kind: &Kind| {
        kind.format().vended.iter().any(|mark| match *mark {
            VendedMark::Has(name) => has(name, None),
            VendedMark::Is(name, value) => has(name, Some(value)),
        })
    };
    // A line may match several kinds. A later kind in the list has the more specific marks.
    Kind::ALL.into_iter().rev().find(is_marked)
}

/// Returns the names of the members that identify a kind, as a list for an error message.
fn identifying_members() -> String {
    let mut names: Vec<&str> = Vec::new();
    for kind in Kind::ALL {
        let name = kind.format().vended.first().map(|mark| match *mark {
            VendedMark::Has(name) | VendedMark::Is(name, _) => name,
        });
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names.join(", ")
}

/// A member's name. It is copied only if it contains an escape.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads the members of an object in their order, with every value as text. Members that are null are skipped.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Key<'de>, Cow<'de, str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            match value.get() {
                "null" => {}
                json if json.starts_with('"') => members.push((key, string(json).map_err(A::Error::custom)?)),
                // The JSON text of a number keeps all digits.
                json => members.push((key, Cow::Borrowed(json))),
            }
        }
        Ok(members)
    }
}

/// Returns the text of a JSON string. Fails for half of a surrogate pair, which is valid JSON but not valid text.
fn string(json: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    match json.get(1..json.len() - 1) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(json).map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows kind, values and extras, or the error.
    fn show(line: &str) -> String {
        match read(line.as_bytes()) {
            Err(error) => format!("at {}: {}", error.at, error.message),
            Ok(vended) => {
                let fields = vended.kind.format().fields.iter().zip(&vended.values);
                let values = fields.filter_map(|(field, value)| Some(format!("{}={}", field.aws, value.as_deref()?)));
                let values: Vec<String> = values.chain(vended.extras.iter().map(|extra| format!("+{extra}"))).collect();
                format!("{}: {}", vended.kind, values.join(" "))
            }
        }
    }

    #[test]
    fn assigns_members_to_fields_and_keeps_the_others() {
        assert_eq!(show(r#"{"type":"h2","elb":"a","elb":"b"}"#), "alb: type=h2 elb=a +elb=b");
        assert_eq!(show(r#"{"type":"h2","request_line":"x","request":"y"}"#), "alb: type=h2 request=x +request=y");
        assert_eq!(show(r#"{"type":"tls","type":"http"}"#), "nlb: type=tls +type=http");
        assert_eq!(show(r#"{"type":"h2","new":"","other":"-","third":0}"#), "alb: type=h2 +third=0");
        assert_eq!(show(r#"{"type":"h2","latency":null}"#), "alb: type=h2");
        assert!(
            show(r#"{"type":null}"#).starts_with("at 0: JSON that is no log line: it has none"),
            "{}",
            show(r#"{"type":null}"#)
        );
    }

    #[test]
    fn rejects_half_of_a_surrogate_pair() {
        let shown = show(r#"{"type":"h2","elb":"\ud83d"}"#);
        assert!(
            shown.contains("JSON that is no log line: ") && shown.contains("surrogate")
                || shown.contains("unexpected end of hex escape"),
            "{shown}"
        );
    }
}
