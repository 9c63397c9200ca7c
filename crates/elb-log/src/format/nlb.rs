//! Network Load Balancer access logs. AWS writes them for TLS listeners only; lines of other listeners would be read too.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-access-logs.html>
//!
//! Version 1.0 had fewer fields. `tls_keyexchange` was called `tls_named_group` before. No field is quoted as a whole.

use super::field::{Field, field};
use super::kind::FirstWord;
use super::{Anchors, Format, Quoting, Traffic, TypeMember};

pub(super) static FORMAT: Format = Format {
    name: "nlb",
    recognised_by: "a type, a version and a time come first",
    first_words: &[FirstWord::Letters, FirstWord::Version, FirstWord::Time],
    vended: Some(TypeMember::Is("tls")),
    traffic: Traffic::Tcp,
    node_in_key: false,
    shortest: 18,
    quoting: Quoting::None,
    fields: FIELDS,
    anchors: Anchors::of(FIELDS),
};

static FIELDS: &[Field] = &[
    field!("type", Text, "type", ["aws.elb.type"]),
    field!("version", Text, "version", ["aws.elb.version"]),
    field!("time" or "timestamp", Timestamp, "time", []),
    field!("elb", LoadBalancerId, "id", ["aws.elb.name"]),
    field!("listener", Word, "listener", ["aws.elb.listener" as Keyword]),
    field!("client:port", HostPort, "client", ["source" as HostPort]),
    field!("destination:port", HostPort, "destination", ["destination" as HostPort]),
    field!("connection_time", Integer, "connection_time", ["aws.elb.connection_time.ms"]),
    field!("tls_handshake_time", Integer, "tls_handshake_time", ["aws.elb.tls_handshake_time.ms"]),
    field!("received_bytes", Integer, "received_bytes", ["source.bytes" as BytesOverTcp]),
    field!("sent_bytes", Integer, "sent_bytes", ["destination.bytes" as BytesOverTcp]),
    field!("incoming_tls_alert", Word, "incoming_tls_alert", ["aws.elb.incoming_tls_alert"]),
    field!("chosen_cert_arn", Arn, "chosen_cert_arn", ["aws.elb.chosen_cert.arn"]),
    field!("chosen_cert_serial", Word, "chosen_cert_serial", ["aws.elb.chosen_cert.serial"]),
    field!("tls_cipher", Word, "tls_cipher", ["aws.elb.ssl_cipher", "tls.cipher"]),
    field!(
        "tls_protocol_version",
        Word,
        "tls_protocol_version",
        ["aws.elb.ssl_protocol", "tls.version" as TlsVersion, "tls.version_protocol" as TlsProtocol]
    ),
    field!("tls_keyexchange" or "tls_named_group", Word, "tls_keyexchange", ["aws.elb.ssl_named_group"]),
    field!("domain_name", Text, "domain_name", ["destination.domain"]),
    field!("alpn_fe_protocol", Word, "alpn_fe_protocol", ["aws.elb.alpn_fe_protocol"]),
    field!("alpn_be_protocol", Word, "alpn_be_protocol", ["aws.elb.alpn_be_protocol"]),
    field!("alpn_client_preference_list", AlpnList, "alpn_client_preference_list", ["aws.elb.alpn_client_preference_list"]),
    field!("tls_connection_creation_time", Time, "tls_connection_creation_time", ["aws.elb.tls_connection_creation_time"]),
];
