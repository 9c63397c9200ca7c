//! Application Load Balancer access logs.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html>
//!
//! AWS's page does not list the last three fields. The node's address is on every line since the summer of 2026, under the name that
//! AWS gives it in deliveries through CloudWatch Logs. The two error codes are on every line since September 2026, and AWS has not
//! published their names.

use super::field::{Field, field};
use super::kind::FirstWord;
use super::{Anchors, Format, Quoting, Traffic, TypeMember};

pub(super) static FORMAT: Format = Format {
    name: "alb",
    recognised_by: "a type and a time come first, and the fourth word holds a colon or is -",
    first_words: &[FirstWord::Type, FirstWord::Time, FirstWord::Id, FirstWord::ColonOrDash { expected: "the client's ip:port" }],
    vended: Some(TypeMember::AnyOther),
    traffic: Traffic::Http,
    node_in_key: true,
    shortest: 18,
    quoting: Quoting::SpacedOrDigit,
    fields: FIELDS,
    anchors: Anchors::of(FIELDS),
};

static FIELDS: &[Field] = &[
    field!("type", Text, "type", ["aws.elb.type"]),
    field!("time" or "timestamp", Timestamp, "time", []),
    field!("elb", LoadBalancerId, "id", ["aws.elb.name"]),
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
    field!("ssl_cipher", Word, "ssl_cipher", ["aws.elb.ssl_cipher", "tls.cipher"]),
    field!(
        "ssl_protocol",
        Word,
        "ssl_protocol",
        ["aws.elb.ssl_protocol", "tls.version" as TlsVersion, "tls.version_protocol" as TlsProtocol]
    ),
    field!("target_group_arn", Arn, "target_group_arn", ["aws.elb.target_group.arn"]),
    field!("trace_id", Text, "trace_id", ["aws.elb.trace_id", "trace.id" as TraceRoot]),
    field!("domain_name", Text, "domain_name", ["destination.domain"]),
    field!("chosen_cert_arn", Arn, "chosen_cert_arn", ["aws.elb.chosen_cert.arn"]),
    field!("matched_rule_priority", Integer, "matched_rule_priority", ["aws.elb.matched_rule_priority" as Keyword]),
    field!("request_creation_time", Time, "request_creation_time", ["event.start" as Start]),
    field!("actions_executed", WordList, "actions_executed", ["aws.elb.action_executed"]),
    field!("redirect_url", Text, "redirect_url", ["aws.elb.redirect_url"]),
    field!("error_reason", Word, "error_reason", ["aws.elb.error.reason"]),
    field!("target:port_list", TargetList, "target_port_list", ["aws.elb.target_port"]),
    field!("target_status_code_list", IntegerList, "target_status_code_list", ["aws.elb.target_status_code"]),
    field!("classification", Word, "classification", ["aws.elb.classification"]),
    field!("classification_reason", Word, "classification_reason", ["aws.elb.classification_reason"]),
    field!("conn_trace_id", ConnectionTraceId, "conn_trace_id", ["aws.elb.conn_trace_id"]),
    field!("transformed_host", Text, "transformed_host", ["aws.elb.transformed_host"]),
    field!("transformed_uri", Text, "transformed_uri", ["aws.elb.transformed_uri"]),
    field!("request_transform_status", Word, "request_transform_status", ["aws.elb.request_transform_status"]),
    field!("ip_address", NodeIp, "ip_address", ["aws.elb.ip_address"]),
    field!("target_error_code" unconfirmed, Word, "target_error_code", ["aws.elb.target_error_code"]),
    field!("elb_error_code" unconfirmed, Word, "elb_error_code", ["aws.elb.elb_error_code"]),
];
