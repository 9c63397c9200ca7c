//! Rejected events: finding them, writing them to the dead-letter destination, and sending them again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use s3s_fs::FileSystem;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::s3::{Breaking, Server};
use crate::support::{
    Object, Receiver, Scripted, alb_key, alb_line, assert_books, assert_status, elbship, gunzip, gzip, id_of, lines, put,
    read_json, run, run_with_input, s3_event, status, stderr,
};

/// A receiver that rejects some bodies, and keeps the unchanged events of the others.
struct Rejecting {
    url: String,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Rejecting {
    /// `status_of` returns the status for the events of a body.
    async fn start(status_of: impl Fn(&[&RawValue]) -> u16 + Send + Sync + 'static) -> Self {
        let accepted: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&accepted);
        let server = Scripted::start(move |_, request| {
            let gzipped = request.headers.contains_key("content-encoding");
            let body = if gzipped { gunzip(&request.body) } else { request.body.clone() };
            let events: Vec<&RawValue> = serde_json::from_slice(&body).expect("a JSON array");
            let code = status_of(&events);
            if code == 200 {
                kept.lock().expect("no panic while holding").extend(events.iter().map(|event| event.get().to_owned()));
                return status(200);
            }
            Response::builder().status(code).body(Body::from("rejected by the test")).expect("a response")
        })
        .await;
        Rejecting { url: server.url, accepted }
    }

    /// Rejects bodies that contain the event of one of these lines.
    async fn lines(lines: &'static [usize], code: u16) -> Self {
        Rejecting::start(move |events| if events.iter().any(|event| lines.contains(&number_of(event))) { code } else { 200 })
            .await
    }

    fn accepted(&self) -> Vec<String> {
        self.accepted.lock().expect("no panic while holding").clone()
    }
}

/// Returns the number that a line was made from.
fn number_of(event: &RawValue) -> usize {
    let event: Value = serde_json::from_str(event.get()).expect("JSON");
    let query = event["elb"]["request"]["query"].as_str().unwrap_or_default();
    query.strip_prefix("id=").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// Returns the lines of each dead-letter object in a directory, by the object's name.
fn dead_letters(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let Ok(entries) = std::fs::read_dir(directory) else { return BTreeMap::new() };
    let objects = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        let text = String::from_utf8(gunzip(&std::fs::read(&path).expect("a dead letter"))).expect("UTF-8");
        (path.file_name().expect("a name").to_string_lossy().into_owned(), text.lines().map(str::to_owned).collect())
    });
    objects.collect()
}

