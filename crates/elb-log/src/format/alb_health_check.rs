//! Application Load Balancer health check logs.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-health-check-logs.html>
//!
//! The load balancer and its node were appended in 2026.

use super::field::{Field, field};
use super::{Format, Quoting};

pub(super) static FORMAT: Format = Format { fields: &FIELDS, shortest: 8, quoting: Quoting::Spaced };

static FIELDS: [Field; 10] = [
    field!("type", Text, "type", ["aws.elb.type"]),
    field!("time", Timestamp, "time", []),
    field!("latency", Decimal, "latency", ["aws.elb.health_check.latency"]),
    field!("target_addr", HostPort, "target", ["destination"]),
    field!("target_group_id", Text, "target_group_id", ["aws.elb.health_check.target_group_id"]),
    field!("status", Text, "status", ["aws.elb.health_check.status"]),
    field!("status_code", Integer, "status_code", ["aws.elb.health_check.status_code"]),
    field!("reason_code", Text, "reason_code", ["aws.elb.health_check.reason_code"]),
    field!("elb", Text, "id", ["aws.elb.name"]),
    field!("ip_address", NodeIp, "ip_address", ["aws.elb.ip_address"]),
];
