//! Memory is bounded by the batches in flight, independent of the object's size.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{Scripted, alb_key, alb_line, assert_status, elbship, put, read_json, status};

const OBJECT_BYTES: usize = 200 * 1024 * 1024;
const LIMIT_MIB: u64 = 64;

/// Ships one large object to a receiver that handles one batch at a time, and waits after each. Reading is many times faster, so
/// data that the program does not hold back fills the memory.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_with_a_slow_receiver() {
    let root = tempfile::tempdir().expect("a directory");
    let (body, lines) = large_object();
    put(root.path(), "logs", &alb_key("large"), &body);
    drop(body);
    let (turn, peak_kib, pid) = (Mutex::new(()), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (peak, child) = (Arc::clone(&peak_kib), Arc::clone(&pid));
    let server = Scripted::start(move |_, _| {
        let _turn = turn.lock();
        peak.fetch_max(peak_kib_of(child.load(Ordering::Relaxed)), Ordering::Relaxed);
        // This is the speed of the receiver, not a wait for an event.
        std::thread::park_timeout(Duration::from_millis(10));
        status(200)
    })
    .await;
    let report = root.path().join("report.json");
    let (logs, report_path) = (root.path().join("logs").display().to_string(), report.display().to_string());
    let mut command = elbship(&["replay", &logs, "--to", &server.url, "--report", &report_path]);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starting elbship");
    pid.store(running.id().map_or(0, u64::from), Ordering::Relaxed);
    let output = running.wait_with_output().await.expect("waiting for elbship");
    assert_status(&output, 0);
    assert_eq!(read_json(&report)["totals"]["delivered"], lines);
    let peak_mib = peak_kib.load(Ordering::Relaxed) / 1024;
    assert!(peak_mib > 0, "cannot read the peak memory from /proc; this test needs Linux");
    println!("peak memory {peak_mib} MiB for {lines} lines");
    assert!(peak_mib < LIMIT_MIB, "elbship used {peak_mib} MiB, more than {LIMIT_MIB} MiB: its memory grows with the object");
}

/// Returns the peak memory of a running process so far, in KiB, or 0 if the process is unknown.
fn peak_kib_of(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
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

/// Ships many objects, which are empty because only their number matters. A report needs more than half a KiB of memory.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_number_of_objects() {
    const FEW: usize = 2_000;
    const MANY: usize = 20_000;
    const GROWTH_KIB: u64 = 3 * 1024;
    let (few, many) = (peak_kib_for_objects(FEW).await, peak_kib_for_objects(MANY).await);
    println!("peak memory {few} KiB for {FEW} objects, {many} KiB for {MANY}");
    assert!(many < few + GROWTH_KIB, "{few} KiB for {FEW} objects, {many} KiB for {MANY}: keep no report of an object in memory");
}

/// Returns the peak memory of a replay of empty objects.
async fn peak_kib_for_objects(objects: usize) -> u64 {
    let root = tempfile::tempdir().expect("a directory");
    for index in 0..objects {
        put(root.path(), "logs", &format!("{}/{index}-{}.log", index / 100, "x".repeat(150)), b"");
    }
    let report = root.path().join("report.json");
    // A named pipe: when everything is shipped, the program writes the report into it. The pipe holds less than the report, so the
    // program waits, and its memory can be read.
    let (logs, pipe) = (root.path().join("logs").display().to_string(), root.path().join("pipe"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut command = elbship(&["replay", &logs, "--dry-run", "--report", &pipe.display().to_string()]);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starting elbship");
    let pid = running.id().map_or(0, u64::from);
    let (sender, peak) = tokio::sync::oneshot::channel();
    let to = report.clone();
    // Not joined: if the program fails, nothing opens the other end of the pipe.
    std::thread::spawn(move || {
        let mut reader = std::fs::File::open(pipe).expect("a pipe");
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut reader, &mut first).expect("the first byte of the report");
        let peak = peak_kib_of(pid);
        let mut file = std::fs::File::create(to).expect("a file");
        file.write_all(&first).expect("writing");
        std::io::copy(&mut reader, &mut file).expect("a report");
        sender.send(peak)
    });
    assert!(running.wait().await.expect("waiting for elbship").success(), "the replay fails");
    let peak = peak.await.expect("the report");
    let report = read_json(&report);
    assert_eq!(report["objects"].as_array().map(Vec::len), Some(objects));
    assert!(peak > 0, "cannot read the peak memory from /proc; this test needs Linux");
    peak
}
