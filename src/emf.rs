//! The metrics of one object, as part of its log line.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
//!
//! CloudWatch makes metrics of log lines in this format, so they cost no call and no permission. There is one dimension, the
//! function's name, because each set of dimensions is paid for.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::ledger::ObjectReport;
use elb_log::key::KeyFacts;

/// The namespace of all metrics.
pub const NAMESPACE: &str = "ElbLogShipper";

/// The one dimension.
pub const DIMENSION: &str = "FunctionName";

/// Every metric's name and unit.
pub const METRICS: [(&str, &str); 17] = [
    ("LinesRead", "Count"),
    ("EventsDelivered", "Count"),
    ("EventsFiltered", "Count"),
    ("EventsUnparsed", "Count"),
    ("FieldsInvalid", "Count"),
    ("EventsDeadLettered", "Count"),
    ("EventsUndelivered", "Count"),
    ("ObjectsShipped", "Count"),
    ("ObjectsSkipped", "Count"),
    ("ObjectsFailed", "Count"),
    ("BytesRead", "Bytes"),
    ("SendAttempts", "Count"),
    ("SendRetries", "Count"),
    ("ShortLines", "Count"),
    ("FieldsExtra", "Count"),
    ("ShipDelay", "Milliseconds"),
    ("DeliveryDelay", "Milliseconds"),
];

/// The log line of one object, with its metrics. `notified` is the time of its notification.
pub fn line(report: &ObjectReport, function: &str, notified: Option<Timestamp>, now: Timestamp) -> Value {
    let mut line = Map::new();
    let (level, message) = report.verdict();
    line.insert("timestamp".to_owned(), json!(now.to_string()));
    line.insert("level".to_owned(), json!(level.as_str()));
    line.insert("message".to_owned(), json!(message));
    if let Ok(Value::Object(members)) = serde_json::to_value(report) {
        line.extend(members.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let values = values(report, notified, now);
    let known = METRICS.iter().filter(|(name, _)| values.contains_key(*name));
    let metrics: Vec<Value> = known.map(|(name, unit)| json!({"Name": name, "Unit": unit})).collect();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics}],
        }),
    );
    line.insert(DIMENSION.to_owned(), json!(function));
    line.extend(values);
    Value::Object(line)
}

fn values(report: &ObjectReport, notified: Option<Timestamp>, now: Timestamp) -> Map<String, Value> {
    let counts = &report.counts;
    let skipped = report.skipped.is_some();
    let failed = !report.is_success();
    let numbers = [
        ("LinesRead", counts.lines),
        ("EventsDelivered", counts.delivered),
        ("EventsFiltered", counts.filtered),
        ("EventsUnparsed", counts.unparsed),
        ("FieldsInvalid", counts.invalid_fields),
        ("EventsDeadLettered", counts.dead_lettered),
        ("EventsUndelivered", counts.undelivered),
        ("ObjectsShipped", u64::from(!failed && !skipped)),
        ("ObjectsSkipped", u64::from(skipped)),
        ("ObjectsFailed", u64::from(failed)),
        ("BytesRead", counts.bytes_compressed),
        ("SendAttempts", counts.requests),
        ("SendRetries", counts.retries),
        ("ShortLines", counts.short_lines),
        ("FieldsExtra", counts.extra_fields),
    ];
    let mut values: Map<String, Value> = numbers.into_iter().map(|(name, number)| (name.to_owned(), json!(number))).collect();
    // Delays are those of objects that have arrived; a skipped or failed one would only blur them.
    if !failed && !skipped {
        let interval_end = KeyFacts::from_key(&report.key).end_time.and_then(|end| end.parse().ok());
        for (name, since) in [("ShipDelay", notified), ("DeliveryDelay", interval_end)] {
            values.extend(since.map(|since: Timestamp| (name.to_owned(), json!(delay_ms(since, now)))));
        }
    }
    values
}

/// Clocks differ a little, so a delay can come out negative; it is none.
fn delay_ms(since: Timestamp, now: Timestamp) -> i64 {
    now.as_millisecond().saturating_sub(since.as_millisecond()).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counts;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn report(counts: Counts) -> ObjectReport {
        ObjectReport {
            key: "123456789012_elasticloadbalancing_eu-west-1_app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_x.log.gz"
                .to_owned(),
            complete: true,
            counts,
            ..ObjectReport::default()
        }
    }

    #[test]
    fn every_metric_of_the_directive_has_a_number_in_the_line() {
        let shipped = report(Counts { lines: 12, delivered: 12, requests: 3, retries: 2, ..Counts::default() });
        let line = line(&shipped, "shipper", Some(time("2026-03-02T10:20:05Z")), time("2026-03-02T10:20:07.5Z"));
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&directive["Namespace"], &directive["Dimensions"]), (&json!("ElbLogShipper"), &json!([["FunctionName"]])));
        assert_eq!(line["FunctionName"], "shipper");
        let metrics = directive["Metrics"].as_array().expect("metrics");
        assert_eq!(metrics.len(), METRICS.len());
        for metric in metrics {
            let name = metric["Name"].as_str().expect("a name");
            assert!(line[name].is_u64(), "{name} has no number in {line}");
        }
        assert_eq!((&line["ShipDelay"], &line["DeliveryDelay"]), (&json!(2_500), &json!(7_500)));
        assert_eq!((&line["SendAttempts"], &line["SendRetries"], &line["ObjectsShipped"]), (&json!(3), &json!(2), &json!(1)));
        assert_eq!((&line["message"], &line["lines"], &line["delivered"]), (&json!("object shipped"), &json!(12), &json!(12)));
    }

    #[test]
    fn a_failed_object_counts_as_that_and_has_no_delay() {
        let mut failed = report(Counts { lines: 2, undelivered: 2, ..Counts::default() });
        failed.error = Some("no".to_owned());
        let line = line(&failed, "shipper", None, time("2026-03-02T10:20:07Z"));
        assert_eq!(
            (&line["ObjectsFailed"], &line["ObjectsShipped"], &line["EventsUndelivered"]),
            (&json!(1), &json!(0), &json!(2))
        );
        assert_eq!((&line["level"], &line["error"], line.get("DeliveryDelay")), (&json!("ERROR"), &json!("no"), None));
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].to_string();
        assert!(!metrics.contains("Delay"), "a metric without a value makes CloudWatch drop the line: {metrics}");
    }
}
