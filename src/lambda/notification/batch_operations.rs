//! S3 Batch Operations: the tasks of a job. AWS reads a manifest and invokes the function for each object in it.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html>

use elb_log::origin::ObjectName;
use serde::Deserialize;
use serde_json::Value;

use super::s3::decode_form_key;
use super::{JobInvocation, NotificationError, task_for};
use crate::object::Task;

/// An event of schema 1.0 or 2.0. An own type because the crate's `S3BatchJobTask` has no member for the bucket of schema 2.0.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobEvent {
    invocation_schema_version: String,
    invocation_id: String,
    /// Serves checkpoints only, so it may be missing.
    job: Option<Job>,
    tasks: Vec<JobTask>,
}

#[derive(Deserialize)]
struct Job {
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobTask {
    task_id: String,
    /// Encoded as in the manifest.
    s3_key: String,
    /// The bucket or access point in schema 1.0.
    s3_bucket_arn: Option<String>,
    /// The bucket, or the ARN of an access point, in schema 2.0.
    s3_bucket: Option<String>,
}

/// Reads the event of a job; `None` if the event is another one.
pub(super) fn read(event: &Value) -> Option<Result<JobInvocation, NotificationError>> {
    event.get("invocationSchemaVersion").map(|_| job(event))
}

fn job(event: &Value) -> Result<JobInvocation, NotificationError> {
    let mut job = JobEvent::deserialize(event).map_err(|error| NotificationError::malformed(error, event))?;
    let read_task = |task: JobTask| {
        let task_id = task.task_id.clone();
        Ok((task_id, task.read().map_err(|reason| NotificationError::malformed(reason, event))?))
    };
    let tasks = std::mem::take(&mut job.tasks).into_iter().map(read_task).collect::<Result<_, _>>()?;
    let JobEvent { invocation_schema_version: schema_version, invocation_id, job, .. } = job;
    let job_id = job.and_then(|job| job.id).unwrap_or_default();
    Ok(JobInvocation { schema_version, invocation_id, job_id, tasks })
}

impl JobTask {
    fn read(self) -> Result<Task, String> {
        let bucket = self.bucket().ok_or("a task names no bucket")?;
        let key = decode_form_key(&self.s3_key)?;
        Ok(task_for(ObjectName { bucket, key }, None))
    }

    /// Returns the name of a bucket, or the whole ARN of an access point: S3 accepts both as the bucket of a request.
    fn bucket(&self) -> Option<String> {
        let bucket = self.s3_bucket.as_deref().or(self.s3_bucket_arn.as_deref())?;
        Some(bucket_name(bucket).unwrap_or(bucket).to_owned()).filter(|bucket| !bucket.is_empty())
    }
}

/// Returns the name in the ARN of a bucket, `arn:PARTITION:s3:::NAME`; none for any other text.
fn bucket_name(arn: &str) -> Option<&str> {
    let (_, service) = arn.strip_prefix("arn:")?.split_once(':')?;
    service.strip_prefix("s3:::")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_both_schema_versions() {
        let task = |bucket: Value| {
            let mut task = json!({"taskId": "t1", "s3Key": "team+a%2Bb/x.log", "s3VersionId": null});
            task.as_object_mut().unwrap().extend(bucket.as_object().unwrap().clone());
            task
        };
        for (version, bucket) in [("1.0", json!({"s3BucketArn": "arn:aws:s3:::logs"})), ("2.0", json!({"s3Bucket": "logs"}))] {
            let event =
                json!({"invocationSchemaVersion": version, "invocationId": "i", "job": {"id": "j"}, "tasks": [task(bucket)]});
            let job = read(&event).expect("an event of a job").unwrap();
            assert_eq!((job.schema_version.as_str(), job.invocation_id.as_str(), job.job_id.as_str()), (version, "i", "j"));
            assert!(
                matches!(&job.tasks[..], [(id, Task::Ship(object))] if id == "t1" && object.name().to_string() == "s3://logs/team a+b/x.log")
            );
        }
    }

    #[test]
    fn an_access_point_is_named_by_its_whole_arn() {
        for (member, bucket, expected) in [
            ("s3BucketArn", "arn:aws:s3:::logs", "logs"),
            ("s3BucketArn", "arn:aws-eusc:s3:::logs", "logs"),
            (
                "s3BucketArn",
                "arn:aws:s3:eu-west-1:123456789012:accesspoint/elb",
                "arn:aws:s3:eu-west-1:123456789012:accesspoint/elb",
            ),
            (
                "s3Bucket",
                "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/elb",
                "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/elb",
            ),
            ("s3Bucket", "arn:aws:s3::123456789012:accesspoint/elb.mrap", "arn:aws:s3::123456789012:accesspoint/elb.mrap"),
            ("s3Bucket", "logs", "logs"),
        ] {
            let event = json!({"invocationSchemaVersion": "2.0", "invocationId": "i",
                "tasks": [{"taskId": "t", "s3Key": "x.log", member: bucket}]});
            let job = read(&event).expect("an event of a job").unwrap();
            let [(_, Task::Ship(object))] = &job.tasks[..] else { panic!("expected one object: {job:?}") };
            assert_eq!((object.name().bucket.as_str(), object.name().key.as_str()), (expected, "x.log"));
        }
    }

    #[test]
    fn rejects_a_task_without_a_bucket() {
        let event = json!({"invocationSchemaVersion": "2.0", "invocationId": "i", "tasks": [{"taskId": "t", "s3Key": "x"}]});
        assert!(read(&event).expect("an event of a job").unwrap_err().to_string().contains("a task names no bucket"));
        assert_eq!(read(&json!({"Records": []})), None);
    }
}
