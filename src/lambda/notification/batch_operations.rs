//! S3 Batch Operations, by which years of objects are shipped: AWS goes through a manifest and invokes the function for its tasks.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html>

use serde::Deserialize;
use serde_json::Value;

use super::NotificationError;
use super::envelope::{form_decoded, task_for};
use elb_log::origin::ObjectName;

use crate::object::Task;

/// The tasks of one invocation by a job.
#[derive(Debug, PartialEq, Eq)]
pub struct JobInvocation {
    /// Of the event, and so of the answer.
    pub schema_version: String,
    /// By which the job knows the invocation.
    pub invocation_id: String,
    /// By which the job knows each task, and what it asks for.
    pub tasks: Vec<(String, Task)>,
}

/// Reads an event of a job; none if it is another one.
pub(super) fn parse(event: &Value) -> Result<Option<JobInvocation>, NotificationError> {
    if event.get("invocationSchemaVersion").is_none() {
        return Ok(None);
    }
    let malformed = |error: &dyn ToString| NotificationError::malformed(error.to_string(), event);
    let job = JobEvent::deserialize(event).map_err(|error| malformed(&error))?;
    let mut tasks = Vec::with_capacity(job.tasks.len());
    for task in job.tasks {
        let bucket = task.bucket().ok_or_else(|| malformed(&"a task names no bucket"))?;
        let key = form_decoded(&task.key).map_err(|reason| malformed(&reason))?;
        tasks.push((task.task_id, task_for(ObjectName { bucket, key }, None)));
    }
    Ok(Some(JobInvocation { schema_version: job.schema_version, invocation_id: job.invocation_id, tasks }))
}

#[derive(Deserialize)]
struct JobEvent {
    #[serde(rename = "invocationSchemaVersion")]
    schema_version: String,
    #[serde(rename = "invocationId")]
    invocation_id: String,
    tasks: Vec<JobTask>,
}

#[derive(Deserialize)]
struct JobTask {
    #[serde(rename = "taskId")]
    task_id: String,
    /// Encoded, as in the manifest.
    #[serde(rename = "s3Key")]
    key: String,
    /// Schema 1.0.
    #[serde(rename = "s3BucketArn")]
    bucket_arn: Option<String>,
    /// Schema 2.0.
    #[serde(rename = "s3Bucket")]
    bucket: Option<String>,
}

impl JobTask {
    fn bucket(&self) -> Option<String> {
        let of_arn = || self.bucket_arn.as_deref()?.rsplit(':').next().map(str::to_owned);
        self.bucket.clone().or_else(of_arn).filter(|bucket| !bucket.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_schemas_name_the_same_object() {
        let task = |bucket: Value| {
            let mut task = json!({"taskId": "t1", "s3Key": "team+a%2Bb/x.log", "s3VersionId": null});
            task.as_object_mut().unwrap().extend(bucket.as_object().unwrap().clone());
            task
        };
        for (version, bucket) in [("1.0", json!({"s3BucketArn": "arn:aws:s3:::logs"})), ("2.0", json!({"s3Bucket": "logs"}))] {
            let event =
                json!({"invocationSchemaVersion": version, "invocationId": "i", "job": {"id": "j"}, "tasks": [task(bucket)]});
            let job = parse(&event).unwrap().expect("a job");
            assert_eq!((job.schema_version.as_str(), job.invocation_id.as_str()), (version, "i"));
            assert!(
                matches!(&job.tasks[..], [(id, Task::Ship(object))] if id == "t1" && object.name().to_string() == "s3://logs/team a+b/x.log")
            );
        }
    }

    #[test]
    fn a_task_without_a_bucket_is_an_error() {
        let event = json!({"invocationSchemaVersion": "2.0", "invocationId": "i", "tasks": [{"taskId": "t", "s3Key": "x"}]});
        assert!(parse(&event).unwrap_err().to_string().contains("a task names no bucket"));
        assert_eq!(parse(&json!({"Records": []})).unwrap(), None);
    }
}
