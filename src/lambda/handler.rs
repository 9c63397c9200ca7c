//! One invocation: a notification in, the answer that its sender reads or an error out.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::lambda::notification::{self, Message, Notification, NotificationError};
use crate::lambda::reply::{BatchItemFailures, ItemFailure, Reply, TaskResult, TaskResults};
use crate::ledger::{ObjectReport, Report};
use elb_log::origin::ObjectName;

use crate::lambda::sqs::Queue;
use crate::object::Task;
use crate::ship::Shipper;
use crate::shutdown::Shutdown;
use crate::sink::Transport;

/// An invocation that did not fail.
#[derive(Debug)]
pub struct Handled {
    /// What is answered.
    pub reply: Reply,
    /// Everything that is known.
    pub report: Report,
}

/// Why an invocation fails. Lambda then invokes again, or keeps the event.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The event cannot be understood.
    #[error(transparent)]
    Notification(#[from] NotificationError),
    /// Not everything arrived. Of a queue's messages: nothing did.
    #[error("{}", describe(.report, .messages))]
    Failed {
        /// Everything that is known.
        report: Box<Report>,
        /// Messages that could not be understood, and why.
        messages: Vec<String>,
    },
}

/// Ships what an event asks for. `queue` is told of failed messages; without it they come again after the queue's time-out.
/// A message whose object can never be read is done once the dead-letter queue has it.
///
/// # Errors
/// An event that cannot be understood, or any object of which something is missing at the receiver. A queue's event fails only if
/// every one of its messages did, because only then Lambda's error metric and the poller's back-off see an outage. A job's
/// tasks never fail the invocation.
pub async fn handle<T: Transport>(
    shipper: &Arc<Shipper<T>>,
    queue: Option<&Queue>,
    event: &Value,
    stop: &Shutdown,
) -> Result<Handled, HandlerError> {
    match notification::parse(event)? {
        Notification::Event(tasks) => {
            let report = ship(shipper, tasks, stop).await;
            if report.failures().next().is_some() {
                return Err(failed(report, Vec::new()));
            }
            Ok(Handled { reply: Reply::Report(report.clone()), report })
        }
        Notification::Queue(messages) => handle_messages(shipper, queue, messages, stop).await,
        Notification::Job(job) => {
            let (ids, tasks): (Vec<String>, Vec<Task>) = job.tasks.into_iter().unzip();
            let report = ship(shipper, tasks, stop).await;
            let reply = Reply::Job(TaskResults {
                invocation_schema_version: job.schema_version,
                treat_missing_keys_as: "PermanentFailure",
                invocation_id: job.invocation_id,
                results: ids.into_iter().zip(&report.objects).map(|(id, object)| TaskResult::of(id, object)).collect(),
            });
            Ok(Handled { reply, report })
        }
    }
}

/// The end of an invocation that has `remaining` time left, `reserve` before it, so that there is time to report.
///
/// None of `remaining` means that the deadline is unknown: the local emulator names one that lies decades in the past. Where
/// less than twice the reserve is left, half of what is left is kept instead, so that a short time-out still ships something.
/// Most of what is kept may go into telling the queue about failed messages; the rest is for the answer itself.
pub fn invocation_end(remaining: Option<Duration>, reserve: Duration) -> Shutdown {
    let Some(remaining) = remaining else { return Shutdown::at(None) };
    let kept = reserve.min(remaining / 2);
    let end = Instant::now() + remaining - kept;
    Shutdown::with_report_time(end, end + kept * 4 / 5)
}

async fn handle_messages<T: Transport>(
    shipper: &Arc<Shipper<T>>,
    queue: Option<&Queue>,
    messages: Vec<Message>,
    stop: &Shutdown,
) -> Result<Handled, HandlerError> {
    let mut tasks = Vec::new();
    let mut outcomes: Vec<(Message, Range<usize>)> = Vec::with_capacity(messages.len());
    for mut message in messages {
        let start = tasks.len();
        if let Ok(of_message) = &mut message.tasks {
            tasks.append(of_message);
        }
        outcomes.push((message, start..tasks.len()));
    }
    let report = ship(shipper, tasks, stop).await;
    let mut failures = BatchItemFailures::default();
    let mut not_understood = Vec::new();
    let all = outcomes.len();
    let ended = outcomes.into_iter().map(|(message, objects)| end_message(queue, message, &report.objects[objects], stop));
    for failed in join_all(ended).await.into_iter().flatten() {
        not_understood.extend(failed.not_understood);
        failures.batch_item_failures.push(failed.item);
    }
    if failures.batch_item_failures.len() == all {
        return Err(failed(report, not_understood));
    }
    Ok(Handled { reply: Reply::Queue(failures), report })
}

/// A message that is to come again.
struct FailedMessage {
    item: ItemFailure,
    not_understood: Option<String>,
}

/// None if the message is done: all of its objects are shipped, or can never be and the message is in the dead-letter queue.
async fn end_message(
    queue: Option<&Queue>,
    message: Message,
    objects: &[ObjectReport],
    stop: &Shutdown,
) -> Option<FailedMessage> {
    let mut not_understood = None;
    if let Err(error) = &message.tasks {
        tracing::error!(message_id = message.id, error, "message not understood; it stays in the queue");
        not_understood = Some(format!("message {}: {error}", message.id));
    } else {
        let mut failures = objects.iter().filter(|object| !object.is_success()).peekable();
        failures.peek()?;
        if let Some(queue) = queue
            && failures.all(|object| object.permanent)
            // Half of the time is left to make it come again if that fails.
            && queue.give_up(&message.body, stop.time_to_report() / 2).await
        {
            return None;
        }
    }
    if let (Some(queue), Some(receipt)) = (queue, &message.receipt) {
        queue.come_again(receipt, stop.time_to_report()).await;
    }
    Some(FailedMessage { item: ItemFailure { item_identifier: message.id }, not_understood })
}

async fn ship<T: Transport>(shipper: &Arc<Shipper<T>>, tasks: Vec<Task>, stop: &Shutdown) -> Report {
    let (sender, receiver) = mpsc::channel(tasks.len().max(1));
    for task in tasks {
        // There is room for all of them, so this neither waits nor fails.
        let _ = sender.try_send(shipper.notified(task));
    }
    drop(sender);
    shipper.ship(receiver, stop).await
}

fn failed(report: Report, messages: Vec<String>) -> HandlerError {
    HandlerError::Failed { report: Box::new(report), messages }
}

fn describe(report: &Report, messages: &[String]) -> String {
    let first_message = messages.first().cloned();
    let Some(first) = report.failures().next() else { return first_message.unwrap_or_default() };
    let (counts, failed, objects) = (&report.totals.counts, report.failures().count(), report.objects.len());
    let error = first.error.as_deref().unwrap_or("incomplete");
    let (undelivered, lines) = (counts.undelivered, counts.lines);
    let name = ObjectName { bucket: first.bucket.clone(), key: first.key.clone() };
    let mut text = format!(
        "{failed} of {objects} objects failed, {undelivered} of {lines} lines read are undelivered; first {name}: {error}"
    );
    if let Some(message) = first_message {
        text += &format!("; {message}");
    }
    text
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
