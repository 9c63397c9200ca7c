//! Eighteen ways in which shippers lose logs and report success. Each has one test, which runs the program's binaries.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use elb_log::event::IdPrefix;
use elb_log::origin::ObjectName;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::faulty::{Faulty, address_of, forward, read_head, read_request, wait_for_close, write};
use crate::support::{
    Object, Receiver, Scripted, alb_key, alb_line, assert_books, assert_status, elbship, gzip, put, read_json, run,
    run_with_input, s3_event, status, stderr, stdout,
};

fn lines(count: usize) -> String {
    (0..count).map(|number| alb_line(number) + "\n").collect()
}

/// Invokes the handler with an event. Returns the exit status, the report and the output.
async fn invoke(root: &Path, event: &Value, to: &str, variables: &[(&str, &str)]) -> (i32, Value, String) {
    let (objects, report) = (root.display().to_string(), root.join("report.json").display().to_string());
    let mut command = elbship(&["invoke", "-", "--objects", &objects, "--to", to, "--report", &report]);
    let output = run_with_input(command.envs(variables.iter().copied()), &event.to_string()).await;
    (output.status.code().expect("a status"), read_json(Path::new(&report)), stdout(&output) + &stderr(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn way_01_a_status_outside_the_retry_list_is_not_success() {
    let codes =
        [203, 205, 206, 207, 226, 301, 304, 308, 400, 402, 403, 404, 405, 407, 409, 410, 413, 418, 421, 422, 426, 451, 501, 505];
    for code in codes {
        let server = Scripted::start(move |_, _| status(code)).await;
        let (exit, report, stderr) = Object::of_lines(4).ship(&server.url, &[]).await;
        assert_eq!(exit, 1, "HTTP {code} counts as success");
        assert_books(&report, "0 delivered, 4 undelivered, complete false");
        assert!(stderr.contains(&format!("HTTP {code}")), "HTTP {code} is not named: {stderr}");
        assert!(!server.seen().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn way_02_a_failed_post_fails_the_invocation() {
    let server = Scripted::start(|number, _| status(if number == 3 { 404 } else { 200 })).await;
    let object = Object::of_lines(200);
    let (exit, report, stderr) = object.ship(&server.url, &[("BATCH_EVENTS", "20"), ("SEND_CONCURRENCY", "1")]).await;
    assert_eq!((exit, server.seen().len()), (1, 4), "one failed post of several is forgotten: {stderr}");
    let undelivered = report["undelivered"].as_u64().expect("a number");
    assert!(undelivered >= 20 && stderr.contains(&format!("{undelivered} of")), "{stderr}");
    assert_eq!(report["delivered"], 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn way_03_reads_every_gzip_member_and_fails_on_broken_gzip() {
    let text = lines(300);
    let (first, second) = text.as_bytes().split_at(text.len() / 3);
    let members = [gzip(first), gzip(b""), gzip(second)].concat();
    let receiver = Receiver::start().await;
    let (exit, report, _) = Object::of(&members).ship(&receiver.url, &[]).await;
    assert_eq!((exit, &report["delivered"], receiver.ids().len()), (0, &json!(300), 300), "{report}");

    let mut corrupt = members.clone();
    let at = corrupt.len() - 5;
    corrupt[at] ^= 0xff;
    for broken in [&members[..members.len() - 1], &members[..members.len() / 2], &corrupt] {
        let receiver = Receiver::start().await;
        let (exit, report, _) = Object::of(broken).ship(&receiver.url, &[]).await;
        assert_eq!((exit, &report["complete"]), (1, &json!(false)), "a broken object is a success: {report}");
        assert!(report["error"].as_str().is_some_and(|error| error.contains("gzip")), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn way_04_reads_on_after_a_long_line() {
    let long = format!("{} \"{}\"", alb_line(1), "x".repeat(200_000));
    let text = lines(10) + &long + "\n" + &"y".repeat(3 << 20) + "\n" + &lines(10);
    let receiver = Receiver::start().await;
    let (exit, report, _) = Object::of(&gzip(text.as_bytes())).ship(&receiver.url, &[]).await;
    assert_eq!(exit, 0, "{report}");
    assert_books(&report, "22 delivered, 0 undelivered, complete true");
    let events = receiver.events();
    assert_eq!((events.len(), &report["unparsed"]), (22, &json!(1)));
    assert!(events.iter().any(|event| event.to_string().len() > 200_000), "the long line arrived without its text");
    assert_eq!(events.iter().filter(|event| event["tags"].to_string().contains("_elbtruncated")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn way_05_ships_every_record_of_an_event() {
    let root = tempfile::tempdir().expect("a directory");
    let mut event = json!({"Records": []});
    for number in 0..7_usize {
        let key = alb_key(&format!("part{number}"));
        put(root.path(), "logs", &key, (alb_line(number) + "\n").as_bytes());
        let record = s3_event("logs", &key)["Records"][0].clone();
        event["Records"].as_array_mut().expect("records").push(record);
    }
    let receiver = Receiver::start().await;
    let (exit, report, _) = invoke(root.path(), &event, &receiver.url, &[]).await;
    assert_eq!((exit, &report["totals"]["delivered"], receiver.ids().len()), (0, &json!(7), 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn way_06_a_bad_line_or_byte_affects_no_other_line() {
    let text =
        [lines(5).as_bytes(), b"no log at all\n\xff\xfe\0\n\n", alb_line(5).as_bytes(), b"\xff\n", lines(5).as_bytes()].concat();
    let receiver = Receiver::start().await;
    let (exit, report, _) = Object::of(&text).ship(&receiver.url, &[]).await;
    assert_eq!((exit, &report["complete"]), (0, &json!(true)), "{report}");
    let events = receiver.events();
    assert_eq!(report["lines"], events.len());
    assert!(events.iter().any(|event| event["event"]["original"] == "no log at all"), "a bad line is lost");
    assert!(events.iter().filter(|event| event["elb"]["kind"] == "alb").count() >= 10, "good lines are lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn way_07_an_unreadable_object_fails_the_invocation() {
    let root = tempfile::tempdir().expect("a directory");
    put(root.path(), "logs", "one.log", lines(5).as_bytes());
    let records: Vec<Value> = ["missing.log", "one.log"].map(|key| s3_event("logs", key)["Records"][0].clone()).into();
    let receiver = Receiver::start().await;
    let (exit, report, output) = invoke(root.path(), &json!({"Records": records}), &receiver.url, &[]).await;
    assert_eq!((exit, &report["totals"]["complete"]), (1, &json!(false)), "{output}");
    assert!(output.contains("cannot read s3://logs/missing.log: no such object"), "{output}");
    assert_eq!(receiver.ids().len(), 5, "the other object is not shipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn way_08_ships_objects_of_any_size() {
    // 64 MiB of text in few bytes: much more than the program holds in memory at once.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for number in 0..64 {
        encoder.write_all(format!("{number}{}\n", "x".repeat((1 << 20) - 10)).as_bytes()).expect("compressing into memory");
    }
    let receiver = Scripted::start(|_, _| status(200)).await;
    let (exit, report, _) = Object::of(&encoder.finish().expect("compressing into memory")).ship(&receiver.url, &[]).await;
    assert_eq!((exit, &report["lines"], &report["delivered"]), (0, &json!(64), &json!(64)), "{report}");
    assert!(report["bytes"].as_u64().is_some_and(|bytes| bytes > 63 << 20), "{report}");
    assert_eq!(report["skipped"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn way_09_decodes_keys_once_as_their_envelope_requires() {
    let root = tempfile::tempdir().expect("a directory");
    for key in ["team a+b/über 100%25.log", "a%2Bb.log", "a+b.log"] {
        put(root.path(), "logs", key, lines(1).as_bytes());
        let event_bridge = json!({"source": "aws.s3", "detail-type": "Object Created",
            "detail": {"bucket": {"name": "logs"}, "object": {"key": key}}});
        for event in [s3_event("logs", key), event_bridge] {
            let receiver = Receiver::start().await;
            let (exit, report, output) = invoke(root.path(), &event, &receiver.url, &[]).await;
            assert_eq!((exit, &report["objects"][0]["key"]), (0, &json!(key)), "{output}");
            assert_eq!(receiver.events()[0]["aws"]["s3"]["object"]["key"], key);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn way_10_a_failed_message_does_not_fail_its_batch() {
    let root = tempfile::tempdir().expect("a directory");
    put(root.path(), "logs", "one.log", lines(5).as_bytes());
    let bodies = [s3_event("logs", "missing.log").to_string(), s3_event("logs", "one.log").to_string(), "?".to_owned()];
    let record =
        |(number, body): (usize, &String)| json!({"messageId": number.to_string(), "eventSource": "aws:sqs", "body": body});
    let event = json!({"Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>()});
    let receiver = Receiver::start().await;
    let (exit, _, output) = invoke(root.path(), &event, &receiver.url, &[]).await;
    assert_eq!((exit, receiver.ids().len()), (1, 5));
    let reply = json!({"batchItemFailures": [{"itemIdentifier": "0"}, {"itemIdentifier": "2"}]});
    let compact: String = output.split_whitespace().collect();
    assert!(compact.contains(&reply.to_string()), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn way_11_keeps_unknown_fields_and_reads_every_line() {
    let text: String = (0..20).map(|number| format!("{} \"-\" \"-\" \"new field\" 7\n", alb_line(number))).collect();
    let receiver = Receiver::start().await;
    let (exit, report, _) = Object::of(text.as_bytes()).ship(&receiver.url, &[]).await;
    assert_eq!((exit, &report["unparsed"], &report["extra_fields"]), (0, &json!(0), &json!(40)), "{report}");
    assert_eq!(report["longer_lines"], 20, "{report}");
    let event = &receiver.events()[0];
    assert_eq!((&event["elb"]["extra"], &event["elb"]["elb_status_code"]), (&json!(["new field", "7"]), &json!(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_in_preparation_is_reported_before_it_has_values() {
    let text: String = (0..20).map(|number| format!("{} \"-\" \"-\" -\n", alb_line(number))).collect();
    let receiver = Receiver::start().await;
    let (exit, report, _) = Object::of(text.as_bytes()).ship(&receiver.url, &[]).await;
    assert_eq!((exit, &report["extra_fields"], &report["longer_lines"]), (0, &json!(0), &json!(20)), "{report}");
}

/// Forwards three requests, and never responds to the fourth.
async fn hang_after_three(mut client: TcpStream, behind: String, hanging: Arc<Notify>) {
    for _ in 0..3 {
        let request = read_request(&mut client).await.expect("a request");
        let response = forward(&behind, request).await;
        client.write_all(&response).await.expect("responding");
    }
    read_request(&mut client).await.expect("a request");
    hanging.notify_one();
    wait_for_close(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn way_12_a_repeated_run_sends_the_same_ids() {
    let object = Object::of_lines(500);
    let receiver = Receiver::start().await;
    let (behind, hanging) = (address_of(&receiver.url), Arc::new(Notify::new()));
    let hung = Arc::clone(&hanging);
    let proxy = Faulty::always(move |stream| hang_after_three(stream, behind.clone(), Arc::clone(&hung))).await;
    let objects = object.root.path().display().to_string();
    let event = object.root.path().join("event.json");
    std::fs::write(&event, s3_event("logs", &object.key).to_string()).expect("a file");
    let variables = [("BATCH_EVENTS", "50"), ("SEND_CONCURRENCY", "1")];
    let mut killed = elbship(&["invoke", &event.display().to_string(), "--objects", &objects, "--to", &proxy.url]);
    let mut child = killed.envs(variables).spawn().expect("starting the program");
    timeout(Duration::from_secs(10), hanging.notified()).await.expect("a fourth batch, without a response");
    // Lambda kills the function at the end of its time, too.
    child.kill().await.expect("killing the program");
    let before = receiver.ids();
    assert_eq!(before.len(), 150, "it was not killed in the middle");

    let (exit, report, _) = object.ship(&receiver.url, &variables).await;
    assert_eq!((exit, &report["delivered"]), (0, &json!(500)));
    let ids = receiver.ids();
    assert_eq!(ids.len(), 500, "events came again with other ids");
    assert!(before.keys().all(|id| ids[id] == 2), "events came again with other ids");
}

#[tokio::test(flavor = "multi_thread")]
async fn way_13_a_typo_in_the_configuration_prevents_the_start() {
    let typos = [
        ("BATCH_EVENTS", "2OOO"),
        ("BATCH_BYTES", "4 MegaBites"),
        ("SEND_CONCURRENCY", ""),
        ("COMPRESSION", "gzipped"),
        ("REQUEST_TIMEOUT", "30"),
        ("RETRY_BUDGET", "two minutes"),
        ("POISON_LIMIT", "-1"),
        ("INCLUDE_ORIGINAL", "yes please"),
        ("EVENT_SCHEMA", "ECS2"),
        ("DEAD_LETTER_URL", "letters/"),
        ("LOG_LEVEL", "loud"),
    ];
    let receiver = Receiver::start().await;
    let mut all = elbship(&["replay", "x.log", "--to", &receiver.url]);
    let output = run(all.envs(typos)).await;
    assert_status(&output, 2);
    for (name, value) in typos {
        let named = if value.is_empty() { format!("{name} is empty") } else { format!("{name}={value:?}") };
        assert!(stderr(&output).contains(&named), "{name} is not named: {}", stderr(&output));
        assert_status(&run(elbship(&["replay", "x.log", "--to", &receiver.url]).env(name, value)).await, 2);
    }
    assert_eq!(receiver.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn way_14_dead_letters_only_rejected_events() {
    let object = Object::of_lines(300);
    let letters = object.root.path().join("letters");
    let url = format!("dir:{}", letters.display());
    let variables = [("DEAD_LETTER_URL", url.as_str()), ("BATCH_EVENTS", "100"), ("RETRY_BUDGET", "10s")];
    let wrong = Scripted::start(|_, _| status(400)).await;
    let (exit, report, _) = object.ship(&wrong.url, &variables).await;
    assert_eq!(
        (exit, &report["dead_lettered"], letters.exists()),
        (1, &json!(0), false),
        "a wrong URL writes dead letters: {report}"
    );

    let picky = Scripted::start(|_, request| {
        let is_bad = request.events().iter().any(|event| event["elb"]["request"]["query"] == "id=150");
        status(if is_bad { 400 } else { 200 })
    })
    .await;
    let (exit, report, _) = object.ship(&picky.url, &variables).await;
    assert_eq!((exit, &report["dead_lettered"], &report["delivered"]), (0, &json!(1), &json!(299)), "{report}");
    assert_eq!(std::fs::read_dir(&letters).expect("a directory").count(), 1);
}

/// Never responds, so that the client reads as far ahead as it can.
async fn never_respond(mut stream: TcpStream, held: Arc<AtomicUsize>) {
    if read_request(&mut stream).await.is_some() {
        held.fetch_add(1, Ordering::Relaxed);
    }
    wait_for_close(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn way_15_stops_reading_while_the_receiver_is_blocked() {
    let object = Object::of_lines(40_000);
    let held = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&held);
    let server = Faulty::always(move |stream| never_respond(stream, Arc::clone(&count))).await;
    let variables = [("BATCH_EVENTS", "100"), ("REQUEST_TIMEOUT", "1s"), ("RETRY_BUDGET", "500ms"), ("SEND_CONCURRENCY", "2")];
    let (exit, report, _) = object.ship(&server.url, &variables).await;
    assert_eq!((exit, held.load(Ordering::Relaxed)), (1, 2), "not exactly two batches are in flight");
    let read = report["lines"].as_u64().expect("lines");
    assert!((200..=500).contains(&read), "{read} lines were read while the receiver was blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn way_16_the_report_counts_what_arrived() {
    let object = Object::of_lines(777);
    let receiver = Receiver::start().await;
    let (exit, report, stderr) = object.ship(&receiver.url, &[("BATCH_EVENTS", "50")]).await;
    assert_eq!(exit, 0);
    assert_books(&report, "777 delivered, 0 undelivered, complete true");
    assert_eq!((&report["lines"], receiver.events().len(), &report["batches"]), (&json!(777), 777, &report["requests"]));
    assert!(stderr.contains("\"delivered\":777"), "the log does not say how many arrived: {stderr}");
    let prefix = IdPrefix::of(&ObjectName { bucket: "logs".to_owned(), key: object.key.clone() });
    assert!(receiver.ids().keys().all(|id| id.starts_with(prefix.as_str())));

    // A status that a proxy may send by itself does not count as success.
    let proxy = Scripted::start(|_, _| status(203)).await;
    assert_eq!(object.ship(&proxy.url, &[]).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn way_17_reuses_connections() {
    let receiver = Receiver::start().await;
    let (exit, report, _) = Object::of_lines(3_000).ship(&receiver.url, &[("BATCH_EVENTS", "10")]).await;
    assert_eq!(exit, 0, "{report}");
    let connections = receiver.connections.load(Ordering::Relaxed);
    assert!(report["requests"].as_u64().is_some_and(|requests| requests >= 300), "{report}");
    assert!(connections <= 8, "{connections} connections for {} requests", report["requests"]);
}

async fn refuse(mut stream: TcpStream) {
    read_head(&mut stream).await;
    write(&mut stream, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn way_18_logs_one_line_for_each_object() {
    let receiver = Receiver::start().await;
    let (exit, _, stderr) = Object::of_lines(5_000).ship(&receiver.url, &[("BATCH_EVENTS", "20")]).await;
    assert_eq!((exit, stderr.lines().count()), (0, 1), "{stderr}");

    let busy = Faulty::always(refuse).await;
    let (exit, _, stderr) = Object::of_lines(500).ship(&busy.url, &[("BATCH_EVENTS", "20"), ("RETRY_BUDGET", "1s")]).await;
    assert!(exit == 1 && busy.faults() > 8, "{} requests: there was nothing to log", busy.faults());
    let lines = |level: &str| stderr.lines().filter(|line| line.contains(&format!("\"level\":\"{level}\""))).count();
    let counts = ["ERROR", "WARN", "INFO", "DEBUG"].map(lines);
    assert_eq!(counts, [1, 1, 0, 0], "the object and the state of its endpoint are one line each: {stderr}");

    let (exit, report, stderr) = Object::of(("bad\n".repeat(3_000)).as_bytes()).ship(&receiver.url, &[]).await;
    assert_eq!((exit, &report["unparsed"], stderr.lines().count()), (0, &json!(3_000), 1), "{stderr}");
}
