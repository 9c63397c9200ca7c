//! The summary line of each object.

use std::io::{self, Write as _};

use jiff::Timestamp;
use tracing::Level;

use crate::emf;
use crate::ledger::ObjectReport;

/// Where the summary line of each object goes.
#[derive(Clone, Debug)]
pub enum SummaryLog {
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

impl SummaryLog {
    /// Writes the summary line of one object. `notified` is the time of its notification.
    pub fn object(&self, report: &ObjectReport, notified: Option<Timestamp>) {
        match self {
            SummaryLog::Log => log_object(report),
            SummaryLog::Metrics { function, now } => {
                let line = emf::line(report, function, notified, now());
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
