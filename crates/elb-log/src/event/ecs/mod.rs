//! The `ecs` schema: the same values under the names of the Elastic Common Schema.
//!
//! Its names are paths in a tree, and fields that are far apart in a line can belong to one group of the tree. So each format has a
//! plan, made once from its field table: all leaves, ordered so that those of one group follow each other.

mod plan;

use std::borrow::Cow;

use self::plan::{HostPortPart, INGESTED, INVALID, LABELS, ORIGINAL, RequestPart, Source};
pub(super) use self::plan::{Plan, names, plan};
use super::envelope::Envelope;
use super::fields::{Fields, Parsed, own_time, tags};
use super::id::Offset;
use super::json;
use super::native::{write_extras, write_invalid, write_list};
use crate::buffer::Buffer;
use crate::format::{EcsForm, Host, HostPort, Port, Reading, Request, Value, nanoseconds, show_invalid};

/// The version of the Elastic Common Schema that the names come from.
const ECS_VERSION: &str = "8.11.0";

/// Appends the event of a parsed line.
pub(super) fn write(out: &mut Buffer, plan: &Plan, envelope: &Envelope, parsed: &Parsed<'_, '_, '_>, include_original: bool) {
    let facts = Facts::of(plan, envelope, parsed, include_original);
    envelope.write_head(out, &facts.offset, facts.end.unwrap_or(envelope.fallback_time.as_bytes()));
    let has = facts.has();
    let (mut open, mut common) = (0, 0);
    for leaf in &plan.leaves {
        common = common.min(leaf.common);
        if leaf.needs & !has != 0 {
            continue;
        }
        let before = out.len();
        close(out, open - common);
        out.put(&leaf.starts[common]);
        if facts.write(out, leaf.source) {
            open = leaf.groups();
            common = open;
        } else {
            out.truncate(before);
        }
    }
    close(out, open + 1);
}

fn close(out: &mut Buffer, groups: usize) {
    for _ in 0..groups {
        out.push(b'}');
    }
}

/// Appends the members that one field becomes, flat: a comma, the dotted name, a colon and the value of each.
pub(super) fn write_field(out: &mut Buffer, plan: &Plan, index: usize, envelope: &Envelope, parsed: &Parsed<'_, '_, '_>) {
    let facts = Facts::of(plan, envelope, parsed, false);
    for leaf in plan.leaves.iter().filter(|leaf| leaf.source.field() == Some(index)) {
        let before = out.len();
        out.push(b',');
        json::string(out, &leaf.path);
        out.push(b':');
        if !facts.write(out, leaf.source) {
            out.truncate(before);
        }
    }
}

/// The values of a line that come from several fields or from none.
struct Facts<'p, 'e, 't, 'a> {
    envelope: &'p Envelope,
    parsed: &'p Parsed<'e, 't, 'a>,
    include_original: bool,
    offset: Offset,
    /// Whether the line is about a TCP connection rather than an HTTP request.
    tcp: bool,
    start: Option<&'a [u8]>,
    end: Option<&'a [u8]>,
    request: Option<Request<'a>>,
}

impl<'p, 'e, 't, 'a> Facts<'p, 'e, 't, 'a> {
    fn of(plan: &Plan, envelope: &'p Envelope, parsed: &'p Parsed<'e, 't, 'a>, include_original: bool) -> Self {
        let value = |index: Option<usize>| index.and_then(|index| parsed.fields.value(index));
        let status = value(plan.status).and_then(|value| if let Value::Number(number) = value { Some(number) } else { None });
        let start = value(plan.start).and_then(|value| if let Value::Time(time) = value { Some(time) } else { None });
        let request =
            value(plan.request).and_then(|value| if let Value::Request(raw) = value { Request::split(raw) } else { None });
        let tcp = parsed.record.format.traffic.is_tcp(status.is_some() || request.is_some());
        let offset = Offset::of(parsed.line.offset);
        Facts { envelope, parsed, include_original, offset, tcp, start, end: own_time(parsed.record), request }
    }

