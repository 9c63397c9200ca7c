//! The function in `cargo lambda`, started by the commands of docs/replay.md.

use std::net::TcpListener as StdListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::{Receiver, assert_status};

const WATCH: &str = "OBJECT_STORE=dir:samples/buckets LOGSTASH_URL=http://127.0.0.1:8080/ cargo lambda watch";
const INVOKE: &str = "cargo lambda invoke shipper --data-file samples/events/s3-put.json";

/// Only the ports differ from those in docs/replay.md: the test takes free ports.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cargo-lambda: run ./check, which installs it into .venv"]
async fn replays_with_the_documented_cargo_lambda_commands() {
    let page = include_str!("../../docs/replay.md");
    for command in [WATCH, INVOKE] {
        assert!(page.contains(command), "docs/replay.md does not contain {command:?}; change both together");
    }
    let receiver = Receiver::start().await;
    let port = free_port();
    let watch = WATCH.replace("http://127.0.0.1:8080/", &receiver.url);
    let mut emulator = shell(&format!("exec env {watch} -A 127.0.0.1 -P {port}"));
    let mut emulator =
        emulator.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0).spawn().expect("the emulator");
    // The emulator blocks when the pipe is full, so its log has to be read.
    let mut log = BufReader::new(emulator.stderr.take().expect("piped")).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = log.next_line().await {
            println!("{line}");
        }
    });
    wait_for(port).await;

    let output = shell(&format!("{INVOKE} -A 127.0.0.1 -P {port}")).output().await.expect("invoking");
    assert_status(&output, 0);
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report");
    assert_eq!(report["totals"]["delivered"], 12);
    assert_eq!(receiver.ids().len(), 12);

    let missing = INVOKE.replace("s3-put", "s3-missing-object");
    let output = shell(&format!("{missing} -A 127.0.0.1 -P {port}")).output().await.expect("invoking");
    assert_status(&output, 1);
    assert!(
        crate::support::stderr(&output).contains("cannot read s3://example-elb-logs/"),
        "{}",
        crate::support::stderr(&output)
    );

    // The function is a child process of the emulator, so both are stopped as a group.
    let group = nix::unistd::Pid::from_raw(i32::try_from(emulator.id().expect("running")).expect("a process id"));
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM).expect("stopping the emulator");
    emulator.wait().await.expect("waiting for the emulator");
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    shell
}

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

async fn wait_for(port: u16) {
    let mut tries = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..600 {
        tries.tick().await;
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return;
        }
    }
    panic!("cargo lambda watch does not listen after a minute; its log is above");
}
