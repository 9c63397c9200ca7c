//! What a word is by its shape. A line that lacks a field has the words of other fields in the place of those after it.

use super::time::is_time;
use super::value::{Host, HostPort, Port, is_ip};

/// The shape of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// An IP address, alone or with a port.
    Address,
    /// A time.
    Time,
    /// The ID of a load balancer: `app/…` or `net/…`.
    LoadBalancer,
    /// `arn:…`
    Arn,
    /// The ID of a client's connection: `TID_…`.
    ConnectionTrace,
    /// The trace header of a request: `Root=…`.
    RequestTrace,
    /// None of these.
    Other,
}

impl Shape {
    /// Returns the shape of a word. Its first bytes, of which four are compared at once, rule out all shapes for nearly every word.
    #[inline]
    pub(super) fn of(word: &[u8]) -> Shape {
        let Some((start, rest)) = word.split_first_chunk::<4>() else { return Shape::of_short(word) };
        if start[0].is_ascii_digit() || has_colon(*start) || matches!(rest, [b':', ..] | [_, b':', ..]) {
            return Shape::of_number(word);
        }
        match start {
            b"TID_" => Shape::ConnectionTrace,
            b"app/" | b"net/" => Shape::LoadBalancer,
            b"Root" | b"Self" if rest.first() == Some(&b'=') => Shape::RequestTrace,
            _ => Shape::Other,
        }
    }

    /// Returns the shape of a word of up to three bytes: `::1` is an address.
    fn of_short(word: &[u8]) -> Shape {
        if is_ip(word) { Shape::Address } else { Shape::Other }
    }

    /// Returns the shape of a word that begins like a number, an address or an ARN. Of these, only ARNs are frequent.
    fn of_number(word: &[u8]) -> Shape {
        if word.starts_with(b"arn:") {
            Shape::Arn
        } else if is_ip(word) || is_ip_with_port(word) {
            Shape::Address
        } else if is_time(word) {
            Shape::Time
        } else {
            Shape::Other
        }
    }
}

/// Returns whether one of four bytes is a colon. The first colon of an IPv6 address is behind a bracket and four digits at the latest.
#[inline(always)]
fn has_colon(bytes: [u8; 4]) -> bool {
    // A byte is zero where a colon was. Subtracting one borrows from its highest bit.
    let differences = u32::from_ne_bytes(bytes) ^ u32::from_ne_bytes([b':'; 4]);
    differences.wrapping_sub(0x0101_0101) & !differences & 0x8080_8080 != 0
}

/// Returns whether a word is an IP address with a port.
pub(super) fn is_ip_with_port(word: &[u8]) -> bool {
    matches!(HostPort::split(word), Some(HostPort { host: Host::Ip(_), port: Port::Number(_) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! shapes {
        ($($name:ident: $word:literal => $shape:ident,)*) => {
            $(#[test] fn $name() { assert_eq!(Shape::of($word.as_bytes()), Shape::$shape, "{:?}", $word); })*
        };
    }

    shapes! {
        ipv4: "192.0.2.1" => Address,
        ipv4_with_a_port: "192.0.2.1:80" => Address,
        ipv6: "2001:db8::1" => Address,
        ipv6_that_begins_with_a_letter: "fd00::1" => Address,
        ipv6_that_begins_with_a_colon: "::1" => Address,
        ipv6_in_upper_case_with_a_port: "FE80::AB:443" => Address,
        ipv6_in_brackets: "[2001:db8::1]:443" => Address,
        ipv6_in_brackets_that_begins_with_a_letter: "[fd00::1]:443" => Address,
        shortest_ipv6: "::" => Address,
        shortest_ipv6_with_a_port: "[::]:1" => Address,
        time: "2026-03-02T10:15:04Z" => Time,
        load_balancer: "app/web/50dc6c495c0c9188" => LoadBalancer,
        network_load_balancer: "net/edge/7d2f0c41aa93be05" => LoadBalancer,
        arn: "arn:aws:acm:eu-west-1:123456789012:certificate/6f1c0a52" => Arn,
        connection_trace: "TID_404949171d49ad4b4d1357fbcff0262c" => ConnectionTrace,
        request_trace: "Root=1-69a56328-246adb36420e01d6e4e6e9ec" => RequestTrace,
        request_trace_of_another_load_balancer: "Self=1-2-3;Root=1-2-3" => RequestTrace,
        cipher: "ECDHE-RSA-AES128-GCM-SHA256" => Other,
        key_exchange: "x25519" => Other,
        error_code: "Failed:ClientCertExpired" => Other,
        protocol: "h2" => Other,
        listener: "3c9e51f08b27da64" => Other,
        number: "443" => Other,
        name_that_begins_like_an_application: "application" => Other,
        nothing: "" => Other,
    }
}
