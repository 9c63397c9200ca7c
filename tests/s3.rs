//! Objects behind a real S3 protocol server, read by the SDK.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt as _, stream};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::dto::{GetObjectInput, GetObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Range, StreamingBlob};
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;

mod support;

use support::{Receiver, alb_key, alb_line, assert_status, elbship, gzip, put, read_json, run, run_with_input, s3_event, stderr};

/// A server whose buckets are the directories in a temporary one.
struct Server {
    root: tempfile::TempDir,
    endpoint: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        Server::breaking_at(&[]).await
    }

    /// A server that breaks the body of every object at these bytes, each once.
    async fn breaking_at(breaks: &[u64]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let files = FileSystem::new(root.path()).expect("a file system");
        let front = Breaking { files, breaks: Mutex::new(breaks.to_vec()), changes_after_break: false };
        Server::serve(root, front).await
    }

    async fn serve(root: tempfile::TempDir, front: Breaking) -> Self {
        let mut builder = S3ServiceBuilder::new(front);
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
        Server { root, endpoint, connections }
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

/// A front for the files that breaks bodies, and that looks at If-Match, which the files do not.
struct Breaking {
    files: FileSystem,
    /// Where bodies break, the next one first.
    breaks: Mutex<Vec<u64>>,
    /// Whether a read that goes on finds another object.
    changes_after_break: bool,
}

#[async_trait::async_trait]
impl S3 for Breaking {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let start = match request.input.range {
            Some(Range::Int { first, .. }) => first,
            _ => 0,
        };
        let conditional = request.input.if_match.is_some();
        assert_eq!(request.input.range.is_some(), conditional, "a read that goes on names an ETag, and no other does");
        if conditional && self.changes_after_break {
            return Err(s3_error!(PreconditionFailed));
        }
        let mut response = self.files.get_object(request).await?;
        let next = {
            let mut breaks = self.breaks.lock().expect("no panic while holding");
            if breaks.is_empty() { None } else { Some(breaks.remove(0)) }
        };
        if let Some(at) = next {
            let keep = usize::try_from(at.saturating_sub(start)).expect("a small object");
            let body = response.output.body.take().expect("a body");
            let whole: Vec<_> = body.map(|chunk| chunk.expect("a readable file")).collect().await;
            let kept = bytes::Bytes::from(whole.concat()).slice(..keep);
            // The server sends what it has when there is nothing to send for a moment; only then does the connection break.
            let broken = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken for the test"))
            });
            response.output.body = Some(StreamingBlob::wrap(Box::pin(stream::iter([Ok(kept)]).chain(broken))));
        }
        Ok(response)
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.files.list_objects_v2(request).await
    }
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| alb_line(number) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_ships_its_object() {
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
    assert!(s3.connections.load(Ordering::Relaxed) > 0, "the objects were not read through the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_lists_a_prefix_and_skips_what_is_no_log() {
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
async fn times_select_objects_by_their_keys() {
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
async fn what_cannot_be_read_is_an_error_with_its_name() {
    let s3 = Server::start().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_is_read_on_and_the_events_are_those_of_an_unbroken_one() {
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
async fn a_body_that_keeps_breaking_fails_with_its_position() {
    let server = Server::breaking_at(&[100; 20]).await;
    server.put("logs", &alb_key("one"), &gzip(lines(0..500).as_bytes()));
    let output = run(&mut server.elbship(&["replay", "s3://logs/", "--dry-run"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("failed at byte 100"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changes_while_it_is_read_is_never_mixed() {
    let root = tempfile::tempdir().expect("a directory");
    let files = FileSystem::new(root.path()).expect("a file system");
    let front = Breaking { files, breaks: Mutex::new(vec![100]), changes_after_break: true };
    let server = Server::serve(root, front).await;
    server.put("logs", &alb_key("one"), &gzip(lines(0..500).as_bytes()));
    let output = run(&mut server.elbship(&["replay", "s3://logs/", "--dry-run"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("has changed while it was read, at byte 100"), "{}", stderr(&output));
}
