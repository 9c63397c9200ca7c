//! Reads JSON lines, which CloudWatch Logs deliveries write to S3.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/AWS-logs-and-resource-policy.html>
//!
//! The member names are those that AWS documents for these deliveries; no real sample was available for comparison.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::format::{Format, Kind, Record, Token, Type, TypeMember, split_ingest_time};

/// A JSON line with its members in the order of its format's fields.
#[derive(Debug)]
pub(super) struct Vended<'a> {
    kind: Kind,
    format: &'static Format,
    /// The value of each field of the format.
    values: Vec<Option<Cow<'a, str>>>,
    /// Members that are not fields of the format, as `key=value`.
    extras: Vec<String>,
    /// Number of members that are not fields of the format and have no value.
    absent_extras: usize,
    /// The timestamp that an export of CloudWatch Logs wrote before the line.
    ingest_time: Option<&'a [u8]>,
}

/// Why a JSON line cannot be read as a load balancer log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VendedError {
    /// The reason, for the event's `error.message`.
    pub message: String,
    /// The position in the line, in bytes.
    pub at: usize,
}

/// The value of a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MemberValue<'a> {
    Null,
    /// The text of a string, or the JSON of a number, so that all digits are kept, a boolean or an object.
    Text(Cow<'a, str>),
    /// The JSON of an array.
    Array(&'a str),
}

/// Reads a JSON line.
///
/// # Errors
/// The line is not a JSON object, or it has no member that identifies a load balancer log.
pub(super) fn read(line: &[u8]) -> Result<Vended<'_>, VendedError> {
    let (ingest_time, json) = split_ingest_time(line);
    let members = members_of(json, line.len() - json.len())?;
    let Some(kind) = kind_of(&members) else {
        let message = "JSON, not a log line: it has no type, and no member that only one log type has (byte 0)".to_owned();
        return Err(VendedError { message, at: 0 });
    };
    Ok(Vended { ingest_time, ..Vended::of(kind, kind.format(), members) })
}

impl<'a> Vended<'a> {
    /// Puts the members into the order of a format's fields.
    pub(super) fn of(kind: Kind, format: &'static Format, members: Vec<(Key<'a>, MemberValue<'a>)>) -> Self {
        let fields = format.fields;
        let (values, extras) = (vec![None; fields.len()], Vec::new());
        let mut vended = Vended { kind, format, values, extras, absent_extras: 0, ingest_time: None };
        // Most lines have their members in the order of the fields.
        let mut next = 0;
        for (Key(key), value) in members {
            let is_next = fields.get(next).is_some_and(|field| field.is_called(&key));
            let found = if is_next { Some(next) } else { fields.iter().position(|field| field.is_called(&key)) };
            next = found.map_or(next, |index| index + 1);
            match (found, value) {
                (Some(_), MemberValue::Null) => {}
                (Some(index), value) if vended.values[index].is_none() => {
                    vended.values[index] = value.into_text(fields[index].ty);
                }
                // An unknown member, or the second value of a field.
                (_, value) => vended.add_extra(&key, value),
            }
        }
        vended
    }

    fn add_extra(&mut self, key: &str, value: MemberValue<'_>) {
        match value {
            MemberValue::Text(text) if !matches!(&*text, "" | "-") => self.extras.push(format!("{key}={text}")),
            MemberValue::Array(json) => self.extras.push(format!("{key}={json}")),
            MemberValue::Null | MemberValue::Text(_) => self.absent_extras += 1,
        }
    }
}

impl<'a> MemberValue<'a> {
    /// Returns the text that a field of this type has in a plain line; none for null.
    fn into_text(self, ty: Type) -> Option<Cow<'a, str>> {
        match self {
            MemberValue::Null => None,
            MemberValue::Text(text) => Some(text),
            MemberValue::Array(json) => Some(joined(json, ty).unwrap_or(Cow::Borrowed(json))),
        }
    }
}

/// Joins the items of an array as a field of this type has them; none for a type that is not a list, unless there is one item.
fn joined(json: &str, ty: Type) -> Option<Cow<'_, str>> {
    let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    let items: Result<Vec<Cow<'_, str>>, _> = items.into_iter().map(|item| text_of(item.get())).collect();
    let items = items.ok()?;
    match ty {
        Type::WordList | Type::AlpnList => Some(items.join(",").into()),
        Type::TargetList | Type::IntegerList => Some(items.join(" ").into()),
        _ => <[Cow<'_, str>; 1]>::try_from(items).ok().map(|[only]| only),
    }
}

