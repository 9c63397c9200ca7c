//! The summary line of each object.

use std::io::{self, Write as _};

use jiff::Timestamp;
use tracing::Level;

use crate::emf;
use crate::ledger::{ObjectReport, for_each_counter};

/// Where the summary line of each object goes.
#[derive(Clone, Debug)]
pub enum SummaryLog {
    /// To the log, like all other messages.
    Log,
    /// To standard output in CloudWatch's embedded metric format, whatever the log level: the metrics are extracted from it.
    Metrics {
        /// `AWS_LAMBDA_FUNCTION_NAME`.
        function: String,
        /// The wall clock.
        now: fn() -> Timestamp,
    },
}

impl SummaryLog {
    /// Writes the summary line of one object. `notified_at` is the time of the object's notification.
    pub(crate) fn write(&self, report: &ObjectReport, notified_at: Option<Timestamp>) {
        match self {
            SummaryLog::Log => log_object(report),
            SummaryLog::Metrics { function, now } => {
                let line = emf::line(report, function, notified_at, now());
                // If standard output is closed, the error cannot be reported anywhere.
                let _ = writeln!(io::stdout().lock(), "{line}");
            }
        }
    }
}

macro_rules! log_fields {
    ([$level:ident, $report:ident, $message:ident] $($(#[$doc:meta])* $counter:ident $(=> $metric:tt)?;)*) => {
        tracing::$level!(
            bucket = $report.bucket,
            key = $report.key,
            etag = $report.etag,
            kind = $report.kind,
            $($counter = $report.counts.$counter,)*
            complete = $report.complete,
            skipped = $report.skipped,
            resumed_at = $report.resumed_at,
            continued_at = $report.continued_at,
            duration_ms = $report.duration_ms,
            error = $report.error,
            "{}",
            $message
        )
    };
}

fn log_object(report: &ObjectReport) {
    match report.summary() {
        (Level::ERROR, message) => for_each_counter!(log_fields, error, report, message),
        (_, message) => for_each_counter!(log_fields, info, report, message),
    }
}
