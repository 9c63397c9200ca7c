//! Classic Load Balancer access logs.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/access-log-collection.html>
//!
//! Lines of before 2015 end behind the request. TCP and SSL listeners write `"- - - "` for the request and `-` for the statuses.

use super::field::{Field, field};
use super::{Format, Quoting};

pub(super) static FORMAT: Format = Format { fields: &FIELDS, shortest: 12, quoting: Quoting::Spaced };

static FIELDS: [Field; 15] = [
    field!("time", Timestamp, "time", []),
    field!("elb", Text, "id", ["aws.elb.name"]),
    field!("client:port", HostPort, "client", ["source"]),
    field!("backend:port", HostPort, "backend", ["aws.elb.backend"]),
    field!("request_processing_time", ProcessingTime, "request_processing_time", ["aws.elb.request_processing_time.sec"]),
    field!("backend_processing_time", ProcessingTime, "backend_processing_time", ["aws.elb.backend_processing_time.sec"]),
    field!("response_processing_time", ProcessingTime, "response_processing_time", ["aws.elb.response_processing_time.sec"]),
    field!("elb_status_code", Integer, "elb_status_code", ["http.response.status_code"]),
    field!("backend_status_code", Integer, "backend_status_code", ["aws.elb.backend.http.response.status_code"]),
    field!("received_bytes", Integer, "received_bytes", ["http.request.body.bytes", "source.bytes"]),
    field!("sent_bytes", Integer, "sent_bytes", ["http.response.body.bytes", "destination.bytes"]),
    field!("request", Request, "request", []),
    field!("user_agent", Text, "user_agent", ["user_agent.original"]),
    field!("ssl_cipher", Text, "ssl_cipher", ["aws.elb.ssl_cipher", "tls.cipher"]),
    field!("ssl_protocol", Text, "ssl_protocol", ["aws.elb.ssl_protocol", "tls.version", "tls.version_protocol"]),
];
