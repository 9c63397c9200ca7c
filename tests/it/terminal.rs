//! What is shown on a terminal of 80 columns: progress and its end; and escapes in names and responses of others, as text.

use std::path::Path;
use std::sync::Mutex;

use axum::body::Body;
use axum::response::Response;
use tokio::process::Command;

use crate::support::pty::{Ends, Screen, remaining_lines};
use crate::support::{
    Receiver, Scripted, alb_key, alb_line, as_text, closed_port, elbship, gzip, json_lines, lines, put, run, s3_event, status,
    stdout,
};

/// Changes the title of a terminal, clears it, colours it by C1 and C0, reverses text, and begins a new line.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2066}\r\n";

/// Pieces of [`HOSTILE`] that no terminal may get.
const PIECES: [&str; 6] = ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{9b}", "\u{202e}", "\u{2066}"];

/// Runs a command with a terminal as its standard output and standard error, and returns what the terminal gets.
async fn on_terminal(command: Command) -> String {
    Screen::start(command).finish().await.0
}

#[track_caller]
fn assert_shown_as_text(shown: &str, what: &str) {
    for piece in PIECES {
        assert!(!shown.contains(piece), "{what}: {piece:?} reaches the terminal; escape it in:\n{shown:?}");
    }
    let has = |escape: &str| shown.contains(escape);
    assert!(has("\\u{1b}]0;owned") || has("\\u001b]0;owned"), "{what}: the escape is not shown as text:\n{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_shows_escapes_of_names_as_text() {
    let root = tempfile::tempdir().expect("a directory");
    put(root.path(), "b", &format!("x{HOSTILE}.log"), b"\x1f\x8bbroken");
    let directory = as_text(&root.path().join("b"));
    assert_shown_as_text(&on_terminal(elbship(&["replay", &directory, "--dry-run"])).await, "a key");
    let missing = format!("missing{}", HOSTILE.replace('\0', ""));
    assert_shown_as_text(&on_terminal(elbship(&["replay", &missing, "--dry-run"])).await, "a path");
    assert_shown_as_text(&on_terminal(elbship(&["replay", &directory, "--dry-run", "--report", "-"])).await, "a report");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_escapes_of_responses_as_text() {
    let server = Scripted::start(|_, _| Response::builder().status(404).body(Body::from(HOSTILE)).expect("a response")).await;
    assert_shown_as_text(&on_terminal(elbship(&["check", "--to", &server.url])).await, "a response");
}

#[tokio::test(flavor = "multi_thread")]
async fn invoke_shows_escapes_of_keys_as_text() {
    let root = tempfile::tempdir().expect("a directory");
    let event = root.path().join("event.json");
    let objects = as_text(root.path());
    std::fs::write(&event, s3_event("logs", HOSTILE).to_string()).expect("an event");
    let invoke = || elbship(&["invoke", &as_text(&event), "--objects", &objects, "--to", &closed_port()]);
    assert_shown_as_text(&on_terminal(invoke()).await, "the log and the error");
    put(root.path(), "logs", HOSTILE, b"");
    assert_shown_as_text(&on_terminal(invoke()).await, "the response");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_escapes_of_a_line_as_text() {
    let hostile = HOSTILE.trim_end();
    for line in [alb_line(1).replace("shop.example", hostile), format!("https {hostile} \"never closed")] {
        assert_shown_as_text(&on_terminal(elbship(&["explain", &line])).await, "a page");
        assert_shown_as_text(&on_terminal(elbship(&["explain", "--json", &line])).await, "JSON");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_errors_show_no_escapes() {
    let flag = format!("--{HOSTILE}");
    for arguments in
        [vec!["replay", "x", &flag], vec![HOSTILE], vec!["replay", "x", "--label", HOSTILE], vec!["backfill", HOSTILE]]
    {
        let shown = on_terminal(elbship(&arguments)).await;
        let piece = PIECES.into_iter().find(|piece| shown.contains(piece));
        assert_eq!(piece, None, "{arguments:?}: escape it in:\n{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receive_shows_escapes_of_events_as_text() {
    let mut screen = Screen::start(elbship(&["receive", "--listen", "127.0.0.1:0"]));
    screen.wait_for("/\r\n").await;
    let url = screen.shown.trim().strip_prefix("listening on ").expect("the URL").to_owned();
    let event = serde_json::json!({ "key": HOSTILE }).to_string();
    let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(event);
    assert_eq!(request.send().await.expect("a response").status(), 200);
    screen.wait_for("}\r\n").await;
    assert_shown_as_text(&screen.shown, "an event");
}

/// Creates a directory `logs` with objects of ten lines.
fn objects(count: usize) -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().expect("a directory");
    for number in 0..count {
        put(root.path(), "logs", &alb_key(&format!("{number:03}")), &gzip(lines(10).as_bytes()));
    }
    let logs = as_text(&root.path().join("logs"));
    (root, logs)
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_shows_objects_and_deliveries() {
    let (_root, logs) = objects(20);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = Scripted::start(move |number, _| {
        // The first ten objects are done while the eleventh waits for the test.
        if number == 10 {
            let _ = tokio::task::block_in_place(|| released.lock().expect("no panic while holding").recv());
        }
        status(200)
    })
    .await;
    let mut screen = Screen::start(elbship(&["replay", &logs, "--to", &server.url, "--concurrency", "1"]));
    screen.wait_for(" 10 of 20 objects, 110 lines, ").await;
    screen.wait_for(" left ").await;
    screen.wait_for("100 delivered ").await;
    release.send(()).expect("a waiting receiver");
    let (shown, status) = screen.finish().await;
    assert_eq!((status, remaining_lines(&shown)), (0, vec!["20 objects: 200 of 200 lines delivered".to_owned()]), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_port_is_explained_in_a_few_lines() {
    let (_root, logs) = objects(50);
    let mut replay = elbship(&["replay", &logs, "--to", &closed_port()]);
    replay.env("RETRY_BUDGET", "2s");
    let mut screen = Screen::start(replay);
    screen.wait_for("WARN an endpoint does not accept events; they are retried endpoint=http://127.0.0.1:").await;
    screen.wait_for("0 delivered, retrying 4 batches for ").await;
    screen.wait_for(" s: connection refused").await;
    let (shown, status) = screen.finish().await;
    let lines = remaining_lines(&shown);
    assert_eq!((status, lines.len()), (1, 2), "one warning and one summary are enough:\n{lines:#?}");
    let summary = &lines[1];
    assert!(
        summary.contains("50 objects: 0 of 40 lines delivered, 40 UNDELIVERED, 4 objects FAILED, 46 objects not begun"),
        "{summary}"
    );
    let cause = "; the run ended early: cannot deliver a batch to http://127.0.0.1:";
    assert!(summary.contains(cause) && summary.contains("check host and port, and whether Logstash is running"), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_progress_never_mix() {
    let (root, logs) = objects(20);
    let (shown, status) = Screen::start(elbship(&["replay", &logs])).finish().await;
    assert_eq!((status, shown.contains('\u{1b}')), (0, false), "a progress display is between the events");
    let (summary, events): (Vec<&str>, Vec<&str>) = shown.lines().partition(|line| !line.starts_with('{'));
    assert_eq!((json_lines(&events.join("\n")).len(), summary), (200, vec!["20 objects: 200 of 200 lines delivered"]));

    // What reads a pipe may write to the same terminal.
    let mut screen = Screen::start_with(elbship(&["replay", &logs]), Ends::default());
    let mut pipe = screen.child.stdout.take().expect("a piped standard output");
    let reader = tokio::spawn(async move { tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await });
    let (shown, _) = screen.finish().await;
    reader.await.expect("no panic").expect("reading the events");
    assert_eq!(shown.trim(), "20 objects: 200 of 200 lines delivered");

    let file = std::fs::File::create(root.path().join("events")).expect("a file");
    let mut replay = elbship(&["replay", &logs]);
    replay.stdout(file);
    let (shown, _) = Screen::start_with(replay, Ends::default()).finish().await;
    assert!(shown.contains(" of 20 objects, "), "events in a file cannot mix with the display: {shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_shown_once() {
    let (root, logs) = objects(2);
    put(root.path(), "logs", "broken.log", b"\x1f\x8bbroken");
    let receiver = Receiver::start().await;
    let (shown, status) = Screen::start(elbship(&["replay", &logs, "--to", &receiver.url])).finish().await;
    let lines = remaining_lines(&shown);
    assert_eq!((status, lines.len()), (1, 2), "{lines:#?}");
    assert!(lines[0].contains("broken.log: cannot read"), "{lines:#?}");
    assert_eq!(lines[1], "elbship: 3 objects: 20 of 20 lines delivered, 1 object FAILED; the reasons are above");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_without_a_line_shows_its_usage() {
    let both = Ends { stdin: true, stdout: true };
    let (shown, status) = Screen::start_with(elbship(&["explain"]), both).finish().await;
    assert!(status == 2 && shown.contains("Usage: elbship explain [OPTIONS] [LINE]"), "{shown}");
    let mut explain = elbship(&["explain", "-"]);
    explain.env("NO_COLOR", "1");
    let mut screen = Screen::start_with(explain, both);
    screen.type_text(&format!("{}\n\u{4}", "h2 2026-03-02T10:15:07Z 0.004 10.0.4.12:9000 api FAIL 503 ResponseCodeMismatch"));
    let (shown, status) = screen.finish().await;
    assert!(status == 0 && shown.contains("alb_health_check: "), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_follow_the_usual_variables() {
    let line = alb_line(1);
    for (terminal, variables, is_coloured) in [
        (true, vec![], true),
        (true, vec![("NO_COLOR", "1")], false),
        (true, vec![("CLICOLOR", "0")], false),
        (true, vec![("TERM", "dumb")], false),
        (false, vec![], false),
        (false, vec![("CLICOLOR_FORCE", "1")], true),
    ] {
        let mut explain = elbship(&["explain", &line]);
        explain.env("TERM", "xterm-256color").envs(variables.iter().copied());
        let shown = if terminal {
            on_terminal(explain).await
        } else {
            String::from_utf8_lossy(&explain.output().await.expect("running elbship").stdout).into_owned()
        };
        assert_eq!(shown.contains('\u{1b}'), is_coloured, "terminal: {terminal}, {variables:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_fits_the_terminal_and_lists_values_and_defaults() {
    for command in ["replay", "invoke", "backfill", "receive", "explain", "check"] {
        let mut help = elbship(&[command, "--help"]);
        help.env("NO_COLOR", "1");
        let shown = on_terminal(help).await;
        let long = shown.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "the help of {command} is wider than the terminal");
        if command == "replay" {
            for text in ["- native: ", "- ecs: ", "[default: native]", "[default: 10s]", "[env: LOGSTASH_URL]"] {
                assert!(shown.contains(text), "{text:?} is missing:\n{shown}");
            }
        }
    }
    let short = run(&mut elbship(&["replay", "-h"])).await;
    let short = stdout(&short);
    assert!(short.contains("[possible values: native, ecs]"), "{short}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_on_the_terminal_comes_after_the_display() {
    let (root, logs) = objects(2);
    let (shown, status) = Screen::start(elbship(&["replay", &logs, "--dry-run", "--report", "-"])).finish().await;
    let lines = remaining_lines(&shown);
    let report = lines.iter().find(|line| line.starts_with("{\"objects\":")).unwrap_or_else(|| panic!("no report: {lines:#?}"));
    assert_eq!((status, json_lines(report)[0]["totals"]["filtered"].as_u64()), (0, Some(20)));
    assert!(!Path::new("-").exists() && !root.path().join("-").exists(), "a file named - was written");
}