    /// Returns the bits of the values that the line has. Most fields of most lines are absent.
    fn has(&self) -> u64 {
        let Fields { values, invalid, .. } = self.parsed.fields;
        let mut has = *values;
        has |= if self.include_original { ORIGINAL } else { 0 };
        has |= if self.envelope.labels.is_some() { LABELS } else { 0 };
        has |= if invalid.is_empty() { 0 } else { INVALID };
        has |= if self.parsed.record.ingest_time.is_some() { INGESTED } else { 0 };
        has
    }

    /// Appends a value. Returns false and appends nothing if there is none.
    #[inline(always)]
    fn write(&self, out: &mut Buffer, source: Source) -> bool {
        // Most values are a whole field.
        match source {
            Source::Field(index, EcsForm::Whole) => match self.parsed.fields.readings.get(index) {
                Some(Reading::Value(value)) => {
                    write_whole(out, *value, self.parsed.record.plain);
                    true
                }
                _ => false,
            },
            _ => self.write_other(out, source),
        }
    }

    fn write_other(&self, out: &mut Buffer, source: Source) -> bool {
        match source {
            Source::S3 => raw(out, self.envelope.s3.as_deref()),
            Source::Log => {
                self.envelope.write_log(out, &self.offset);
                true
            }
            Source::Cloud => raw(out, Some(&self.envelope.cloud)),
            Source::Labels => raw(out, self.envelope.labels.as_deref()),
            Source::Original => {
                let original = self.include_original.then(|| show_invalid(self.parsed.line.text));
                string(out, original.as_deref())
            }
            Source::Constant(text) => constant(out, Some(text)),
            Source::Category => {
                let is_network = self.parsed.record.format.traffic.is_network(self.tcp);
                raw(out, Some(if is_network { br#"["network"]"# } else { br#"["web"]"# }))
            }
            Source::Outcome(index, form) => constant(out, self.outcome(index, form)),
            Source::Start(_) => time(out, self.start),
            Source::End(_) => time(out, self.end),
            Source::Ingested => time(out, self.parsed.record.ingest_time),
            Source::Duration => self.write_duration(out),
            Source::Protocol => constant(out, self.parsed.record.format.traffic.protocol(self.tcp)),
            Source::NodeIp(_) | Source::Field(..) | Source::HostPort(..) | Source::Request(..) => {
                self.write_from_field(out, source)
            }
            Source::Invalid => self.write_invalid(out),
            Source::Extra => self.write_extras(out),
            Source::Tags => raw(out, tags(self.parsed.record, &self.parsed.fields.invalid).map(str::as_bytes)),
        }
    }

    /// Appends a value that comes from one field, or from a part of one.
    fn write_from_field(&self, out: &mut Buffer, source: Source) -> bool {
        match source {
            Source::NodeIp(index) => match index.and_then(|index| self.parsed.fields.value(index)) {
                Some(Value::Text(ip)) => text(out, Some(ip), self.parsed.record.plain),
                _ => raw(out, self.envelope.node_ip.as_deref()),
            },
            Source::Field(index, form) => self.parsed.fields.value(index).is_some_and(|value| self.write_form(out, value, form)),
            Source::HostPort(index, part) => match self.parsed.fields.value(index) {
                Some(Value::HostPort(host_port)) => write_host_port_part(out, host_port, part, self.parsed.record.plain),
                _ => false,
            },
            Source::Request(_, part) => {
                self.request.as_ref().is_some_and(|request| write_request_part(out, request, part, self.parsed.record.plain))
            }
            _ => false,
        }
    }

    fn write_invalid(&self, out: &mut Buffer) -> bool {
        let invalid = &self.parsed.fields.invalid;
        if !invalid.is_empty() {
            write_invalid(out, invalid, self.parsed.record.plain);
        }
        !invalid.is_empty()
    }

    fn write_extras(&self, out: &mut Buffer) -> bool {
        let has_extras = !self.parsed.record.extras().is_empty();
        if has_extras {
            write_extras(out, self.parsed.record, self.parsed.record.plain);
        }
        has_extras
    }

    fn write_form(&self, out: &mut Buffer, value: Value<'_>, form: EcsForm) -> bool {
        let clean = self.parsed.record.plain;
        match (form, value) {
            (EcsForm::BytesOverTcp, _) if !self.tcp => false,
            (EcsForm::BytesOverHttp, _) if self.tcp => false,
            (EcsForm::Whole | EcsForm::BytesOverTcp | EcsForm::BytesOverHttp, value) => {
                write_whole(out, value, clean);
                true
            }
            (EcsForm::Keyword, Value::Number(digits)) => quoted_number(out, digits),
            (EcsForm::Keyword, Value::Text(raw)) => text(out, Some(raw), clean),
            (EcsForm::NotBefore, Value::Validity(not_before, _)) => time(out, Some(not_before)),
            (EcsForm::NotAfter, Value::Validity(_, not_after)) => time(out, Some(not_after)),
            (EcsForm::TlsVersion, Value::Text(protocol)) => {
                constant(out, tls_version(protocol).map(|(_, version)| version).as_deref())
            }
            (EcsForm::TlsProtocol, Value::Text(protocol)) => constant(out, tls_version(protocol).map(|(protocol, _)| protocol)),
            (EcsForm::TraceRoot, Value::Text(header)) => text(out, trace_root(header), clean),
            (EcsForm::TlsErrorCode, Value::Text(status)) => text(out, status.strip_prefix(b"Failed:"), clean),
            _ => false,
        }
    }

    fn outcome(&self, index: usize, form: EcsForm) -> Option<&'static str> {
        let is_success = match (form, self.parsed.fields.value(index)?) {
            (EcsForm::OutcomeOfStatusCode, Value::Number(status)) => str::from_utf8(status).ok()?.parse::<i64>().ok()? < 400,
            (EcsForm::OutcomeOfHealthCheck, Value::Text(status)) => status == b"PASS",
            (EcsForm::OutcomeOfTlsVerification, Value::Text(status)) => status == b"Success",
            _ => return None,
        };
        Some(if is_success { "success" } else { "failure" })
    }

    fn write_duration(&self, out: &mut Buffer) -> bool {
        let duration = self.start.and_then(nanoseconds).zip(self.end.and_then(nanoseconds));
        // An index holds a duration as a signed 64-bit number, and would reject an event with a larger one.
        let duration = duration.and_then(|(start, end)| i64::try_from(end - start).ok());
        let duration = duration.and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
        if let Some(duration) = duration {
            json::integer(out, duration);
        }
        duration.is_some()
    }
}

#[inline(always)]
fn write_whole(out: &mut Buffer, value: Value<'_>, clean: bool) {
    match value {
        Value::Text(raw) => json::text(out, raw, clean),
        Value::Number(digits) => json::number(out, digits),
        Value::Time(time) => json::time(out, time),
        Value::List(..) | Value::IntegerList(_) | Value::AlpnList(_) => write_list(out, value, clean),
        // These types have parts and never a whole value.
        Value::HostPort(_) | Value::Request(_) | Value::Validity(..) => out.put(b"null"),
    }
}

fn write_host_port_part(out: &mut Buffer, host_port: HostPort<'_>, part: HostPortPart, clean: bool) -> bool {
    match (part, host_port.host, host_port.port) {
        (HostPortPart::Address, Host::Ip(raw) | Host::Address(raw) | Host::Arn(raw), _)
        | (HostPortPart::NonIpAddress, Host::Address(raw) | Host::Arn(raw), _)
        | (HostPortPart::Ip, Host::Ip(raw), _) => text(out, Some(raw), clean),
        (HostPortPart::Port, _, Port::Number(port)) => {
            json::number(out, port);
            true
        }
        (HostPortPart::PortKeyword, _, Port::Number(port)) => quoted_number(out, port),
        _ => false,
    }
}

fn write_request_part(out: &mut Buffer, request: &Request<'_>, part: RequestPart, clean: bool) -> bool {
    let parts = &request.parts;
    let found = match part {
        RequestPart::Line => request.line,
        RequestPart::Method => request.method,
        RequestPart::HttpVersion => request.protocol.map(|protocol| protocol.strip_prefix(b"HTTP/").unwrap_or(protocol)),
        RequestPart::Url => request.url,
        RequestPart::Scheme => parts.scheme,
        RequestPart::Domain => parts.host,
        RequestPart::Path => parts.path,
        RequestPart::Query => parts.query,
        RequestPart::Port => {
            if let Some(port) = parts.port {
                json::number(out, port);
            }
            return parts.port.is_some();
        }
    };
    text(out, found, clean)
}

/// Splits `TLSv1.2`, `tlsv12` and `SSLv3` into protocol and version.
fn tls_version(logged: &[u8]) -> Option<(&'static str, Cow<'static, str>)> {
    match logged {
        b"TLSv1.3" => return Some(("tls", Cow::Borrowed("1.3"))),
        b"TLSv1.2" => return Some(("tls", Cow::Borrowed("1.2"))),
        _ => {}
    }
    let logged = str::from_utf8(logged).ok()?.to_ascii_lowercase();
    let (protocol, version) = logged.split_once('v')?;
    let protocol = match protocol {
        "tls" => "tls",
        "ssl" => "ssl",
        _ => return None,
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match version.split_once('.') {
        Some((major, minor)) if digits(major) && digits(minor) => Some((protocol, version.to_owned().into())),
        None if digits(version) && version.len() == 2 => Some((protocol, format!("{}.{}", &version[..1], &version[1..]).into())),
        None if digits(version) => Some((protocol, version.to_owned().into())),
        _ => None,
    }
}

/// Returns the value of `Root=` in a trace header, which may hold more: `Self=…;Root=…;CalledFrom=…`.
fn trace_root(header: &[u8]) -> Option<&[u8]> {
    header.split(|&byte| byte == b';').find_map(|part| part.strip_prefix(b"Root="))
}

fn raw(out: &mut Buffer, json: Option<&[u8]>) -> bool {
    out.put(json.unwrap_or_default());
    json.is_some()
}

/// Appends a text that needs no escapes.
fn constant(out: &mut Buffer, text: Option<&str>) -> bool {
    text.is_some_and(|text| {
        out.push(b'"');
        out.put(text.as_bytes());
        out.push(b'"');
        true
    })
}

fn quoted_number(out: &mut Buffer, digits: &[u8]) -> bool {
    out.push(b'"');
    json::number(out, digits);
    out.push(b'"');
    true
}

fn string(out: &mut Buffer, text: Option<&str>) -> bool {
    if let Some(text) = text {
        json::string(out, text);
    }
    text.is_some()
}

fn text(out: &mut Buffer, raw: Option<&[u8]>, clean: bool) -> bool {
    if let Some(raw) = raw {
        json::text(out, raw, clean);
    }
    raw.is_some()
}

fn time(out: &mut Buffer, logged: Option<&[u8]>) -> bool {
    if let Some(logged) = logged {
        json::time(out, logged);
    }
    logged.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tls_versions_in_every_spelling() {
        let read = |logged: &str| tls_version(logged.as_bytes()).map(|(protocol, version)| format!("{protocol} {version}"));
        assert_eq!(read("TLSv1.3").as_deref(), Some("tls 1.3"));
        assert_eq!(read("tlsv12").as_deref(), Some("tls 1.2"));
        assert_eq!(read("TLSv1").as_deref(), Some("tls 1"));
        assert_eq!(read("SSLv3.0").as_deref(), Some("ssl 3.0"));
        assert_eq!(read("SSLv3").as_deref(), Some("ssl 3"));
        assert_eq!(read("QUICv1"), None);
        assert_eq!(read("TLSv1.x"), None);
        assert_eq!(read("unknown"), None);
    }

    #[test]
    fn the_root_is_found_anywhere_in_a_trace_header() {
        assert_eq!(trace_root(b"Root=1-a-b"), Some(b"1-a-b".as_slice()));
        assert_eq!(trace_root(b"Self=1-c-d;Root=1-a-b;CalledFrom=x"), Some(b"1-a-b".as_slice()));
        assert_eq!(trace_root(b"Self=1-c-d"), None);
    }
}
