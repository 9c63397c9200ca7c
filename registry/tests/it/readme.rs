//! The registry's README: its tables match the code, and its commands run.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use elb_common::env::markdown_table;
use elb_log_registry::config::VARIABLES;
use elb_log_registry::group::Groups;
use elb_log_registry::metrics::METRICS;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::peers::{free_port, project};
use crate::support::until;

const README: &str = include_str!("../../README.md");

/// The table is generated from the code; `UPDATE_GOLDEN=1 cargo test -p elb-log-registry --test it table_of_variables` rewrites it.
#[test]
fn the_table_of_variables_is_up_to_date() {
    let (before, rest) = README.split_once("\n## Configuration\n\n").expect("a section \"Configuration\"");
    let (table, after) = rest.split_once("\n## ").expect("a section after the table");
    let expected = markdown_table(VARIABLES);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let page = format!("{before}\n## Configuration\n\n{expected}\n## {after}");
        return std::fs::write(project().join("registry/README.md"), page).expect("writing the README");
    }
    assert_eq!(table, expected, "the table of variables is stale; run this test with UPDATE_GOLDEN=1 and read the difference");
}

#[test]
fn the_readme_names_every_metric() {
    for (name, _) in METRICS {
        assert!(README.contains(&format!("`{name}`")), "the README does not describe {name}");
    }
}

#[test]
fn the_sample_groups_are_valid() {
    let path = project().join("samples/registry/groups.toml");
    let groups = Groups::read(path.to_str().expect("UTF-8")).expect("good groups");
    assert!(groups.select("eu-west-1", "eu1").is_some());
}

#[test]
fn every_event_is_in_the_table_of_samples() {
    let table = std::fs::read_to_string(project().join("samples/README.md")).expect("the table");
    for entry in std::fs::read_dir(project().join("samples/events")).expect("the events") {
        let name = entry.expect("an event").file_name().into_string().expect("UTF-8");
        if name.starts_with("asg-") || name.starts_with("registry-") {
            assert!(table.contains(&format!("events/{name}")), "samples/README.md does not describe {name}");
        }
    }
}

const MOTO: &str = ".venv/bin/moto_server -p 5000";
const AWS: &str = "export AWS_ENDPOINT_URL=http://127.0.0.1:5000 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=eu-west-1 AWS_DEFAULT_REGION=eu-west-1";
const REGISTRY: &str = "export REGISTRY_GROUPS=samples/registry/groups.toml REGISTRY_STORE=redis://127.0.0.1:6379 REGISTRY_TOPICS=arn:aws:sns:eu-west-1:123456789012:logstash-lifecycle";
const MAKE: &str = ".venv/bin/python samples/registry/fleet.py make 3";
const SERVE: &str = "cargo run --bin registry -- --listen 127.0.0.1:8081";
const CURL: &str = "curl -i 'http://127.0.0.1:8081/logstash-ip?dcid=eu1&region=eu-west-1'";
const GET: &str = "cargo run --bin registry -- get --url 'http://127.0.0.1:8081/logstash-ip?dcid=eu1&region=eu-west-1'";
const LEAVE: &str = ".venv/bin/python samples/registry/fleet.py leave > target/leave.json";
const INVOKE: &str = "cargo lambda invoke registry --data-file target/leave.json";
const WATCH: &str = "cargo lambda watch";
const REDIS: &str = "redis-server --port 6379 --save \"\"";

