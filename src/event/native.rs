//! The `native` schema: AWS's own field names under `elb`, which no setting of Logstash's http input touches.

use super::envelope::Envelope;
use super::{InvalidField, MemberName, Parsed, Shape, json};
use crate::format::{
    Endpoint, Field, Host, Kind, Name, Port, Record, Request, Type, Value, alpn_items, items, name, show_invalid,
};

/// What `leaf_client_cert_validity` becomes, the only field that names two times.
const NOT_BEFORE: Name = name!("leaf_client_cert", "_not_before");
const NOT_AFTER: Name = name!("leaf_client_cert", "_not_after");

/// Appends the event of a parsed line.
pub(super) fn write(out: &mut Vec<u8>, envelope: &Envelope, parsed: &Parsed<'_, '_, '_>, include_original: bool) {
    envelope.write_head(out, parsed.line.offset, parsed.time(envelope));
    envelope.write_place(out, parsed.line.offset);
    if include_original {
        out.extend_from_slice(br#","event":{"original":"#);
        json::string(out, &show_invalid(parsed.line.text));
        out.push(b'}');
    }
    if let Some(tags) = parsed.tags() {
        out.extend_from_slice(br#","tags":"#);
        out.extend_from_slice(tags.as_bytes());
    }
    write_elb(out, parsed, envelope.node_ip.as_deref());
    out.push(b'}');
}

/// Every name that lines of a kind can have in this schema, beside those of the envelope.
pub(super) fn names(kind: Kind) -> Vec<MemberName> {
    let member = |name: &str, field, shape| MemberName { name: format!("elb.{name}"), field, shape };
    let mut names = vec![member("kind", None, Shape::Text)];
    let fields = kind.format().fields;
    for (index, field) in fields.iter().enumerate() {
        let (native, index) = (&field.native, Some(index));
        match field.ty {
            Type::Timestamp => names.push(MemberName { name: "@timestamp".to_owned(), field: index, shape: Shape::Time }),
            Type::Endpoint => names.extend([
                member(native.ip.text, index, Shape::Ip),
                member(native.port.text, index, Shape::Integer),
                member(native.address.text, index, Shape::Text),
                member(native.arn.text, index, Shape::Text),
            ]),
            Type::Request => {
                let part = |part: &str, shape| member(&format!("{}.{part}", native.whole.text), index, shape);
                names.extend(
                    ["line", "method", "url", "protocol", "scheme", "host", "path", "query"].map(|text| part(text, Shape::Text)),
                );
                names.push(part("port", Shape::Integer));
            }
            Type::Validity => names.extend([NOT_BEFORE, NOT_AFTER].map(|name| member(name.text, index, Shape::Time))),
            ty => names.extend(Shape::of(ty).map(|shape| member(native.whole.text, index, shape))),
        }
    }
    if kind != Kind::Nlb && !fields.iter().any(Field::is_node_ip) {
        names.push(member("ip_address", None, Shape::Ip));
    }
    names.extend([member("invalid", None, Shape::Object), member("extra", None, Shape::Text)]);
    names
}

fn write_elb(out: &mut Vec<u8>, parsed: &Parsed<'_, '_, '_>, node_ip: Option<&[u8]>) {
    let (record, clean) = (parsed.record, parsed.clean);
    out.extend_from_slice(br#","elb":{"kind":""#);
    out.extend_from_slice(record.kind.name().as_bytes());
    out.push(b'"');
    let mut has_node_ip = false;
    for (field, value) in parsed.fields() {
        has_node_ip |= field.is_node_ip();
        write_value(out, field, value, clean);
    }
    if let Some(ip) = node_ip.filter(|_| !has_node_ip && record.kind != Kind::Nlb) {
        out.extend_from_slice(br#","ip_address":"#);
        out.extend_from_slice(ip);
    }
    if !parsed.fields.invalid.is_empty() {
        out.extend_from_slice(br#","invalid":"#);
        write_invalid(out, &parsed.fields.invalid, clean);
    }
    if !record.extras().is_empty() {
        out.extend_from_slice(br#","extra":"#);
        write_extras(out, record, clean);
    }
    out.push(b'}');
}

/// Appends the members of `elb` that one field becomes, each with a comma before it.
pub(super) fn write_value(out: &mut Vec<u8>, field: &Field, value: Value<'_>, clean: bool) {
    let name = field.native.whole;
    match value {
        Value::Text(raw) => text_member(out, name.member, raw, clean),
        Value::Number(digits) => number_member(out, name.member, digits),
        // The line's own time is the event's.
        Value::Time(_) if field.is_timestamp() => {}
        Value::Time(time) => time_member(out, name.member, time),
        Value::Endpoint(endpoint) => write_endpoint(out, field, endpoint, clean),
        Value::Request(request) => write_request(out, name.member, &request, clean),
        Value::List(..) | Value::IntegerList(_) | Value::AlpnList(_) => {
            out.extend_from_slice(name.member.as_bytes());
            write_list(out, value, clean);
        }
        Value::Validity(not_before, not_after) => {
            time_member(out, NOT_BEFORE.member, not_before);
            time_member(out, NOT_AFTER.member, not_after);
        }
    }
}

fn write_endpoint(out: &mut Vec<u8>, field: &Field, endpoint: Endpoint<'_>, clean: bool) {
    match endpoint.host {
        Host::None => {}
        Host::Ip(ip) => text_member(out, field.native.ip.member, ip, clean),
        Host::Address(address) => text_member(out, field.native.address.member, address, clean),
        Host::Arn(arn) => text_member(out, field.native.arn.member, arn, clean),
    }
    if let Port::Number(port) = endpoint.port {
        number_member(out, field.native.port.member, port);
    }
}

fn write_request(out: &mut Vec<u8>, member: &str, request: &Request<'_>, clean: bool) {
    out.extend_from_slice(member.as_bytes());
    let start = out.len();
    let texts = [
        (r#","line":"#, request.line),
        (r#","method":"#, request.method),
        (r#","url":"#, request.url),
        (r#","protocol":"#, request.protocol),
        (r#","scheme":"#, request.parts.scheme),
        (r#","host":"#, request.parts.host),
    ];
    for (member, text) in texts {
        optional_text(out, member, text, clean);
    }
    if let Some(port) = request.parts.port {
        number_member(out, r#","port":"#, port);
    }
    optional_text(out, r#","path":"#, request.parts.path, clean);
    optional_text(out, r#","query":"#, request.parts.query, clean);
    open_object_at(out, start);
}

/// Appends an object of the fields that are not of their type, as text; there is at least one.
pub(super) fn write_invalid(out: &mut Vec<u8>, invalid: &[InvalidField<'_>], clean: bool) {
    let start = out.len();
    for field in invalid {
        text_member(out, field.name.member, field.raw, clean);
    }
    open_object_at(out, start);
}

/// Appends an array of the fields beyond the known ones.
pub(super) fn write_extras(out: &mut Vec<u8>, record: &Record<'_, '_>, clean: bool) {
    array(out, record.extras().iter(), |out, token| {
        if token.is_absent() { out.extend_from_slice(b"null") } else { json::text(out, token.raw, clean) }
    });
}

/// Appends a list as a JSON array.
pub(super) fn write_list(out: &mut Vec<u8>, value: Value<'_>, clean: bool) {
    match value {
        Value::List(list, separator) => array(out, items(list, separator), |out, item| json::text(out, item, clean)),
        Value::IntegerList(list) => array(out, items(list, b' '), |out, item| match item {
            b"-" => out.extend_from_slice(b"null"),
            digits => json::number(out, digits),
        }),
        Value::AlpnList(list) => array(out, alpn_items(list), |out, item| json::string(out, &show_invalid(&item))),
        _ => out.extend_from_slice(b"null"),
    }
}

/// Makes the members written since `start` an object: the comma before the first one becomes its brace.
fn open_object_at(out: &mut Vec<u8>, start: usize) {
    out[start] = b'{';
    out.push(b'}');
}

fn array<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn optional_text(out: &mut Vec<u8>, member: &str, raw: Option<&[u8]>, clean: bool) {
    if let Some(raw) = raw {
        text_member(out, member, raw, clean);
    }
}

fn text_member(out: &mut Vec<u8>, member: &str, raw: &[u8], clean: bool) {
    out.extend_from_slice(member.as_bytes());
    json::text(out, raw, clean);
}

fn number_member(out: &mut Vec<u8>, member: &str, digits: &[u8]) {
    out.extend_from_slice(member.as_bytes());
    json::number(out, digits);
}

fn time_member(out: &mut Vec<u8>, member: &str, time: &[u8]) {
    out.extend_from_slice(member.as_bytes());
    json::time(out, time);
}
