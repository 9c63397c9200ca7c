//! CloudWatch metrics: the report of an object comes in, a log line in the embedded metric format (EMF) goes out.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
//!
//! CloudWatch extracts metrics from log lines in this format, so metrics need no API call and no permission. The only dimension is
//! the function's name, because AWS charges for each combination of dimensions.

use elb_log::key::KeyFacts;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::ledger::{Counts, ObjectReport, for_each_counter};
use crate::summary_log::ObjectFacts;

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

        /// The counters of a report, as members of the line.
        const COUNTERS: &[&str] = &[$(stringify!($counter),)*];

        fn counter_values(counts: &Counts) -> Map<String, Value> {
            let mut values = Map::new();
            $($(values.insert($metric.to_owned(), json!(counts.$counter));)?)*
            values
        }
    };
}
for_each_counter!(define_metrics);

/// The log line of one object. Its members are written in this order: what people read and queries group by comes first, and what
/// only CloudWatch reads comes last.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    level: &'static str,
    message: &'static str,
    #[serde(flatten)]
    facts: ObjectFacts<'a>,
    timestamp: String,
    /// The other members of the report.
    #[serde(flatten)]
    report: Map<String, Value>,
    #[serde(rename = "FunctionName")]
    function: &'a str,
    /// The values of the metrics.
    #[serde(flatten)]
    values: Map<String, Value>,
    #[serde(rename = "_aws")]
    metadata: Value,
}

/// Returns the log line of one object with its metrics. The members of the report are about the whole object. The metrics are about
/// this run alone, so that their sums over several runs of the object are right. `notified_at` is the time of the object's notification.
pub(crate) fn line<'a>(report: &'a ObjectReport, function: &'a str, notified_at: Option<Timestamp>, now: Timestamp) -> Line<'a> {
    let (level, message) = report.summary();
    let values = metric_values(report, notified_at, now);
    let present = METRICS.iter().filter(|(name, _)| values.contains_key(*name));
    let metrics: Vec<Value> = present.map(|(name, unit)| json!({"Name": name, "Unit": unit})).collect();
    let metadata = json!({
        "Timestamp": now.as_millisecond(),
        "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics}],
    });
    Line {
        level: level.as_str(),
        message,
        facts: ObjectFacts::of(report),
        timestamp: now.to_string(),
        report: other_members(report),
        function,
        values,
        metadata,
    }
}

/// Returns the members of the report that are not at the start of the line. Members without a value are left out, and so are the
/// counters if nothing was read.
fn other_members(report: &ObjectReport) -> Map<String, Value> {
    let Ok(Value::Object(mut members)) = serde_json::to_value(report) else { return Map::new() };
    let is_read = report.counts != Counts::default();
    members.retain(|name, value| {
        let is_first = name == "key" || name == "reason";
        !is_first && !value.is_null() && (is_read || !COUNTERS.contains(&name.as_str()))
    });
    members
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
    use crate::reason::Reason;

    /// Returns the line as CloudWatch reads it.
    fn line(report: &ObjectReport, function: &str, notified_at: Option<Timestamp>, now: Timestamp) -> Value {
        serde_json::to_value(super::line(report, function, notified_at, now)).expect("JSON")
    }

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
    fn a_line_begins_with_what_queries_group_by_and_ends_with_what_cloudwatch_reads() {
        let mut failed = report(Counts { lines: 2, undelivered: 2, ..Counts::default() });
        (failed.bucket, failed.reason, failed.error) = ("logs".to_owned(), Some(Reason::Unreachable), Some("no".to_owned()));
        let line = serde_json::to_string(&super::line(&failed, "shipper", None, time("2026-03-02T10:20:07Z"))).expect("JSON");
        let start = format!(
            r#"{{"level":"ERROR","message":"object failed","reason":"unreachable","load_balancer":"app/web/50dc6c495c0c9188","account":"123456789012","region":"eu-west-1","key":"{}","timestamp":"2026-03-02T10:20:07Z","#,
            failed.key
        );
        assert!(line.starts_with(&start), "{line}");
        let last = line.rsplit_once(r#","_aws":{"#).expect("the metadata").1;
        assert!(last.ends_with(r#""Timestamp":1772446807000}}"#), "_aws is not the last member: {line}");
    }

    #[test]
    fn counters_are_left_out_if_nothing_was_read() {
        let mut unread = ObjectReport { key: "gone.log".to_owned(), ..ObjectReport::default() };
        (unread.reason, unread.error) = (Some(Reason::NotFound), Some("no such object".to_owned()));
        let line = line(&unread, "shipper", None, time("2026-03-02T10:20:07Z"));
        for counter in COUNTERS {
            assert_eq!(line.get(*counter), None, "{counter} in {line}");
        }
        for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().expect("metrics") {
            let name = metric["Name"].as_str().expect("a name");
            assert!(line[name].is_u64(), "{name} is published and has no number in {line}");
        }
        assert_eq!(line["LinesRead"], 0);
        for absent in ["load_balancer", "account", "region", "etag", "kind", "skipped"] {
            assert_eq!(line.get(absent), None, "{absent} in {line}");
        }
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
