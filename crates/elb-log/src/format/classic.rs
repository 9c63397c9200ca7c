//! Classic Load Balancer access logs.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/access-log-collection.html>
//!
//! Lines from before 2015 end after the request. TCP and SSL listeners write `"- - - "` for the request and `-` for the status
//! codes.

use super::field::{Field, field};
use super::kind::{CLIENT_OR_PORT, FirstWord};
use super::{Anchors, Format, Quoting, Traffic};

pub(super) static FORMAT: Format = Format {
    name: "classic",
    recognised_by: "a time comes first, and the third word is an address with a port, or -",
    first_words: &[FirstWord::Time, FirstWord::Name, FirstWord::Client { expected: CLIENT_OR_PORT }, FirstWord::Target],
    vended: None,
    traffic: Traffic::HttpOrTcp,
    node_in_key: true,
    shortest: 12,
    quoting: Quoting::Spaced,
    fields: FIELDS,
    anchors: Anchors::of(FIELDS),
};

static FIELDS: &[Field] = &[
    field!("time" or "timestamp", Timestamp, "time", []),
    field!("elb", LoadBalancerName, "id", ["aws.elb.name"]),
    field!("client:port", HostPort, "client", ["source" as HostPort]),
    field!("backend:port", HostPort, "backend", ["aws.elb.backend" as HostPortKeyword]),
    field!("request_processing_time", ProcessingTime, "request_processing_time", ["aws.elb.request_processing_time.sec"]),
    field!("backend_processing_time", ProcessingTime, "backend_processing_time", ["aws.elb.backend_processing_time.sec"]),
    field!("response_processing_time", ProcessingTime, "response_processing_time", ["aws.elb.response_processing_time.sec"]),
    field!("elb_status_code", Integer, "elb_status_code", ["http.response.status_code", "event.outcome" as OutcomeOfStatusCode]),
    field!("backend_status_code", Integer, "backend_status_code", ["aws.elb.backend.http.response.status_code"]),
    field!(
        "received_bytes",
        Integer,
        "received_bytes",
        ["http.request.body.bytes" as BytesOverHttp, "source.bytes" as BytesOverTcp]
    ),
    field!(
        "sent_bytes",
        Integer,
        "sent_bytes",
        ["http.response.body.bytes" as BytesOverHttp, "destination.bytes" as BytesOverTcp]
    ),
    field!("request" or "request_line", Request, "request", []),
    field!("user_agent", Text, "user_agent", ["user_agent.original"]),
    field!("ssl_cipher", Text, "ssl_cipher", ["aws.elb.ssl_cipher", "tls.cipher"]),
    field!(
        "ssl_protocol",
        Text,
        "ssl_protocol",
        ["aws.elb.ssl_protocol", "tls.version" as TlsVersion, "tls.version_protocol" as TlsProtocol]
    ),
];
