//! What S3 Batch Operations needs to run the function over years of objects: a manifest, and the request for a job.
//!
//! AWS runs the job, with its own retries and its own report; here it is only planned, and priced.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/specify-batchjob-manifest.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_CreateJob.html>

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use base64::Engine as _;
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::Sha256;

/// S3 takes no larger object in one request, and only of such an object the ETag is known beforehand.
const MOST_MANIFEST_BYTES: u64 = 5 << 30;

/// The longest description of a job, in characters.
const MOST_DESCRIPTION: usize = 256;

/// What stands in a manifest as it is. A space must not become `+`: whoever decodes `+` as a space and whoever does not read
/// the same.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Writes a manifest: one line `bucket,key` an object, keys percent-encoded, so that no field needs quotes.
#[derive(Debug)]
pub struct ManifestWriter<W> {
    out: W,
    digest: Md5,
    manifest: Manifest,
    most_bytes: u64,
}

/// What a manifest is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// How many objects it names.
    pub objects: u64,
    /// Their bytes, compressed as they are.
    pub object_bytes: u64,
    /// Its own bytes.
    pub bytes: u64,
    /// Its MD5, which is its ETag if it is uploaded in one request and encrypted by S3's own key.
    pub md5: [u8; 16],
}

/// Why a manifest could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It cannot be uploaded in one request.
    #[error("the manifest has more than {0} bytes, too many for one job: plan parts of the time with --since and --until")]
    TooLarge(u64),
}

/// A place in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket.
    pub bucket: String,
    /// The key, or its beginning.
    pub key: String,
}

/// `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arn {
    /// The whole of it.
    pub text: String,
    /// `aws`, or that of China or of the US government.
    pub partition: String,
    /// Empty for a role.
    pub region: String,
    /// Twelve digits.
    pub account: String,
}

/// What a job is to be.
#[derive(Clone, Debug)]
pub struct BatchJob {
    /// The function to invoke; its region is the job's.
    pub function: Arn,
    /// What the job may do; its account is the job's.
    pub role: Arn,
    /// Where the manifest will be.
    pub manifest: S3Location,
    /// Where the report of failed tasks goes.
    pub report: S3Location,
    /// Among the account's jobs.
    pub priority: u32,
    /// For people.
    pub description: String,
}

/// What a job costs by list prices, in US dollars. Transfer of data is not in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// S3 Batch Operations, for the job.
    pub job: f64,
    /// S3 Batch Operations, for its objects.
    pub objects: f64,
    /// S3, for a GET an object.
    pub requests: f64,
    /// Lambda, for an invocation an object.
    pub invocations: f64,
    /// Lambda, for the time that it takes.
    pub time: f64,
}

impl<W: Write> ManifestWriter<W> {
    /// Begins a manifest.
    pub fn new(out: W) -> Self {
        ManifestWriter { out, digest: Md5::new(), manifest: Manifest::default(), most_bytes: MOST_MANIFEST_BYTES }
    }

    /// Adds an object of this many bytes.
    ///
    /// # Errors
    /// It cannot be written, or there are too many.
    pub fn add(&mut self, bucket: &str, key: &str, object_bytes: u64) -> Result<(), ManifestError> {
        let line = format!("{bucket},{}\n", utf8_percent_encode(key, ENCODED));
        self.manifest.bytes += line.len() as u64;
        if self.manifest.bytes > self.most_bytes {
            return Err(ManifestError::TooLarge(self.most_bytes));
        }
        self.digest.update(line.as_bytes());
        self.out.write_all(line.as_bytes())?;
        self.manifest.objects += 1;
        self.manifest.object_bytes += object_bytes;
        Ok(())
    }

    /// Ends the manifest.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> Result<Manifest, ManifestError> {
        self.out.flush()?;
        Ok(Manifest { md5: self.digest.finalize().into(), ..self.manifest })
    }
}

impl Manifest {
    /// The ETag without quotes.
    pub fn etag(&self) -> String {
        hex(&self.md5)
    }

    /// The value of `Content-MD5`, by which S3 refuses an upload that is not whole.
    pub fn content_md5(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.md5)
    }
}

impl Arn {
    /// Reads the ARN of a Lambda function, with or without a version or an alias.
    ///
    /// # Errors
    /// Anything else.
    pub fn of_function(text: &str) -> Result<Arn, String> {
        let arn = Arn::read(text, "lambda", "function:").filter(|arn| !arn.region.is_empty());
        arn.ok_or_else(|| "write arn:aws:lambda:REGION:ACCOUNT:function:NAME".to_owned())
    }

