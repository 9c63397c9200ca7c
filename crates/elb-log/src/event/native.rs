//! The `native` schema: AWS's own field names below `elb`, which no setting of Logstash's http input changes.

use super::envelope::Envelope;
use super::fields::{InvalidField, own_time, tags};
use super::id::Offset;
use super::{MemberName, Shape, json};
use crate::buffer::Buffer;
use crate::format::field::name;
use crate::format::{
    Field, Format, Host, HostPort, Name, Port, Reading, ReadingVisitor, Record, Request, Token, Type, Value, alpn_items, items,
    show_invalid,
};
use crate::lines::Line;

const LINE: Name = name!("line", "");
const METHOD: Name = name!("method", "");
const URL: Name = name!("url", "");
const PROTOCOL: Name = name!("protocol", "");
const SCHEME: Name = name!("scheme", "");
const HOST: Name = name!("host", "");
const PORT: Name = name!("port", "");
const PATH: Name = name!("path", "");
const QUERY: Name = name!("query", "");

/// The timestamp that an export of CloudWatch Logs writes before a line.
const INGEST_TIME: Name = name!("ingest_time", "");

/// Appends the event of a parsed line, and the fields that are not of their type to `invalid`.
pub(super) fn write<'a>(
    out: &mut Buffer,
    envelope: &Envelope,
    line: &Line<'a>,
    record: &Record<'_, 'a>,
    invalid: &mut Vec<InvalidField<'a>>,
    include_original: bool,
) {
    let time = own_time(record);
    let offset = Offset::of(line.offset);
    envelope.write_head(out, &offset, time.unwrap_or(envelope.fallback_time.as_bytes()));
    envelope.write_location(out, &offset);
    if include_original {
        out.put(br#","event":{"original":"#);
        json::string(out, &show_invalid(line.text));
        out.push(b'}');
    }
    let tags_at = out.len();
    write_elb(out, record, invalid, time.is_some(), envelope.node_ip.as_deref());
    out.push(b'}');
    if let Some(tags) = tags(record, invalid) {
        out.insert(tags_at, [r#","tags":"#, tags].concat().as_bytes());
    }
}

/// Returns every name that lines of a format can have in this schema, beside the names of the envelope.
pub(super) fn names(format: &Format) -> Vec<MemberName> {
    let member = |name: &str, field, shape| MemberName { name: format!("elb.{name}"), field, shape };
    let mut names = vec![member("kind", None, Shape::Text)];
    let fields = format.fields;
    for (index, field) in fields.iter().enumerate() {
        let (native, index) = (&field.native, Some(index));
        match field.ty {
            Type::Timestamp => names.push(MemberName { name: "@timestamp".to_owned(), field: index, shape: Shape::Time }),
            Type::HostPort => names.extend([
                member(native.ip.text, index, Shape::Ip),
                member(native.port.text, index, Shape::Integer),
                member(native.address.text, index, Shape::Text),
                member(native.arn.text, index, Shape::Text),
            ]),
            Type::Request => {
                let part = |part: &str, shape| member(&format!("{}.{part}", native.whole.text), index, shape);
                let texts = [LINE, METHOD, URL, PROTOCOL, SCHEME, HOST, PATH, QUERY];
                names.extend(texts.map(|name| part(name.text, Shape::Text)));
                names.push(part(PORT.text, Shape::Integer));
            }
            Type::Validity => {
                names.extend([native.not_before, native.not_after].map(|name| member(name.text, index, Shape::Time)));
            }
            ty => names.extend(Shape::of(ty).map(|shape| member(native.whole.text, index, shape))),
        }
    }
    if format.node_in_key && !fields.iter().any(Field::is_node_ip) {
        names.push(member("ip_address", None, Shape::Ip));
    }
    names.push(member(INGEST_TIME.text, None, Shape::Time));
    names.extend([member("invalid", None, Shape::Object), member("extra", None, Shape::Text)]);
    names
}

fn write_elb<'a>(
    out: &mut Buffer,
    record: &Record<'_, 'a>,
    invalid: &mut Vec<InvalidField<'a>>,
    has_time: bool,
    node_ip: Option<&[u8]>,
) {
    out.put(br#","elb":{"kind":""#);
    out.put(record.format.name.as_bytes());
    out.push(b'"');
    let mut has_node_ip = false;
    if record.misplaced == 0 {
        for (field, token) in record.fields() {
            // The line's own time has been read already.
            if !(has_time && field.is_timestamp()) {
                let (has_node_ip, plain) = (&mut has_node_ip, record.plain);
                field.ty.read_to(token, WriteField { out, invalid, has_node_ip, field, token, plain });
            }
        }
    } else {
        has_node_ip = write_misplaced(out, record, invalid, has_time);
    }
    if let Some(ip) = node_ip.filter(|_| !has_node_ip && record.format.node_in_key) {
        out.put(br#","ip_address":"#);
        out.put(ip);
    }
    if let Some(time) = record.ingest_time {
        time_member(out, &INGEST_TIME, time);
    }
    if !invalid.is_empty() {
        out.put(br#","invalid":"#);
        write_invalid(out, invalid, record.plain);
    }
    if !record.extras().is_empty() {
        out.put(br#","extra":"#);
        write_extras(out, record, record.plain);
    }
    out.push(b'}');
}

/// Appends the fields of a record of which some have the text of other fields. Returns whether one of them is the node's address.
#[cold]
fn write_misplaced<'a>(out: &mut Buffer, record: &Record<'_, 'a>, invalid: &mut Vec<InvalidField<'a>>, has_time: bool) -> bool {
    let mut has_node_ip = false;
    for (index, (field, token)) in record.fields().enumerate().filter(|(_, (field, _))| !(has_time && field.is_timestamp())) {
        let reading = if record.is_misplaced(index) { Reading::Invalid } else { field.ty.read(token) };
        let has_node_ip = &mut has_node_ip;
        WriteField { out, invalid, has_node_ip, field, token, plain: record.plain }.visit(reading);
    }
    has_node_ip
}

/// Writes a field when it is read.
struct WriteField<'w, 't, 'a> {
    out: &'w mut Buffer,
    invalid: &'w mut Vec<InvalidField<'a>>,
    has_node_ip: &'w mut bool,
    field: &'static Field,
    token: &'t Token<'a>,
    plain: bool,
}

impl<'a> ReadingVisitor<'a> for WriteField<'_, '_, 'a> {
    #[inline(always)]
    fn visit(self, reading: Reading<'a>) {
        let WriteField { out, invalid, has_node_ip, field, token, plain } = self;
        if let Some(field) = InvalidField::of(field, token, &reading) {
            invalid.push(field);
        }
        if let Reading::Value(value) = reading {
            *has_node_ip |= field.is_node_ip();
            write_value(out, field, value, plain);
        }
    }
}

/// Appends the members of `elb` that one field becomes, each with a comma before it.
#[inline(always)]
pub(super) fn write_value(out: &mut Buffer, field: &Field, value: Value<'_>, clean: bool) {
    let name = &field.native.whole;
    match value {
        Value::Text(raw) => text_member(out, name, raw, clean),
        Value::Number(digits) => number_member(out, name, digits),
        // The line's own time is the event's.
        Value::Time(_) if field.is_timestamp() => {}
        Value::Time(time) => time_member(out, name, time),
        Value::HostPort(host_port) => write_host_port(out, field, host_port, clean),
        Value::Request(raw) => {
            if let Some(request) = Request::split(raw) {
                write_request(out, name, &request, clean);
            }
        }
        Value::List(..) | Value::IntegerList(_) | Value::AlpnList(_) => {
            out.put_literal(&name.member);
            write_list(out, value, clean);
        }
        Value::Validity(not_before, not_after) => {
            time_member(out, &field.native.not_before, not_before);
            time_member(out, &field.native.not_after, not_after);
        }
    }
}

fn write_host_port(out: &mut Buffer, field: &Field, host_port: HostPort<'_>, clean: bool) {
    match host_port.host {
        Host::None => {}
        Host::Ip(ip) => text_member(out, &field.native.ip, ip, clean),
        Host::Address(address) => text_member(out, &field.native.address, address, clean),
        Host::Arn(arn) => text_member(out, &field.native.arn, arn, clean),
    }
    if let Port::Number(port) = host_port.port {
        number_member(out, &field.native.port, port);
    }
}

fn write_request(out: &mut Buffer, name: &Name, request: &Request<'_>, clean: bool) {
    out.put_literal(&name.member);
    let start = out.len();
    optional_text(out, &LINE, request.line, clean);
    optional_text(out, &METHOD, request.method, clean);
    optional_text(out, &URL, request.url, clean);
    optional_text(out, &PROTOCOL, request.protocol, clean);
    optional_text(out, &SCHEME, request.parts.scheme, clean);
    optional_text(out, &HOST, request.parts.host, clean);
    if let Some(port) = request.parts.port {
        number_member(out, &PORT, port);
    }
    optional_text(out, &PATH, request.parts.path, clean);
    optional_text(out, &QUERY, request.parts.query, clean);
    open_object_at(out, start);
}

/// Appends an object with the fields that are not of their type, as text. There is at least one.
pub(super) fn write_invalid(out: &mut Buffer, invalid: &[InvalidField<'_>], clean: bool) {
    let start = out.len();
    for field in invalid {
        text_member(out, field.name, field.raw, clean);
    }
    open_object_at(out, start);
}

/// Appends an array with the fields beyond the known ones.
pub(super) fn write_extras(out: &mut Buffer, record: &Record<'_, '_>, clean: bool) {
    array(
        out,
        record.extras().iter(),
        |out, token| {
            if token.is_absent() { out.put(b"null") } else { json::text(out, token.raw, clean) }
        },
    );
}

/// Appends a list as a JSON array.
pub(super) fn write_list(out: &mut Buffer, value: Value<'_>, clean: bool) {
    match value {
        Value::List(list, separator) => array(out, items(list, separator), |out, item| json::text(out, item, clean)),
        Value::IntegerList(list) => array(out, items(list, b' '), |out, item| match item {
            b"-" => out.put(b"null"),
            digits => json::number(out, digits),
        }),
        Value::AlpnList(list) => array(out, alpn_items(list), |out, item| json::string(out, &show_invalid(&item))),
        _ => out.put(b"null"),
    }
}

/// Turns the members written since `start` into an object: the comma before the first one becomes its brace.
fn open_object_at(out: &mut Buffer, start: usize) {
    out.set(start, b'{');
    out.push(b'}');
}

fn array<T>(out: &mut Buffer, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Buffer, T)) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

#[inline(always)]
fn optional_text(out: &mut Buffer, name: &Name, raw: Option<&[u8]>, clean: bool) {
    if let Some(raw) = raw {
        text_member(out, name, raw, clean);
    }
}

#[inline(always)]
fn text_member(out: &mut Buffer, name: &Name, raw: &[u8], clean: bool) {
    if clean {
        out.put_parts(&name.text_member, raw, b"\"");
    } else {
        out.put_literal(&name.member);
        json::text(out, raw, false);
    }
}

#[inline(always)]
fn number_member(out: &mut Buffer, name: &Name, logged: &[u8]) {
    if json::is_number(logged) {
        out.put_parts(&name.member, logged, b"");
    } else {
        out.put_literal(&name.member);
        json::number(out, logged);
    }
}

fn time_member(out: &mut Buffer, name: &Name, time: &[u8]) {
    out.put_literal(&name.member);
    json::time(out, time);
}
