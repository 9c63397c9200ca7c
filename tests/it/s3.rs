//! Reads objects with the SDK from a server of the S3 API.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use s3s_fs::FileSystem;
use serde_json::json;

use crate::support::s3::{Breaking, Server};
use crate::support::{Receiver, alb_key, alb_line, assert_status, gzip, read_json, run, run_with_input, s3_event, stderr};

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| alb_line(number) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ships_the_object_of_a_notification() {
    let s3 = Server::start().await;
    let receiver = Receiver::start().await;
    for key in [alb_key("plain key"), alb_key("a+b&c=%41 ä")] {
        s3.put("logs", &key, &gzip(lines(0..500).as_bytes()));
        let report = s3.report();
        let mut invoke = s3.elbship(&["invoke", "-", "--to", &receiver.url, "--report", &report]);
        let output = run_with_input(&mut invoke, &s3_event("logs", &key).to_string()).await;
        assert_status(&output, 0);
        let report = read_json(Path::new(&report));
        assert_eq!(report["objects"][0]["delivered"], 500);
        assert_eq!(report["objects"][0]["key"], key);
        assert!(report["objects"][0]["etag"].as_str().is_some_and(|etag| !etag.contains('"')), "{report}");
    }
    assert_eq!(receiver.ids().len(), 1_000);
    assert!(s3.connections.load(Ordering::Relaxed) > 0, "the objects were not read from the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_lists_a_prefix_and_skips_other_objects() {
    let s3 = Server::start().await;
    let receiver = Receiver::start().await;
    for number in 0..7 {
        s3.put("logs", &alb_key(&format!("part{number}")), &gzip(lines(number * 10..number * 10 + 10).as_bytes()));
    }
    s3.put("logs", "AWSLogs/123456789012/ELBAccessLogTestFile", b"Enable AccessLog for ELB: app/web at 2026-03-02T10:00:00Z");
    s3.put("logs", "AWSLogs/123456789012/elasticloadbalancing/empty.log", b"");
    s3.put("logs", "elsewhere/other.log", b"not below the prefix\n");
    let report = s3.report();
    let output = run(&mut s3.elbship(&["replay", "s3://logs/AWSLogs/", "--to", &receiver.url, "--report", &report])).await;
    assert_status(&output, 0);
    let report = read_json(Path::new(&report));
    assert_eq!(report["totals"]["delivered"], 70);
    assert_eq!(report["objects"].as_array().expect("objects").len(), 9);
    let skipped: Vec<_> =
        report["objects"].as_array().expect("objects").iter().filter_map(|object| object["skipped"].as_str()).collect();
    assert_eq!(skipped, ["the test object that AWS writes when logging is switched on", "an empty object"]);
    assert_eq!(receiver.ids().len(), 70);
}

#[tokio::test(flavor = "multi_thread")]
async fn since_and_until_select_objects_by_their_keys() {
    let s3 = Server::start().await;
    for (day, hour) in [(1, "2355"), (2, "0000"), (2, "1200"), (3, "0000")] {
        let key = alb_key(hour).replace("20260302T1020Z", &format!("2026030{day}T{hour}Z"));
        s3.put("logs", &key, lines(0..1).as_bytes());
    }
    let report = s3.report();
    let arguments = ["replay", "s3://logs/", "--since", "2026-03-02", "--until", "2026-03-03", "--dry-run", "--report", &report];
    assert_status(&run(&mut s3.elbship(&arguments)).await, 0);
    let totals = &read_json(Path::new(&report))["totals"];
    assert_eq!((&totals["lines"], &totals["filtered"], &totals["delivered"]), (&json!(2), &json!(2), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_unreadable_object() {
    let s3 = Server::start().await;
    s3.put("logs", "there.log", b"x\n");
    let key = alb_key("gone");
    let mut invoke = s3.elbship(&["invoke", "-"]);
    let output = run_with_input(&mut invoke, &s3_event("logs", &key).to_string()).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains(&format!("cannot read s3://logs/{key}: no such object")), "{}", stderr(&output));

    let output = run(&mut s3.elbship(&["replay", "s3://logs/nothing/here"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("nothing to ship: no object matches"), "{}", stderr(&output));

    let output = run(&mut s3.elbship(&["replay", "s3://no-such-bucket/"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("cannot list s3://no-such-bucket/: "), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_after_a_broken_body() {
    let body = gzip(lines(0..3_000).as_bytes());
    let end = body.len() as u64;
    let unbroken = Receiver::start().await;
    let ids = {
        let server = Server::start().await;
        server.put("logs", &alb_key("one"), &body);
        assert_status(&run(&mut server.elbship(&["replay", "s3://logs/", "--to", &unbroken.url])).await, 0);
        unbroken.ids()
    };
    assert_eq!(ids.len(), 3_000);
    for breaks in [vec![0], vec![1], vec![10, 10, 11], vec![end / 2], vec![end - 1], vec![5, end / 3, end / 3, end / 2, end - 8]]
    {
        let server = Server::breaking_at(&breaks).await;
        server.put("logs", &alb_key("one"), &body);
        let receiver = Receiver::start().await;
        let report = server.report();
        let output = run(&mut server.elbship(&["replay", "s3://logs/", "--to", &receiver.url, "--report", &report])).await;
        assert_status(&output, 0);
        let object = &read_json(Path::new(&report))["objects"][0];
        assert_eq!((&object["bytes_compressed"], &object["complete"]), (&json!(end), &json!(true)), "broken at {breaks:?}");
        assert_eq!(receiver.ids(), ids, "broken at {breaks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fails_with_the_position_if_a_body_keeps_breaking() {
    let server = Server::breaking_at(&[100; 20]).await;
    server.put("logs", &alb_key("one"), &gzip(lines(0..500).as_bytes()));
    let output = run(&mut server.elbship(&["replay", "s3://logs/", "--dry-run"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("at byte 100: "), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn never_mixes_two_versions_of_an_object() {
    let root = tempfile::tempdir().expect("a directory");
    let files = FileSystem::new(root.path()).expect("a file system");
    let front = Breaking { files, breaks: Mutex::new(vec![100]), changes_after_break: true, denies_writing: false };
    let server = Server::serve(root, front).await;
    server.put("logs", &alb_key("one"), &gzip(lines(0..500).as_bytes()));
    let output = run(&mut server.elbship(&["replay", "s3://logs/", "--dry-run"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("at byte 100: the object changed while it was read"), "{}", stderr(&output));
}
