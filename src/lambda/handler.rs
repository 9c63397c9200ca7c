//! One invocation: opens the event, ships the objects that it names, and returns the response that the event's sender reads.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use elb_log::origin::ObjectName;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::lambda::notification::{self, JobInvocation, Notification, NotificationError, QueueMessage};
use crate::lambda::response::{InvocationResponse, job_response, queue_response};
use crate::lambda::sqs::{SqsClient, redelivery_delay};
use crate::ledger::{ObjectReport, Report};
use crate::object::{CheckpointOwner, Task};
use crate::reason::Reason;
use crate::ship::Shipper;
use crate::shutdown::Shutdown;
use crate::sink::Transport;

/// Maximum number of messages about which SQS is told at the same time, and so of connections to SQS.
const MAX_SQS_CALLS: usize = 16;

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
    /// An object was not delivered completely. For an SQS event: all messages failed, and none of them is continued.
    #[error("{}", describe(.report, .unreadable_messages))]
    Failed {
        /// What happened to each object.
        report: Box<Report>,
        /// The messages that cannot be read, each with the reason.
        unreadable_messages: Vec<String>,
    },
}

impl HandlerError {
    /// Returns the `errorType` that Lambda shows: `UnknownEvent`, `ObjectsFailed`, or `ObjectsContinued` if every object that is not
    /// shipped has made progress and continues at its checkpoint.
    pub fn error_type(&self) -> &'static str {
        match self {
            HandlerError::Notification(_) => "UnknownEvent",
            HandlerError::Failed { report, unreadable_messages }
                if unreadable_messages.is_empty() && report.failures().all(ObjectReport::is_continued) =>
            {
                "ObjectsContinued"
            }
            HandlerError::Failed { .. } => "ObjectsFailed",
        }
    }
}