/// Returns the text of a JSON value that is not an array: that of a string, `-` for null, and the JSON of any other value.
fn text_of(json: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    match json {
        "null" => Ok(Cow::Borrowed("-")),
        json if json.starts_with('"') => string(json),
        json => Ok(Cow::Borrowed(json)),
    }
}

impl<'a> Vended<'a> {
    /// Returns the fields as the tokens of a complete line. A missing member becomes `-`.
    pub(super) fn tokens(&self) -> Vec<Token<'_>> {
        let known = self.values.iter().map(|value| value.as_deref().unwrap_or("-"));
        let extras = self.extras.iter().map(String::as_str);
        known.chain(extras).map(|text| Token { raw: text.as_bytes(), quoted: false, at: 0 }).collect()
    }

    /// Returns the record of the tokens that [`Vended::tokens`] returned.
    pub(super) fn record<'t, 'v>(&self, tokens: &'t [Token<'v>]) -> Record<'t, 'v>
    where
        'a: 'v,
    {
        // The name of a member says what it is, so that none is misplaced.
        Record { kind: self.kind, format: self.format, tokens, misplaced: 0, ingest_time: self.ingest_time, plain: false }
    }

    /// Returns the number of members that are not fields of the format and have no value. They are not among the tokens.
    pub(super) fn absent_extras(&self) -> usize {
        self.absent_extras
    }
}

/// Reads the members of a JSON object in their order. `start` is the position of the object in its line.
pub(super) fn members_of(json: &[u8], start: usize) -> Result<Vec<(Key<'_>, MemberValue<'_>)>, VendedError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = deserializer.deserialize_map(Members).and_then(|members| deserializer.end().map(|()| members));
    members.map_err(|error| {
        let at = start + error.column().saturating_sub(1);
        VendedError { message: format!("JSON, not a log line: {error} (byte {at})"), at }
    })
}

/// The names of members that only one kind has, sorted, with that kind.
static IDENTIFYING_NAMES: LazyLock<Vec<(String, Kind)>> = LazyLock::new(|| {
    let kinds = || Kind::ALL.into_iter().filter(|kind| kind.format().vended.is_some());
    let kinds_with = |name: &str| kinds().filter(|kind| kind.format().fields.iter().any(|field| field.is_called(name))).count();
    let names = kinds().flat_map(|kind| kind.format().fields.iter().map(move |field| (field, kind)));
    let names = names.flat_map(|(field, kind)| {
        let aliases = field.aliases.iter().map(|alias| (*alias).to_owned());
        aliases.chain([field.aws.to_owned(), field.aws.replace(':', "_")]).map(move |name| (name, kind))
    });
    let mut names: Vec<(String, Kind)> = names.filter(|(name, _)| kinds_with(name) == 1).collect();
    names.sort();
    names.dedup();
    names
});

/// Returns the kind of log that the members identify: by its own value of `type`, by the first name that only one kind has, or by
/// any other `type`.
fn kind_of(members: &[(Key<'_>, MemberValue<'_>)]) -> Option<Kind> {
    let ty = members.iter().find_map(|(key, value)| match value {
        MemberValue::Text(text) if key.0 == "type" => Some(&**text),
        _ => None,
    });
    let with_type = |found: TypeMember| Kind::ALL.into_iter().find(|kind| kind.format().vended == Some(found));
    let by_value = ty.and_then(|ty| {
        Kind::ALL.into_iter().find(|kind| matches!(kind.format().vended, Some(TypeMember::Is(value)) if value == ty))
    });
    let names = members.iter().filter(|(_, value)| *value != MemberValue::Null).map(|(key, _)| &*key.0);
    by_value.or_else(|| names.filter_map(kind_named).next()).or_else(|| ty.and_then(|_| with_type(TypeMember::AnyOther)))
}

/// Returns the kind that alone has a member of this name.
fn kind_named(name: &str) -> Option<Kind> {
    let names = &*IDENTIFYING_NAMES;
    names.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok().map(|index| names[index].1)
}

