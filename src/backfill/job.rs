//! A job: the request that creates it, and the shell commands that send the request.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_CreateJob.html>

use elb_common::text::shell_word;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Arn, Manifest, S3Location};

/// Maximum length of a job's description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 256;

/// An S3 Batch Operations job.
#[derive(Clone, Debug)]
pub struct BatchJob {
    /// The function that the job invokes. The job runs in the function's region.
    pub function: Arn,
    /// The role of the job. The job runs in the role's account.
    pub role: Arn,
    /// Where the manifest is uploaded.
    pub manifest: S3Location,
    /// Where the job writes its report about failed tasks.
    pub report: S3Location,
    /// The priority among the account's jobs; a higher number runs first.
    pub priority: u32,
    /// A description for people.
    pub description: String,
}

impl BatchJob {
    /// Returns the input of `aws s3control create-job --cli-input-json`. The same plan has the same request token, so that AWS
    /// creates one job even if the request is sent twice.
    pub fn request(&self, manifest: &Manifest) -> Value {
        let arn = |rest: &str| format!("arn:{}:s3:::{rest}", self.role.partition);
        let mut request = json!({
            "AccountId": self.role.account,
            "ConfirmationRequired": false,
            "Description": self.description.chars().take(MAX_DESCRIPTION_CHARS).collect::<String>(),
            "Manifest": {
                "Location": {"ETag": manifest.etag(), "ObjectArn": arn(&format!("{}/{}", self.manifest.bucket, self.manifest.key))},
                "Spec": {"Fields": ["Bucket", "Key"], "Format": "S3BatchOperations_CSV_20180820"},
            },
            "Operation": {"LambdaInvoke": {"FunctionArn": self.function.text, "InvocationSchemaVersion": "2.0"}},
            "Priority": self.priority,
            "Report": {
                "Bucket": arn(&self.report.bucket),
                "Enabled": true,
                "Format": "Report_CSV_20180820",
                "ReportScope": "FailedTasksOnly",
            },
            "RoleArn": self.role.text,
        });
        let prefix = self.report.key.trim_end_matches('/');
        if !prefix.is_empty() {
            request["Report"]["Prefix"] = json!(prefix);
        }
        request["ClientRequestToken"] = json!(hex::encode(Sha256::digest(request.to_string())));
        request
    }

    /// Returns the shell commands that upload the manifest in `manifest_file`, and create the job with the request in
    /// `request_file`.
    pub fn commands(&self, manifest: &Manifest, manifest_file: &str, request_file: &str) -> [String; 2] {
        let S3Location { bucket, key } = &self.manifest;
        let (region, md5) = (shell_word(&self.function.region), manifest.content_md5());
        // Encrypted with S3's own key, because the ETag is not the MD5 with any other key.
        let upload = format!(
            "aws s3api put-object --region {region} --bucket {} --key {} --body {} --content-md5 {md5} --server-side-encryption AES256",
            shell_word(bucket),
            shell_word(key),
            shell_word(manifest_file)
        );
        let create = format!(
            "aws s3control create-job --region {region} --cli-input-json {}",
            shell_word(&format!("file://{request_file}"))
        );
        [upload, create]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backfill::ManifestWriter;

    fn empty_manifest() -> Manifest {
        ManifestWriter::new(Vec::new()).finish().unwrap()
    }

    fn job() -> BatchJob {
        BatchJob {
            function: Arn::parse_function("arn:aws:lambda:eu-west-1:210987654321:function:shipper-backfill:live").unwrap(),
            role: Arn::parse_role("arn:aws:iam::123456789012:role/batch/elb").unwrap(),
            manifest: S3Location { bucket: "plans".to_owned(), key: "elb/manifest.csv".to_owned() },
            report: S3Location { bucket: "plans".to_owned(), key: "elb/reports/".to_owned() },
            priority: 10,
            description: "d".repeat(300),
        }
    }

    #[test]
    fn the_request_has_every_member_of_a_job() {
        let manifest = empty_manifest();
        let mut request = job().request(&manifest);
        let token = request.as_object_mut().unwrap().remove("ClientRequestToken").unwrap();
        assert_eq!(token.as_str().map(str::len), Some(64));
        let expected = json!({
            "AccountId": "123456789012", "ConfirmationRequired": false, "Description": "d".repeat(256), "Priority": 10,
            "Manifest": {"Location": {"ETag": "d41d8cd98f00b204e9800998ecf8427e", "ObjectArn": "arn:aws:s3:::plans/elb/manifest.csv"},
                "Spec": {"Fields": ["Bucket", "Key"], "Format": "S3BatchOperations_CSV_20180820"}},
            "Operation": {"LambdaInvoke": {"FunctionArn": "arn:aws:lambda:eu-west-1:210987654321:function:shipper-backfill:live",
                "InvocationSchemaVersion": "2.0"}},
            "Report": {"Bucket": "arn:aws:s3:::plans", "Enabled": true, "Format": "Report_CSV_20180820", "Prefix": "elb/reports",
                "ReportScope": "FailedTasksOnly"},
            "RoleArn": "arn:aws:iam::123456789012:role/batch/elb",
        });
        assert_eq!(request, expected);
        assert_eq!(job().request(&manifest)["ClientRequestToken"], token, "the token of the same plan differs");
        let other = BatchJob { priority: 11, ..job() };
        assert_ne!(other.request(&manifest)["ClientRequestToken"], token);
    }

    #[test]
    fn the_commands_run_in_a_shell() {
        let manifest = empty_manifest();
        let [upload, create] = job().commands(&manifest, "it's mine/manifest.csv", "plan/job.json");
        assert_eq!(
            upload,
            r"aws s3api put-object --region eu-west-1 --bucket plans --key elb/manifest.csv --body 'it'\''s mine/manifest.csv' --content-md5 1B2M2Y8AsgTpgAmY7PhCfg== --server-side-encryption AES256"
        );
        assert_eq!(create, "aws s3control create-job --region eu-west-1 --cli-input-json file://plan/job.json");
    }
}
