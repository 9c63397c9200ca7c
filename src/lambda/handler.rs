//! One invocation: opens the event, ships the objects that it names, and returns the response that the event's sender reads.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use elb_log::origin::ObjectName;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::lambda::notification::{self, JobInvocation, Notification, NotificationError, QueueMessage};
use crate::lambda::response::{InvocationResponse, job_response, queue_response};
use crate::lambda::sqs::SqsClient;
use crate::ledger::{ObjectReport, Report};
use crate::object::Task;
use crate::ship::Shipper;
use crate::shutdown::Shutdown;
use crate::sink::Transport;

/// An invocation that succeeded.
#[derive(Debug)]
pub struct CompletedInvocation {
    /// The response for the event's sender.
    pub response: InvocationResponse,
    /// What happened to each object.
    pub report: Report,
}

/// The reason why an invocation fails. Lambda then invokes the function again, or keeps the event.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The event cannot be read.
    #[error(transparent)]
    Notification(#[from] NotificationError),
    /// An object was not delivered completely. For an SQS event: all messages failed.
    #[error("{}", describe(.report, .unreadable_messages))]
    Failed {
        /// What happened to each object.
        report: Box<Report>,
        /// The messages that cannot be read, each with the reason.
        unreadable_messages: Vec<String>,
    },
}

/// Ships the objects that an event names. `sqs` delays the next delivery of failed messages; without it SQS delivers them again
/// after the queue's visibility timeout. A message whose object can never be read is done once the dead-letter queue has it.
///
/// # Errors
/// The event cannot be read, or an object was not delivered completely. An SQS event fails only if all of its messages fail,
/// because only then Lambda's error metric and the poller's back-off notice an outage. The tasks of a job never fail the
/// invocation.
pub async fn handle<T: Transport>(
    shipper: &Arc<Shipper<T>>,
    sqs: Option<&SqsClient>,
    event: &Value,
    shutdown: &Shutdown,
) -> Result<CompletedInvocation, HandlerError> {
    match notification::parse(event)? {
        Notification::Event(tasks) => handle_event(shipper, tasks, shutdown).await,
        Notification::Queue(messages) => handle_messages(shipper, sqs, messages, shutdown).await,
        Notification::Job(job) => Ok(handle_job(shipper, job, shutdown).await),
    }
}

/// Returns the shutdown of an invocation that has `remaining` time left. It comes `reserve` before the deadline, so that the
/// function has time to report.
///
/// `None` means that the deadline is unknown: the local emulator names one that is decades in the past. If less than twice the
/// reserve is left, half of the remaining time is reserved instead, so that an invocation with a short timeout still ships
/// something. SQS calls about failed messages may use four fifths of the reserved time; the rest is for the response itself.
pub fn shutdown_before_deadline(remaining: Option<Duration>, reserve: Duration) -> Shutdown {
    let Some(remaining) = remaining else { return Shutdown::at(None) };
    let reserved = reserve.min(remaining / 2);
    let end = Instant::now() + remaining - reserved;
    Shutdown::with_report_time(end, end + reserved * 4 / 5)
}

async fn handle_event<T: Transport>(
    shipper: &Arc<Shipper<T>>,
    tasks: Vec<Task>,
    shutdown: &Shutdown,
) -> Result<CompletedInvocation, HandlerError> {
    let report = ship(shipper, tasks, shutdown).await;
    if report.failures().next().is_some() {
        return Err(failed(report, Vec::new()));
    }
    Ok(CompletedInvocation { response: InvocationResponse::Report(report.clone()), report })
}

async fn handle_job<T: Transport>(shipper: &Arc<Shipper<T>>, mut job: JobInvocation, shutdown: &Shutdown) -> CompletedInvocation {
    let (task_ids, tasks): (Vec<String>, Vec<Task>) = std::mem::take(&mut job.tasks).into_iter().unzip();
    let report = ship(shipper, tasks, shutdown).await;
    let response = InvocationResponse::Job(job_response(job, task_ids, &report.objects));
    CompletedInvocation { response, report }
}

async fn handle_messages<T: Transport>(
    shipper: &Arc<Shipper<T>>,
    sqs: Option<&SqsClient>,
    mut messages: Vec<QueueMessage>,
    shutdown: &Shutdown,
) -> Result<CompletedInvocation, HandlerError> {
    let (tasks, ranges) = take_tasks(&mut messages);
    let report = ship(shipper, tasks, shutdown).await;
    let all = messages.len();
    let ended =
        messages.into_iter().zip(ranges).map(|(message, range)| end_message(sqs, message, &report.objects[range], shutdown));
    let failures: Vec<FailedMessage> = join_all(ended).await.into_iter().flatten().collect();
    if failures.len() == all {
        return Err(failed(report, failures.into_iter().filter_map(|failure| failure.unreadable).collect()));
    }
    let response = queue_response(failures.into_iter().map(|failure| failure.message_id));
    Ok(CompletedInvocation { response: InvocationResponse::Queue(response), report })
}

