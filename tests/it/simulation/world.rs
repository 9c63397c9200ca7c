//! The simulated world of one seed. It delivers notifications until every object is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use elb_common::aws::AwsConfig;
use elb_log_shipper::dead_letter::DeadLetterDestination;
use elb_log_shipper::lambda::handler::{CompletedInvocation, HandlerError, handle, shutdown_before_deadline};
use elb_log_shipper::object::{S3Store, Store};
use elb_log_shipper::ship::Shipper;
use elb_log_shipper::sink::{Credentials, Endpoint, EndpointSource, Logstash, LogstashSettings, Sink};
use elb_log_shipper::summary_log::SummaryLog;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::simulation::SeedResult;
use crate::simulation::check::{Ended, check};
use crate::simulation::logstash::{Content, SimulatedTransport};
use crate::simulation::schedule::{BUCKET, Behavior, DEAD_LETTERS, Schedule};
use crate::simulation::store::SimulatedS3;
use crate::support::s3_event;

/// Delay after which a failed notification is delivered again.
const REDELIVERY_DELAY: Duration = Duration::from_secs(30);

/// Maximum number of deliveries of a notification. All faults have ended long before the last one.
const DELIVERIES: u32 = 10;

/// From this delivery on, invocations have Lambda's maximum time.
const UNHURRIED: u32 = 6;

/// What the store, the endpoints and the invocations share.
pub(crate) struct Shared {
    pub(crate) schedule: Schedule,
    began: Instant,
    state: Mutex<WorldState>,
}

/// The state that changes during a run.
pub(crate) struct WorldState {
    pub(crate) rng: Rng,
    pub(crate) in_flight: usize,
    /// The ids of all events that an endpoint has accepted.
    pub(crate) accepted: BTreeSet<String>,
    /// The ids that an endpoint has accepted during the present invocation.
    pub(crate) accepted_now: BTreeSet<String>,
    /// The ids in each dead-letter object, by its key.
    pub(crate) dead_letters: BTreeMap<String, Vec<String>>,
    /// The bodies that have been decoded.
    pub(crate) contents: BTreeMap<Bytes, Arc<Content>>,
    pub(crate) violations: Vec<String>,
    faults: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
}

/// The simulated world of a seed.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a world")
    }
}

impl World {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let schedule = Schedule::draw(&mut rng);
        let state = WorldState {
            rng,
            in_flight: 0,
            accepted: BTreeSet::new(),
            accepted_now: BTreeSet::new(),
            dead_letters: BTreeMap::new(),
            contents: BTreeMap::new(),
            violations: Vec::new(),
            faults: BTreeMap::new(),
            trace: Vec::new(),
        };
        World { shared: Arc::new(Shared { schedule, began: Instant::now(), state: Mutex::new(state) }) }
    }

    pub(crate) fn into_result(self) -> SeedResult {
        self.shared.with(|state| SeedResult {
            violations: std::mem::take(&mut state.violations),
            faults: std::mem::take(&mut state.faults),
            trace: std::mem::take(&mut state.trace),
        })
    }

    /// Starts a process of the function.
    fn shipper(&self) -> Arc<Shipper<SimulatedTransport>> {
        let schedule = &self.shared.schedule;
        let store = S3Store::new(self.aws(), true);
        let endpoints = (1..=schedule.endpoints.len())
            .map(|number| Endpoint::parse(&format!("http://logstash:{number}/")).expect("a URL"))
            .collect();
        let settings = LogstashSettings {
            endpoints: EndpointSource::Fixed(endpoints),
            credentials: Credentials::None,
            request_timeout: schedule.request_timeout,
            retry_budget: schedule.retry_budget,
            seed: self.shared.with(|state| state.rng.u64(..)),
        };
        let sink = Sink::Logstash(Arc::new(Logstash::new(SimulatedTransport(Arc::clone(&self.shared)), settings)));
        let dead_letter = schedule.dead_letter.then(|| DeadLetterDestination::S3 {
            store: store.clone(),
            bucket: BUCKET.to_owned(),
            prefix: DEAD_LETTERS.to_owned(),
        });
        Arc::new(Shipper::new(Store::S3(store), sink, dead_letter, schedule.ship.clone(), SummaryLog::Log))
    }

    /// Returns an SDK configuration without randomness and without a clock of its own: no retries, and no protection against
    /// stalled streams.
    fn aws(&self) -> AwsConfig {
        let credentials = AwsCredentials::new("test", "test", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("eu-west-1"))
            .endpoint_url("http://s3")
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(SimulatedS3(Arc::clone(&self.shared)));
        AwsConfig::loaded(config.build())
    }

    /// Returns the notification for the objects that are not done.
    fn event(&self, pending: &[usize]) -> Value {
        let event = |&object: &usize| s3_event(BUCKET, &self.shared.schedule.objects[object].key);
        if self.shared.schedule.by_queue {
            let message = |object: &usize| json!({"messageId": object.to_string(), "eventSource": "aws:sqs", "body": event(object).to_string()});
            json!({"Records": pending.iter().map(message).collect::<Vec<_>>()})
        } else {
            json!({"Records": pending.iter().map(|object| event(object)["Records"][0].clone()).collect::<Vec<_>>()})
        }
    }
}

