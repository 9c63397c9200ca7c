//! The answer to a notification, in the form that its sender reads.

use serde::Serialize;

use crate::ledger::{ObjectReport, Report};

/// What an invocation that did not fail answers.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To an event: what was done.
    Report(Report),
    /// To a queue: which messages are to come again.
    Queue(BatchItemFailures),
    /// To an S3 Batch Operations job: the result of each task.
    Job(TaskResults),
}

/// The messages of a queue that failed; none if all is done.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailures {
    /// One entry a failed message.
    pub batch_item_failures: Vec<ItemFailure>,
}

/// One failed message.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// The message's id.
    pub item_identifier: String,
}

/// The results of a job's tasks.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskResults {
    /// That of the event.
    pub invocation_schema_version: String,
    /// How the job takes a task that is not answered.
    pub treat_missing_keys_as: &'static str,
    /// That of the event.
    pub invocation_id: String,
    /// One entry a task.
    pub results: Vec<TaskResult>,
}

/// The result of one task.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    /// The task's id.
    pub task_id: String,
    /// `Succeeded`, `TemporaryFailure` (the job tries again) or `PermanentFailure`.
    pub result_code: &'static str,
    /// What a person reads in the job's report.
    pub result_string: String,
}

impl TaskResult {
    /// The result of a task by the report of its object.
    pub fn of(task_id: String, report: &ObjectReport) -> Self {
        let (result_code, result_string) = match (&report.error, &report.skipped) {
            (Some(error), _) if report.permanent => ("PermanentFailure", error.clone()),
            (Some(error), _) => ("TemporaryFailure", error.clone()),
            (None, Some(reason)) => ("Succeeded", format!("skipped: {reason}")),
            (None, None) => ("Succeeded", format!("{} of {} lines delivered", report.counts.delivered, report.counts.lines)),
        };
        TaskResult { task_id, result_code, result_string }
    }
}
