//! The whole path on one machine: a bucket notifies a queue, the queue's messages invoke the function's binary, and the function
//! ships to `elbship receive`. moto simulates AWS, and this test does what Lambda does between the queue and the function.

use std::collections::{BTreeMap, HashSet};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use elb_log::event::IdPrefix;
use elb_log::origin::ObjectName;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::moto::MotoServer;
use crate::support::runtime::{Outcome, RuntimeApi, milliseconds_from_now};
use crate::support::{alb_key, alb_line, assert_status, elbship, gzip, id_of, program, put, run, stderr};

const REGION: &str = "eu-west-1";
const BUCKET: &str = "logs";

/// Number of receives after which a message is moved to the dead-letter queue.
const MAX_RECEIVES: u32 = 3;

/// The queue's visibility timeout, in seconds.
const VISIBILITY_TIMEOUT_S: i32 = 1_800;

/// Maximum time after which the function lets SQS deliver a failed message again, in seconds.
const MAX_REDELIVERY_DELAY_S: f64 = 900.0;

/// A moto server with a bucket that notifies a queue, and a dead-letter queue for this queue.
struct Moto {
    endpoint: String,
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    queue: String,
    dead_letters: String,
    _server: MotoServer,
}

impl Moto {
    async fn start() -> Self {
        let server = MotoServer::start().await;
        let endpoint = server.endpoint.clone();
        let credentials = || Credentials::from_keys("test", "test", None);
        let s3 = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(credentials())
            .endpoint_url(&endpoint)
            .force_path_style(true);
        let sqs = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(credentials())
            .endpoint_url(&endpoint);
        let (s3, sqs) = (aws_sdk_s3::Client::from_conf(s3.build()), aws_sdk_sqs::Client::from_conf(sqs.build()));
        let dead_letters = create_queue(&sqs, "dead-letters", None).await;
        let queue = create_queue(&sqs, "logs", Some(&queue_arn("dead-letters"))).await;
        let aws = Moto { endpoint, s3, sqs, queue, dead_letters, _server: server };
        aws.create_bucket().await;
        aws
    }

    async fn create_bucket(&self) {
        let location = aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(REGION.into()).build();
        self.s3.create_bucket().bucket(BUCKET).create_bucket_configuration(location).send().await.expect("the bucket");
        let created = QueueConfiguration::builder().queue_arn(queue_arn("logs")).events(Event::from("s3:ObjectCreated:*"));
        let notify = NotificationConfiguration::builder().queue_configurations(created.build().expect("a queue and its events"));
        let request = self.s3.put_bucket_notification_configuration().bucket(BUCKET);
        request.notification_configuration(notify.build()).send().await.expect("the notification");
    }

    async fn put(&self, key: &str, body: Vec<u8>) {
        self.s3.put_object().bucket(BUCKET).key(key).body(body.into()).send().await.expect("an object");
    }

    async fn send(&self, queue: &str, body: &str) {
        self.sqs.send_message().queue_url(queue).message_body(body).send().await.expect("a message");
    }

    async fn receive(&self, queue: &str) -> Vec<Message> {
        let request =
            self.sqs.receive_message().queue_url(queue).max_number_of_messages(10).visibility_timeout(VISIBILITY_TIMEOUT_S);
        let received = request.message_system_attribute_names(MessageSystemAttributeName::All).send().await.expect("messages");
        received.messages.unwrap_or_default()
    }

    /// Returns how long each message stays hidden, in seconds, by its receipt handle.
    async fn hidden_for_s(&self) -> BTreeMap<String, f64> {
        let response = reqwest::get(format!("{}/moto-api/data.json", self.endpoint)).await.expect("the data of moto");
        let all: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64();
        let mut hidden_for_s = BTreeMap::new();
        for message in all["sqs"]["Message"].as_array().expect("messages") {
            let (Some(receipt), Some(visible_at_ms)) = (message["receipt_handle"].as_str(), message["visible_at"].as_f64())
            else {
                continue;
            };
            // moto also lists the copies that receivers got, with the visibility of that time.
            let left_s = hidden_for_s.entry(receipt.to_owned()).or_insert(f64::INFINITY);
            *left_s = left_s.min(visible_at_ms / 1_000.0 - now_s);
        }
        hidden_for_s
    }

    async fn delete(&self, queue: &str, message: &Message) {
        let request = self.sqs.delete_message().queue_url(queue).set_receipt_handle(message.receipt_handle.clone());
        request.send().await.expect("a message that is there");
    }

