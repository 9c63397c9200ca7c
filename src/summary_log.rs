//! The summary line of each object.

use std::io::{self, Write as _};

use elb_log::key::KeyFacts;
use jiff::Timestamp;
use serde::Serialize;
use tracing::Level;

use crate::emf;
use crate::ledger::{ObjectReport, for_each_counter};
use crate::reason::Reason;

/// Where the summary line of each object goes.
#[derive(Clone, Debug)]
pub enum SummaryLog {
    /// To the log, like all other messages.
    Log,
    /// Nowhere: a person looks at a progress display instead.
    Off,
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
            SummaryLog::Off => {}
            SummaryLog::Metrics { function, now } => {
                let line = emf::line(report, function, notified_at, now());
                let Ok(line) = serde_json::to_string(&line) else { return };
                // If standard output is closed, the error cannot be reported anywhere.
                let _ = writeln!(io::stdout().lock(), "{line}");
            }
        }
    }
}

/// What comes first in the line of an object, so that people find it and queries can group by it.
#[derive(Debug, Serialize)]
pub(crate) struct ObjectFacts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Reason>,
    /// The load balancer's ID, from the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load_balancer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    pub(crate) key: &'a str,
}

impl<'a> ObjectFacts<'a> {
    pub(crate) fn of(report: &'a ObjectReport) -> Self {
        let KeyFacts { load_balancer, account, region, .. } = KeyFacts::from_key(&report.key);
        ObjectFacts { reason: report.reason, load_balancer, account, region, key: &report.key }
    }
}

macro_rules! log_fields {
    ([$level:ident, $report:ident, $facts:ident, $message:ident] $($(#[$doc:meta])* $counter:ident $(=> $metric:tt)?;)*) => {
        tracing::$level!(
            reason = $facts.reason.map(Reason::name),
            load_balancer = $facts.load_balancer,
            account = $facts.account,
            region = $facts.region,
            key = $facts.key,
            bucket = $report.bucket,
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
    let facts = ObjectFacts::of(report);
    match report.summary() {
        (Level::ERROR, message) => for_each_counter!(log_fields, error, report, facts, message),
        (_, message) => for_each_counter!(log_fields, info, report, facts, message),
    }
}
