//! Ctrl-C and SIGTERM: the first signal ends a command in order, the second at once.

use std::path::Path;
use std::process::Output;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::support::{
    Scripted, alb_key, alb_line, as_text, assert_status, elbship, json_lines, put, read_json, s3_event, status, stderr, stdout,
};

/// Timeout for each step of a program.
const LIMIT: Duration = Duration::from_secs(60);

/// A receiver that holds its first response until it is released, and the objects that are sent to it, ten lines each.
struct Held {
    root: tempfile::TempDir,
    server: Scripted,
    arrived: tokio::sync::mpsc::UnboundedReceiver<()>,
    release: mpsc::Sender<()>,
}

impl Held {
    async fn start(objects: usize) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        for number in 0..objects {
            let text = (number * 10..number * 10 + 10).map(|line| alb_line(line) + "\n").collect::<String>();
            put(root.path(), "logs", &alb_key(&format!("{number:03}")), text.as_bytes());
        }
        let (sender, arrived) = tokio::sync::mpsc::unbounded_channel();
        let (release, released) = mpsc::channel();
        let released = Mutex::new(released);
        let server = Scripted::start(move |_, _| {
            let _ = sender.send(());
            // The test releases it, or ends.
            let _ = tokio::task::block_in_place(|| released.lock().expect("no panic while holding").recv());
            status(200)
        })
        .await;
        Held { root, server, arrived, release }
    }

    fn path(&self, name: &str) -> String {
        as_text(&self.root.path().join(name))
    }

    fn replay(&self, flags: &[&str]) -> Command {
        let (logs, report) = (self.path("logs"), self.path("report.json"));
        elbship(&[&["replay", &logs, "--to", &self.server.url, "--concurrency", "1", "--report", &report], flags].concat())
    }

    /// Waits until the receiver has a request.
    async fn has_request(&mut self) {
        timeout(LIMIT, self.arrived.recv()).await.expect("a request within a minute").expect("a running receiver");
    }
}