    /// Moves the messages of the dead-letter queue back, as a redrive does, and returns their number.
    async fn redrive(&self) -> usize {
        let mut moved = 0;
        loop {
            let messages = self.receive(&self.dead_letters).await;
            if messages.is_empty() {
                return moved;
            }
            for message in messages {
                self.send(&self.queue, message.body().expect("a body")).await;
                self.delete(&self.dead_letters, &message).await;
                moved += 1;
            }
        }
    }

    fn function(&self, api: &RuntimeApi, logstash: &str) -> Child {
        let mut function = api.function(&[
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("LOGSTASH_URL", logstash),
            ("DEAD_LETTER_QUEUE_URL", &self.dead_letters),
            // The receiver blocks until the test reads its output; small batches let it block in the middle of an object.
            ("BATCH_EVENTS", "50"),
            ("RETRY_BUDGET", "300ms"),
        ]);
        // The test does not read the function's log.
        function.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the function")
    }
}

async fn create_queue(sqs: &aws_sdk_sqs::Client, name: &str, dead_letters: Option<&str>) -> String {
    let mut request = sqs.create_queue().queue_name(name);
    if let Some(arn) = dead_letters {
        let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES}).to_string();
        request = request.attributes(QueueAttributeName::RedrivePolicy, policy);
    }
    request.send().await.expect("a queue").queue_url.expect("its URL")
}

fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:123456789012:{name}")
}

/// Lambda's event source mapping: receives messages from the queue, invokes the function, and deletes the messages that did not
/// fail.
struct EventSourceMapping<'a> {
    aws: &'a Moto,
    api: RuntimeApi,
    /// Failed messages, which are hidden until their redelivery.
    hidden: Vec<Message>,
}

impl EventSourceMapping<'_> {
    /// Invokes the function once. Returns the number of messages, and the number of failed messages.
    async fn poll(&mut self) -> (usize, usize) {
        let messages = self.aws.receive(&self.aws.queue).await;
        if messages.is_empty() {
            return (0, 0);
        }
        let event = json!({"Records": messages.iter().map(record).collect::<Vec<_>>()});
        let failed = match self.api.invoke(event, milliseconds_from_now(Duration::from_mins(5))).await {
            Outcome::Response(reply) => failures(&reply),
            Outcome::Error(_) => messages.iter().filter_map(|message| message.message_id.clone()).collect(),
        };
        let count = messages.len();
        for message in messages {
            if message.message_id().is_some_and(|id| failed.contains(id)) {
                self.hidden.push(message);
            } else {
                self.aws.delete(&self.aws.queue, &message).await;
            }
        }
        (count, failed.len())
    }

    /// Polls until no message is visible. Returns the number of failed messages.
    async fn poll_all(&mut self) -> usize {
        let mut failures = 0;
        loop {
            match self.poll().await {
                (0, _) => return failures,
                (_, failed) => failures += failed,
            }
        }
    }

    /// Makes all failed messages visible, as if their delay had passed. Checks that the function has shortened the delay: otherwise
    /// it would be the queue's visibility timeout.
    async fn skip_redelivery_delay(&mut self) {
        let hidden_for_s = self.aws.hidden_for_s().await;
        for message in self.hidden.drain(..) {
            let left_s = hidden_for_s[message.receipt_handle().expect("a receipt")];
            assert!(left_s <= MAX_REDELIVERY_DELAY_S, "a failed message stays hidden for {left_s} s");
            let request = self.aws.sqs.change_message_visibility().queue_url(&self.aws.queue).visibility_timeout(0);
            request.set_receipt_handle(message.receipt_handle).send().await.expect("a message that is there");
        }
    }
}

fn failures(reply: &Value) -> HashSet<String> {
    let failures = reply["batchItemFailures"].as_array().expect("the response to SQS");
    failures.iter().filter_map(|failure| failure["itemIdentifier"].as_str()).map(str::to_owned).collect()
}

/// Returns a message as it is in Lambda's event.
fn record(message: &Message) -> Value {
    let attributes = message.attributes().expect("attributes");
    let attributes: BTreeMap<&str, &String> = attributes.iter().map(|(name, value)| (name.as_str(), value)).collect();
    json!({"messageId": message.message_id, "receiptHandle": message.receipt_handle, "body": message.body, "attributes": attributes,
        "messageAttributes": {}, "md5OfBody": message.md5_of_body, "eventSource": "aws:sqs", "eventSourceARN": queue_arn("logs"),
        "awsRegion": REGION})
}