/// The README's commands with other ports and another path for one file.
struct Commands(Vec<(&'static str, String)>);

impl Commands {
    fn of(&self, command: &str) -> String {
        assert!(README.lines().any(|line| line == command), "the README does not contain {command:?}; change both together");
        self.here(command)
    }

    fn here(&self, command: &str) -> String {
        self.0.iter().fold(command.to_owned(), |command, (documented, here)| command.replace(documented, here))
    }

    fn shell(&self, command: &str) -> Command {
        let script = format!("{}\n{}\n{command}", self.of(AWS), self.of(REGISTRY));
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).current_dir(project()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.kill_on_drop(true).process_group(0);
        shell
    }

    /// Starts a server and prints its log, so that a full pipe never blocks it.
    async fn start(&self, command: &str, port: u16) -> Group {
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        let mut shell = self.shell(&self.of(command)).stdout(Stdio::null()).spawn().expect("a shell");
        let mut lines = BufReader::new(shell.stderr.take().expect("piped")).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                println!("{line}");
                kept.lock().expect("nobody panics while holding it").push_str(&line);
            }
        });
        until(command, async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Group { shell, log }
    }

    async fn run(&self, command: &str) -> (String, String) {
        self.run_here(&self.of(command)).await
    }

    async fn run_here(&self, command: &str) -> (String, String) {
        let output = self.shell(command).output().await.expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (shown, errors) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{command}\n{shown}\n{errors}");
        (shown, errors)
    }
}

/// A shell and all processes that it has started.
struct Group {
    shell: Child,
    log: Arc<Mutex<String>>,
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.shell.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        // The process may have ended already.
        let _ = id.map(|id| killpg(id, Signal::SIGTERM));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cargo-lambda: run ./check --release, which installs it into .venv"]
async fn the_readme_commands_run_on_one_machine() {
    let (moto, redis, server, lambda) = (free_port(), free_port(), free_port(), free_port());
    let binary = env!("CARGO_BIN_EXE_registry");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let commands = Commands(vec![
        ("127.0.0.1:5000", format!("127.0.0.1:{moto}")),
        ("-p 5000", format!("-p {moto}")),
        ("6379", redis.to_string()),
        ("127.0.0.1:8081", format!("127.0.0.1:{server}")),
        ("cargo run --bin registry --", format!("exec {binary}")),
        ("target/leave.json", file.path().display().to_string()),
        ("cargo lambda invoke", format!("cargo lambda invoke -A 127.0.0.1 -P {lambda}")),
        (WATCH, format!("exec cargo lambda watch -A 127.0.0.1 -P {lambda} --ignore-changes")),
    ]);
    let _moto = commands.start(MOTO, moto).await;
    let stored = commands.start(REDIS, redis).await;
    commands.run(MAKE).await;
    let served = commands.start(SERVE, server).await;
    let (answer, _) = commands.run(CURL).await;
    assert!(answer.contains("registry-source: poll") && answer.contains(":8080\""), "{answer}");
    let (three, about) = commands.run(GET).await;
    assert!(three.lines().count() == 3 && about.starts_with("generation 1, made by poll"), "{three}{about}");

    commands.run(LEAVE).await;
    let emulator = commands.start(WATCH, lambda).await;
    let (done, _) = commands.run(INVOKE).await;
    assert!(done.contains("left the list"), "{done}");
    let (two, about) = commands.run(GET).await;
    assert!(two.lines().count() == 2 && about.contains("made by lifecycle"), "{two}{about}");
    assert!(two.lines().all(|line| three.contains(line)));
    let samples = [
        ("registry-alb-lookup.json", "\"statusCode\":200"),
        ("registry-url-lookup.json", "\"statusCode\":200"),
        ("asg-sns-test.json", "a test notification"),
        ("asg-sns-terminate.json", "left the list"),
    ];
    for (sample, expected) in samples {
        let invoke = INVOKE.replace("target/leave.json", &format!("samples/events/{sample}"));
        let (done, _) = commands.run_here(&commands.here(&invoke)).await;
        assert!(done.contains(expected), "{sample}: {done}");
    }
    drop(emulator);

    drop(stored);
    let gone = async || TcpStream::connect(("127.0.0.1", redis)).await.is_err().then_some(());
    until("Redis has stopped", gone).await;
    let (still, about) = commands.run(GET).await;
    assert!(still == two && about.contains("warning: 110"), "{still}{about}");
    let alert = async || served.log.lock().expect("nobody panics while holding it").contains("store_failed").then_some(());
    until("the server's log has the alert", alert).await;
}
