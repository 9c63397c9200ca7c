//! Application Load Balancer connection logs.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-connection-logs.html>
//!
//! The first lines of 2023 had no connection trace id; the key exchange, the load balancer and its node came in 2025 and 2026.

use super::field::{Field, field};
use super::{Format, Quoting};

pub(super) static FORMAT: Format = Format { fields: &FIELDS, shortest: 11, quoting: Quoting::Spaced };

static FIELDS: [Field; 15] = [
    field!("timestamp", Timestamp, "timestamp", []),
    field!("client_ip", Ip, "client_ip", ["client.ip"]),
    field!("client_port", Port, "client_port", ["client.port"]),
    field!("listener_port", Port, "listener_port", ["aws.elb.listener"]),
    field!("tls_protocol", Text, "tls_protocol", ["aws.elb.ssl_protocol", "tls.version", "tls.version_protocol"]),
    field!("tls_cipher", Text, "tls_cipher", ["aws.elb.ssl_cipher", "tls.cipher"]),
    field!("tls_handshake_latency", Decimal, "tls_handshake_latency", ["aws.elb.tls_handshake_latency"]),
    field!("leaf_client_cert_subject", Text, "leaf_client_cert_subject", ["aws.elb.leaf_client_cert_subject"]),
    field!(
        "leaf_client_cert_validity",
        Validity,
        "leaf_client_cert_validity",
        ["aws.elb.leaf_client_cert_not_before", "aws.elb.leaf_client_cert_not_after"]
    ),
    field!("leaf_client_cert_serial_number", Text, "leaf_client_cert_serial_number", ["aws.elb.leaf_client_cert_serial_number"]),
    field!("tls_verify_status", Text, "tls_verify_status", ["aws.elb.tls_verify_status", "aws.elb.tls_error_code"]),
    field!("conn_trace_id", Text, "conn_trace_id", ["aws.elb.conn_trace_id"]),
    field!("tls_keyexchange", Text, "tls_keyexchange", ["aws.elb.ssl_named_group"]),
    field!("elb", Text, "id", ["aws.elb.name"]),
    field!("ip_address", NodeIp, "ip_address", ["aws.elb.ip_address"]),
];
