//! What the program says while it works: one line an object.

use std::io;

use tracing::level_filters::LevelFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON on standard output, which Lambda takes to CloudWatch.
    StdoutJson,
    /// JSON on standard error, for another program.
    StderrJson,
    /// Text on standard error, for a person.
    StderrText,
}

/// Starts logging, once in a process; a second call changes nothing.
pub fn init(format: LogFormat, level: LevelFilter) {
    // Complaining on standard error that standard error is closed would be a panic.
    let lines = || tracing_subscriber::fmt().with_max_level(level).with_target(false).log_internal_errors(false);
    let text = lines();
    let json = lines().json().flatten_event(true);
    let json = json.with_current_span(false).with_span_list(false);
    // The only error is that logging has been started before.
    let _ = match format {
        LogFormat::StdoutJson => json.with_writer(io::stdout).try_init(),
        LogFormat::StderrJson => json.with_writer(io::stderr).try_init(),
        LogFormat::StderrText => text.with_ansi(false).without_time().with_writer(io::stderr).try_init(),
    };
}