/// Ships the objects that an event names. `sqs` delays the next delivery of failed messages; without it SQS delivers them again
/// after the queue's visibility timeout. A message whose object can never be read is done once the dead-letter queue has it.
///
/// An object that needs more time continues at its checkpoint when the event comes again. A retry by Lambda has the same
/// `request_id`; a message of a queue and a task of a job have IDs of their own.
///
/// # Errors
/// The event cannot be read, or an object was not delivered completely. An SQS event fails only if all of its messages fail,
/// because only then Lambda's error metric and the poller's back-off notice an outage. The tasks of a job never fail the
/// invocation.
pub async fn handle<T: Transport>(
    shipper: &Arc<Shipper<T>>,
    sqs: Option<&SqsClient>,
    request_id: &str,
    event: &Value,
    shutdown: &Shutdown,
) -> Result<CompletedInvocation, HandlerError> {
    match notification::parse(event)? {
        Notification::Event(tasks) => handle_event(shipper, request_id, tasks, shutdown).await,
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
    request_id: &str,
    mut tasks: Vec<Task>,
    shutdown: &Shutdown,
) -> Result<CompletedInvocation, HandlerError> {
    // The event does not say whether it is a retry.
    let owner = CheckpointOwner { id: format!("request {request_id}"), is_repeated: true };
    tasks.iter_mut().for_each(|task| task.set_checkpoint_owner(&owner));
    let report = ship(shipper, tasks, shutdown).await;
    if report.failures().next().is_some() {
        return Err(failed(report, Vec::new()));
    }
    Ok(CompletedInvocation { response: InvocationResponse::Report(report.clone()), report })
}

async fn handle_job<T: Transport>(shipper: &Arc<Shipper<T>>, mut job: JobInvocation, shutdown: &Shutdown) -> CompletedInvocation {
    let (task_ids, mut tasks): (Vec<String>, Vec<Task>) = std::mem::take(&mut job.tasks).into_iter().unzip();
    // Without the job's ID, another job could have a task with the same ID.
    for (id, task) in task_ids.iter().zip(&mut tasks).filter(|_| !job.job_id.is_empty()) {
        // The event does not say whether the task is a retry.
        task.set_checkpoint_owner(&CheckpointOwner { id: format!("job {} task {id}", job.job_id), is_repeated: true });
    }
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
    let ended = messages.iter().zip(ranges).map(|(message, range)| end_message(sqs, message, &report.objects[range], shutdown));
    let ends: Vec<MessageEnd> = stream::iter(ended).buffered(MAX_SQS_CALLS).collect().await;
    if ends.iter().all(|end| *end == MessageEnd::Failed) {
        let unreadable = messages.iter().filter_map(|message| Some(describe_unreadable(message, message.tasks.as_ref().err()?)));
        return Err(failed(report, unreadable.collect()));
    }
    let redelivered = messages.into_iter().zip(ends).filter(|(_, end)| *end != MessageEnd::Done);
    let response = queue_response(redelivered.map(|(message, _)| message.id));
    Ok(CompletedInvocation { response: InvocationResponse::Queue(response), report })
}

/// Takes the tasks out of all readable messages. The range of each message says which of the tasks are its own.
fn take_tasks(messages: &mut [QueueMessage]) -> (Vec<Task>, Vec<Range<usize>>) {
    let mut tasks = Vec::new();
    let mut ranges = Vec::with_capacity(messages.len());
    for message in messages {
        let start = tasks.len();
        let owner = owner_of(message);
        if let Ok(of_message) = &mut message.tasks {
            of_message.iter_mut().for_each(|task| task.set_checkpoint_owner(&owner));
            tasks.append(of_message);
        }
        ranges.push(start..tasks.len());
    }
    (tasks, ranges)
}

/// A message keeps its ID when it is delivered again.
fn owner_of(message: &QueueMessage) -> CheckpointOwner {
    let is_repeated = message.receipt.as_ref().is_some_and(|receipt| receipt.receive_count > 1);
    CheckpointOwner { id: format!("message {}", message.id), is_repeated }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageEnd {
    /// SQS deletes it: all of its objects are shipped, or no attempt can succeed and the message is in the dead-letter queue.
    Done,
    /// SQS delivers it again at once, because its objects only need more time and one of them has made progress.
    Continued,
    /// SQS delivers it again after a delay.
    Failed,
}

async fn end_message(
    sqs: Option<&SqsClient>,
    message: &QueueMessage,
    objects: &[ObjectReport],
    shutdown: &Shutdown,
) -> MessageEnd {
    let end = match &message.tasks {
        Err(error) => {
            let reason = Reason::UnknownEvent.name();
            tracing::error!(reason, message_id = message.id, %error, "cannot read a message");
            if error.is_permanent() { give_up(sqs, message, shutdown).await } else { MessageEnd::Failed }
        }
        Ok(_) => end_of_objects(sqs, message, objects, shutdown).await,
    };
    if let (Some(sqs), Some(receipt)) = (sqs, &message.receipt) {
        let delay = match end {
            MessageEnd::Done => return end,
            MessageEnd::Continued => Duration::ZERO,
            MessageEnd::Failed => redelivery_delay(receipt.receive_count),
        };
        sqs.redeliver_after(delay, receipt, shutdown.time_to_report()).await;
    }
    end
}

/// Moves the message to the dead-letter queue first if its failed objects can never be read.
async fn end_of_objects(
    sqs: Option<&SqsClient>,
    message: &QueueMessage,
    objects: &[ObjectReport],
    shutdown: &Shutdown,
) -> MessageEnd {
    let unfinished: Vec<&ObjectReport> = objects.iter().filter(|object| !object.is_success()).collect();
    if unfinished.is_empty() {
        return MessageEnd::Done;
    }
    if unfinished.iter().all(|object| object.out_of_time) && unfinished.iter().any(|object| object.is_continued()) {
        return MessageEnd::Continued;
    }
    if unfinished.iter().all(|object| object.permanent) { give_up(sqs, message, shutdown).await } else { MessageEnd::Failed }
}

/// Moves a message to the dead-letter queue, because no other attempt can succeed.
async fn give_up(sqs: Option<&SqsClient>, message: &QueueMessage, shutdown: &Shutdown) -> MessageEnd {
    let Some(sqs) = sqs else { return MessageEnd::Failed };
    // The other half of the time is for delaying the redelivery if the move fails.
    let is_moved = sqs.move_to_dead_letter_queue(&message.body, shutdown.time_to_report() / 2).await;
    if is_moved { MessageEnd::Done } else { MessageEnd::Failed }
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

fn describe_unreadable(message: &QueueMessage, error: &NotificationError) -> String {
    format!("message {}: {error}", message.id)
}

/// Describes the first failed object and the first unreadable message.
fn describe(report: &Report, unreadable_messages: &[String]) -> String {
    let objects = report.failures().next().map(|first| describe_objects(report, first));
    let parts: Vec<String> = objects.into_iter().chain(unreadable_messages.first().cloned()).collect();
    parts.join("; ")
}

fn describe_objects(report: &Report, first: &ObjectReport) -> String {
    let (counts, objects) = (&report.totals.counts, report.objects.len());
    let (undelivered, lines) = (counts.undelivered, counts.lines);
    let continued = report.failures().filter(|object| object.is_continued()).count();
    let failed = report.failures().count() - continued;
    let ends = match (failed, continued) {
        (failed, 0) => format!("{failed} of {objects} objects failed"),
        (0, continued) => format!("{continued} of {objects} objects continue when the event is delivered again"),
        (failed, continued) => format!("{failed} of {objects} objects failed, {continued} continue"),
    };
    let name = ObjectName { bucket: first.bucket.clone(), key: first.key.clone() };
    format!("{ends}, {undelivered} of {lines} lines read are undelivered; first {name}: {}", first.failure())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_continues_if_its_objects_only_need_time_and_one_made_progress() {
        let message = QueueMessage { id: "m".to_owned(), receipt: None, body: String::new(), tasks: Ok(Vec::new()) };
        let shipped = ObjectReport { complete: true, ..ObjectReport::default() };
        let out_of_time = ObjectReport { out_of_time: true, ..ObjectReport::default() };
        let continued = ObjectReport { continued_at: Some(7), ..out_of_time.clone() };
        let failed = ObjectReport::default();
        for (objects, expected) in [
            (vec![&shipped], MessageEnd::Done),
            (vec![&continued], MessageEnd::Continued),
            (vec![&shipped, &continued, &out_of_time], MessageEnd::Continued),
            (vec![&shipped, &out_of_time], MessageEnd::Failed),
            (vec![&continued, &failed], MessageEnd::Failed),
        ] {
            let objects: Vec<ObjectReport> = objects.into_iter().cloned().collect();
            let end = end_of_objects(None, &message, &objects, &Shutdown::at(None)).await;
            assert_eq!(end, expected, "{objects:?}");
        }
    }

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
