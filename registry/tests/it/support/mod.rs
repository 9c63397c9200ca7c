//! A test double of AWS, and real peers: each on a free port of 127.0.0.1 or a separate socket, stopped when the test ends.

pub(crate) mod peers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use elb_log_registry::alert::{Alerts, Channel};
use elb_log_registry::clock::Clock;
use elb_log_registry::fleet::{Fleet, FleetError, Hook};
use elb_log_registry::group::{Group, Groups};
use elb_log_registry::list::Member;
use elb_log_registry::metrics::Metrics;
use elb_log_registry::registry::{Parts, Registry};
use elb_log_registry::store::{MemoryStore, Store};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

pub(crate) const GROUPS: &str = r#"
    [[groups]]
    region = "eu-west-1"
    dcid = "eu1"
    autoscaling_group = "logstash-eu1"
    port = 8080
    allowed_cidrs = ["10.0.0.0/8"]
"#;

pub(crate) fn groups() -> Groups {
    Groups::read(GROUPS).expect("good groups")
}

pub(crate) fn group() -> Group {
    groups().select("eu-west-1", "eu1").expect("the one group").clone()
}

/// The server with this number, at `10.0.0.NUMBER`.
pub(crate) fn member(number: u8) -> Member {
    Member { instance: instance(number), addresses: vec![[10, 0, 0, number].into()] }
}

pub(crate) fn instance(number: u8) -> String {
    format!("i-{number:017x}")
}

/// The body of a look-up of these servers.
pub(crate) fn body(numbers: &[u8]) -> String {
    let endpoints: Vec<String> = numbers.iter().map(|number| format!("\"10.0.0.{number}:8080\"")).collect();
    format!("[{}]", endpoints.join(","))
}

/// A group whose servers a test starts and stops. A response shows the state at the time of the call, and is delayed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Double(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    in_service: Mutex<BTreeMap<String, Member>>,
    fault: Mutex<Option<FleetError>>,
    delay: Mutex<Duration>,
    asked: AtomicUsize,
    completed_hooks: Mutex<Vec<Hook>>,
}

impl Double {
    pub(crate) fn with(numbers: &[u8]) -> Self {
        let double = Double::default();
        *double.0.delay.lock().unwrap() = Duration::from_millis(100);
        numbers.iter().for_each(|number| double.start(*number));
        double
    }

    pub(crate) fn start(&self, number: u8) {
        self.0.in_service.lock().unwrap().insert(instance(number), member(number));
    }

    pub(crate) fn end(&self, number: u8) {
        self.0.in_service.lock().unwrap().remove(&instance(number));
    }

    /// Starts a server at another address.
    pub(crate) fn start_at(&self, number: u8, address: &str) {
        let member = Member { instance: instance(number), addresses: vec![address.parse().unwrap()] };
        self.0.in_service.lock().unwrap().insert(instance(number), member);
    }

    pub(crate) fn fail(&self, fault: Option<FleetError>) {
        *self.0.fault.lock().unwrap() = fault;
    }

    pub(crate) fn throttle(&self) {
        self.fail(Some(FleetError::Throttled { operation: "DescribeInstances", reason: "RequestLimitExceeded".to_owned() }));
    }

    pub(crate) fn slow(&self, delay: Duration) {
        *self.0.delay.lock().unwrap() = delay;
    }

    /// Returns how often the members of a group were requested. The real fleet calls AWS twice or more for each.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn completed_hooks(&self) -> Vec<Hook> {
        self.0.completed_hooks.lock().unwrap().clone()
    }
}

impl Fleet for Double {
    async fn members(&self, _: &Group) -> Result<Vec<Member>, FleetError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let members = self.0.in_service.lock().unwrap().values().cloned().collect();
        let fault = self.0.fault.lock().unwrap().clone();
        let delay = *self.0.delay.lock().unwrap();
        sleep(delay).await;
        fault.map_or(Ok(members), Err)
    }

    async fn complete_lifecycle_action(&self, hook: &Hook) -> Result<(), FleetError> {
        let fault = self.0.fault.lock().unwrap().clone();
        self.0.completed_hooks.lock().unwrap().push(hook.clone());
        fault.map_or(Ok(()), Err)
    }
}

/// A wall clock that follows tokio's clock, which tests pause and advance.
pub(crate) fn clock() -> Clock {
    let begin = Instant::now();
    Clock::new(move || {
        let passed = SignedDuration::try_from(begin.elapsed()).expect("a short test");
        Timestamp::from_second(1_800_000_000).expect("a time") + passed
    })
}

/// A registry with a test double and a separate store.
pub(crate) fn registry(double: &Double) -> Arc<Registry<Double>> {
    registry_with(double, Store::Memory(MemoryStore::default()), Vec::new())
}

pub(crate) fn registry_with(double: &Double, store: Store, channels: Vec<Channel>) -> Arc<Registry<Double>> {
    registry_at(double, store, channels, clock())
}

pub(crate) fn registry_at(double: &Double, store: Store, channels: Vec<Channel>, clock: Clock) -> Arc<Registry<Double>> {
    let metrics = Metrics::default();
    Arc::new(Registry::new(Parts {
        groups: groups(),
        store,
        fleet: double.clone(),
        alerts: Alerts::new(channels, metrics.clone(), clock.clone()),
        metrics,
        clock,
        poll: Duration::from_mins(5),
        seed: 7,
    }))
}

/// The value of a metric with its labels; 0 if it was never counted.
pub(crate) fn metric<F: Fleet>(registry: &Registry<F>, name: &str) -> u64 {
    let text = registry.metrics().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
}

/// How often a problem was in this state.
pub(crate) fn alerts<F: Fleet>(registry: &Registry<F>, problem: &str, state: &str) -> u64 {
    metric(registry, &format!("registry_alerts_total{{problem=\"{problem}\",state=\"{state}\"}}"))
}

/// Repeats `done` until it returns a value, for at most two minutes, because machines can be busy.
pub(crate) async fn until<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let mut tries = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..6_000 {
        tries.tick().await;
        if let Some(value) = done().await {
            return value;
        }
    }
    panic!("not within two minutes: {what}");
}
