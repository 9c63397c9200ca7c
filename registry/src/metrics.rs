//! Metrics for Prometheus, served at `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::group::Key;
use crate::list::List;

/// Every metric and its description. A test compares the table in the README with it.
pub const METRICS: &[(&str, &str)] = &[
    ("registry_requests_total", "requests, by route and status"),
    ("registry_aws_calls_total", "calls to AWS, by operation, without retries of the SDK"),
    ("registry_refreshes_total", "refreshes of a list, by source and result"),
    ("registry_events_total", "lifecycle events, by kind and result"),
    ("registry_alerts_total", "alerts and recoveries, by problem and state"),
    ("registry_alerts_lost_total", "alerts that could not be sent, by channel"),
    ("registry_problem", "1 while a problem lasts, by problem and list"),
    ("registry_list_endpoints", "endpoints in a list"),
    ("registry_list_age_seconds", "age of a list"),
];

type Counters<L> = Family<L, Counter<u64, AtomicU64>>;
type Gauges<L> = Family<L, Gauge<i64, AtomicI64>>;

/// All metrics. Label values come from fixed sets and from the configuration, never from a request.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    requests: Counters<RequestLabels>,
    aws_calls: Counters<OperationLabels>,
    refreshes: Counters<RefreshLabels>,
    events: Counters<EventLabels>,
    alerts: Counters<AlertLabels>,
    alerts_lost: Counters<ChannelLabels>,
    problems: Gauges<ProblemLabels>,
    endpoints: Gauges<ListLabels>,
    ages: Gauges<ListLabels>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    source: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlertLabels {
    problem: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabels {
    channel: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    problem: &'static str,
    region: String,
    dcid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListLabels {
    region: String,
    dcid: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut families = Families {
            registry: Registry::default(),
            requests: Family::default(),
            aws_calls: Family::default(),
            refreshes: Family::default(),
            events: Family::default(),
            alerts: Family::default(),
            alerts_lost: Family::default(),
            problems: Family::default(),
            endpoints: Family::default(),
            ages: Family::default(),
        };
        families.register();
        Metrics(Arc::new(families))
    }
}

impl Families {
    /// The encoder appends `_total` to the names of counters.
    fn register(&mut self) {
        for (full_name, help) in METRICS {
            let name = full_name.strip_suffix("_total").unwrap_or(full_name);
            let registry = &mut self.registry;
            match *full_name {
                "registry_requests_total" => registry.register(name, *help, self.requests.clone()),
                "registry_aws_calls_total" => registry.register(name, *help, self.aws_calls.clone()),
                "registry_refreshes_total" => registry.register(name, *help, self.refreshes.clone()),
                "registry_events_total" => registry.register(name, *help, self.events.clone()),
                "registry_alerts_total" => registry.register(name, *help, self.alerts.clone()),
                "registry_alerts_lost_total" => registry.register(name, *help, self.alerts_lost.clone()),
                "registry_problem" => registry.register(name, *help, self.problems.clone()),
                "registry_list_endpoints" => registry.register(name, *help, self.endpoints.clone()),
                _ => registry.register(name, *help, self.ages.clone()),
            }
        }
    }
}

impl Metrics {
    /// Counts a request. `route` is one of the existing routes, never the requested path.
    pub fn request(&self, route: &'static str, status: u16) {
        self.0.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// Counts a call to AWS.
    pub fn aws_call(&self, operation: &'static str) {
        self.0.aws_calls.get_or_create(&OperationLabels { operation }).inc();
    }

    /// Returns the number of calls to AWS.
    pub fn aws_calls(&self, operation: &'static str) -> u64 {
        self.0.aws_calls.get_or_create(&OperationLabels { operation }).get()
    }

    /// Counts a refresh of a list.
    pub fn refresh(&self, source: &'static str, result: &'static str) {
        self.0.refreshes.get_or_create(&RefreshLabels { source, result }).inc();
    }

    /// Counts a lifecycle event.
    pub fn event(&self, kind: &'static str, result: &'static str) {
        self.0.events.get_or_create(&EventLabels { kind, result }).inc();
    }

    /// Records that a problem was raised or has recovered.
    pub fn problem(&self, problem: &'static str, key: &Key, state: &'static str, lasts: bool) {
        let Key { region, dcid } = key.clone();
        self.0.alerts.get_or_create(&AlertLabels { problem, state }).inc();
        self.0.problems.get_or_create(&ProblemLabels { problem, region, dcid }).set(i64::from(lasts));
    }

    /// Counts an alert that could not be sent.
    pub fn alert_lost(&self, channel: &'static str) {
        self.0.alerts_lost.get_or_create(&ChannelLabels { channel }).inc();
    }

    /// Records the current size and age of a list.
    pub fn list(&self, key: &Key, list: &List, age_s: u64) {
        let Key { region, dcid } = key.clone();
        let labels = ListLabels { region, dcid };
        self.0.endpoints.get_or_create(&labels).set(i64::try_from(list.endpoints.len()).unwrap_or(i64::MAX));
        self.0.ages.get_or_create(&labels).set(i64::try_from(age_s).unwrap_or(i64::MAX));
    }

    /// Returns all metrics as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = text::encode(&mut text, &self.0.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_every_metric_under_its_name() {
        let metrics = Metrics::default();
        let key = Key { region: "eu-west-1".to_owned(), dcid: "eu1".to_owned() };
        metrics.request("lookup", 200);
        metrics.aws_call("describe");
        metrics.refresh("poll", "updated");
        metrics.event("launched", "done");
        metrics.problem("store", &key, "raised", true);
        metrics.alert_lost("webhook");
        let list = r#"{"endpoints":["10.0.0.1:1"],"generation":1,"updated_at":"2027-01-15T08:00:00Z","source":"poll"}"#;
        metrics.list(&key, &serde_json::from_str(list).unwrap(), 7);
        let text = metrics.text();
        for (name, _) in METRICS {
            assert!(text.lines().any(|line| line.starts_with(&format!("{name}{{"))), "{name} is missing:\n{text}");
        }
        assert!(text.contains("registry_requests_total{route=\"lookup\",status=\"200\"} 1"), "{text}");
        assert!(text.contains("registry_list_age_seconds{region=\"eu-west-1\",dcid=\"eu1\"} 7"), "{text}");
    }
}