/// `elbship receive` as a receiver that can be killed.
struct Logstash {
    address: String,
    stop: oneshot::Sender<()>,
    received: JoinHandle<Vec<Value>>,
}

impl Logstash {
    /// Starts the receiver on an address. It is killed after the test has read `killed_after` of its events. The pipe is short, so
    /// the receiver cannot have received many more.
    async fn start(address: &str, killed_after: usize) -> Self {
        let mut receive = elbship(&["receive", "--listen", address]).spawn().expect("starting elbship");
        let mut log = BufReader::new(receive.stderr.take().expect("piped")).lines();
        let line = log.next_line().await.expect("reading").expect("a line");
        let url = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("no URL in {line:?}"));
        let address = url.trim_end_matches('/').to_owned();
        let (stop, stopped) = oneshot::channel();
        Logstash { address, stop, received: tokio::spawn(read_events(receive, killed_after, stopped)) }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Kills the receiver if it is running, and returns all events that it received.
    async fn end(self) -> Vec<Value> {
        // The task has already ended if the receiver was killed before.
        let _ = self.stop.send(());
        self.received.await.expect("reading its events")
    }
}

/// Reads events until the receiver has ended. Kills it after `killed_after` events, or when `stopped` completes.
async fn read_events(mut receive: Child, killed_after: usize, mut stopped: oneshot::Receiver<()>) -> Vec<Value> {
    let mut lines = BufReader::new(receive.stdout.take().expect("piped")).lines();
    let (mut events, mut is_running) = (Vec::new(), true);
    loop {
        let is_stopped = tokio::select! {
            biased;
            line = lines.next_line() => match line.expect("reading") {
                // The last line can be incomplete.
                Some(line) => {
                    events.extend(serde_json::from_str::<Value>(&line).ok());
                    false
                }
                None => return events,
            },
            _ = &mut stopped, if is_running => true,
        };
        if is_running && (is_stopped || events.len() >= killed_after) {
            is_running = false;
            receive.kill().await.expect("stopping elbship");
        }
    }
}

