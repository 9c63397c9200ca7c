//! The world of one seed, and a life in it: notifications until everything is done.

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

use crate::simulation::Life;
use crate::simulation::check::{Ended, check};
use crate::simulation::logstash::{Content, SimulatedTransport};
use crate::simulation::schedule::{BUCKET, DEAD_LETTERS, Mood, Schedule};
use crate::simulation::store::SimulatedS3;
use crate::support::s3_event;

/// A notification comes again after this.
const COMES_AGAIN: Duration = Duration::from_secs(30);

/// So often a notification comes, until all should long be calm.
const DELIVERIES: u32 = 10;

/// From this one on, invocations have all the time that Lambda gives.
const UNHURRIED: u32 = 6;

/// What everybody in the world shares.
pub struct Shared {
    pub schedule: Schedule,
    began: Instant,
    state: Mutex<State>,
}

/// What happens.
pub struct State {
    pub rng: Rng,
    pub in_flight: usize,
    /// Every id that an endpoint has ever taken.
    pub accepted: BTreeSet<String>,
    /// And those of the present invocation.
    pub accepted_now: BTreeSet<String>,
    /// The ids in each dead letter.
    pub dead_letters: BTreeMap<String, Vec<String>>,
    /// Bodies that have been read.
    pub contents: BTreeMap<Bytes, Arc<Content>>,
    pub wrong: Vec<String>,
    faults: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
}

/// A seed's world.
pub struct World {
    pub shared: Arc<Shared>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a world")
    }
}

impl World {
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let schedule = Schedule::draw(&mut rng);
        let state = State {
            rng,
            in_flight: 0,
            accepted: BTreeSet::new(),
            accepted_now: BTreeSet::new(),
            dead_letters: BTreeMap::new(),
            contents: BTreeMap::new(),
            wrong: Vec::new(),
            faults: BTreeMap::new(),
            trace: Vec::new(),
        };
        World { shared: Arc::new(Shared { schedule, began: Instant::now(), state: Mutex::new(state) }) }
    }

    pub fn into_life(self) -> Life {
        self.shared.with(|state| Life {
            wrong: std::mem::take(&mut state.wrong),
            faults: std::mem::take(&mut state.faults),
            trace: std::mem::take(&mut state.trace),
        })
    }

    /// A process of the function.
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

    /// The SDK with nothing random in it: its retries have a randomness of their own, and its watch over slow streams a clock.
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

    /// The notification of the objects that are not done.
    fn event(&self, open: &[usize]) -> Value {
        let event = |&object: &usize| s3_event(BUCKET, &self.shared.schedule.objects[object].key);
        if self.shared.schedule.by_queue {
            let message = |object: &usize| json!({"messageId": object.to_string(), "eventSource": "aws:sqs", "body": event(object).to_string()});
            json!({"Records": open.iter().map(message).collect::<Vec<_>>()})
        } else {
            json!({"Records": open.iter().map(|object| event(object)["Records"][0].clone()).collect::<Vec<_>>()})
        }
    }
}

impl Shared {
    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn wrong(&self, what: String) {
        self.with(|state| state.wrong.push(what));
    }

    pub fn fault(&self, name: &'static str) {
        self.with(|state| *state.faults.entry(name).or_default() += 1);
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        let line = format!("{:>9} {}", self.now(), what());
        self.with(|state| state.trace.push(line));
    }

    pub fn accept(&self, ids: &[String]) {
        self.with(|state| {
            state.accepted.extend(ids.iter().cloned());
            state.accepted_now.extend(ids.iter().cloned());
        });
    }

    /// Milliseconds since the world began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn mood(&self, endpoint: usize) -> Mood {
        let now = self.now();
        let moods = &self.schedule.endpoints[endpoint];
        moods.iter().find(|(until, _)| now < *until).map_or(Mood::Well, |&(_, mood)| mood)
    }

    pub fn store_fails(&self) -> bool {
        self.now() < self.schedule.calm_after && self.with(|state| state.rng.u32(..self.schedule.store_faults)) == 0
    }
}

/// Delivers the notification until everything in it is done, or for so long that it should be.
pub async fn live(world: &World) {
    let shared = &world.shared;
    let mut open: Vec<usize> = (0..shared.schedule.objects.len()).collect();
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
        let ended = invoke(world, shipper, &open, delivery).await;
        match ended {
            None => process = None,
            Some(ended) => open = check(shared, &open, ended, last),
        }
        if open.is_empty() || shared.with(|state| !state.wrong.is_empty()) {
            return;
        }
        sleep(COMES_AGAIN).await;
    }
}

/// None if it was killed.
async fn invoke(world: &World, shipper: &Arc<Shipper<SimulatedTransport>>, open: &[usize], delivery: u32) -> Option<Ended> {
    let shared = &world.shared;
    let (time, reserve, kill) = shared.with(|state| {
        state.accepted_now.clear();
        let time = if delivery < UNHURRIED { state.rng.u64(500..60_000) } else { 900_000 };
        let kill = if state.rng.u8(..3) == 0 { state.rng.u64(..time.min(2_000)) } else { u64::MAX };
        (Duration::from_millis(time), Duration::from_millis(state.rng.u64(100..5_000)), Duration::from_millis(kill))
    });
    let began = Instant::now();
    let stop = shutdown_before_deadline(Some(time), reserve);
    let event = world.event(open);
    let kill = if shared.now() < shared.schedule.calm_after { kill } else { Duration::MAX };
    let handled = timeout(kill.min(2 * time), handle(shipper, None, &event, &stop)).await;
    let took = began.elapsed();
    if stop.is_stopped() && stop.reason().is_none() {
        shared.fault("invocation out of time");
    }
    let Ok(handled) = handled else {
        if kill > time {
            shared.wrong(format!("an invocation of {time:?} did not end by itself"));
        }
        shared.fault("invocation killed");
        shared.note(|| "killed".to_owned());
        return None;
    };
    shared.note(|| format!("ended after {took:?} of {time:?}"));
    if took > time {
        shared.wrong(format!("an invocation of {time:?} took {took:?}"));
    }
    let (succeeded, report, failed_messages) = match handled {
        Ok(CompletedInvocation { response, report }) => {
            (true, report, serde_json::to_value(response).expect("a response is JSON"))
        }
        Err(HandlerError::Failed { report, .. }) => (false, *report, Value::Null),
        Err(error) => {
            shared.wrong(format!("the notification was not understood: {error}"));
            return None;
        }
    };
    Some(Ended { succeeded, report, reply: failed_messages })
}
