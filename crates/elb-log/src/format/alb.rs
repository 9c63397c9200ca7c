//! Application Load Balancer access logs.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html>
//!
//! AWS's page does not list the last field, the node's address. It has been on every line since the summer of 2026.

use super::field::{Field, field};
use super::kind::FirstWord;
use super::{Format, Quoting, Traffic, VendedMark};

pub(super) static FORMAT: Format = Format {
    name: "alb",
    recognised_by: "a type and a time come first, and the fourth word holds a colon or is -",
    first_words: &[FirstWord::Type, FirstWord::Time, FirstWord::Any, FirstWord::ColonOrDash { expected: "the client's ip:port" }],
    vended: &[VendedMark::Has("type")],
    traffic: Traffic::Http,
    node_in_key: true,
    shortest: 18,
    quoting: Quoting::SpacedOrDigit,
    fields: FIELDS,
};

static FIELDS: &[Field] = &[
    field!("type", Text, "type", ["aws.elb.type"]),
    field!("time" or "timestamp", Timestamp, "time", []),
    field!("elb", Text, "id", ["aws.elb.name"]),
    field!("client:port", HostPort, "client", ["source" as HostPort]),
    field!("target:port", HostPort, "target", ["aws.elb.backend" as HostPortKeyword]),
    field!("request_processing_time", ProcessingTime, "request_processing_time", ["aws.elb.request_processing_time.sec"]),
    field!("target_processing_time", ProcessingTime, "target_processing_time", ["aws.elb.backend_processing_time.sec"]),
    field!("response_processing_time", ProcessingTime, "response_processing_time", ["aws.elb.response_processing_time.sec"]),
    field!("elb_status_code", Integer, "elb_status_code", ["http.response.status_code", "event.outcome" as OutcomeOfStatusCode]),
    field!("target_status_code", Integer, "target_status_code", ["aws.elb.backend.http.response.status_code"]),
    field!("received_bytes", Integer, "received_bytes", ["http.request.body.bytes" as BytesOverHttp]),
    field!("sent_bytes", Integer, "sent_bytes", ["http.response.body.bytes" as BytesOverHttp]),
    field!("request" or "request_line", Request, "request", []),
    field!("user_agent", Text, "user_agent", ["user_agent.original"]),
    field!("ssl_cipher", Text, "ssl_cipher", ["aws.elb.ssl_cipher", "tls.cipher"]),
    field!(
        "ssl_protocol",
        Text,
        "ssl_protocol",
        ["aws.elb.ssl_protocol", "tls.version" as TlsVersion, "tls.version_protocol" as TlsProtocol]
    ),
    field!("target_group_arn", Text, "target_group_arn", ["aws.elb.target_group.arn"]),
    field!("trace_id", Text, "trace_id", ["aws.elb.trace_id", "trace.id" as TraceRoot]),
    field!("domain_name", Text, "domain_name", ["destination.domain"]),
    field!("chosen_cert_arn", Text, "chosen_cert_arn", ["aws.elb.chosen_cert.arn"]),
    field!("matched_rule_priority", Integer, "matched_rule_priority", ["aws.elb.matched_rule_priority" as Keyword]),
    field!("request_creation_time", Time, "request_creation_time", ["event.start" as Start]),
    field!("actions_executed", CommaList, "actions_executed", ["aws.elb.action_executed"]),
    field!("redirect_url", Text, "redirect_url", ["aws.elb.redirect_url"]),
    field!("error_reason", Text, "error_reason", ["aws.elb.error.reason"]),
    field!("target:port_list", SpaceList, "target_port_list", ["aws.elb.target_port"]),
    field!("target_status_code_list", IntegerList, "target_status_code_list", ["aws.elb.target_status_code"]),
    field!("classification", Text, "classification", ["aws.elb.classification"]),
    field!("classification_reason", Text, "classification_reason", ["aws.elb.classification_reason"]),
    field!("conn_trace_id", Text, "conn_trace_id", ["aws.elb.conn_trace_id"]),
    field!("transformed_host", Text, "transformed_host", ["aws.elb.transformed_host"]),
    field!("transformed_uri", Text, "transformed_uri", ["aws.elb.transformed_uri"]),
    field!("request_transform_status", Text, "request_transform_status", ["aws.elb.request_transform_status"]),
    field!("ip_address", NodeIp, "ip_address", ["aws.elb.ip_address"]),
];