/// Returns the key and body of an object with these lines, and the IDs of their events.
fn object(random: &str, lines: std::ops::Range<usize>) -> (String, Vec<u8>, Vec<String>) {
    let key = alb_key(random);
    let prefix = IdPrefix::of(&ObjectName { bucket: BUCKET.to_owned(), key: key.clone() });
    let (mut text, mut ids) = (String::new(), Vec::new());
    for number in lines {
        ids.push(format!("{}-{:012}", prefix.as_str(), text.len()));
        text += &(alb_line(number) + "\n");
    }
    (key, gzip(text.as_bytes()), ids)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: run ./check, which installs it into .venv"]
async fn every_line_arrives_once_after_an_outage_and_a_redrive() {
    let aws = Moto::start().await;
    let logstash = Logstash::start("127.0.0.1:0", 1_000).await;
    let (address, url) = (logstash.address.clone(), logstash.url());
    let api = RuntimeApi::start().await;
    let _function = aws.function(&api, &url);
    let mut mapping = EventSourceMapping { aws: &aws, api, hidden: Vec::new() };

    // Everything works. The queue also contains the test event of S3.
    let mut expected = Vec::new();
    for number in 0..3 {
        let (key, body, ids) = object(&format!("well a+b {number}"), number * 100..number * 100 + 100);
        aws.put(&key, body).await;
        expected.extend(ids);
    }
    assert_eq!(mapping.poll_all().await, 0);

    // Of three messages in one invocation, only the one that is not a notification fails. A corrupt object can never be read, so
    // its message is moved to the dead-letter queue at once.
    let (corrupt, whole, ids) = object("corrupt", 300..400);
    aws.put(&corrupt, whole[..whole.len() / 2].to_vec()).await;
    expected.extend(ids);
    let (key, body, ids) = object("together", 400..500);
    aws.put(&key, body).await;
    expected.extend(ids);
    aws.send(&aws.queue, "not a notification").await;
    assert_eq!(mapping.poll().await, (3, 1));
    assert_eq!(mapping.poll().await, (0, 0), "failed messages are hidden");

    // The receiver is killed in the middle of an object.
    let (key, body, ids) = object("outage", 1_000..6_000);
    aws.put(&key, body).await;
    expected.extend(ids);
    assert_eq!(mapping.poll_all().await, 1);
    let before = logstash.end().await;
    assert!((1_000..3_000).contains(&before.len()), "{} events were received", before.len());

    // The outage lasts until messages are moved to the dead-letter queue.
    for _ in 0..MAX_RECEIVES {
        mapping.skip_redelivery_delay().await;
        mapping.poll_all().await;
    }
    let (key, body, ids) = object("late", 6_000..6_100);
    aws.put(&key, body).await;
    expected.extend(ids);
    assert_eq!(mapping.poll_all().await, 1, "only the new message is in the queue, and it fails");

    // The receiver runs again. The queue's messages succeed without any action, the dead-letter queue's after a redrive.
    let logstash = Logstash::start(&address, usize::MAX).await;
    mapping.skip_redelivery_delay().await;
    assert_eq!(mapping.poll_all().await, 0);
    aws.put(&corrupt, whole).await;
    assert_eq!(
        aws.redrive().await,
        3,
        "the message of the outage, that of the corrupt object, and the one that is not a notification"
    );
    assert_eq!(mapping.poll_all().await, 1);
    for _ in 0..MAX_RECEIVES {
        mapping.skip_redelivery_delay().await;
        mapping.poll_all().await;
    }
    let after = logstash.end().await;

    let left: Vec<Message> = aws.receive(&aws.dead_letters).await;
    assert_eq!(left.iter().filter_map(Message::body).collect::<Vec<_>>(), ["not a notification"]);
    assert_every_line_once(expected, before.iter().chain(&after));
}

/// Asserts that the event of every line was received under its own ID, that repeated events are equal, and that there are no other
/// events.
#[track_caller]
fn assert_every_line_once<'a>(expected: Vec<String>, received: impl Iterator<Item = &'a Value>) {
    let mut events: BTreeMap<String, &Value> = BTreeMap::new();
    for event in received {
        let same = events.insert(id_of(event), event).is_none_or(|before| before["elb"] == event["elb"]);
        assert!(same, "{} was received with different content", id_of(event));
    }
    let requests: HashSet<&str> = events.values().filter_map(|event| event["elb"]["request"]["query"].as_str()).collect();
    assert_eq!(requests.len(), expected.len(), "every line has its own request");
    let mut expected = expected;
    expected.sort_unstable();
    assert!(events.into_keys().eq(expected), "an ID is missing, or there are too many");
}

/// Checks a request against the service description in the AWS SDK for Python.
const VALIDATE: &str = "
import json, sys, botocore.session, botocore.validate
shape = botocore.session.get_session().get_service_model('s3control').operation_model('CreateJob').input_shape
job = json.load(open(sys.argv[1]))
problems = botocore.validate.ParamValidator().validate(job, shape).generate_report()
def check(shape, value, path):
    global problems
    if shape.type_name == 'structure':
        for name, member in value.items():
            if name not in shape.members: problems += f' unknown {path}.{name}'
            else: check(shape.members[name], member, f'{path}.{name}')
    elif shape.type_name == 'list':
        for member in value: check(shape.member, member, path)
    elif shape.type_name == 'string':
        if shape.enum and value not in shape.enum: problems += f' {path}: {value}'
        if len(value) > shape.metadata.get('max', len(value)): problems += f' {path} is too long'
check(shape, job, 'job')
sys.exit(problems or 0)
";

#[tokio::test]
#[ignore = "needs the AWS SDK for Python: run ./check, which installs it into .venv"]
async fn the_request_of_a_backfill_is_valid() {
    let root = tempfile::tempdir().expect("a directory");
    put(root.path(), BUCKET, &alb_key("one"), &gzip(b"x\n"));
    let out = root.path().join("plan").display().to_string();
    let mut backfill = elbship(&["backfill", "s3://logs/AWSLogs/", "--plan", "--out", &out]);
    backfill.args(["--function-arn", "arn:aws:lambda:eu-west-1:123456789012:function:shipper"]);
    backfill.args([
        "--role-arn",
        "arn:aws:iam::123456789012:role/batch",
        "--manifest",
        "s3://plans/",
        "--report",
        "s3://plans/r",
    ]);
    backfill.env("OBJECT_STORE", format!("dir:{}", root.path().display()));
    assert_status(&run(&mut backfill).await, 0);
    let output = run(&mut program("python3", &["-c", VALIDATE, &format!("{out}/job.json")])).await;
    assert!(output.status.success(), "{}", stderr(&output));
}
