//! What is shown on a terminal: escapes in names and responses of others appear as text.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use axum::body::Body;
use axum::response::Response;
use nix::pty::openpty;
use tokio::process::Command;

use crate::support::{Scripted, alb_line, as_text, closed_port, elbship, put, s3_event};

/// Changes the title of a terminal, clears it, colours it by C1 and C0, reverses text, and begins a new line.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2066}\r\n";

/// Pieces of [`HOSTILE`] that no terminal may get.
const PIECES: [&str; 6] = ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{9b}", "\u{202e}", "\u{2066}"];

/// Runs a command with a terminal as its standard output and standard error, and returns what the terminal gets.
async fn on_terminal(mut command: Command) -> String {
    let pty = openpty(None, None).expect("a terminal");
    let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a copy of the terminal"));
    command.stdout(end(&pty.slave)).stderr(end(&pty.slave));
    let mut child = command.spawn().expect("starting elbship");
    // The terminal ends when the last program has closed it, and the command keeps its own copies.
    drop((pty.slave, command));
    let mut screen = File::from(pty.master);
    let shown = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        // Linux reports the end of a terminal as an error.
        let _ = screen.read_to_end(&mut shown);
        shown
    });
    child.wait().await.expect("waiting for elbship");
    String::from_utf8_lossy(&shown.await.expect("reading the terminal")).into_owned()
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
    let pty = openpty(None, None).expect("a terminal");
    let mut receive = elbship(&["receive", "--listen", "127.0.0.1:0"]);
    receive.stdout(Stdio::from(pty.slave.try_clone().expect("a copy of the terminal"))).stderr(Stdio::from(pty.slave));
    let _running = receive.spawn().expect("starting elbship");
    let (sender, mut shown) = tokio::sync::mpsc::unbounded_channel();
    // Not joined: it ends with the program.
    std::thread::spawn(move || {
        BufReader::new(File::from(pty.master)).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let line = shown.recv().await.expect("the first line");
    let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line} does not contain the URL"));
    let event = serde_json::json!({ "key": HOSTILE }).to_string();
    let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(event);
    assert_eq!(request.send().await.expect("a response").status(), 200);
    assert_shown_as_text(&shown.recv().await.expect("the event"), "an event");
}
