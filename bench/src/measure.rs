//! Measures a process: CPU time (user and system), peak memory, and wall time.
//!
//! The measuring process must be small, because the peak memory of a child process starts at the size of its parent.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};

use crate::Result;

/// Runs a command, which inherits all streams, and writes the usage of the command and its children to `file`. The file also has
/// the exit status, because some runs are expected to fail.
pub fn run(file: &Path, command: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = command else { return Err("the command is missing".into()) };
    let started = Instant::now();
    let status = Command::new(program).args(arguments).status().map_err(|error| format!("{program}: {error}"))?;
    let wall = started.elapsed().as_nanos();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (cpu, rss, code) = (cpu_ns(&usage)?, usage.max_rss() * 1024, status.code().unwrap_or(-1));
    fs::write(file, format!(r#"{{"cpu_ns":{cpu},"wall_ns":{wall},"rss_bytes":{rss},"status":{code}}}"#))?;
    Ok(())
}

/// Returns the CPU time of this process so far, in nanoseconds.
pub fn cpu_ns_of_this_process() -> Result<u64> {
    cpu_ns(&getrusage(UsageWho::RUSAGE_SELF)?)
}

/// Returns the CPU time of the child processes that have ended, in nanoseconds.
pub fn cpu_ns_of_children() -> Result<u64> {
    cpu_ns(&getrusage(UsageWho::RUSAGE_CHILDREN)?)
}

fn cpu_ns(usage: &Usage) -> Result<u64> {
    let times = [usage.user_time(), usage.system_time()];
    let microseconds: i64 = times.iter().map(|time| time.tv_sec() * 1_000_000 + time.tv_usec()).sum();
    Ok(u64::try_from(microseconds)? * 1_000)
}
