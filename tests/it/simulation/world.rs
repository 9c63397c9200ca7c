//! The simulated world of one seed. It delivers notifications until every object is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
use elb_log_shipper::checkpoint::{CheckpointLocation, CheckpointStore};
use elb_log_shipper::dead_letter::DeadLetterDestination;
use elb_log_shipper::lambda::handler::{CompletedInvocation, HandlerError, handle, shutdown_before_deadline};
use elb_log_shipper::lambda::sqs::SqsClient;
use elb_log_shipper::object::{S3Store, Store};
use elb_log_shipper::ship::Shipper;
use elb_log_shipper::sink::{Credentials, Endpoint, EndpointSource, Logstash, LogstashSettings, Sink};
use elb_log_shipper::summary_log::SummaryLog;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::simulation::SeedResult;
use crate::simulation::check::{Ended, check};
use crate::simulation::logstash::{Content, SimulatedTransport};
use crate::simulation::object::Version;
use crate::simulation::requests::{Event, Requests};
use crate::simulation::schedule::{BUCKET, Behavior, DEAD_LETTERS, Schedule, Source};
use crate::simulation::store::SimulatedAws;
use crate::support::s3_event;

/// Delay after which a failed notification is delivered again.
const REDELIVERY_DELAY: Duration = Duration::from_secs(30);

/// Maximum number of deliveries of a notification. All faults have ended long before the last one.
const DELIVERIES: u32 = 10;

/// From this delivery on, invocations have Lambda's maximum time.
const UNHURRIED: u32 = 6;

/// What AWS, the endpoints and the invocations share.
pub(crate) struct Shared {
    pub(crate) schedule: Schedule,
    /// The event of each id.
    pub(crate) ids: HashMap<String, Event>,
    began: Instant,
    state: Mutex<WorldState>,
}

/// The state that changes during a run.
pub(crate) struct WorldState {
    pub(crate) rng: Rng,
    /// All events that an endpoint has accepted.
    pub(crate) accepted: BTreeSet<Event>,
    /// The events in each dead-letter object, by its key.
    pub(crate) dead_letters: BTreeMap<String, Vec<Event>>,
    /// The versions of accepted events, if the events show it.
    pub(crate) shown: BTreeMap<Event, BTreeSet<Version>>,
    /// The stored checkpoints, by their keys.
    pub(crate) checkpoints: BTreeMap<String, Vec<u8>>,
    /// The messages in the dead-letter queue.
    pub(crate) moved: BTreeSet<usize>,
    /// The bodies that have been decoded.
    pub(crate) contents: BTreeMap<Bytes, Arc<Content>>,
    pub(crate) violations: Vec<String>,
    processes: Vec<ProcessState>,
    faults: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
}

/// What the world knows about one process of the function.
#[derive(Default)]
struct ProcessState {
    requests: Requests,
    /// Number of steps of the present invocation.
    steps: u32,
    /// The step at which the invocation is killed.
    kill_at: Option<u32>,
    kill: Arc<Notify>,
}

/// The simulated world of a seed.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
}

/// A process of the function.
#[derive(Clone)]
struct Process {
    number: usize,
    shipper: Arc<Shipper<SimulatedTransport>>,
    sqs: Arc<SqsClient>,
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
        let mut ids = HashMap::new();
        for (number, object) in schedule.objects.iter().enumerate() {
            ids.extend(object.lines.iter().enumerate().map(|(line, found)| (found.id.clone(), (number, line))));
        }
        let state = WorldState {
            rng,
            accepted: BTreeSet::new(),
            dead_letters: BTreeMap::new(),
            shown: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            moved: BTreeSet::new(),
            contents: BTreeMap::new(),
            violations: Vec::new(),
            processes: Vec::new(),
            faults: BTreeMap::new(),
            trace: Vec::new(),
        };
        let shared = Shared { schedule, ids, began: Instant::now(), state: Mutex::new(state) };
        for feature in shared.schedule.objects.iter().flat_map(|object| &object.features) {
            shared.fault(feature);
        }
        World { shared: Arc::new(shared) }
    }

    pub(crate) fn into_result(self) -> SeedResult {
        self.shared.with(|state| SeedResult {
            violations: std::mem::take(&mut state.violations),
            faults: std::mem::take(&mut state.faults),
            trace: std::mem::take(&mut state.trace),
        })
    }

    /// Starts a process of the function.
    fn start_process(&self) -> Process {
        self.shared.fault("new process");
        let number = self.shared.with(|state| {
            state.processes.push(ProcessState::default());
            state.processes.len() - 1
        });
        let schedule = &self.shared.schedule;
        let aws = self.aws(number);
        let store = S3Store::new(aws.clone(), true);
        let endpoints = (1..=schedule.endpoints.len())
            .map(|number| Endpoint::parse(&format!("http://logstash:{number}/")).expect("a URL"))
            .collect();
        let credentials = match schedule.rotation {
            Some(_) => Credentials::secret(aws.clone(), "logstash".to_owned()),
            None => Credentials::None,
        };
        let settings = LogstashSettings {
            endpoints: EndpointSource::Fixed(endpoints),
            credentials,
            request_timeout: schedule.request_timeout,
            retry_budget: schedule.retry_budget,
            seed: self.shared.with(|state| state.rng.u64(..)),
        };
        let transport = SimulatedTransport { shared: Arc::clone(&self.shared), process: number };
        let sink = Sink::Logstash(Arc::new(Logstash::new(transport, settings)));
        let dead_letter = schedule.dead_letter.then(|| DeadLetterDestination::S3 {
            store: store.clone(),
            bucket: BUCKET.to_owned(),
            prefix: DEAD_LETTERS.to_owned(),
        });
        let location =
            CheckpointLocation::S3 { store: store.clone(), bucket: BUCKET.to_owned(), prefix: DEAD_LETTERS.to_owned() };
        let checkpoints = schedule.dead_letter.then(|| CheckpointStore::new(location, "settings".to_owned()));
        let shipper = Shipper::new(Store::S3(store), sink, dead_letter, schedule.ship.clone(), SummaryLog::Log);
        let shipper = Arc::new(match checkpoints {
            Some(checkpoints) => shipper.with_checkpoints(checkpoints),
            None => shipper,
        });
        Process { number, shipper, sqs: Arc::new(SqsClient::new(aws, Some("http://sqs/dead".to_owned()))) }
    }

    /// Returns an SDK configuration without randomness and without a clock of its own: no retries, and no protection against
    /// stalled streams.
    fn aws(&self, process: usize) -> AwsConfig {
        let credentials = AwsCredentials::new("test", "test", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("eu-west-1"))
            .endpoint_url("http://s3")
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(SimulatedAws { shared: Arc::clone(&self.shared), process });
        AwsConfig::loaded(config.build())
    }
}

