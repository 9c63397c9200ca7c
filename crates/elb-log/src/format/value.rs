//! Reads the text of a field by the field's type.

use std::net::Ipv6Addr;
use std::str;

use memchr::memchr;

use super::digits::are_digits;
use super::request::{Request, is_port, last, unbracketed};
use super::time::is_time;
use super::{Token, Type, decode_escapes};

/// Maximum number of digits of a decimal. JSON readers limit a number's length (Jackson's default is 1,000), and an event that
/// the receiver cannot read makes it reject the whole batch.
const LONGEST_DECIMAL: usize = 300;

/// The result of reading a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading<'a> {
    /// AWS wrote that there is no value: `-`.
    Absent,
    /// A value of the field's type.
    Value(Value<'a>),
    /// Text that is not of the field's type.
    Invalid,
}

/// A field's value. AWS's escapes in texts are not decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text of any kind.
    Text(&'a [u8]),
    /// Digits as logged, with an optional `-` and fraction. There may be leading zeros.
    Number(&'a [u8]),
    /// An instant in UTC, as logged.
    Time(&'a [u8]),
    /// An address with its port.
    HostPort(HostPort<'a>),
    /// A request line, for [`Request::split`]. Values are copied often, so they stay small.
    Request(&'a [u8]),
    /// Texts separated by this byte.
    List(&'a [u8], u8),
    /// Integers and `-`, separated by spaces.
    IntegerList(&'a [u8]),
    /// Texts in quotes, separated by commas, perhaps escaped: `"h2","http/1.1"`.
    AlpnList(&'a [u8]),
    /// The first and the last time at which a certificate is valid.
    Validity(&'a [u8], &'a [u8]),
}

/// `ip:port` and its variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// The text before the last colon.
    pub host: Host<'a>,
    /// The text after the last colon.
    pub port: Port<'a>,
}

/// The host part of a [`HostPort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// Empty or `-`.
    None,
    /// An IP address, IPv6 without brackets.
    Ip(&'a [u8]),
    /// Anything else, such as a host name.
    Address(&'a [u8]),
    /// The whole token is an ARN, as for a Lambda target.
    Arn(&'a [u8]),
}

/// The port part of a [`HostPort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port<'a> {
    /// Empty or `-`.
    None,
    /// Digits of a number up to 65535.
    Number(&'a [u8]),
    /// Anything else.
    Invalid(&'a [u8]),
}

/// Receives a reading. It is a trait instead of a closure because the compiler inlines a method into every arm of
/// [`Type::read_to`], where the reading's variant is known. Values then stay in registers, which saves a third of an event's time.
pub(crate) trait ReadingVisitor<'a> {
    /// Receives the reading. Called once.
    fn visit(self, reading: Reading<'a>);
}

impl Type {
    /// Reads a field of this type.
    pub fn read<'a>(self, token: &Token<'a>) -> Reading<'a> {
        let mut reading = Reading::Absent;
        self.read_to(token, Keep(&mut reading));
        reading
    }

    /// Reads a field of this type and hands the reading to a visitor.
    #[inline(always)]
    pub(crate) fn read_to<'a>(self, token: &Token<'a>, to: impl ReadingVisitor<'a>) {
        if token.is_absent() {
            return to.visit(Reading::Absent);
        }
        let raw = token.raw;
        match self {
            Type::Text | Type::Word | Type::Arn | Type::LoadBalancerId | Type::LoadBalancerName | Type::ConnectionTraceId => {
                to.visit(Reading::Value(Value::Text(raw)));
            }
            Type::Integer => take_if(is_integer(raw), Value::Number(raw), to),
            Type::Port => take_if(is_port(raw), Value::Number(raw), to),
            Type::Decimal => take_if(is_decimal(raw), Value::Number(raw), to),
            Type::ProcessingTime if is_minus_one(raw) => to.visit(Reading::Absent),
            Type::ProcessingTime => take_if(is_decimal(raw), Value::Number(raw), to),
            Type::Ip | Type::NodeIp => take_if(is_ip(raw), Value::Text(raw), to),
            Type::HostPort => match HostPort::split(raw) {
                Some(endpoint) => to.visit(Reading::Value(Value::HostPort(endpoint))),
                None => to.visit(Reading::Invalid),
            },
            Type::Timestamp | Type::Time => take_if(is_time(raw), Value::Time(raw), to),
            Type::Request if Request::is_absent(raw) => to.visit(Reading::Absent),
            Type::Request => to.visit(Reading::Value(Value::Request(raw))),
            Type::WordList => take_list(raw, b',', |_| true, Value::List(raw, b','), to),
            Type::TargetList => take_list(raw, b' ', |_| true, Value::List(raw, b' '), to),
            Type::IntegerList => {
                take_list(raw, b' ', |item| item == b"-" || is_integer(item), Value::IntegerList(raw), to);
            }
            Type::AlpnList => to.visit(Reading::Value(Value::AlpnList(raw))),
            Type::Validity => match split_validity(raw) {
                Some((not_before, not_after)) => to.visit(Reading::Value(Value::Validity(not_before, not_after))),
                None => to.visit(Reading::Invalid),
            },
        }
    }
}

struct Keep<'r, 'a>(&'r mut Reading<'a>);

impl<'a> ReadingVisitor<'a> for Keep<'_, 'a> {
    #[inline(always)]
    fn visit(self, reading: Reading<'a>) {
        *self.0 = reading;
    }
}

#[inline(always)]
fn take_if<'a>(valid: bool, value: Value<'a>, to: impl ReadingVisitor<'a>) {
    to.visit(if valid { Reading::Value(value) } else { Reading::Invalid });
}

#[inline(always)]
fn take_list<'a>(raw: &'a [u8], separator: u8, valid: impl Fn(&[u8]) -> bool, value: Value<'a>, to: impl ReadingVisitor<'a>) {
    let mut items = items(raw, separator).peekable();
    if items.peek().is_none() {
        to.visit(Reading::Absent);
    } else {
        take_if(items.all(valid), value, to);
    }
}

impl<'a> HostPort<'a> {
    /// Splits `ip:port`; none for a text without a colon.
    #[inline(always)]
    pub(super) fn split(text: &'a [u8]) -> Option<HostPort<'a>> {
        if text.starts_with(b"arn:") {
            return Some(HostPort { host: Host::Arn(text), port: Port::None });
        }
        let colon = last(b':', text)?;
        let (address, port) = (unbracketed(&text[..colon]), &text[colon + 1..]);
        let host = match address {
            b"" | b"-" => Host::None,
            _ if is_ip(address) => Host::Ip(address),
            _ => Host::Address(address),
        };
        let port = match port {
            b"" | b"-" => Port::None,
            _ if is_port(port) => Port::Number(port),
            _ => Port::Invalid(port),
        };
        Some(HostPort { host, port })
    }
}

/// Returns the items of a list, without the empty ones between repeated separators.
pub(crate) fn items(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    list.split(move |&byte| byte == separator).filter(|item| !item.is_empty())
}

/// Returns the items of an ALPN list, its escapes decoded. AWS cuts the list off at 256 bytes, so the last item may lack its
/// closing quote.
pub(crate) fn alpn_items(list: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let decoded = decode_escapes(list).into_owned();
    let items: Vec<Vec<u8>> = decoded.split(|&byte| byte == b',').map(|item| unquoted(item).to_vec()).collect();
    items.into_iter().filter(|item| !item.is_empty())
}

fn unquoted(item: &[u8]) -> &[u8] {
    let item = item.strip_prefix(b"\"").unwrap_or(item);
    item.strip_suffix(b"\"").unwrap_or(item)
}

fn split_validity(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let separator = memchr(b';', text)?;
    let not_before = text[..separator].strip_prefix(b"NotBefore=")?;
    let not_after = text[separator + 1..].strip_prefix(b"NotAfter=")?;
    (is_time(not_before) && is_time(not_after)).then_some((not_before, not_after))
}

/// Returns whether the standard library reads `text` as an IP address.
pub(super) fn is_ip(text: &[u8]) -> bool {
    is_ipv4(text)
        || text.len() >= 2
            && memchr(b':', text).is_some()
            && str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Returns whether the text is four numbers up to 255 without leading zeros. Nearly every address is one. The library's parser
/// is slower, because it also makes the address.
fn is_ipv4(text: &[u8]) -> bool {
    let (mut points, mut digits, mut number) = (0, 0, 0_u32);
    for &byte in text {
        match byte {
            b'0'..=b'9' if digits < 3 && (digits == 0 || number > 0) => {
                number = number * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if points < 3 && digits > 0 && number < 256 => (points, digits, number) = (points + 1, 0, 0),
            _ => return false,
        }
    }
    points == 3 && digits > 0 && number < 256
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    are_digits(digits) && (digits.len() <= 18 || str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok()))
}

fn is_decimal(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    text.len() <= LONGEST_DECIMAL
        && match unsigned.iter().position(|&byte| byte == b'.') {
            Some(point) => are_digits(&unsigned[..point]) && are_digits(&unsigned[point + 1..]),
            None => are_digits(unsigned),
        }
}

fn is_minus_one(text: &[u8]) -> bool {
    match text {
        b"-1" => true,
        [b'-', b'1', b'.', zeros @ ..] => !zeros.is_empty() && zeros.iter().all(|&digit| digit == b'0'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(ty: Type, raw: &str, expected: &str) {
        let reading = ty.read(&Token { raw: raw.as_bytes(), quoted: false, at: 0 });
        let text = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
        let found = match reading {
            Reading::Absent => "absent".to_owned(),
            Reading::Invalid => "invalid".to_owned(),
            Reading::Value(Value::HostPort(HostPort { host, port })) => {
                let host = match host {
                    Host::None => String::new(),
                    Host::Ip(ip) => format!("ip {}", text(ip)),
                    Host::Address(address) => format!("address {}", text(address)),
                    Host::Arn(arn) => format!("arn {}", text(arn)),
                };
                let port = match port {
                    Port::None => String::new(),
                    Port::Number(port) => format!(" port {}", text(port)),
                    Port::Invalid(port) => format!(" invalid port {}", text(port)),
                };
                host + &port
            }
            Reading::Value(_) => "value".to_owned(),
        };
        assert_eq!(found, expected, "{raw:?} as {ty:?}");
    }

    macro_rules! readings {
        ($($name:ident: $ty:ident $raw:literal => $expected:literal,)*) => {
            $(#[test] fn $name() { check(Type::$ty, $raw, $expected); })*
        };
    }

    readings! {
        dash: Integer "-" => "absent",
        quoted_dash_in_a_bare_field: Text "\"-\"" => "absent",
        empty: Text "" => "absent",
        integer: Integer "200" => "value",
        negative_integer: Integer "-1" => "value",
        zeros: Integer "000" => "value",
        letters: Integer "abc" => "invalid",
        plus_sign: Integer "+1" => "invalid",
        decimal_as_integer: Integer "1.0" => "invalid",
        largest_integer: Integer "9223372036854775807" => "value",
        too_large_integer: Integer "9223372036854775808" => "invalid",
        smallest_integer: Integer "-9223372036854775808" => "value",
        decimal: ProcessingTime "0.000" => "value",
        whole_decimal: ProcessingTime "4" => "value",
        negative_decimal: ProcessingTime "-0.5" => "value",
        minus_one: ProcessingTime "-1" => "absent",
        minus_one_with_zeros: ProcessingTime "-1.000" => "absent",
        nearly_minus_one: ProcessingTime "-1.001" => "value",
        no_fraction_digits: ProcessingTime "1." => "invalid",
        no_whole_digits: ProcessingTime ".5" => "invalid",
        exponent: ProcessingTime "1e3" => "invalid",
        not_a_number: ProcessingTime "NaN" => "invalid",
        ipv4: Ip "192.0.2.1" => "value",
        ipv6: Ip "2001:DB8::1" => "value",
        host_name_as_ip: Ip "a.example" => "invalid",
        ip_and_port: HostPort "192.0.2.1:80" => "ip 192.0.2.1 port 80",
        bare_ipv6_and_port: HostPort "2001:db8::1:443" => "ip 2001:db8::1 port 443",
        bracketed_ipv6_and_port: HostPort "[2001:db8::1]:443" => "ip 2001:db8::1 port 443",
        port_dash: HostPort "192.0.2.1:-" => "ip 192.0.2.1",
        port_out_of_range: HostPort "192.0.2.1:65536" => "ip 192.0.2.1 invalid port 65536",
        port_of_letters: HostPort "192.0.2.1:http" => "ip 192.0.2.1 invalid port http",
        host_name: HostPort "backend.example:80" => "address backend.example port 80",
        lambda_arn: HostPort "arn:aws:lambda:eu-west-1:123456789012:function:f:7" => "arn arn:aws:lambda:eu-west-1:123456789012:function:f:7",
        no_colon: HostPort "192.0.2.1" => "invalid",
        time: Time "2026-03-02T10:15:04.123000Z" => "value",
        no_time: Time "yesterday" => "invalid",
        integers: IntegerList "200 - 404" => "value",
        integers_with_a_bad_one: IntegerList "200 abc" => "invalid",
        list_of_spaces: TargetList "  " => "absent",
        request_of_dashes: Request "- - -" => "absent",
        port: Port "65535" => "value",
        too_large_port: Port "65536" => "invalid",
        negative_port: Port "-1" => "invalid",
        latency_of_minus_one_is_a_value: Decimal "-1" => "value",
        validity: Validity "NotBefore=2023-09-21T22:43:21Z;NotAfter=2026-06-17T22:43:21Z" => "value",
        validity_cut_off: Validity "NotBefore=2023-09-21T22:43:21Z;NotAfter=2026-06" => "invalid",
        validity_of_one_time: Validity "NotBefore=2023-09-21T22:43:21Z" => "invalid",
    }

    #[test]
    fn alpn_items_lose_their_quotes() {
        let items = |list: &str| alpn_items(list.as_bytes()).map(|item| String::from_utf8(item).unwrap()).collect::<Vec<_>>();
        assert_eq!(items(r#""h2","http/1.1""#), ["h2", "http/1.1"]);
        assert_eq!(items(r#"\"h2\",\"http/1.1\""#), ["h2", "http/1.1"]);
        assert_eq!(items(r#""h2","http/1"#), ["h2", "http/1"]);
        assert_eq!(items(r#""h2""#), ["h2"]);
    }

    proptest! {
        #[test]
        fn accepts_the_addresses_that_the_library_reads(text in "[0-9]{0,4}(\\.[0-9]{0,4}){0,4}|[0-9a-f:.]{0,20}|\\PC{0,5}") {
            prop_assert_eq!(is_ip(text.as_bytes()), text.parse::<IpAddr>().is_ok(), "{:?}", text);
        }
    }

    #[test]
    fn rejects_decimals_longer_than_json_readers_accept() {
        check(Type::ProcessingTime, &format!("0.{}", "1".repeat(LONGEST_DECIMAL)), "invalid");
    }
}
