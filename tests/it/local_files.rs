//! Files named on the command line and directories that stand for S3, with FIFOs in the place of files.

use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::{
    alb_key, as_text, assert_status, closed_port, elbship, gzip, json_lines, lines, put, read_json, run, run_with_input,
    s3_event, stderr, stdout,
};

/// Creates a FIFO.
fn fifo(path: PathBuf) -> PathBuf {
    mkfifo(&path, Mode::S_IRWXU).expect("a FIFO");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_a_named_fifo_as_a_stream() {
    let root = tempfile::tempdir().expect("a directory");
    for body in [gzip(lines(5_000).as_bytes()), lines(5_000).into_bytes()] {
        let path = fifo(root.path().join("fifo"));
        let (shown, report) = (as_text(&path), root.path().join("report.json"));
        // The write blocks until the program reads.
        let length = body.len();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, body)
        });
        let output = run(&mut elbship(&["replay", &shown, "--report", &as_text(&report)])).await;
        assert_status(&output, 0);
        writer.join().expect("no panic").expect("writing into the FIFO");
        let object = read_json(&report)["objects"][0].clone();
        assert_eq!((object["bytes_compressed"].as_u64(), &object["complete"]), (Some(length as u64), &true.into()), "{object}");
        assert_eq!(json_lines(&stdout(&output)).len(), 5_000);
        std::fs::remove_file(path).expect("the FIFO");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_standard_input_as_a_stream() {
    for path in ["-", "/dev/stdin", "/dev/fd/0"] {
        let output = run_with_input(&mut elbship(&["replay", path]), &lines(50)).await;
        assert_status(&output, 0);
        assert_eq!(json_lines(&stdout(&output)).len(), 50, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_without_a_writer_does_not_hold_the_program() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "logs", "x.log", lines(1).as_bytes()));
    let fifo = as_text(&fifo(root.path().join("fifo")));
    // The retry budget of the file's events ends the run while the FIFO is being opened.
    let mut replay = elbship(&["replay", &file, &fifo, "--to", &closed_port()]);
    let output = run(replay.env("RETRY_BUDGET", "1s")).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("RETRY_BUDGET"), "the run did not end by its retry budget:\n{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_in_a_store_fails_alone() {
    let root = tempfile::tempdir().expect("a directory");
    let (key, fifo_key) = (alb_key("good"), alb_key("fifo"));
    put(root.path(), "logs", &key, lines(3).as_bytes());
    fifo(root.path().join("logs").join(&fifo_key));
    let store = format!("dir:{}", root.path().display());
    let expected = format!("cannot read s3://logs/{fifo_key}: a FIFO is not a log object; remove it from the directory");

    let output = run(elbship(&["replay", "s3://logs/"]).env("OBJECT_STORE", &store)).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains(&expected), "{expected:?} is missing:\n{}", stderr(&output));
    assert_eq!(json_lines(&stdout(&output)).len(), 3, "the other object was not shipped");

    let objects = as_text(root.path());
    let event = s3_event("logs", &fifo_key).to_string();
    let output = run_with_input(&mut elbship(&["invoke", "-", "--objects", &objects]), &event).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains(&expected), "{expected:?} is missing:\n{}", stderr(&output));
}