impl Shared {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut WorldState) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Changes what is known of the requests of a process, and reports the rules that they broke.
    pub(crate) fn requests<T>(&self, process: usize, f: impl FnOnce(&mut Requests) -> T) -> T {
        self.with(|state| {
            let requests = &mut state.processes[process].requests;
            let result = f(requests);
            state.violations.extend(requests.take_violations());
            result
        })
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

    /// Returns the time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the milliseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns how an endpoint behaves now.
    pub(crate) fn behavior(&self, endpoint: usize) -> Behavior {
        let now = self.now();
        let behaviors = &self.schedule.endpoints[endpoint];
        behaviors.iter().find(|(until, _)| now < *until).map_or(Behavior::Healthy, |&(_, behavior)| behavior)
    }

    /// Returns whether faults still happen.
    pub(crate) fn has_faults(&self) -> bool {
        self.now() < self.schedule.faults_end_ms
    }

    /// Returns whether the present request to AWS fails.
    pub(crate) fn store_fails(&self) -> bool {
        self.has_faults() && self.with(|state| state.rng.u32(..self.schedule.store_faults)) == 0
    }

    /// Marks a point at which an invocation can be killed; from then on, none of its requests goes on. Otherwise the tasks that
    /// are ready run in another order, which the seed decides.
    pub(crate) async fn step(&self, process: usize) {
        let (killed, yields) = self.with(|state| {
            let process = &mut state.processes[process];
            process.steps += 1;
            let killed = process.kill_at.is_some_and(|kill_at| process.steps >= kill_at);
            if killed {
                process.kill.notify_one();
            }
            (killed, state.rng.u8(..3))
        });
        if killed {
            std::future::pending::<()>().await;
        }
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
    }

    /// Returns the body of a message of the queue.
    pub(crate) fn message_body(&self, message: usize) -> String {
        let records: Vec<Value> = self.schedule.messages[message].iter().map(|&object| self.record(object)).collect();
        json!({"Records": records}).to_string()
    }

    fn record(&self, object: usize) -> Value {
        s3_event(BUCKET, &self.schedule.objects[object].key)["Records"][0].clone()
    }

    /// Returns the notification for the messages that are not done.
    fn event(&self, pending: &[Message], delivery: u32) -> Value {
        match self.schedule.source {
            Source::Event => {
                let objects = pending.iter().flat_map(|message| &message.objects);
                json!({"Records": objects.map(|&object| self.record(object)).collect::<Vec<_>>()})
            }
            Source::Queue => {
                let record = |message: &Message| {
                    let number = message.number;
                    json!({
                        "messageId": number.to_string(), "receiptHandle": format!("receipt {number}"), "eventSource": "aws:sqs",
                        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:queue",
                        "attributes": {"ApproximateReceiveCount": delivery.to_string()}, "body": self.message_body(number),
                    })
                };
                json!({"Records": pending.iter().map(record).collect::<Vec<_>>()})
            }
            Source::Job => {
                let task = |message: &Message| {
                    let key = &self.record(message.objects[0])["s3"]["object"]["key"];
                    json!({"taskId": message.number.to_string(), "s3Key": key, "s3VersionId": null, "s3Bucket": BUCKET})
                };
                let tasks: Vec<Value> = pending.iter().map(task).collect();
                json!({"invocationSchemaVersion": "2.0", "invocationId": "1", "job": {"id": "job"}, "tasks": tasks})
            }
        }
    }
}

