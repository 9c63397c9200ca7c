//! Addresses that no Logstash server can have, although a wide range of allowed addresses may contain them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns whether events must never be sent to this address, whatever ranges are allowed: unspecified, multicast, broadcast and
/// link-local addresses, and the addresses of the instance metadata services (`169.254.0.0/16`, which is link-local, and
/// `fd00:ec2::/32`).
///
/// An IPv6 address that contains an IPv4 address (IPv4-mapped, NAT64, 6to4) is judged by the IPv4 address, and reserved if that is
/// a loopback address. A plain loopback address is not reserved: callers decide about it.
///
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>
pub fn is_reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_reserved_v4(ip),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()) => false,
        IpAddr::V6(ip) => {
            let inner = embedded_v4(ip).is_some_and(|ip| ip.is_loopback() || is_reserved_v4(ip));
            inner || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() || is_ec2_service(ip)
        }
    }
}

fn is_reserved_v4(ip: Ipv4Addr) -> bool {
    // Linux connects to the own host for 0.0.0.0.
    ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local()
}

/// Returns the IPv4 address that packets to an IPv6 address reach by translation or by a tunnel.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bytes = ip.octets();
    let four = |start: usize| Some(Ipv4Addr::new(bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3]));
    match ip.segments() {
        // IPv4-mapped.
        [0, 0, 0, 0, 0, 0xffff, _, _] => four(12),
        // NAT64, RFC 6052 and RFC 8215.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 1, ..] => four(12),
        // 6to4, RFC 3056.
        [0x2002, ..] => four(2),
        _ => None,
    }
}

/// Returns whether the address is in `fd00:ec2::/32`, the block of EC2's local services.
fn is_ec2_service(ip: Ipv6Addr) -> bool {
    ip.segments()[..2] == [0xfd00, 0x0ec2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserves_metadata_and_link_local_addresses_in_every_form() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2:ffff::1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
        ] {
            assert!(is_reserved(text.parse().unwrap()), "{text} is not reserved");
        }
    }

    #[test]
    fn allows_addresses_of_servers() {
        for text in [
            "10.0.0.5",
            "203.0.113.9",
            "169.253.255.255",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.5",
            "fd00::5",
            "fd00:ec1::254",
            "fec0::1",
            "2001:db8::1",
            "64:ff9b::a00:5",
            "2002:a00:5::1",
        ] {
            assert!(!is_reserved(text.parse().unwrap()), "{text} is reserved");
        }
    }
}
