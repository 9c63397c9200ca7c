//! Application Load Balancer connection logs.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-connection-logs.html>
//!
//! The first lines of 2023 had no connection trace ID. AWS appended the key exchange, the load balancer and its node in 2025 and
//! 2026.

use super::field::{Field, field};
use super::kind::{CLIENT_OR_PORT, FirstWord};
use super::{Anchors, Format, Quoting, Traffic, TypeMember};

pub(super) static FORMAT: Format = Format {
    name: "alb_connection",
    recognised_by: "a time, an address and two ports come first",
    first_words: &[
        FirstWord::Time,
        FirstWord::Ip,
        FirstWord::DigitsOrDash { expected: CLIENT_OR_PORT },
        FirstWord::DigitsOrDash { expected: "a port" },
    ],
    vended: Some(TypeMember::Irrelevant),
    traffic: Traffic::Handshakes,
    node_in_key: true,
    shortest: 11,
    quoting: Quoting::Spaced,
    fields: FIELDS,
    anchors: Anchors::of(FIELDS),
};

static FIELDS: &[Field] = &[
    field!("timestamp" or "time", Timestamp, "timestamp", []),
    field!("client_ip", Ip, "client_ip", ["client.ip"]),
    field!("client_port", Port, "client_port", ["client.port"]),
    field!("listener_port", Port, "listener_port", ["aws.elb.listener" as Keyword]),
    field!(
        "tls_protocol",
        Word,
        "tls_protocol",
        ["aws.elb.ssl_protocol", "tls.version" as TlsVersion, "tls.version_protocol" as TlsProtocol]
    ),
    field!("tls_cipher", Word, "tls_cipher", ["aws.elb.ssl_cipher", "tls.cipher"]),
    field!("tls_handshake_latency", Decimal, "tls_handshake_latency", ["aws.elb.tls_handshake_latency"]),
    field!("leaf_client_cert_subject", Text, "leaf_client_cert_subject", ["aws.elb.leaf_client_cert_subject"]),
    field!(
        "leaf_client_cert_validity",
        Validity,
        "leaf_client_cert_validity" parts "leaf_client_cert",
        ["aws.elb.leaf_client_cert_not_before" as NotBefore, "aws.elb.leaf_client_cert_not_after" as NotAfter]
    ),
    field!("leaf_client_cert_serial_number", Text, "leaf_client_cert_serial_number", ["aws.elb.leaf_client_cert_serial_number"]),
    field!(
        "tls_verify_status",
        Word,
        "tls_verify_status",
        ["aws.elb.tls_verify_status", "event.outcome" as OutcomeOfTlsVerification, "aws.elb.tls_error_code" as TlsErrorCode]
    ),
    field!("conn_trace_id", ConnectionTraceId, "conn_trace_id", ["aws.elb.conn_trace_id"]),
    field!("tls_keyexchange" or "tls_named_group", Word, "tls_keyexchange", ["aws.elb.ssl_named_group"]),
    field!("elb", LoadBalancerId, "id", ["aws.elb.name"]),
    field!("ip_address", NodeIp, "ip_address", ["aws.elb.ip_address"]),
];
