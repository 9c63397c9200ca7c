//! JSON lines, as the deliveries of CloudWatch Logs write them to S3.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/AWS-logs-and-resource-policy.html>
//!
//! No genuine sample was at hand: this follows the field names that AWS publishes for these deliveries.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::format::{Field, Kind, Record, Token};

/// A JSON line whose members are in the order of its kind's fields.
#[derive(Debug)]
pub(super) struct Vended<'a> {
    kind: Kind,
    /// One for each field of the kind.
    values: Vec<Option<Cow<'a, str>>>,
    /// Members that are no field, as `key=value`.
    extras: Vec<String>,
}

/// Reads a JSON line.
///
/// # Errors
/// A reason, for a text that is no JSON object or none of a load balancer's.
pub(super) fn read(line: &[u8]) -> Result<Vended<'_>, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let members = deserializer.deserialize_map(Members).and_then(|members| deserializer.end().map(|()| members));
    let members = members.map_err(|error| format!("{error} (byte {})", error.column().saturating_sub(1)))?;
    let kind =
        kind_of(&members).ok_or_else(|| "it has none of the members type, listener_port, target_group_id (byte 0)".to_owned())?;
    let fields = kind.format().fields;
    let mut vended = Vended { kind, values: vec![None; fields.len()], extras: Vec::new() };
    for (key, value) in members {
        let Some(value) = value else { continue };
        match fields.iter().position(|field| is_called(field, &key)) {
            Some(index) => vended.values[index] = Some(value),
            None if value == "-" => {}
            None => vended.extras.push(format!("{key}={value}")),
        }
    }
    Ok(vended)
}

impl Vended<'_> {
    /// The fields as tokens of a line that lacks none of them.
    pub fn tokens(&self) -> Vec<Token<'_>> {
        let known = self.values.iter().map(|value| value.as_deref().unwrap_or("-"));
        let extras = self.extras.iter().map(String::as_str);
        known.chain(extras).map(|text| Token { raw: text.as_bytes(), quoted: false, at: 0 }).collect()
    }

    /// The record of [`Vended::tokens`].
    pub fn record<'t, 'v>(&self, tokens: &'t [Token<'v>]) -> Record<'t, 'v> {
        Record { kind: self.kind, format: self.kind.format(), tokens }
    }
}

fn kind_of(members: &[(String, Option<Cow<'_, str>>)]) -> Option<Kind> {
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_deref());
    if member("type") == Some(Some("tls")) {
        Some(Kind::Nlb)
    } else if member("target_group_id").is_some() || member("latency").is_some() {
        Some(Kind::AlbHealthCheck)
    } else if member("listener_port").is_some() {
        Some(Kind::AlbConnection)
    } else {
        member("type").map(|_| Kind::Alb)
    }
}

/// Keys cannot hold AWS's colons, and some fields have had another name.
fn is_called(field: &Field, key: &str) -> bool {
    let plain = field.aws.len() == key.len()
        && field.aws.bytes().zip(key.bytes()).all(|(aws, key)| aws == key || (aws == b':' && key == b'_'));
    plain
        || match key {
            "request_line" => field.aws == "request",
            "time" | "timestamp" => field.is_timestamp(),
            "tls_named_group" => field.aws == "tls_keyexchange",
            _ => false,
        }
}

/// Reads an object's members in order, every value as text; null is none.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Option<Cow<'de, str>>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
            members.push((key, text_of(value.get())));
        }
        Ok(members)
    }
}

/// Numbers keep the digits that they are written with.
fn text_of(json: &str) -> Option<Cow<'_, str>> {
    if json == "null" {
        return None;
    }
    let inside = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    match inside {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        Some(_) => serde_json::from_str(json).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(json)),
    }
}