impl Shared {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut WorldState) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Reports a broken invariant.
    pub(crate) fn violation(&self, what: String) {
        self.with(|state| state.violations.push(what));
    }

    /// Counts a fault.
    pub(crate) fn fault(&self, name: &'static str) {
        self.with(|state| *state.faults.entry(name).or_default() += 1);
    }

    /// Adds a line to the trace.
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        let line = format!("{:>9} {}", self.now(), what());
        self.with(|state| state.trace.push(line));
    }

    /// Records that an endpoint has accepted events.
    pub(crate) fn accept(&self, ids: &[String]) {
        self.with(|state| {
            state.accepted.extend(ids.iter().cloned());
            state.accepted_now.extend(ids.iter().cloned());
        });
    }

    /// Returns the milliseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns how an endpoint behaves now.
    pub(crate) fn behavior(&self, endpoint: usize) -> Behavior {
        let now = self.now();
        let behaviors = &self.schedule.endpoints[endpoint];
        behaviors.iter().find(|(until, _)| now < *until).map_or(Behavior::Healthy, |&(_, behavior)| behavior)
    }

    /// Returns whether the present request to the store fails.
    pub(crate) fn store_fails(&self) -> bool {
        self.now() < self.schedule.faults_end_ms && self.with(|state| state.rng.u32(..self.schedule.store_faults)) == 0
    }
}

/// Delivers the notification until every object in it is done, or [`DELIVERIES`] times.
pub(crate) async fn deliver_notifications(world: &World) {
    let shared = &world.shared;
    let mut pending: Vec<usize> = (0..shared.schedule.objects.len()).collect();
    let mut process = None;
    for delivery in 1..=DELIVERIES {
        if shared.with(|state| state.rng.u8(..3)) == 0 {
            process = None;
        }
        let shipper = process.get_or_insert_with(|| {
            shared.fault("new process");
            world.shipper()
        });
        let last = delivery == DELIVERIES;
        let ended = invoke(world, shipper, &pending, delivery).await;
        match ended {
            None => process = None,
            Some(ended) => pending = check(shared, &pending, ended, last),
        }
        if pending.is_empty() || shared.with(|state| !state.violations.is_empty()) {
            return;
        }
        sleep(REDELIVERY_DELAY).await;
    }
}

/// Invokes the function once. Returns none if the invocation was killed.
async fn invoke(world: &World, shipper: &Arc<Shipper<SimulatedTransport>>, pending: &[usize], delivery: u32) -> Option<Ended> {
    let shared = &world.shared;
    let (time, reserve, kill) = shared.with(|state| {
        state.accepted_now.clear();
        let time = if delivery < UNHURRIED { state.rng.u64(500..60_000) } else { 900_000 };
        let kill = if state.rng.u8(..3) == 0 { state.rng.u64(..time.min(2_000)) } else { u64::MAX };
        (Duration::from_millis(time), Duration::from_millis(state.rng.u64(100..5_000)), Duration::from_millis(kill))
    });
    let began = Instant::now();
    let shutdown = shutdown_before_deadline(Some(time), reserve);
    let event = world.event(pending);
    let kill = if shared.now() < shared.schedule.faults_end_ms { kill } else { Duration::MAX };
    let handled = timeout(kill.min(2 * time), handle(shipper, None, &event, &shutdown)).await;
    let elapsed = began.elapsed();
    if shutdown.is_stopped() && shutdown.reason().is_none() {
        shared.fault("invocation out of time");
    }
    let Ok(handled) = handled else {
        if kill > time {
            shared.violation(format!("an invocation of {time:?} did not end by itself"));
        }
        shared.fault("invocation killed");
        shared.trace(|| "killed".to_owned());
        return None;
    };
    shared.trace(|| format!("ended after {elapsed:?} of {time:?}"));
    if elapsed > time {
        shared.violation(format!("an invocation of {time:?} took {elapsed:?}"));
    }
    let (succeeded, report, failed_messages) = match handled {
        Ok(CompletedInvocation { response, report }) => {
            (true, report, serde_json::to_value(response).expect("a response is JSON"))
        }
        Err(HandlerError::Failed { report, .. }) => (false, *report, Value::Null),
        Err(error) => {
            shared.violation(format!("the notification was refused: {error}"));
            return None;
        }
    };
    Some(Ended { succeeded, report, reply: failed_messages })
}