    /// Reads the ARN of a role.
    ///
    /// # Errors
    /// Anything else.
    pub fn of_role(text: &str) -> Result<Arn, String> {
        Arn::read(text, "iam", "role/").ok_or_else(|| "write arn:aws:iam::ACCOUNT:role/NAME".to_owned())
    }

    fn read(text: &str, service: &str, resource: &str) -> Option<Arn> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (arn, partition, found, region, account) = (next()?, next()?, next()?, next()?, next()?);
        let named = next()?.strip_prefix(resource).is_some_and(|name| !name.is_empty());
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_one = arn == "arn" && partition.starts_with("aws") && found == service && named && is_account;
        is_one.then(|| Arn {
            text: text.to_owned(),
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
        })
    }
}

impl BatchJob {
    /// The input of `aws s3control create-job --cli-input-json`. The same plan has the same token, so that AWS takes it for the
    /// same job if it is sent twice.
    pub fn request(&self, manifest: &Manifest) -> Value {
        let arn = |rest: &str| format!("arn:{}:s3:::{rest}", self.role.partition);
        let mut request = json!({
            "AccountId": self.role.account,
            "ConfirmationRequired": false,
            "Description": self.description.chars().take(MOST_DESCRIPTION).collect::<String>(),
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
        request["ClientRequestToken"] = json!(hex(&Sha256::digest(request.to_string())));
        request
    }

    /// The commands that upload the manifest, and create the job with the request in `request`, for a shell.
    pub fn commands(&self, manifest: &Manifest, file: &str, request: &str) -> [String; 2] {
        let S3Location { bucket, key } = &self.manifest;
        let (region, md5) = (quoted(&self.function.region), manifest.content_md5());
        // Encryption by S3's own key, because with another one the ETag would not be the MD5.
        let upload = format!(
            "aws s3api put-object --region {region} --bucket {} --key {} --body {} --content-md5 {md5} --server-side-encryption AES256",
            quoted(bucket),
            quoted(key),
            quoted(file)
        );
        let create =
            format!("aws s3control create-job --region {region} --cli-input-json {}", quoted(&format!("file://{request}")));
        [upload, create]
    }
}

/// The list prices of us-east-1, in US dollars, without free tiers.
/// <https://aws.amazon.com/s3/pricing/> <https://aws.amazon.com/lambda/pricing/>
impl Price {
    const JOB: f64 = 0.25;
    const MILLION_OBJECTS: f64 = 1.00;
    const MILLION_GETS: f64 = 0.40;
    const MILLION_INVOCATIONS: f64 = 0.20;
    /// Of arm64.
    const GB_SECOND: f64 = 0.000_013_333_4;

    /// The memory of the function that the time is reckoned with.
    const GB: f64 = 0.25;
    /// At that memory, a request to S3 and one to Logstash.
    const SECONDS_AN_OBJECT: f64 = 0.1;
    /// At that memory, to make and compress the events of a million compressed bytes.
    const SECONDS_A_MEGABYTE: f64 = 0.6;

    /// The price of a job over the objects of a manifest.
    pub fn of(manifest: &Manifest) -> Price {
        let (objects, megabytes) = (manifest.objects as f64, manifest.object_bytes as f64 / 1e6);
        let millions = objects / 1e6;
        let seconds = objects * Price::SECONDS_AN_OBJECT + megabytes * Price::SECONDS_A_MEGABYTE;
        Price {
            job: Price::JOB,
            objects: millions * Price::MILLION_OBJECTS,
            requests: millions * Price::MILLION_GETS,
            invocations: millions * Price::MILLION_INVOCATIONS,
            time: seconds * Price::GB * Price::GB_SECOND,
        }
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.job + self.objects + self.requests + self.invocations + self.time
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// A text as one word of a shell's command.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lambda::notification::{Notification, parse};
    use crate::object::Task;

    fn manifest(keys: &[&str]) -> (String, Manifest) {
        let mut text = Vec::new();
        let mut writer = ManifestWriter::new(&mut text);
        for key in keys {
            writer.add("logs", key, 1_000).unwrap();
        }
        let manifest = writer.finish().unwrap();
        (String::from_utf8(text).unwrap(), manifest)
    }

    fn job() -> BatchJob {
        BatchJob {
            function: Arn::of_function("arn:aws:lambda:eu-west-1:210987654321:function:shipper-backfill:live").unwrap(),
            role: Arn::of_role("arn:aws:iam::123456789012:role/batch/elb").unwrap(),
            manifest: S3Location { bucket: "plans".to_owned(), key: "elb/manifest.csv".to_owned() },
            report: S3Location { bucket: "plans".to_owned(), key: "elb/reports/".to_owned() },
            priority: 10,
            description: "d".repeat(300),
        }
    }

    #[test]
    fn keys_are_encoded_so_that_nothing_needs_quotes() {
        let (text, manifest) = manifest(&["a/b-c_d.e~f", "team a+b/x", "ä,\"\n%41"]);
        assert_eq!(text, "logs,a/b-c_d.e~f\nlogs,team%20a%2Bb/x\nlogs,%C3%A4%2C%22%0A%2541\n");
        assert_eq!((manifest.objects, manifest.object_bytes, manifest.bytes), (3, 3_000, text.len() as u64));
    }

    #[test]
    fn the_function_reads_the_keys_that_were_meant() {
        let keys = ["plain.log", "team a+b/ä ü+%2B%20,\"'.log", "x\u{1F600}\n\t/y"];
        let (text, _) = manifest(&keys);
        for (line, key) in text.lines().zip(keys) {
            let encoded = line.strip_prefix("logs,").unwrap();
            let event = json!({"invocationSchemaVersion": "2.0", "invocationId": "i",
                "tasks": [{"taskId": "t", "s3Bucket": "logs", "s3Key": encoded}]});
            let Ok(Notification::Job(job)) = parse(&event) else { panic!("{event} is an event of a job") };
            assert!(matches!(&job.tasks[..], [(_, Task::Ship(object))] if object.name().key == key), "{:?}", job.tasks);
        }
    }

    #[test]
    fn the_etag_is_the_md5() {
        let (_, empty) = manifest(&[]);
        assert_eq!(
            (empty.etag().as_str(), empty.content_md5().as_str()),
            ("d41d8cd98f00b204e9800998ecf8427e", "1B2M2Y8AsgTpgAmY7PhCfg==")
        );
    }

    #[test]
    fn a_manifest_that_cannot_be_uploaded_is_refused() {
        let mut writer = ManifestWriter { most_bytes: 20, ..ManifestWriter::new(Vec::new()) };
        writer.add("logs", "0123456789", 1).unwrap();
        assert!(writer.add("logs", "0123456789", 1).unwrap_err().to_string().contains("plan parts of the time"));
    }

    #[test]
    fn the_request_names_everything_that_a_job_needs() {
        let (_, manifest) = manifest(&[]);
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
        assert_eq!(job().request(&manifest)["ClientRequestToken"], token, "the same plan is the same job");
        let other = BatchJob { priority: 11, ..job() };
        assert_ne!(other.request(&manifest)["ClientRequestToken"], token);
    }

    #[test]
    fn commands_can_be_pasted() {
        let (_, manifest) = manifest(&[]);
        let [upload, create] = job().commands(&manifest, "it's mine/manifest.csv", "plan/job.json");
        assert_eq!(
            upload,
            r"aws s3api put-object --region eu-west-1 --bucket plans --key elb/manifest.csv --body 'it'\''s mine/manifest.csv' --content-md5 1B2M2Y8AsgTpgAmY7PhCfg== --server-side-encryption AES256"
        );
        assert_eq!(create, "aws s3control create-job --region eu-west-1 --cli-input-json file://plan/job.json");
    }

    #[test]
    fn arns_are_read_and_others_refused() {
        let china = Arn::of_role("arn:aws-cn:iam::123456789012:role/elb").unwrap();
        assert_eq!((china.partition.as_str(), china.account.as_str()), ("aws-cn", "123456789012"));
        for wrong in [
            "shipper",
            "arn:aws:lambda:eu-west-1:1234:function:f",
            "arn:aws:lambda::123456789012:function:f",
            "arn:aws:lambda:eu-west-1:123456789012:function:",
        ] {
            assert!(Arn::of_function(wrong).is_err(), "{wrong}");
        }
        assert!(Arn::of_role("arn:aws:iam::123456789012:user/elb").is_err());
    }

    #[test]
    fn the_price_of_a_million_objects() {
        let manifest = Manifest { objects: 1_000_000, object_bytes: 100_000_000_000, ..Manifest::default() };
        let price = Price::of(&manifest);
        assert_eq!((price.job, price.objects, price.requests, price.invocations), (0.25, 1.0, 0.4, 0.2));
        // 100,000 s for the objects and 60,000 s for their bytes, a quarter of a GB each.
        assert!((price.time - 0.533_336).abs() < 1e-6, "{}", price.time);
        assert!((price.total() - 2.383_336).abs() < 1e-6, "{}", price.total());
    }
}
