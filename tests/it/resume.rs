//! `elbship replay --resume` and `--max-events-per-second`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{
    Receiver, Scripted, alb_key, alb_line, as_text, assert_status, elbship, gzip, id_of, put, read_json, run, status, stderr,
};

/// Creates a directory with objects of ten lines each, and returns it with the path of a state file.
fn objects_and_state(objects: usize) -> (tempfile::TempDir, String, String) {
    let root = tempfile::tempdir().expect("a directory");
    for number in 0..objects {
        let text = (number * 10..number * 10 + 10).map(|line| alb_line(line) + "\n").collect::<String>();
        put(root.path(), "b", &alb_key(&format!("{number:03}")), &gzip(text.as_bytes()));
    }
    let (directory, state) = (as_text(&root.path().join("b")), as_text(&root.path().join("state")));
    (root, directory, state)
}

#[tokio::test(flavor = "multi_thread")]
async fn continues_a_killed_run() {
    let (_root, directory, state) = objects_and_state(20);
    // The server accepts half of the objects and then only responds 503, so that the run can be killed in the middle.
    let (reached, middle) = tokio::sync::oneshot::channel();
    let (reached, healed) = (Mutex::new(Some(reached)), Arc::new(AtomicBool::new(false)));
    let (accepted, heals) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&healed));
    let ids = Arc::clone(&accepted);
    let server = Scripted::start(move |number, request| {
        if number < 10 || heals.load(Ordering::Relaxed) {
            ids.lock().expect("no panic while holding").extend(request.events().iter().map(id_of));
            return status(200);
        }
        if let Some(reached) = reached.lock().expect("no panic while holding").take() {
            reached.send(()).expect("the test waits for the middle");
        }
        status(503)
    })
    .await;
    let arguments = ["replay", &directory, "--as", "s3://logs", "--to", &server.url, "--resume", &state, "--concurrency", "1"];
    let mut killed = elbship(&arguments).spawn().expect("starting elbship");
    middle.await.expect("a request with the response 503");
    killed.kill().await.expect("killing elbship");
    healed.store(true, Ordering::Relaxed);
    let known = std::fs::read_to_string(&state).expect("the state").matches('\n').count() - 1;
    assert!(known <= 10, "{known} objects are recorded, but ten were delivered");

    let receiver = Receiver::start().await;
    let elsewhere = ["replay", &directory, "--as", "s3://logs", "--to", &receiver.url, "--resume", &state];
    let output = run(&mut elbship(&elsewhere)).await;
    assert_status(&output, 2);
    assert!(stderr(&output).contains("the state file belongs to another run: to was"), "{}", stderr(&output));
    assert_eq!(receiver.ids().len(), 0);

    let output = run(&mut elbship(&arguments)).await;
    assert_status(&output, 0);
    let lines = (20 - known) * 10;
    assert!(stderr(&output).contains(&format!("{lines} of {lines} lines delivered")), "{}", stderr(&output));
    let mut ids = std::mem::take(&mut *accepted.lock().expect("no panic while holding"));
    assert_eq!(ids.len(), 100 + lines);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_only_failed_objects() {
    let (root, directory, state) = objects_and_state(6);
    let broken = root.path().join("b").join(alb_key("003"));
    let whole = std::fs::read(&broken).expect("an object");
    std::fs::write(&broken, &whole[..whole.len() / 2]).expect("writing");
    let receiver = Receiver::start().await;
    let report = as_text(&root.path().join("report.json"));
    let arguments = ["replay", &directory, "--as", "s3://logs", "--to", &receiver.url, "--resume", &state, "--report", &report];
    assert_status(&run(&mut elbship(&arguments)).await, 1);
    std::fs::write(&broken, &whole).expect("writing");
    let before: usize = receiver.ids().values().sum();

    let output = run(&mut elbship(&arguments)).await;
    assert_status(&output, 0);
    assert!(stderr(&output).contains("10 of 10 lines delivered, 5 objects delivered by an earlier run"), "{}", stderr(&output));
    let objects = read_json(Path::new(&report))["objects"].clone();
    let skipped = objects.as_array().expect("objects").iter().filter_map(|object| object["skipped"].as_str());
    assert_eq!(skipped.collect::<Vec<_>>(), ["delivered by an earlier run (--resume)"; 5]);
    let ids = receiver.ids();
    assert_eq!((ids.len(), ids.values().sum::<usize>()), (60, before + 10));

    let output = run(&mut elbship(&arguments)).await;
    assert_status(&output, 0);
    assert!(
        stderr(&output).contains("6 objects: 0 of 0 lines delivered, 6 objects delivered by an earlier run"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn rejects_a_file_that_is_not_a_state_file() {
    let (_root, directory, state) = objects_and_state(1);
    std::fs::write(&state, "precious\n").expect("writing");
    let output = run(&mut elbship(&["replay", &directory, "--resume", &state])).await;
    assert_status(&output, 2);
    assert!(stderr(&output).contains("not a state file of elbship replay"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&state).expect("the file"), "precious\n");
    assert_status(&run(&mut elbship(&["replay", &directory, "--resume", &state, "--dry-run"])).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_the_events_per_second() {
    let (_root, directory, _) = objects_and_state(3);
    let receiver = Receiver::start().await;
    let started = std::time::Instant::now();
    let mut replay = elbship(&["replay", &directory, "--to", &receiver.url, "--max-events-per-second", "20"]);
    assert_status(&run(&mut replay).await, 0);
    // Three batches of ten events: the third has to wait for the rate limit of the first twenty.
    assert!(started.elapsed() >= std::time::Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(receiver.ids().len(), 30);
    assert_status(&run(&mut elbship(&["replay", &directory, "--max-events-per-second", "0"])).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn resumed_objects_are_one_line() {
    let (_root, directory, state) = objects_and_state(30);
    let receiver = Receiver::start().await;
    let arguments = ["replay", &directory, "--to", &receiver.url, "--resume", &state];
    assert_status(&run(&mut elbship(&arguments)).await, 0);
    let output = run(&mut elbship(&arguments)).await;
    assert_status(&output, 0);
    assert_eq!(stderr(&output), "30 objects: 0 of 0 lines delivered, 30 objects delivered by an earlier run\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_age_counts_from_the_first_run() {
    let (_root, directory, state) = objects_and_state(1);
    let receiver = Receiver::start().await;
    let run_with = async |since: &str| {
        run(&mut elbship(&["replay", &directory, "--to", &receiver.url, "--resume", &state, "--since", since])).await
    };
    assert_status(&run_with("100y").await, 0);
    // The state is that of a run that began long ago.
    let text = std::fs::read_to_string(&state).expect("the state");
    let (before, after) = text.split_once("\"started_at\":\"").expect("the start of the first run");
    std::fs::write(&state, format!("{before}\"started_at\":\"2000{}", &after[4..])).expect("writing");
    assert_status(&run_with("100y").await, 0);
    let output = run_with("99y").await;
    assert_status(&output, 2);
    assert!(stderr(&output).contains("since was \"100y\" and is now \"99y\""), "{}", stderr(&output));
}
