//! Objects behind a real S3 protocol server, read by the SDK.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;

mod support;

use support::{Receiver, alb_key, alb_line, assert_status, elbship, gzip, put, read_json, run, run_with_input, s3_event, stderr};

/// A server whose buckets are the directories in a temporary one.
struct S3 {
    root: tempfile::TempDir,
    endpoint: String,
    connections: Arc<AtomicUsize>,
}

impl S3 {
    async fn start() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).expect("a file system"));
        builder.set_auth(SimpleAuth::from_single("test", "test"));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                tokio::spawn(connection);
            }
        });
        S3 { root, endpoint, connections }
    }

    fn put(&self, bucket: &str, key: &str, body: &[u8]) {
        put(self.root.path(), bucket, key, body);
    }

    fn elbship(&self, arguments: &[&str]) -> Command {
        let mut command = elbship(arguments);
        command
            .env("AWS_ENDPOINT_URL_S3", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    fn report(&self) -> String {
        self.root.path().join("report.json").display().to_string()
    }
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| alb_line(number) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_ships_its_object() {
    let s3 = S3::start().await;
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
    assert!(s3.connections.load(Ordering::Relaxed) > 0, "the objects were not read through the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_lists_a_prefix_and_skips_what_is_no_log() {
    let s3 = S3::start().await;
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
async fn times_select_objects_by_their_keys() {
    let s3 = S3::start().await;
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
async fn what_cannot_be_read_is_an_error_with_its_name() {
    let s3 = S3::start().await;
    s3.put("logs", "there.log", b"x\n");
    let key = alb_key("gone");
    let mut invoke = s3.elbship(&["invoke", "-"]);
    let output = run_with_input(&mut invoke, &s3_event("logs", &key).to_string()).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains(&format!("there is no object s3://logs/{key}")), "{}", stderr(&output));

    let output = run(&mut s3.elbship(&["replay", "s3://logs/nothing/here"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("nothing to ship: no object matches"), "{}", stderr(&output));

    let output = run(&mut s3.elbship(&["replay", "s3://no-such-bucket/"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("listing s3://no-such-bucket/ failed"), "{}", stderr(&output));
}
