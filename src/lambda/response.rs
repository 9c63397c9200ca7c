//! The response to an event, in the form that the event's sender reads.

use aws_lambda_events::event::s3::batch_job::{S3BatchJobResponse, S3BatchJobResult};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use serde::Serialize;

use crate::lambda::notification::JobInvocation;
use crate::ledger::{ObjectReport, Report};

/// The response of an invocation that succeeds.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum InvocationResponse {
    /// To a single event: what happened to each object.
    Report(Report),
    /// To an SQS event: the messages that are not done, which SQS delivers again. An empty list means that all messages are done.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
    Queue(SqsBatchResponse),
    /// To an S3 Batch Operations job: the result of each task.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html>
    Job(S3BatchJobResponse),
}

/// The result code of a task whose object is shipped or skipped.
pub const TASK_SUCCEEDED: &str = "Succeeded";

/// The result code of a task that the job runs again.
const TASK_TEMPORARY_FAILURE: &str = "TemporaryFailure";

/// The result code of a task that fails for every attempt.
const TASK_PERMANENT_FAILURE: &str = "PermanentFailure";

/// Returns the response to the messages of a queue: the IDs of those that SQS delivers again.
pub(super) fn queue_response(message_ids: impl Iterator<Item = String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.set_failures(message_ids);
    response
}

/// Returns the response to a job. `objects` are the reports of the job's tasks, in their order.
pub(super) fn job_response(job: JobInvocation, task_ids: Vec<String>, objects: &[ObjectReport]) -> S3BatchJobResponse {
    let mut response = S3BatchJobResponse::default();
    response.invocation_schema_version = Some(job.schema_version);
    response.treat_missing_keys_as = Some(TASK_PERMANENT_FAILURE.to_owned());
    response.invocation_id = Some(job.invocation_id);
    response.results = task_ids.into_iter().zip(objects).map(|(id, object)| task_result(id, object)).collect();
    response
}

fn task_result(task_id: String, object: &ObjectReport) -> S3BatchJobResult {
    let (code, text) = match &object.skipped {
        _ if !object.is_success() && object.permanent => (TASK_PERMANENT_FAILURE, object.failure()),
        _ if !object.is_success() => (TASK_TEMPORARY_FAILURE, object.failure()),
        Some(reason) => (TASK_SUCCEEDED, format!("skipped: {reason}")),
        None => (TASK_SUCCEEDED, format!("{} of {} lines delivered", object.counts.delivered, object.counts.lines)),
    };
    let mut result = S3BatchJobResult::default();
    result.task_id = Some(task_id);
    result.result_code = Some(code.to_owned());
    result.result_string = Some(text);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counts;

    fn result(object: &ObjectReport) -> (String, String) {
        let result = task_result("t".to_owned(), object);
        (result.result_code.unwrap_or_default(), result.result_string.unwrap_or_default())
    }

    #[test]
    fn a_task_succeeds_only_if_nothing_is_missing() {
        let counts = Counts { lines: 3, delivered: 3, ..Counts::default() };
        let shipped = ObjectReport { complete: true, counts, ..ObjectReport::default() };
        assert_eq!(result(&shipped), ("Succeeded".to_owned(), "3 of 3 lines delivered".to_owned()));
        let incomplete = ObjectReport { complete: false, ..shipped.clone() };
        assert_eq!(result(&incomplete), ("TemporaryFailure".to_owned(), "incomplete".to_owned()));
        let continued = ObjectReport { continued_at: Some(1_234), ..incomplete };
        assert_eq!(result(&continued), ("TemporaryFailure".to_owned(), "continued at byte 1234".to_owned()));
        let missing = ObjectReport { error: Some("no such object".to_owned()), permanent: true, ..ObjectReport::default() };
        assert_eq!(result(&missing), ("PermanentFailure".to_owned(), "no such object".to_owned()));
        let skipped = ObjectReport { complete: true, skipped: Some("empty".to_owned()), ..ObjectReport::default() };
        assert_eq!(result(&skipped), ("Succeeded".to_owned(), "skipped: empty".to_owned()));
    }
}
