//! One invocation: a notification in, the report or an error out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ledger::Report;
use crate::notification::{self, NotificationError};
use crate::ship::Shipper;
use crate::sink::Sink;
use crate::stop::Stop;

/// Why an invocation fails. Lambda then invokes again, or keeps the event.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The event cannot be understood.
    #[error(transparent)]
    Notification(#[from] NotificationError),
    /// Not everything arrived.
    #[error("{failed} of {objects} objects failed, {undelivered} of {lines} lines read are undelivered; first {first}: {error}")]
    Objects {
        /// Objects of which something is missing.
        failed: usize,
        /// Objects asked for.
        objects: usize,
        /// Events that nobody accepted.
        undelivered: u64,
        /// Lines read.
        lines: u64,
        /// The first object that failed.
        first: String,
        /// Why.
        error: String,
        /// Everything that is known.
        report: Box<Report>,
    },
}

/// Ships what an event asks for.
///
/// # Errors
/// An event that cannot be understood, and any object of which something is missing at the receiver.
pub async fn handle<S: Sink>(shipper: &Arc<Shipper<S>>, event: &Value, stop: &Stop) -> Result<Report, HandlerError> {
    let notification = notification::parse(event)?;
    let (sender, tasks) = mpsc::channel(notification.tasks.len().max(1));
    for task in notification.tasks {
        // There is room for all of them, so this neither waits nor fails.
        let _ = sender.try_send(task);
    }
    drop(sender);
    let report = shipper.ship(tasks, stop).await;
    let failed = report.failures().count();
    let Some(first) = report.failures().next() else { return Ok(report) };
    Err(HandlerError::Objects {
        failed,
        objects: report.objects.len(),
        undelivered: report.totals.counts.undelivered,
        lines: report.totals.counts.lines,
        first: format!("s3://{}/{}", first.bucket, first.key),
        error: first.error.clone().unwrap_or_else(|| "incomplete".to_owned()),
        report: Box::new(report),
    })
}

/// The end of an invocation that has `remaining` time left, `reserve` before it, so that there is time to report.
///
/// None of `remaining` means that the deadline is unknown: the local emulator names one that lies decades in the past. Where
/// less than twice the reserve is left, half of what is left is kept instead, so that a short time-out still ships something.
pub fn invocation_end(remaining: Option<Duration>, reserve: Duration) -> Stop {
    Stop::at(remaining.map(|remaining| Instant::now() + remaining - reserve.min(remaining / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_invocation_ends_before_its_deadline() {
        let ends_after = |remaining, reserve| {
            invocation_end(Some(Duration::from_secs(remaining)), Duration::from_secs(reserve)).cap(Duration::MAX)
        };
        assert_eq!(ends_after(300, 10), Duration::from_secs(290));
        assert_eq!(ends_after(15, 10), Duration::from_millis(7_500));
        assert_eq!(ends_after(0, 10), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_deadline_is_none() {
        assert_eq!(invocation_end(None, Duration::from_secs(10)).cap(Duration::MAX), Duration::MAX);
    }
}