/// A program whose standard error is read line by line.
struct Running {
    child: Child,
    errors: BufReader<ChildStderr>,
    read: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("starting elbship");
        let errors = BufReader::new(child.stderr.take().expect("a piped standard error"));
        Running { child, errors, read: String::new() }
    }

    fn send(&self, signal: Signal) {
        let id = self.child.id().expect("a running program");
        kill(Pid::from_raw(i32::try_from(id).expect("a process ID")), signal).expect("sending a signal");
    }

    /// Waits for a line on standard error.
    async fn wait_for(&mut self, text: &str) {
        while !self.read.contains(text) {
            let length = timeout(LIMIT, self.errors.read_line(&mut self.read)).await.expect("a line within a minute");
            assert!(length.expect("text") > 0, "{text:?} never appears on standard error:\n{}", self.read);
        }
    }

    async fn finish(mut self) -> Output {
        let rest = timeout(LIMIT, self.errors.read_to_string(&mut self.read)).await;
        rest.expect("the end within a minute").expect("text");
        let output = timeout(LIMIT, self.child.wait_with_output()).await;
        let output = output.expect("the end within a minute").expect("waiting for elbship");
        Output { stderr: self.read.into_bytes(), ..output }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_waits_for_requests_in_flight_and_suggests_resume() {
    let mut held = Held::start(20).await;
    let mut running = Running::start(held.replay(&[]));
    held.has_request().await;
    running.send(Signal::SIGINT);
    running.wait_for("stopping after Ctrl-C (SIGINT): waiting up to 10 s for requests in flight").await;
    held.release.send(()).expect("a waiting receiver");
    let output = running.finish().await;
    assert_status(&output, 130);
    let errors = stderr(&output);
    let last = errors.lines().last().expect("a summary");
    assert!(last.starts_with("elbship: interrupted by Ctrl-C (SIGINT); 20 objects: 10 of 10 lines delivered"), "{last}");
    assert!(last.contains("19 objects not begun") && last.contains("with --resume STATE"), "{last}");
    assert_eq!(held.server.seen().len(), 1, "a request was sent after the signal");
    let totals = read_json(Path::new(&held.path("report.json")))["totals"].clone();
    assert_eq!((&totals["delivered"], &totals["undelivered"], &totals["complete"]), (&json!(10), &json!(0), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_continues_with_its_state() {
    let mut held = Held::start(3).await;
    let state = held.path("state");
    let mut running = Running::start(held.replay(&["--resume", &state]));
    held.has_request().await;
    running.send(Signal::SIGTERM);
    running.wait_for("stopping after SIGTERM").await;
    held.release.send(()).expect("a waiting receiver");
    let output = running.finish().await;
    assert_status(&output, 143);
    assert!(stderr(&output).ends_with("; run the same command again to continue\n"), "{}", stderr(&output));
    let delivered = std::fs::read_to_string(&state).expect("the state").lines().count() - 1;
    assert!(delivered <= 1, "{delivered} objects are recorded, but only one request was accepted");

    let running = Running::start(held.replay(&["--resume", &state]));
    for _ in 0..3 - delivered {
        held.release.send(()).expect("a waiting receiver");
    }
    let output = running.finish().await;
    assert_status(&output, 0);
    assert_eq!(std::fs::read_to_string(&state).expect("the state").lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_response_are_given_up_after_grace() {
    let mut held = Held::start(2).await;
    let running = Running::start(held.replay(&["--grace", "100ms"]));
    held.has_request().await;
    running.send(Signal::SIGINT);
    let output = running.finish().await;
    assert_status(&output, 130);
    assert!(stderr(&output).contains("0 of 10 lines delivered, 10 UNDELIVERED"), "{}", stderr(&output));
    let report = read_json(Path::new(&held.path("report.json")));
    let error = report["objects"][0]["error"].as_str().expect("an error");
    assert!(error.contains("interrupted by Ctrl-C (SIGINT)"), "{error}");
    assert_eq!(report["totals"]["undelivered"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    for (second, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut held = Held::start(2).await;
        let mut running = Running::start(held.replay(&["--grace", "1h"]));
        held.has_request().await;
        running.send(Signal::SIGINT);
        running.wait_for("a second Ctrl-C ends at once").await;
        running.send(second);
        let output = running.finish().await;
        assert_status(&output, code);
        assert!(!Path::new(&held.path("report.json")).exists(), "the program should not have ended in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_of_the_events_does_not_hold_the_program() {
    let root = tempfile::tempdir().expect("a directory");
    let text = (0..2_000).map(|line| alb_line(line) + "\n").collect::<String>();
    let file = as_text(&put(root.path(), "logs", "x.log", text.as_bytes()));
    // Nothing reads the pipe, which is smaller than the events.
    let mut running =
        Running::start(elbship(&["replay", &file, "--grace", "100ms", "--report", &as_text(&root.path().join("r"))]));
    let mut first = [0; 1];
    running.child.stdout.as_mut().expect("a piped output").read_exact(&mut first).await.expect("the first event");
    running.send(Signal::SIGTERM);
    running.wait_for("interrupted by SIGTERM; 1 object: ").await;
    assert_eq!(timeout(LIMIT, running.child.wait()).await.expect("the end").expect("waiting").code(), Some(143));
    assert!(read_json(&root.path().join("r"))["totals"]["undelivered"].as_u64().is_some_and(|lines| lines > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_invoke_with_its_report() {
    let mut held = Held::start(1).await;
    let event = held.path("event.json");
    std::fs::write(&event, s3_event("logs", &alb_key("000")).to_string()).expect("an event");
    let (objects, report) = (as_text(held.root.path()), held.path("report.json"));
    let url = held.server.url.clone();
    let flags = ["invoke", &event, "--objects", &objects, "--to", &url, "--report", &report, "--grace", "100ms"];
    let running = Running::start(elbship(&flags));
    held.has_request().await;
    running.send(Signal::SIGTERM);
    let output = running.finish().await;
    assert_status(&output, 143);
    assert!(stderr(&output).contains("interrupted by SIGTERM"), "{}", stderr(&output));
    assert_eq!(read_json(Path::new(&report))["totals"]["undelivered"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_signals_end_receive_with_its_total() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut running = Running::start(elbship(&["receive", "--listen", "127.0.0.1:0"]));
        running.wait_for("listening on ").await;
        let url = running.read.trim().trim_start_matches("listening on ").to_owned();
        let request = reqwest::Client::new().post(url).header("content-type", "application/json").body("{\"a\":1}");
        assert_eq!(request.send().await.expect("a response").status(), 200);
        running.send(signal);
        let output = running.finish().await;
        assert_status(&output, 0);
        assert!(stderr(&output).ends_with("1 event received\n"), "{}", stderr(&output));
        assert_eq!(json_lines(&stdout(&output)).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_leaves_the_other_objects_of_a_bucket() {
    let mut held = Held::start(30).await;
    let store = format!("dir:{}", as_text(held.root.path()));
    let url = held.server.url.clone();
    let mut replay = elbship(&["replay", "s3://logs/", "--to", &url, "--concurrency", "1", "--grace", "100ms"]);
    replay.env("OBJECT_STORE", store);
    let running = Running::start(replay);
    held.has_request().await;
    running.send(Signal::SIGINT);
    let output = running.finish().await;
    assert_status(&output, 130);
    assert!(stderr(&output).contains("30 objects: 0 of 10 lines delivered"), "{}", stderr(&output));
    assert!(stderr(&output).contains("29 objects not begun"), "{}", stderr(&output));
}