/// Takes the tasks out of all messages. The range of each message says which of the tasks are its own.
fn take_tasks(messages: &mut [QueueMessage]) -> (Vec<Task>, Vec<Range<usize>>) {
    let mut tasks = Vec::new();
    let mut ranges = Vec::with_capacity(messages.len());
    for message in messages {
        let start = tasks.len();
        if let Ok(of_message) = &mut message.tasks {
            tasks.append(of_message);
        }
        ranges.push(start..tasks.len());
    }
    (tasks, ranges)
}

/// A message that SQS delivers again.
struct FailedMessage {
    message_id: String,
    /// Why the message cannot be read; `None` if an object of it failed.
    unreadable: Option<String>,
}

/// Returns `None` if the message is done: all of its objects are shipped, or they can never be read and the message is in the
/// dead-letter queue.
async fn end_message(
    sqs: Option<&SqsClient>,
    message: QueueMessage,
    objects: &[ObjectReport],
    shutdown: &Shutdown,
) -> Option<FailedMessage> {
    let unreadable = unreadable(&message);
    if unreadable.is_none() && is_done(sqs, &message, objects, shutdown).await {
        return None;
    }
    if let (Some(sqs), Some(receipt)) = (sqs, &message.receipt) {
        sqs.delay_redelivery(receipt, shutdown.time_to_report()).await;
    }
    Some(FailedMessage { message_id: message.id, unreadable })
}

/// Logs and returns why a message cannot be read.
fn unreadable(message: &QueueMessage) -> Option<String> {
    let error = message.tasks.as_ref().err()?;
    tracing::error!(message_id = message.id, %error, "cannot read a message; it stays in the queue");
    Some(format!("message {}: {error}", message.id))
}

/// Moves the message to the dead-letter queue first if its failed objects can never be read.
async fn is_done(sqs: Option<&SqsClient>, message: &QueueMessage, objects: &[ObjectReport], shutdown: &Shutdown) -> bool {
    let mut failures = objects.iter().filter(|object| !object.is_success()).peekable();
    if failures.peek().is_none() {
        return true;
    }
    let Some(sqs) = sqs.filter(|_| failures.all(|object| object.permanent)) else { return false };
    // The other half of the time is for delaying the redelivery if the move fails.
    sqs.move_to_dead_letter_queue(&message.body, shutdown.time_to_report() / 2).await
}

async fn ship<T: Transport>(shipper: &Arc<Shipper<T>>, tasks: Vec<Task>, shutdown: &Shutdown) -> Report {
    let (sender, receiver) = mpsc::channel(tasks.len().max(1));
    for task in tasks {
        // The channel has room for all tasks, so this neither waits nor fails.
        let _ = sender.try_send(shipper.skip_dead_letter(task));
    }
    drop(sender);
    shipper.ship(receiver, shutdown).await
}

fn failed(report: Report, unreadable_messages: Vec<String>) -> HandlerError {
    HandlerError::Failed { report: Box::new(report), unreadable_messages }
}

/// Describes the first failed object and the first unreadable message.
fn describe(report: &Report, unreadable_messages: &[String]) -> String {
    let objects = report.failures().next().map(|first| describe_objects(report, first));
    let parts: Vec<String> = objects.into_iter().chain(unreadable_messages.first().cloned()).collect();
    parts.join("; ")
}

fn describe_objects(report: &Report, first: &ObjectReport) -> String {
    let (counts, failed, objects) = (&report.totals.counts, report.failures().count(), report.objects.len());
    let (undelivered, lines) = (counts.undelivered, counts.lines);
    let name = ObjectName { bucket: first.bucket.clone(), key: first.key.clone() };
    let error = first.error.as_deref().unwrap_or("incomplete");
    format!("{failed} of {objects} objects failed, {undelivered} of {lines} lines read are undelivered; first {name}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shuts_down_before_the_deadline() {
        let ends_after = |remaining, reserve| {
            shutdown_before_deadline(Some(Duration::from_secs(remaining)), Duration::from_secs(reserve)).cap(Duration::MAX)
        };
        assert_eq!(ends_after(300, 10), Duration::from_secs(290));
        assert_eq!(ends_after(15, 10), Duration::from_millis(7_500));
        assert_eq!(ends_after(0, 10), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn never_shuts_down_at_an_unknown_deadline() {
        assert_eq!(shutdown_before_deadline(None, Duration::from_secs(10)).cap(Duration::MAX), Duration::MAX);
    }
}
