//! The `native` schema: AWS's own field names under `elb`, which no setting of Logstash's http input touches.

use super::{InvalidField, json};
use crate::format::{Endpoint, Field, Host, Kind, Port, Reading, Record, Request, Value, alpn_items, items, show_invalid};

/// Appends the member `elb`. Fields that are not of their type are noted in `invalid` and written to `elb.invalid`.
///
/// `clean` says that no field needs decoding or escaping; `node_ip` is the load balancer's address from the object's key.
pub(super) fn write_elb<'a>(
    out: &mut Vec<u8>,
    record: &Record<'_, 'a>,
    clean: bool,
    node_ip: Option<&[u8]>,
    invalid: &mut Vec<InvalidField<'a>>,
) {
    out.extend_from_slice(br#","elb":{"kind":""#);
    out.extend_from_slice(record.kind.name().as_bytes());
    out.push(b'"');
    let mut has_node_ip = false;
    for (field, token, reading) in record.readings() {
        match reading {
            Reading::Absent => {}
            Reading::Invalid => invalid.push(InvalidField { name: field.native.whole, raw: token.raw }),
            Reading::Value(value) => {
                has_node_ip |= field.native.whole.text == "ip_address";
                write_value(out, field, value, clean, invalid);
            }
        }
    }
    if let Some(ip) = node_ip.filter(|_| !has_node_ip && record.kind != Kind::Nlb) {
        out.extend_from_slice(br#","ip_address":"#);
        out.extend_from_slice(ip);
    }
    write_invalid(out, invalid, clean);
    write_extras(out, record, clean);
    out.push(b'}');
}

fn write_value<'a>(out: &mut Vec<u8>, field: &Field, value: Value<'a>, clean: bool, invalid: &mut Vec<InvalidField<'a>>) {
    let name = field.native.whole;
    match value {
        Value::Text(raw) => text_member(out, name.member, raw, clean),
        Value::Number(digits) => number_member(out, name.member, digits),
        // The line's own time is the event's.
        Value::Time(_) if field.is_timestamp() => {}
        Value::Time(time) => time_member(out, name.member, time),
        Value::Endpoint(endpoint) => write_endpoint(out, field, endpoint, clean, invalid),
        Value::Request(request) => write_request(out, name.member, &request, clean),
        Value::List(list, separator) => {
            out.extend_from_slice(name.member.as_bytes());
            array(out, items(list, separator), |out, item| json::text(out, item, clean));
        }
        Value::IntegerList(list) => {
            out.extend_from_slice(name.member.as_bytes());
            array(out, items(list, b' '), |out, item| match item {
                b"-" => out.extend_from_slice(b"null"),
                digits => json::number(out, digits),
            });
        }
        Value::AlpnList(list) => {
            out.extend_from_slice(name.member.as_bytes());
            array(out, alpn_items(list), |out, item| json::string(out, &show_invalid(&item)));
        }
        Value::Validity(not_before, not_after) => {
            time_member(out, r#","leaf_client_cert_not_before":"#, not_before);
            time_member(out, r#","leaf_client_cert_not_after":"#, not_after);
        }
    }
}

fn write_endpoint<'a>(
    out: &mut Vec<u8>,
    field: &Field,
    endpoint: Endpoint<'a>,
    clean: bool,
    invalid: &mut Vec<InvalidField<'a>>,
) {
    match endpoint.host {
        Host::None => {}
        Host::Ip(ip) => text_member(out, field.native.ip.member, ip, clean),
        Host::Address(address) => text_member(out, field.native.address.member, address, clean),
        Host::Arn(arn) => text_member(out, field.native.arn.member, arn, clean),
    }
    match endpoint.port {
        Port::None => {}
        Port::Number(port) => number_member(out, field.native.port.member, port),
        Port::Invalid(raw) => invalid.push(InvalidField { name: field.native.port, raw }),
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

fn write_invalid(out: &mut Vec<u8>, invalid: &[InvalidField<'_>], clean: bool) {
    if invalid.is_empty() {
        return;
    }
    out.extend_from_slice(br#","invalid":"#);
    let start = out.len();
    for field in invalid {
        text_member(out, field.name.member, field.raw, clean);
    }
    open_object_at(out, start);
}

fn write_extras(out: &mut Vec<u8>, record: &Record<'_, '_>, clean: bool) {
    let extras = record.extras();
    if extras.is_empty() {
        return;
    }
    out.extend_from_slice(br#","extra":"#);
    array(
        out,
        extras.iter(),
        |out, token| {
            if token.is_absent() { out.extend_from_slice(b"null") } else { json::text(out, token.raw, clean) }
        },
    );
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
    out.push(b'"');
    out.extend_from_slice(time);
    out.extend_from_slice(if crate::format::is_zoned(time) { b"\"" } else { b"Z\"" });
}
