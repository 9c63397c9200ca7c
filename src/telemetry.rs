//! What the program says while it works: one line an object.

use std::io::{self, Write as _};

use jiff::Timestamp;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::ledger::ObjectReport;
use crate::metrics;

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

/// Where the summary line of each object goes.
#[derive(Clone, Debug)]
pub enum Journal {
    /// Into the log, like everything else.
    Log,
    /// To standard output in CloudWatch's embedded metric format, whatever the log's level: without it there are no metrics.
    Metrics {
        /// `AWS_LAMBDA_FUNCTION_NAME`
        function: String,
        /// The wall clock.
        now: fn() -> Timestamp,
    },
}

impl Journal {
    /// Writes the summary line of one object. `notified` is the time of its notification.
    pub fn object(&self, report: &ObjectReport, notified: Option<Timestamp>) {
        match self {
            Journal::Log => log_object(report),
            Journal::Metrics { function, now } => {
                let line = metrics::line(report, function, notified, now());
                // Nothing can be said any more where standard output is gone.
                let _ = writeln!(io::stdout().lock(), "{line}");
            }
        }
    }
}

/// ERROR means that data is at risk.
fn log_object(report: &ObjectReport) {
    let counts = &report.counts;
    macro_rules! summary {
        ($log:ident, $message:ident) => {
            tracing::$log!(
                bucket = report.bucket,
                key = report.key,
                etag = report.etag,
                kind = report.kind,
                bytes_compressed = counts.bytes_compressed,
                bytes = counts.bytes,
                lines = counts.lines,
                unparsed = counts.unparsed,
                short_lines = counts.short_lines,
                invalid_fields = counts.invalid_fields,
                extra_fields = counts.extra_fields,
                filtered = counts.filtered,
                delivered = counts.delivered,
                dead_lettered = counts.dead_lettered,
                undelivered = counts.undelivered,
                batches = counts.batches,
                requests = counts.requests,
                retries = counts.retries,
                complete = report.complete,
                skipped = report.skipped,
                duration_ms = report.duration_ms,
                error = report.error,
                "{}",
                $message
            )
        };
    }
    match report.verdict() {
        (Level::ERROR, message) => summary!(error, message),
        (_, message) => summary!(info, message),
    }
}