fn all_lines(directory: &Path) -> Vec<Value> {
    dead_letters(directory).values().flatten().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Returns the unchanged event of each line of the dead letters.
fn events_of(directory: &Path) -> BTreeSet<String> {
    let event = |line: &String| {
        let members: BTreeMap<&str, &RawValue> = serde_json::from_str(line).expect("a JSON object");
        members["event"].get().to_owned()
    };
    dead_letters(directory).values().flatten().map(event).collect()
}

/// Ships an object with a directory as dead-letter destination, and returns the exit status, the report and the directory.
async fn ship(object: &Object, to: &str, variables: &[(&str, &str)]) -> (i32, Value, std::path::PathBuf) {
    let directory = object.root.path().join("dead-letters");
    let url = format!("dir:{}", directory.display());
    let variables = [&[("DEAD_LETTER_URL", url.as_str()), ("RETRY_BUDGET", "20s")], variables].concat();
    let (exit, report, _) = object.ship(to, &variables).await;
    (exit, report, directory)
}

const FIFTY: [(&str, &str); 2] = [("BATCH_EVENTS", "50"), ("SEND_CONCURRENCY", "1")];

#[tokio::test(flavor = "multi_thread")]
async fn writes_rejected_events_and_delivers_the_rest() {
    for code in [400, 415, 422] {
        let object = Object::of_lines(200);
        let server = Rejecting::lines(&[3, 70, 71, 199], code).await;
        let (exit, report, directory) = ship(&object, &server.url, &FIFTY).await;
        assert_eq!((exit, &report["dead_lettered"], &report["delivered"]), (0, &json!(4), &json!(196)), "{code}: {report}");
        assert_books(&report, "196 delivered, 0 undelivered, complete true");
        assert_eq!(server.accepted().len(), 196);
        let lines = all_lines(&directory);
        assert_eq!(lines.len(), 4);
        for line in &lines {
            assert_eq!((&line["reason"], &line["status"]), (&json!("refused"), &json!(code)), "{line}");
            assert_eq!((&line["bucket"], &line["key"]), (&json!("logs"), &json!(object.key)));
            assert_eq!((&line["endpoint"], &line["id"]), (&json!(server.url), &json!(id_of(&line["event"]))));
            assert!(line["answer"].as_str().is_some_and(|answer| answer.contains("rejected by the test")), "{line}");
        }
        let start = r#"{"elbship":"dead-letter/1","#;
        assert!(
            dead_letters(&directory).values().flatten().all(|line| line.starts_with(start)),
            "a line does not begin with {start}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_a_rejected_event_in_the_first_batch() {
    let (object, server) = (Object::of_lines(40), Rejecting::lines(&[0], 400).await);
    let (exit, report, directory) = ship(&object, &server.url, &FIFTY).await;
    assert_eq!((exit, &report["dead_lettered"], all_lines(&directory).len()), (0, &json!(1), 1), "{report}");
    assert_eq!(server.accepted().len(), 39);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_an_event_that_is_too_large_by_itself() {
    let text = lines(60) + &"x".repeat(30_000) + "\n" + &lines(60);
    let object = Object::of(text.as_bytes());
    let size = |events: &[&RawValue]| events.iter().map(|event| event.get().len()).sum::<usize>();
    let server = Rejecting::start(move |events| if size(events) > 20_000 { 413 } else { 200 }).await;
    let (exit, report, directory) = ship(&object, &server.url, &FIFTY).await;
    assert_eq!((exit, &report["dead_lettered"], &report["delivered"]), (0, &json!(1), &json!(120)), "{report}");
    let line = &all_lines(&directory)[0];
    assert_eq!((&line["reason"], &line["status"]), (&json!("too_large"), &json!(413)));
    assert_eq!(line["event"]["event"]["original"].as_str().map(str::len), Some(30_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_an_event_that_makes_the_endpoint_fail() {
    let (object, server) = (Object::of_lines(1_000), Rejecting::lines(&[5], 500).await);
    let variables = [("BATCH_EVENTS", "20"), ("SEND_CONCURRENCY", "4")];
    let (exit, report, directory) = ship(&object, &server.url, &variables).await;
    assert_eq!((exit, &report["dead_lettered"], &report["delivered"]), (0, &json!(1), &json!(999)), "{report}");
    let line = &all_lines(&directory)[0];
    assert_eq!((&line["reason"], &line["status"]), (&json!("failing"), &json!(500)));
    assert_eq!(line["event"]["elb"]["request"]["query"], "id=5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_replaces_the_same_dead_letters() {
    let object = Object::of_lines(200);
    let server = Rejecting::lines(&[3, 70, 71, 199], 400).await;
    let (_, _, directory) = ship(&object, &server.url, &FIFTY).await;
    let first = dead_letters(&directory);
    let prefix = id_of(&all_lines(&directory)[0]["event"]).split('-').next().expect("a prefix").to_owned();
    assert_eq!(first.len(), 3, "one for each batch with a rejected event: {:?}", first.keys());
    assert!(first.keys().all(|name| name.starts_with(&prefix)), "{:?} without the id's prefix {prefix}", first.keys());
    let damaged = directory.join(first.keys().next().expect("a dead letter"));
    std::fs::write(&damaged, gzip(b"damaged\n")).expect("a file");
    let (exit, ..) = ship(&object, &server.url, &FIFTY).await;
    assert_eq!((exit, dead_letters(&directory)), (0, first));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_copies_of_an_object_can_write_the_same_dead_letters() {
    let object = Object::of_lines(6);
    let server = Rejecting::lines(&[3], 400).await;
    let directory = object.root.path().join("dead-letters");
    let mut event = s3_event("logs", &object.key);
    let record = event["Records"][0].clone();
    event["Records"] = vec![record; 200].into();
    let report = object.report_path();
    let (root, report_path) = (object.root.path().display().to_string(), report.display().to_string());
    let mut invoke = elbship(&["invoke", "-", "--objects", &root, "--to", &server.url, "--report", &report_path]);
    invoke.env("DEAD_LETTER_URL", format!("dir:{}", directory.display())).env("BATCH_EVENTS", "3");
    let output = run_with_input(&mut invoke, &event.to_string()).await;
    assert_status(&output, 0);
    let totals = read_json(&report)["totals"].clone();
    assert_eq!((&totals["dead_lettered"], &totals["delivered"]), (&json!(200), &json!(1_000)), "{totals}");
    assert_eq!((dead_letters(&directory).len(), all_lines(&directory).len()), (1, 1), "a temporary file remains");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_with_an_invalid_id_fails_alone() {
    let object = Object::of_lines(200);
    let server = Rejecting::lines(&[3, 4, 5], 400).await;
    let (_, _, directory) = ship(&object, &server.url, &FIFTY).await;
    let lines: Vec<String> = dead_letters(&directory).into_values().flatten().collect();
    let id = id_of(&serde_json::from_str::<Value>(&lines[1]).expect("JSON")["event"]);
    let mut damaged = lines.clone();
    damaged[1] = lines[1].replace(&format!("\"_id\":\"{id}\""), "\"_id\":\"../x\"");
    assert_ne!(damaged, lines, "the event ID was not replaced");
    // The endpoint must accept other lines of the object.
    let accepted: String = (10..30).map(|number| alb_line(number) + "\n").collect();
    let text = damaged.join("\n") + "\n" + &accepted;
    let resent = Object::of(text.as_bytes());
    let path = resent.root.path().join("logs").join(&resent.key).display().to_string();
    let (again, report) = (resent.root.path().join("again"), resent.report_path());
    let mut replay = elbship(&["replay", &path, "--to", &server.url, "--report", &report.display().to_string()]);
    let output = run(replay.env("DEAD_LETTER_URL", format!("dir:{}", again.display())).envs(FIFTY)).await;
    assert_status(&output, 1);
    let report = read_json(&report)["objects"][0].clone();
    assert_eq!(report["dead_lettered"], 2, "{report}");
    assert_books(&report, "20 delivered, 1 undelivered, complete true");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("\"../x\" is not a valid event ID; correct @metadata._id"), "{error}");
    let kept: BTreeSet<String> = all_lines(&again).iter().map(|line| id_of(&line["event"])).collect();
    assert_eq!((kept.len(), kept.contains(&id)), (2, false), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fails_the_object_if_dead_letters_cannot_be_written() {
    let object = Object::of_lines(200);
    let file = object.root.path().join("a file");
    std::fs::write(&file, "no directory").expect("a file");
    let server = Rejecting::lines(&[3, 199], 400).await;
    let url = format!("dir:{}", file.display());
    let (exit, report, stderr) = object.ship(&server.url, &[FIFTY[0], FIFTY[1], ("DEAD_LETTER_URL", &url)]).await;
    assert_eq!((exit, &report["dead_lettered"]), (1, &json!(0)), "{stderr}");
    assert_books(&report, "198 delivered, 2 undelivered, complete true");
    let error = report["error"].as_str().expect("an error");
    assert!(error.starts_with("cannot write the dead letter") && error.contains("a file/"), "{error}");
    assert_eq!(server.accepted().len(), 198, "the rest was not delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn fails_the_object_above_the_limit_of_rejected_events() {
    let (object, server) = (Object::of_lines(200), Rejecting::lines(&[10, 11, 12, 13, 14, 15], 400).await);
    let (exit, report, directory) = ship(&object, &server.url, &[FIFTY[0], FIFTY[1], ("POISON_LIMIT", "3")]).await;
    assert_eq!((exit, &report["complete"]), (1, &json!(false)));
    assert!(
        report["error"].as_str().is_some_and(|error| error.contains("POISON_LIMIT") && error.contains("HTTP 400")),
        "{report}"
    );
    let kept = all_lines(&directory).len();
    assert!(kept <= 3 && report["dead_lettered"] == kept, "{kept} events were written: {report}");
    let (read, delivered) = (report["lines"].as_u64().expect("lines"), server.accepted().len());
    assert_books(&report, &format!("{delivered} delivered, {} undelivered, complete false", read as usize - delivered - kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_url_fails_early_without_dead_letters() {
    for (code, concurrency, most) in
        [(400, "1", 20), (400, "4", 80), (413, "1", 20), (413, "4", 80), (415, "4", 80), (422, "4", 80)]
    {
        let (object, server) = (Object::of_lines(5_000), Scripted::start(move |_, _| status(code)).await);
        let started = Instant::now();
        let variables = [("BATCH_EVENTS", "500"), ("SEND_CONCURRENCY", concurrency)];
        let (exit, report, directory) = ship(&object, &server.url, &variables).await;
        let requests = server.seen().len();
        assert_eq!((exit, &report["delivered"], &report["dead_lettered"]), (1, &json!(0), &json!(0)), "{report}");
        assert!((2..=most).contains(&requests), "{requests} requests for HTTP {code}, at most {most}");
        assert!(dead_letters(&directory).is_empty(), "events were written although the URL is wrong");
        let error = report["error"].as_str().expect("an error");
        assert!(error.contains(&format!("HTTP {code}")) && error.contains("has accepted nothing else of the object"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10), "a wrong URL takes {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_the_same_events_with_the_same_ids() {
    let object = Object::of_lines(200);
    let server = Rejecting::lines(&[3, 70, 71, 199], 400).await;
    let (_, _, directory) = ship(&object, &server.url, &FIFTY).await;
    let kept = events_of(&directory);
    let repaired = Rejecting::start(|_| 200).await;
    let output = run(&mut elbship(&["replay", &directory.display().to_string(), "--to", &repaired.url])).await;
    assert_status(&output, 0);
    assert_eq!((kept.len(), repaired.accepted().into_iter().collect::<BTreeSet<_>>()), (4, kept));

    let whole = Rejecting::start(|_| 200).await;
    let (exit, ..) = object.ship(&whole.url, &[]).await;
    let expected: BTreeSet<String> = whole.accepted().into_iter().collect();
    let all: BTreeSet<String> = server.accepted().into_iter().chain(repaired.accepted()).collect();
    assert_eq!((exit, all.len()), (0, 200));
    assert_eq!(all, expected, "resent events differ from events that were accepted at once");
}

/// Returns lines of the maximum length, of the bytes that become longest in an event.
fn longest_lines(max: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in [b"\x01", b"\"", b"\\", b"\xff", b"\x7f", b"x"] {
        for length in [max - 1, max, max + 1] {
            text.extend(byte.repeat(length));
            text.push(b'\n');
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_the_events_of_the_longest_lines() {
    let text = [lines(10).into_bytes(), longest_lines(4_096), lines(10).into_bytes()].concat();
    let object = Object::of(&gzip(&text));
    for schema in ["native", "ecs"] {
        let server =
            Rejecting::start(|events| if events.iter().any(|event| number_of(event) == usize::MAX) { 400 } else { 200 }).await;
        let variables =
            [("MAX_LINE_BYTES", "4KiB"), ("SEND_CONCURRENCY", "1"), ("EVENT_SCHEMA", schema), ("INCLUDE_ORIGINAL", "true")];
        let server = if schema == "ecs" { Rejecting::start(reject_unparsed).await } else { server };
        let (exit, report, directory) = ship(&object, &server.url, &variables).await;
        assert_eq!((exit, &report["dead_lettered"], &report["delivered"]), (0, &json!(18), &json!(20)), "{report}");
        let kept = events_of(&directory);
        let repaired = Rejecting::start(|_| 200).await;
        let mut replay = elbship(&["replay", &directory.display().to_string(), "--to", &repaired.url]);
        assert_status(&run(replay.env("MAX_LINE_BYTES", "4KiB")).await, 0);
        assert_eq!((kept.len(), repaired.accepted().into_iter().collect::<BTreeSet<_>>()), (18, kept), "{schema}");
        std::fs::remove_dir_all(directory).expect("a directory");
    }
}

fn reject_unparsed(events: &[&RawValue]) -> u16 {
    if events.iter().any(|event| event.get().contains("_elbparsefailure")) { 422 } else { 200 }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_skip_dead_letters_in_a_directory() {
    let object = Object::of_lines(200);
    let server = Rejecting::lines(&[3], 400).await;
    let (_, _, directory) = ship(&object, &server.url, &FIFTY).await;
    let path = std::fs::read_dir(&directory).expect("dead letters").next().expect("a dead letter").expect("an entry").path();
    let body = std::fs::read(path).expect("a dead letter");
    let root = object.root.path();
    put(root, "logs", "elsewhere/x.ndjson.gz", &body);
    put(root, "logs", "dead/x.ndjson.gz", &body);
    put(root, "logs", "deadly/x.ndjson.gz", &body);
    let dead = format!("dir:{}", root.join("logs/dead").display());
    for (key, skipped) in [("elsewhere/x.ndjson.gz", false), ("dead/x.ndjson.gz", true), ("deadly/x.ndjson.gz", false)] {
        let receiver = Receiver::start().await;
        let report = object.report_path().display().to_string();
        let objects = root.display().to_string();
        let mut invoke = elbship(&["invoke", "-", "--objects", &objects, "--to", &receiver.url, "--report", &report]);
        let output = run_with_input(invoke.env("DEAD_LETTER_URL", &dead), &s3_event("logs", key).to_string()).await;
        assert_status(&output, 0);
        let report = read_json(Path::new(&report))["objects"][0].clone();
        assert_eq!(report["skipped"].is_string(), skipped, "{key}: {report}");
        let unparsed = receiver.events().iter().filter(|event| event["tags"] == json!(["_elbparsefailure"])).count();
        assert_eq!(unparsed, usize::from(!skipped), "a dead letter in another directory is read like any text");
    }
}

/// Ships the object of a notification, with a dead-letter destination in the same bucket.
async fn notify(s3: &Server, key: &str, to: &str) -> (i32, Value, String) {
    let report = s3.report();
    let mut invoke = s3.elbship(&["invoke", "-", "--to", to, "--report", &report]);
    invoke.env("DEAD_LETTER_URL", "s3://logs/dead/letters").envs(FIFTY);
    let output = run_with_input(&mut invoke, &s3_event("logs", key).to_string()).await;
    (output.status.code().expect("a status"), read_json(Path::new(&report))["objects"][0].clone(), stderr(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_skip_dead_letters_and_a_replay_sends_them() {
    let s3 = Server::start().await;
    let key = alb_key("one");
    s3.put("logs", &key, &gzip(lines(200).as_bytes()));
    let server = Rejecting::lines(&[3, 70, 71, 199], 400).await;
    for _ in 0..2 {
        let (exit, report, stderr) = notify(&s3, &key, &server.url).await;
        assert_eq!((exit, &report["dead_lettered"], &report["delivered"]), (0, &json!(4), &json!(196)), "{stderr}");
    }
    let directory = s3.root.path().join("logs/dead/letters");
    let names: Vec<String> = dead_letters(&directory).into_keys().collect();
    assert_eq!(
        (names.len(), all_lines(&directory).len()),
        (3, 4),
        "the second run replaces the objects of the first one: {names:?}"
    );

    let receiver = Receiver::start().await;
    let (exit, report, _) = notify(&s3, &format!("dead/letters/{}", names[0]), &receiver.url).await;
    assert_eq!((exit, report["skipped"].is_string(), receiver.events().len()), (0, true, 0), "{report}");

    let repaired = Rejecting::start(|_| 200).await;
    let mut replay = s3.elbship(&["replay", "s3://logs/dead/letters/", "--to", &repaired.url]);
    assert_status(&run(replay.env("DEAD_LETTER_URL", "s3://logs/dead/letters")).await, 0);
    assert_eq!(repaired.accepted().into_iter().collect::<BTreeSet<_>>(), events_of(&directory));

    // The runbook sends copies without a dead-letter destination. If an event is rejected again, the command must fail.
    let copies = directory.display().to_string();
    for (rejected, status) in [(&[70][..], 1), (&[], 0)] {
        let server = Rejecting::lines(rejected, 400).await;
        assert_status(&run(&mut s3.elbship(&["replay", &copies, "--to", &server.url])).await, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explains_which_permission_to_write_is_missing() {
    let root = tempfile::tempdir().expect("a directory");
    let files = FileSystem::new(root.path()).expect("a file system");
    let front = Breaking { files, breaks: Mutex::default(), changes_after_break: false, denies_writing: true };
    let s3 = Server::serve(root, front).await;
    let key = alb_key("one");
    s3.put("logs", &key, &gzip(lines(200).as_bytes()));
    let server = Rejecting::lines(&[3, 199], 400).await;
    let (exit, report, stderr) = notify(&s3, &key, &server.url).await;
    assert_eq!((exit, &report["dead_lettered"]), (1, &json!(0)), "{stderr}");
    assert_books(&report, "198 delivered, 2 undelivered, complete true");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("s3://logs/dead/letters/") && error.contains("allow s3:PutObject"), "{error}");
}
