//! Application Load Balancer health check logs.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-health-check-logs.html>
//!
//! AWS appended the load balancer and its node in 2026.

use super::field::{Field, field};
use super::kind::FirstWord;
use super::{Anchors, Format, Quoting, Traffic, TypeMember};

pub(super) static FORMAT: Format = Format {
    name: "alb_health_check",
    recognised_by: "a type, a time and a number come first",
    first_words: &[FirstWord::Type, FirstWord::Time, FirstWord::NumberOrDash, FirstWord::Target],
    vended: Some(TypeMember::Irrelevant),
    traffic: Traffic::HealthChecks,
    node_in_key: true,
    shortest: 8,
    quoting: Quoting::Spaced,
    fields: FIELDS,
    anchors: Anchors::of(FIELDS),
};

static FIELDS: &[Field] = &[
    field!("type", Text, "type", ["aws.elb.type"]),
    field!("time" or "timestamp", Timestamp, "time", []),
    field!("latency", Decimal, "latency", ["aws.elb.health_check.latency"]),
    field!("target_addr", HostPort, "target", ["destination" as HostPort]),
    field!("target_group_id", Word, "target_group_id", ["aws.elb.health_check.target_group_id"]),
    field!("status", Word, "status", ["aws.elb.health_check.status", "event.outcome" as OutcomeOfHealthCheck]),
    field!("status_code", Integer, "status_code", ["aws.elb.health_check.status_code"]),
    field!("reason_code", Word, "reason_code", ["aws.elb.health_check.reason_code"]),
    field!("elb", LoadBalancerId, "id", ["aws.elb.name"]),
    field!("ip_address", NodeIp, "ip_address", ["aws.elb.ip_address"]),
];
