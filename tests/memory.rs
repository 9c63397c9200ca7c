//! Memory is bounded by the batches in flight, never by the object's size.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::resource::{UsageWho, getrusage};

mod support;

use support::{Scripted, alb_key, alb_line, assert_status, elbship, put, read_json, run, status};

const OBJECT_BYTES: usize = 200 * 1024 * 1024;
const LIMIT_MIB: i64 = 64;

/// One large object, shipped to a receiver that takes one batch at a time, each a while after the one before. Reading is many
/// times as fast, so what is not held back piles up.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_and_a_slow_receiver_need_little_memory() {
    let root = tempfile::tempdir().expect("a directory");
    let (body, lines) = large_object();
    put(root.path(), "logs", &alb_key("large"), &body);
    drop(body);
    let pace = std::sync::Mutex::new(());
    let server = Scripted::start(move |_, _| {
        let _turn = pace.lock();
        // Not a wait for something to happen, but the receiver's speed.
        std::thread::park_timeout(Duration::from_millis(10));
        status(200)
    })
    .await;
    let report = root.path().join("report.json");
    let (logs, report_path) = (root.path().join("logs").display().to_string(), report.display().to_string());
    let output = run(&mut elbship(&["replay", &logs, "--to", &server.url, "--report", &report_path])).await;
    assert_status(&output, 0);
    assert_eq!(read_json(&report)["totals"]["delivered"], lines);
    // This is the only child process of this test binary.
    let peak_mib = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of the child").max_rss() / 1024;
    println!("peak memory {peak_mib} MiB for {lines} lines");
    assert!(peak_mib < LIMIT_MIB, "elbship needed {peak_mib} MiB, the limit is {LIMIT_MIB}: something grows with the object");
}

fn large_object() -> (Vec<u8>, usize) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let (mut bytes, mut lines) = (0, 0);
    while bytes < OBJECT_BYTES {
        let line = alb_line(lines) + "\n";
        encoder.write_all(line.as_bytes()).expect("compressing into memory");
        bytes += line.len();
        lines += 1;
    }
    (encoder.finish().expect("compressing into memory"), lines)
}
