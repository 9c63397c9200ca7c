//! CloudWatch metrics: the report of an object comes in, a log line in the embedded metric format (EMF) goes out.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
//!
//! CloudWatch extracts metrics from log lines in this format, so metrics need no API call and no permission. The only dimension is
//! the function's name, because AWS charges for each combination of dimensions.

use elb_log::key::KeyFacts;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::ledger::{Counts, ObjectReport, for_each_counter};

/// The namespace of all metrics.
const NAMESPACE: &str = "ElbLogShipper";

/// The only dimension.
const DIMENSION: &str = "FunctionName";

macro_rules! define_metrics {
    ([] $($(#[$doc:meta])* $counter:ident $(=> ($metric:literal, $unit:literal))?;)*) => {
        /// The name and unit of every metric: those of the counters, and those of the object as a whole.
        pub const METRICS: &[(&str, &str)] = &[
            $($(($metric, $unit),)?)*
            ("ObjectsShipped", "Count"),
            ("ObjectsSkipped", "Count"),
            ("ObjectsFailed", "Count"),
            ("ObjectsContinued", "Count"),
            ("ShipDelay", "Milliseconds"),
            ("DeliveryDelay", "Milliseconds"),
        ];

        fn counter_values(counts: &Counts) -> Map<String, Value> {
            let mut values = Map::new();
            $($(values.insert($metric.to_owned(), json!(counts.$counter));)?)*
            values
        }
    };
}
for_each_counter!(define_metrics);

/// Returns the log line of one object with its metrics. The members of the report are about the whole object. The metrics are about
/// this run alone, so that their sums over several runs of the object are right. `notified_at` is the time of the object's notification.
pub(crate) fn line(report: &ObjectReport, function: &str, notified_at: Option<Timestamp>, now: Timestamp) -> Value {
    let mut line = Map::new();
    let (level, message) = report.summary();
    line.insert("timestamp".to_owned(), json!(now.to_string()));
    line.insert("level".to_owned(), json!(level.as_str()));
    line.insert("message".to_owned(), json!(message));
    if let Ok(Value::Object(members)) = serde_json::to_value(report) {
        line.extend(members.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let values = metric_values(report, notified_at, now);
    let present = METRICS.iter().filter(|(name, _)| values.contains_key(*name));
    let metrics: Vec<Value> = present.map(|(name, unit)| json!({"Name": name, "Unit": unit})).collect();
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

fn metric_values(report: &ObjectReport, notified_at: Option<Timestamp>, now: Timestamp) -> Map<String, Value> {
    let mut values = counter_values(&report.own_counts());
    let is_skipped = report.skipped.is_some();
    let is_continued = report.is_continued();
    let is_failed = !report.is_success() && !is_continued;
    let is_shipped = !is_failed && !is_continued && !is_skipped;
    let ends = [
        ("ObjectsShipped", is_shipped),
        ("ObjectsSkipped", is_skipped),
        ("ObjectsFailed", is_failed),
        ("ObjectsContinued", is_continued),
    ];
    values.extend(ends.map(|(name, is_counted)| (name.to_owned(), json!(u8::from(is_counted)))));
    // Delays are measured only for shipped objects: skipped and failed objects would distort them.
    if is_shipped {
        let interval_end = KeyFacts::from_key(&report.key).end_time.and_then(|end| end.parse().ok());
        for (name, since) in [("ShipDelay", notified_at), ("DeliveryDelay", interval_end)] {
            values.extend(since.map(|since: Timestamp| (name.to_owned(), json!(delay_ms(since, now)))));
        }
    }
    values
}

/// Returns the delay in milliseconds, at least 0: clocks differ a little, so the difference can be negative.
fn delay_ms(since: Timestamp, now: Timestamp) -> i64 {
    now.as_millisecond().saturating_sub(since.as_millisecond()).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn every_metric_has_a_number_in_the_line() {
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
    fn a_continued_object_counts_only_this_run_and_is_no_failure() {
        let mut continued = report(Counts { lines: 12, delivered: 10, undelivered: 2, requests: 3, ..Counts::default() });
        (continued.complete, continued.resumed_at, continued.continued_at) = (false, Some(400), Some(900));
        continued.resumed_counts = Counts { lines: 4, delivered: 4, requests: 1, ..Counts::default() };
        let line = line(&continued, "shipper", None, time("2026-03-02T10:20:07Z"));
        assert_eq!((&line["level"], &line["message"]), (&json!("INFO"), &json!("object continued")));
        let objects = ["ObjectsShipped", "ObjectsSkipped", "ObjectsFailed", "ObjectsContinued"].map(|name| line[name].as_u64());
        assert_eq!(objects, [Some(0), Some(0), Some(0), Some(1)]);
        assert_eq!((&line["lines"], &line["delivered"]), (&json!(12), &json!(10)), "the report is about the whole object");
        let own = ["LinesRead", "EventsDelivered", "EventsUndelivered", "SendAttempts"].map(|name| line[name].as_u64());
        assert_eq!(own, [Some(8), Some(6), Some(2), Some(2)], "the metrics are about this run");
        assert_eq!((&line["resumed_at"], &line["continued_at"]), (&json!(400), &json!(900)));
    }

    #[test]
    fn a_failed_object_counts_as_failed_and_has_no_delay() {
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
