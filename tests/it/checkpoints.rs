//! Objects that need more than one invocation: the function in this process, in paused time, with a receiver of limited speed. One
//! test runs the binary with S3 and SQS stand-ins.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::http::Response as HttpResponse;
use bytes::Bytes;
use elb_log::batch::{BatchSettings, Body, Compression, Framing};
use elb_log::event::EventSettings;
use elb_log_shipper::checkpoint::{CheckpointLocation, CheckpointStore};
use elb_log_shipper::dead_letter::DeadLetterDestination;
use elb_log_shipper::lambda::handler::{CompletedInvocation, handle, shutdown_before_deadline};
use elb_log_shipper::ledger::{ObjectReport, Report};
use elb_log_shipper::object::{DirStore, Store};
use elb_log_shipper::ship::{ShipSettings, Shipper};
use elb_log_shipper::shutdown::Shutdown;
use elb_log_shipper::sink::{
    Credentials, Endpoint, EndpointSource, Fault, Logstash, LogstashSettings, Outcome, Response, Sink, Transport,
};
use elb_log_shipper::summary_log::SummaryLog;
use flate2::write::GzEncoder;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::runtime::{Outcome as InvocationOutcome, RuntimeApi, log_lines, milliseconds_from_now, queue_event};
use crate::support::s3::Server;
use crate::support::{
    Receiver, Scripted, alb_key, alb_line, as_text, assert_status, closed_port, elbship, lines, put, read_json, run, s3_event,
    status,
};

/// Time of an invocation, of which `RESERVE` is for its report. A little more than 50 s are left for shipping.
const INVOCATION: Duration = Duration::from_secs(60);
const RESERVE: Duration = Duration::from_millis(9_900);

/// Time in which the receiver rejects a body.
const REJECTION: Duration = Duration::from_secs(1);

/// A receiver that works on one body after the other, at a constant speed. It finishes the body at work when its sender gives up,
/// and drops the bodies that wait.
#[derive(Debug)]
struct SlowReceiver {
    lines_per_second: u32,
    /// The offsets of the events that the receiver rejects.
    rejected: Mutex<Vec<u64>>,
    free_at: Mutex<Option<Instant>>,
    /// How often the event of each offset was received.
    received: Mutex<HashMap<u64, u32>>,
}

/// The receiver as the shipper's transport.
struct ToReceiver(Arc<SlowReceiver>);

impl Transport for ToReceiver {
    async fn post(&self, _: &Endpoint, body: &Body, _: Option<&HeaderValue>, limit: Duration) -> Outcome {
        let offsets = offsets_of(&body.bytes);
        if offsets.iter().any(|offset| self.0.rejected.lock().expect("a lock").contains(offset)) {
            sleep(limit.min(REJECTION)).await;
            return if limit < REJECTION { Outcome::NoResponse(Fault::Timeout) } else { response(400) };
        }
        let now = Instant::now();
        let (start, end) = {
            let mut free_at = self.0.free_at.lock().expect("a lock");
            let start = free_at.map_or(now, |free_at| free_at.max(now));
            let end = start + Duration::from_secs(offsets.len() as u64) / self.0.lines_per_second;
            *free_at = Some(end);
            (start, end)
        };
        if end > now + limit {
            sleep(limit).await;
            if start < now + limit {
                self.0.receive(&offsets);
            }
            *self.0.free_at.lock().expect("a lock") = None;
            return Outcome::NoResponse(Fault::Timeout);
        }
        sleep_until(end).await;
        self.0.receive(&offsets);
        response(200)
    }

    async fn get(&self, _: &Url, _: Duration) -> Result<Bytes, String> {
        Err("there is no registry".to_owned())
    }
}

impl SlowReceiver {
    fn receive(&self, offsets: &[u64]) {
        let mut received = self.received.lock().expect("a lock");
        offsets.iter().for_each(|&offset| *received.entry(offset).or_default() += 1);
    }