/// A member's name. It is copied only if it contains an escape.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads the members of an object in their order.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Key<'de>, MemberValue<'de>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            let value = match value.get() {
                "null" => MemberValue::Null,
                json if json.starts_with('[') => MemberValue::Array(json),
                json => MemberValue::Text(text_of(json).map_err(A::Error::custom)?),
            };
            members.push((key, value));
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
            show(r#"{"type":null}"#).starts_with("at 0: JSON, not a log line: it has no type"),
            "{}",
            show(r#"{"type":null}"#)
        );
    }

    #[test]
    fn members_without_a_value_are_counted() {
        let vended = read(br#"{"type":"h2","new":"-","other":null,"elb":null,"third":""}"#).expect("an ALB line");
        assert_eq!((vended.absent_extras(), vended.extras.len()), (3, 0));
    }

    macro_rules! recognises {
        ($($name:ident: $line:literal => $expected:literal,)*) => {
            $(#[test] fn $name() { assert_eq!(show($line), $expected); })*
        };
    }

    recognises! {
        alb_by_its_target: r#"{"elb":"app/web/1","target_port":"10.0.0.1:80"}"# => "alb: elb=app/web/1 target:port=10.0.0.1:80",
        alb_by_its_error_reason: r#"{"error_reason":"WAFConnectionError"}"# => "alb: error_reason=WAFConnectionError",
        connection_by_its_client_address: r#"{"client_ip":"192.0.2.1"}"# => "alb_connection: client_ip=192.0.2.1",
        connection_by_its_handshake: r#"{"timestamp":"t","tls_handshake_latency":0.1}"# => "alb_connection: timestamp=t tls_handshake_latency=0.1",
        health_check_by_its_status: r#"{"type":"http","status":"PASS"}"# => "alb_health_check: type=http status=PASS",
        health_check_by_its_reason: r#"{"elb":"app/web/1","reason_code":"TimedOut"}"# => "alb_health_check: reason_code=TimedOut elb=app/web/1",
        nlb_by_its_version: r#"{"type":"tcp","version":"2.0"}"# => "nlb: type=tcp version=2.0",
        nlb_by_its_destination: r#"{"destination_port":"10.0.0.1:443"}"# => "nlb: destination:port=10.0.0.1:443",
        nlb_by_its_type: r#"{"type":"tls","elb":"net/edge/1"}"# => "nlb: type=tls elb=net/edge/1",
        alb_by_any_other_type: r#"{"type":"h3","elb":"app/web/1"}"# => "alb: type=h3 elb=app/web/1",
        nothing_by_common_names: r#"{"elb":"app/web/1","client_port":"192.0.2.1:80","conn_trace_id":"TID_1"}"# =>
            "at 0: JSON, not a log line: it has no type, and no member that only one log type has (byte 0)",
        array_of_words: r#"{"actions_executed":["waf","forward"]}"# => "alb: actions_executed=waf,forward",
        array_of_targets: r#"{"target_port_list":["10.0.4.9:9000","10.0.4.10:9000"]}"# => "alb: target:port_list=10.0.4.9:9000 10.0.4.10:9000",
        array_of_numbers: r#"{"target_status_code_list":[502,null,"200"]}"# => "alb: target_status_code_list=502 - 200",
        array_of_protocols: r#"{"alpn_client_preference_list":["h2","http/1.1"]}"# => "nlb: alpn_client_preference_list=h2,http/1.1",
        array_without_items: r#"{"version":"2.0","alpn_client_preference_list":[]}"# => "nlb: version=2.0 alpn_client_preference_list=",
        array_of_one_item_for_a_single_value: r#"{"listener_port":[443]}"# => "alb_connection: listener_port=443",
        array_of_items_for_a_single_value: r#"{"listener_port":[443,"a"]}"# => r#"alb_connection: listener_port=[443,"a"]"#,
        array_of_an_unknown_member: r#"{"type":"h2","zones":["a","b"]}"# => r#"alb: type=h2 +zones=["a","b"]"#,
        behind_the_timestamp_of_an_export: r#"2026-08-19T21:34:48.000Z {"listener_port":443}"# => "alb_connection: listener_port=443",
        broken_behind_the_timestamp_of_an_export: r#"2026-08-19T21:34:48.000Z {"type":"# =>
            "at 32: JSON, not a log line: EOF while parsing a value at line 1 column 8 (byte 32)",
    }

    #[test]
    fn rejects_half_of_a_surrogate_pair() {
        let shown = show(r#"{"type":"h2","elb":"\ud83d"}"#);
        assert!(
            shown.contains("JSON, not a log line: ") && shown.contains("surrogate")
                || shown.contains("unexpected end of hex escape"),
            "{shown}"
        );
    }
}