/// A message that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) number: usize,
    /// The objects that it names. Of an event, those that can never be read are left out from the second delivery on.
    pub(crate) objects: Vec<usize>,
}

/// Delivers the messages until each is done, or [`DELIVERIES`] times.
pub(crate) async fn deliver_notifications(world: &World) {
    let shared = &world.shared;
    let messages = shared.schedule.messages.iter().enumerate();
    let mut pending: Vec<Message> = messages.map(|(number, objects)| Message { number, objects: objects.clone() }).collect();
    let mut process = None;
    for delivery in 1..=DELIVERIES {
        if shared.with(|state| state.rng.u8(..3)) == 0 {
            process = None;
        }
        let first = process.take().unwrap_or_else(|| world.start_process());
        let is_doubled = shared.has_faults() && shared.with(|state| state.rng.u8(..8)) == 0;
        let left = if is_doubled {
            shared.fault("delivered twice at the same time");
            let second = world.start_process();
            let (left, also_left) =
                tokio::join!(invoke(shared, &first, &pending, delivery), invoke(shared, &second, &pending, delivery));
            // A message is done if either invocation says so.
            left.zip(also_left).map(|(left, also_left)| left.into_iter().filter(|message| also_left.contains(message)).collect())
        } else {
            invoke(shared, &first, &pending, delivery).await
        };
        if let Some(left) = left {
            (pending, process) = (left, Some(first));
        }
        if pending.is_empty() || shared.with(|state| !state.violations.is_empty()) {
            return;
        }
        sleep(REDELIVERY_DELAY).await;
    }
}

/// When an invocation has to end, and when it is killed.
struct Timing {
    time: Duration,
    reserve: Duration,
    kill: Duration,
}

impl Timing {
    /// Draws the times of an invocation, and at which step it is killed.
    fn draw(shared: &Shared, process: usize, delivery: u32) -> Self {
        let has_faults = shared.has_faults();
        shared.with(|state| {
            // Short ones often end in the middle of an object.
            let longest = if state.rng.bool() { 2_000 } else { 60_000 };
            let time = if delivery < UNHURRIED { state.rng.u64(500..longest) } else { 900_000 };
            let (mut kill, mut kill_at) = (Duration::MAX, None);
            match state.rng.u8(..6) {
                0 if has_faults => kill = Duration::from_millis(state.rng.u64(..time.min(2_000))),
                1 if has_faults => kill_at = Some(state.rng.u32(1..60)),
                _ => {}
            }
            let present = &mut state.processes[process];
            *present = ProcessState { requests: present.requests.next(), steps: 0, kill_at, kill: Arc::default() };
            let reserve = Duration::from_millis(state.rng.u64(100..5_000));
            Timing { time: Duration::from_millis(time), reserve, kill }
        })
    }
}

/// Invokes the function once, and checks what it did. Returns the messages that are delivered again; none if the invocation was
/// killed.
async fn invoke(shared: &Shared, process: &Process, pending: &[Message], delivery: u32) -> Option<Vec<Message>> {
    let timing = Timing::draw(shared, process.number, delivery);
    let began = Instant::now();
    let shutdown = shutdown_before_deadline(Some(timing.time), timing.reserve);
    let event = shared.event(pending, delivery);
    let mut handling = Box::pin(handle(&process.shipper, Some(&process.sqs), "simulation", &event, &shutdown));
    let handled = until_killed(shared, process.number, &timing, &mut handling).await;
    if shutdown.is_stopped() && shutdown.reason().is_none() {
        shared.fault("invocation out of time");
    }
    let (time, elapsed) = (timing.time, began.elapsed());
    shared.trace(|| format!("{} after {elapsed:?} of {time:?}", if handled.is_some() { "ended" } else { "killed" }));
    if elapsed > time {
        shared.violation(format!("an invocation of {time:?} took {elapsed:?}"));
    }
    let Some(handled) = handled else {
        shared.requests(process.number, |requests| requests.killed = true);
        return None;
    };
    let (succeeded, report, reply) = match handled {
        Ok(CompletedInvocation { response, report }) => {
            (true, report, serde_json::to_value(response).expect("a response is JSON"))
        }
        Err(HandlerError::Failed { report, .. }) => (false, *report, Value::Null),
        Err(error) => {
            shared.violation(format!("the notification was refused: {error}"));
            return None;
        }
    };
    let last = delivery == DELIVERIES;
    Some(check(shared, pending, &Ended { process: process.number, succeeded, report, reply, last }))
}

/// Waits for the end of an invocation. Returns none if it is killed.
async fn until_killed<T>(shared: &Shared, process: usize, timing: &Timing, handling: impl Future<Output = T>) -> Option<T> {
    let killed = shared.with(|state| Arc::clone(&state.processes[process].kill));
    tokio::select! {
        biased;
        handled = handling => Some(handled),
        () = killed.notified() => {
            shared.fault("invocation killed before a step");
            None
        }
        () = sleep(timing.kill.min(2 * timing.time)) => {
            shared.fault("invocation killed");
            None
        }
    }
}