    fn received(&self) -> HashMap<u64, u32> {
        self.received.lock().expect("a lock").clone()
    }
}

fn response(status: u16) -> Outcome {
    Outcome::Response(Response {
        status,
        text: if status == 200 { "ok".to_owned() } else { String::new() },
        ..Response::default()
    })
}

/// Returns the offsets in the IDs of a body's events.
fn offsets_of(body: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(body).expect("an uncompressed body");
    let ids = text.split(r#""_id":""#).skip(1).map(|rest| rest.split('"').next().expect("an ID"));
    ids.map(|id| id.rsplit('-').next().expect("an offset").parse().expect("an offset")).collect()
}

/// An object in a directory, a receiver, and a directory for dead letters and checkpoints.
struct World {
    root: tempfile::TempDir,
    key: String,
    receiver: Arc<SlowReceiver>,
    /// The digest of the settings in checkpoints.
    settings: &'static str,
    batch_events: usize,
    concurrency: usize,
    poison_limit: usize,
}

impl World {
    /// Creates an object of `lines` lines. In each invocation the receiver takes five batches of 100 lines, and works on a sixth.
    fn new(lines: usize) -> Self {
        let world = World::with_receiver(100, 10);
        put(world.root.path(), "logs", &world.key, crate::support::lines(lines).as_bytes());
        world
    }

    fn with_receiver(batch_events: usize, lines_per_second: u32) -> Self {
        let receiver =
            SlowReceiver { lines_per_second, rejected: Mutex::default(), free_at: Mutex::default(), received: Mutex::default() };
        let root = tempfile::tempdir().expect("a directory");
        let (key, receiver) = (alb_key("long"), Arc::new(receiver));
        World { root, key, receiver, settings: "settings", batch_events, concurrency: 4, poison_limit: 100 }
    }

    /// Starts a process of the function.
    fn shipper(&self) -> Arc<Shipper<ToReceiver>> {
        let endpoint = Endpoint::parse("http://logstash:8080/").expect("a URL");
        let settings = LogstashSettings {
            endpoints: EndpointSource::Fixed(vec![endpoint]),
            credentials: Credentials::None,
            request_timeout: Duration::from_secs(300),
            retry_budget: Duration::from_secs(300),
            seed: 1,
        };
        let sink = Sink::Logstash(Arc::new(Logstash::new(ToReceiver(Arc::clone(&self.receiver)), settings)));
        let ship = ShipSettings {
            events: EventSettings::default(),
            batch: BatchSettings {
                max_events: self.batch_events,
                max_bytes: 64 << 20,
                framing: Framing::JsonArray,
                compression: Compression::None,
                bodies: true,
            },
            concurrency: self.concurrency,
            max_line_bytes: 1 << 20,
            poison_limit: self.poison_limit,
            events_per_second: None,
        };
        let directory = self.root.path().join("dead");
        let checkpoints = CheckpointStore::new(CheckpointLocation::Dir(directory.clone()), self.settings.to_owned());
        let dead_letter = Some(DeadLetterDestination::Dir(directory));
        let store = Store::Dir(DirStore::new(self.root.path()));
        Arc::new(Shipper::new(store, sink, dead_letter, ship, SummaryLog::Log).with_checkpoints(checkpoints))
    }

    /// Invokes a new process of the function.
    async fn invoke(&self, request_id: &str, event: &Value) -> Result<(Value, ObjectReport), String> {
        let shutdown = shutdown_before_deadline(Some(INVOCATION), RESERVE);
        let handled = handle(&self.shipper(), None, request_id, event, &shutdown).await;
        let only_object = |report: Report| report.objects.into_iter().next().expect("one object");
        match handled {
            Ok(CompletedInvocation { response, report }) => {
                Ok((serde_json::to_value(response).expect("a response is JSON"), only_object(report)))
            }
            Err(error) => Err(format!("{}: {error}", error.error_type())),
        }
    }

    /// Delivers the message `id` for the given time, and returns the object's report.
    async fn deliver(&self, id: &str, receive_count: u32) -> ObjectReport {
        let (response, report) = self.invoke("request", &self.message(id, receive_count)).await.expect("a success");
        let failures = response["batchItemFailures"].as_array().expect("a list").len();
        assert_eq!(failures, usize::from(!report.is_success()), "the response does not fit the report {report:?}");
        report
    }

    fn message(&self, id: &str, receive_count: u32) -> Value {
        let mut event = queue_event(&[s3_event("logs", &self.key).to_string()]);
        event["Records"][0]["messageId"] = json!(id);
        event["Records"][0]["attributes"]["ApproximateReceiveCount"] = json!(receive_count.to_string());
        event
    }

    fn object_path(&self) -> PathBuf {
        self.root.path().join("logs").join(&self.key)
    }

    /// Returns the path of the only checkpoint; none if there is none.
    fn checkpoint(&self) -> Option<PathBuf> {
        let mut entries = std::fs::read_dir(self.root.path().join("dead/checkpoints")).ok()?;
        entries.next().map(|entry| entry.expect("an entry").path())
    }

    /// Asserts that every line was received, and returns how many were received more than once.
    #[track_caller]
    fn repeated(&self, lines: usize) -> usize {
        let received = self.receiver.received();
        assert_eq!(received.len(), lines, "lines are missing at the receiver");
        received.values().filter(|&&times| times > 1).count()
    }
}

/// Ships an object of `lines` lines to a receiver of `lines_per_second`, with an invocation for each delivery of its message.
async fn ship_long_object(lines: usize, lines_per_second: u32, batch_events: usize) {
    let world = World::with_receiver(batch_events, lines_per_second);
    let path = put(world.root.path(), "logs", &world.key, b"");
    let mut gzip = GzEncoder::new(std::fs::File::create(path).expect("the object"), flate2::Compression::fast());
    for number in 0..lines {
        gzip.write_all((alb_line(number) + "\n").as_bytes()).expect("writing the object");
    }
    gzip.finish().expect("writing the object");

    let batch_time = Duration::from_secs(batch_events as u64) / lines_per_second;
    let batches_per_invocation = (INVOCATION - RESERVE).as_millis() / batch_time.as_millis();
    let expected = (lines.div_ceil(batch_events) as u128).div_ceil(batches_per_invocation);
    let (mut invocations, mut resumed_at) = (0, None);
    let last = loop {
        invocations += 1;
        let report = world.deliver("m", invocations).await;
        assert_eq!(report.resumed_at, resumed_at, "invocation {invocations} does not begin where the one before it ended");
        if report.is_success() {
            break report;
        }
        assert!(report.is_continued(), "invocation {invocations} of an expected {expected} fails: {report:?}");
        let counts = report.counts;
        assert_eq!(counts.lines, counts.delivered + counts.undelivered, "the counts do not add up: {report:?}");
        resumed_at = report.continued_at;
    };
    assert_eq!(u128::from(invocations), expected, "an object of {lines} lines needs another number of invocations");
    let lines_u64 = lines as u64;
    assert_eq!((last.counts.lines, last.counts.delivered, last.counts.undelivered), (lines_u64, lines_u64, 0), "{last:?}");
    let repeated = world.repeated(lines);
    let at_work = usize::try_from(invocations).expect("few invocations") * batch_events;
    assert!(repeated <= at_work, "{repeated} lines are repeated, more than one batch for each invocation");
    assert_eq!(world.checkpoint(), None, "the checkpoint of a shipped object is not deleted");
}

#[tokio::test(start_paused = true)]
async fn a_long_object_takes_as_many_invocations_as_its_lines_need() {
    ship_long_object(60_000, 100, 200).await;
}

/// `cargo test --workspace --test it three_million -- --ignored` takes some minutes.
#[tokio::test(start_paused = true)]
#[ignore = "takes some minutes"]
async fn three_million_lines_take_twelve_invocations_of_a_minute() {
    ship_long_object(3_000_000, 5_000, 2_000).await;
}

#[tokio::test(start_paused = true)]
async fn repeats_only_the_batch_that_was_at_work_at_the_deadline() {
    let world = World::with_receiver(100, 9);
    put(world.root.path(), "logs", &world.key, lines(600).as_bytes());
    let first = world.deliver("m", 1).await;
    assert_eq!((first.counts.delivered, first.is_continued()), (400, true), "{first:?}");
    let second = world.deliver("m", 2).await;
    assert!(second.is_success() && second.resumed_at == first.continued_at, "{second:?}");
    assert_eq!((second.counts.lines, second.counts.delivered), (600, 600), "the last report is about the whole object");
    assert_eq!((second.resumed_counts.lines, second.resumed_counts.delivered), (400, 400));
    assert_eq!(second.kind, Some("alb"));
    assert_eq!(world.repeated(600), 100);
}

#[tokio::test(start_paused = true)]
async fn only_a_repeated_delivery_of_the_same_message_uses_a_checkpoint() {
    let world = World::new(1_200);
    let first = world.deliver("m1", 1).await;
    assert_eq!(first.counts.delivered, 500, "{first:?}");
    let checkpoint = std::fs::read(world.checkpoint().expect("a checkpoint")).expect("a checkpoint");
    assert!(checkpoint.starts_with(br#"{"elbship":"checkpoint/1","#), "{}", String::from_utf8_lossy(&checkpoint));

    let foreign = world.deliver("m2", 2).await;
    assert_eq!((foreign.resumed_at, foreign.counts.delivered), (None, 500), "a message uses the checkpoint of another one");
    std::fs::write(world.checkpoint().expect("a checkpoint"), &checkpoint).expect("the first message's checkpoint");
    let own = world.deliver("m1", 2).await;
    assert_eq!((own.resumed_at, own.counts.delivered), (first.continued_at, 1_000), "{own:?}");
    let new = world.deliver("m1", 1).await;
    assert_eq!(new.resumed_at, None, "the first delivery of a message uses a checkpoint");
}

#[tokio::test(start_paused = true)]
async fn ignores_checkpoints_of_other_settings_or_versions_and_damaged_ones() {
    let mut world = World::new(1_200);
    let first = world.deliver("m", 1).await;
    assert!(first.is_continued(), "{first:?}");
    let path = world.checkpoint().expect("a checkpoint");
    let written = std::fs::read(&path).expect("a checkpoint");
    let with = |name: &str, value: Value| {
        let mut changed: Value = serde_json::from_slice(&written).expect("JSON");
        assert!(!changed[name].is_null(), "a checkpoint has no {name}");
        changed[name] = value;
        changed.to_string().into_bytes()
    };
    let mut wrong_sum = serde_json::from_slice::<Value>(&written).expect("JSON")["counts"].clone();
    wrong_sum["delivered"] = json!(7);
    for damaged in [
        b"".to_vec(),
        written[..written.len() / 2].to_vec(),
        with("elbship", json!("checkpoint/2")),
        with("key", json!("another key")),
        with("modified", json!("2026-03-02T10:15:00Z")),
        with("offset", json!(7)),
        with("counts", wrong_sum),
    ] {
        std::fs::write(&path, &damaged).expect("a changed checkpoint");
        let report = world.deliver("m", 2).await;
        assert_eq!(report.resumed_at, None, "this checkpoint is used: {}", String::from_utf8_lossy(&damaged));
    }
    world.settings = "other settings";
    std::fs::write(&path, &written).expect("the checkpoint");
    assert_eq!(world.deliver("m", 2).await.resumed_at, None, "a checkpoint of other settings is used");
    world.settings = "settings";
    std::fs::write(&path, &written).expect("the checkpoint");
    assert_eq!(world.deliver("m", 2).await.resumed_at, first.continued_at, "the unchanged checkpoint is not used");
    world.receiver.received.lock().expect("a lock").clear();
    std::fs::write(world.object_path(), lines(600)).expect("a new version of the object");
    let report = world.deliver("m", 3).await;
    assert_eq!((report.resumed_at, report.counts.delivered), (None, 500), "a checkpoint of an earlier version is used");
}

#[tokio::test(start_paused = true)]
async fn a_text_shorter_than_the_checkpoint_is_no_success() {
    let world = World::new(1_200);
    assert!(world.deliver("m", 1).await.is_continued());
    let path = world.checkpoint().expect("a checkpoint");
    let mut checkpoint: Value = serde_json::from_slice(&std::fs::read(&path).expect("a checkpoint")).expect("JSON");
    checkpoint["offset"] = json!(100_000_000);
    std::fs::write(&path, checkpoint.to_string()).expect("a wrong checkpoint");
    let error = world.invoke("request", &world.message("m", 2)).await.expect_err("a failure");
    assert!(error.contains("at byte 100000000 of its text: the text ends at byte"), "{error}");
    let again = world.deliver("m", 3).await;
    assert!(again.resumed_at.is_none() && again.is_continued(), "the wrong checkpoint is used again: {again:?}");
}

#[tokio::test(start_paused = true)]
async fn without_progress_an_object_fails_and_its_checkpoint_stays() {
    let world = World::with_receiver(100, 1);
    put(world.root.path(), "logs", &world.key, lines(300).as_bytes());
    let error = world.invoke("request", &world.message("m", 1)).await.expect_err("a failure: no batch ends within its time");
    assert!(error.contains("the run has no time left"), "{error}");
    assert_eq!(world.checkpoint(), None);
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_direct_invocation_continues() {
    let world = World::new(600);
    let event = s3_event("logs", &world.key);
    let error = world.invoke("r1", &event).await.expect_err("a failure, so that Lambda invokes the function again");
    assert!(error.starts_with("ObjectsContinued: 1 of 1 objects continue when the event is delivered again"), "{error}");
    assert!(error.contains("continued at byte"), "{error}");
    let (_, other) = world.invoke("r1", &event).await.expect("a success");
    assert_eq!((other.counts.delivered, other.resumed_counts.delivered), (600, 500), "{other:?}");
    assert_eq!(world.repeated(600), 100);
}

#[tokio::test(start_paused = true)]
async fn a_retried_task_of_a_job_continues() {
    let world = World::new(600);
    let event = |job: &str| {
        json!({"invocationSchemaVersion": "2.0", "invocationId": "i", "job": {"id": job},
            "tasks": [{"taskId": "t", "s3Key": world.key, "s3Bucket": "logs"}]})
    };
    let (response, first) = world.invoke("r1", &event("j1")).await.expect("a response");
    let offset = first.continued_at.expect("a continued object");
    assert_eq!(response["results"][0]["resultCode"], "TemporaryFailure");
    assert_eq!(response["results"][0]["resultString"], format!("continued at byte {offset}"));
    let (response, second) = world.invoke("r2", &event("j1")).await.expect("a response");
    assert_eq!((second.resumed_at, &response["results"][0]["resultCode"]), (Some(offset), &json!("Succeeded")), "{second:?}");
    let (_, other) = world.invoke("r3", &event("j2")).await.expect("a response");
    assert_eq!(other.resumed_at, None, "the task of another job continues");
}

#[tokio::test(start_paused = true)]
async fn rejected_events_before_the_checkpoint_count_towards_the_limit() {
    let mut world = World::new(600);
    let offset = |line: usize| lines(line).len() as u64;
    *world.receiver.rejected.lock().expect("a lock") = vec![offset(150), offset(160), offset(550)];
    (world.poison_limit, world.concurrency) = (2, 1);
    let first = world.deliver("m", 1).await;
    assert_eq!((first.counts.dead_lettered, first.is_continued()), (2, true), "{first:?}");
    let error = world.invoke("request", &world.message("m", 2)).await.expect_err("a failure");
    assert!(error.starts_with("ObjectsFailed: ") && error.contains("POISON_LIMIT"), "{error}");
    world.poison_limit = 3;
    let last = world.deliver("m", 3).await;
    assert_eq!((last.counts.lines, last.counts.delivered, last.counts.dead_lettered), (600, 597, 3), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn begins_again_if_only_rejected_events_are_left() {
    let mut world = World::new(501);
    world.concurrency = 1;
    *world.receiver.rejected.lock().expect("a lock") = vec![lines(500).len() as u64];
    // The deadline comes when all other events are delivered, and before the receiver rejects the last event.
    let first = world.deliver("m", 1).await;
    assert_eq!((first.counts.delivered, first.is_continued()), (500, true), "{first:?}");
    let error =
        world.invoke("request", &world.message("m", 2)).await.expect_err("a failure: nothing shows that the URL is right");
    assert!(error.contains("down to a single event"), "{error}");
    assert_eq!(world.checkpoint(), None, "the next attempt would fail in the same way");
}

#[tokio::test(start_paused = true)]
async fn other_failures_leave_no_checkpoint() {
    let mut world = World::new(600);
    world.concurrency = 1;
    let shutdown = Shutdown::at(None);
    let event = world.message("m", 1);
    *world.receiver.rejected.lock().expect("a lock") = (400..600).map(|line| lines(line).len() as u64).collect();
    let handled = handle(&world.shipper(), None, "request", &event, &shutdown).await;
    assert!(handled.is_err(), "more events are rejected than POISON_LIMIT allows");
    assert_eq!(world.checkpoint(), None);
}

/// Returns the requests that an SQS stand-in got, by their operation.
fn calls(sqs: &Scripted) -> BTreeMap<String, Vec<Value>> {
    let mut calls = BTreeMap::<String, Vec<Value>>::new();
    for request in sqs.seen() {
        let operation = request.headers["x-amz-target"].to_str().expect("text").to_owned();
        calls.entry(operation).or_default().push(serde_json::from_slice(&request.body).expect("JSON"));
    }
    calls
}

async fn sqs() -> Scripted {
    Scripted::start(|_, _| {
        let response = HttpResponse::builder().header("content-type", "application/x-amz-json-1.0");
        response.body(HttpBody::from("{}")).expect("a response")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continued_message_comes_back_at_once() {
    let (store, sqs, turn) = (Server::start().await, sqs().await, Mutex::new(()));
    store.put("logs", &alb_key("long"), lines(4_000).as_bytes());
    let logstash = Scripted::start(move |_, _| {
        let _turn = turn.lock();
        // This is the speed of the receiver, not a wait for an event.
        std::thread::park_timeout(Duration::from_millis(100));
        status(204)
    })
    .await;
    let variables = [
        ("LOGSTASH_URL", logstash.url.as_str()),
        ("DEAD_LETTER_URL", "s3://logs/dead"),
        ("BATCH_EVENTS", "100"),
        ("DEADLINE_RESERVE", "1s"),
        ("AWS_ENDPOINT_URL_S3", &store.endpoint),
        ("AWS_ENDPOINT_URL_SQS", &sqs.url),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let mut api = RuntimeApi::start().await;
    let child = api.function(&variables).spawn().expect("the function");
    let event = queue_event(&[s3_event("logs", &alb_key("long")).to_string()]);
    let mut continued = 0;
    loop {
        let InvocationOutcome::Response(response) =
            api.invoke(event.clone(), milliseconds_from_now(Duration::from_secs(3))).await
        else {
            panic!("an invocation fails although its object makes progress")
        };
        if response == json!({"batchItemFailures": []}) {
            break;
        }
        assert_eq!(response, json!({"batchItemFailures": [{"itemIdentifier": "m0"}]}));
        continued += 1;
        assert!(continued < 20, "the object makes no progress");
        let checkpoints = std::fs::read_dir(store.root.path().join("logs/dead/checkpoints")).expect("a directory").count();
        assert!(checkpoints >= 1, "there is no checkpoint after a continued invocation");
    }
    assert!(continued > 0, "the object needs only one invocation, so the test shows nothing; make the receiver slower");
    let changes = &calls(&sqs)["AmazonSQS.ChangeMessageVisibility"];
    assert_eq!(changes.len(), continued);
    assert!(changes.iter().all(|change| change["VisibilityTimeout"] == 0), "{changes:?}");
    let left = std::fs::read_dir(store.root.path().join("logs/dead/checkpoints")).expect("a directory");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.is_empty(), "the checkpoint of a shipped object is not deleted: {left:?}");

    let log = log_lines(child).await;
    let errors: Vec<&Value> = log.iter().filter(|line| line["level"] == "ERROR").collect();
    assert!(errors.is_empty(), "progress is logged as an error: {errors:?}");
    let lines: Vec<&Value> = log.iter().filter(|line| line["message"] == "object continued").collect();
    assert_eq!(lines.len(), continued);
    assert!(lines.iter().all(|line| line["ObjectsContinued"] == 1 && line["ObjectsFailed"] == 0), "{lines:?}");
    let last = log.iter().find(|line| line["message"] == "object shipped").expect("a line of the shipped object");
    assert_eq!((&last["lines"], &last["delivered"]), (&json!(4_000), &json!(4_000)), "{last}");
    assert!(last["EventsDelivered"].as_u64() < Some(4_000), "the metrics count what earlier invocations have counted: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_messages_share_few_connections_to_sqs() {
    let (sqs, root) = (sqs().await, tempfile::tempdir().expect("a directory"));
    let object_store = format!("dir:{}", as_text(root.path()));
    let closed = closed_port();
    let variables = [
        ("LOGSTASH_URL", closed.as_str()),
        ("OBJECT_STORE", &object_store),
        ("AWS_ENDPOINT_URL_SQS", &sqs.url),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let mut api = RuntimeApi::start().await;
    // Nothing reads the log lines, and a full pipe would stop the function.
    let _child = api.function(&variables).stdout(Stdio::null()).spawn().expect("the function");
    let event = queue_event(&vec!["not JSON".to_owned(); 300]);
    let outcome = api.invoke(event, milliseconds_from_now(Duration::from_mins(1))).await;
    assert!(matches!(outcome, InvocationOutcome::Error(_)), "all messages fail, and the invocation does not: {outcome:?}");
    assert_eq!(calls(&sqs)["AmazonSQS.ChangeMessageVisibility"].len(), 300, "not every failed message is delayed");
    let connections = sqs.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(connections <= 32, "300 failed messages open {connections} connections; limit the calls at the same time");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_skips_checkpoints_between_dead_letters() {
    let root = tempfile::tempdir().expect("a directory");
    let checkpoint = br#"{"elbship":"checkpoint/1","bucket":"logs","key":"k"}"#;
    put(root.path(), "dead/checkpoints", "303024456c5ba67324277814fb68c45c", checkpoint);
    put(root.path(), "dead", "start.ndjson", br#"{"elbship":"#);
    let receiver = Receiver::start().await;
    let (dead, report) = (as_text(&root.path().join("dead")), as_text(&root.path().join("report.json")));
    let output = run(&mut elbship(&["replay", &dead, "--to", &receiver.url, "--report", &report])).await;
    assert_status(&output, 0);
    let report = read_json(&root.path().join("report.json"));
    let skipped: Vec<_> =
        report["objects"].as_array().expect("objects").iter().filter_map(|one| one["skipped"].as_str()).collect();
    assert_eq!(skipped, ["a checkpoint of the function, which contains no events"], "{report}");
    assert_eq!(receiver.events().len(), 1, "only the beginning of a dead letter is sent, as a line that cannot be parsed");
}
