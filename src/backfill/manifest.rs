//! The manifest of a job: a CSV file with one line for each object.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/specify-batchjob-manifest.html>

use std::io::{self, Write};

use base64::Engine as _;
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Maximum size of a manifest. S3 accepts no larger object in one request, and the ETag is known before the upload only for an
/// object that is uploaded in one request.
const MAX_MANIFEST_BYTES: u64 = 5 << 30;

/// The bytes of a key that are percent-encoded. A space does not become `+`, because not every reader decodes `+` as a space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Writes a manifest: one line `bucket,key` for each object, with the key percent-encoded, so that no field needs quotes.
#[derive(Debug)]
pub struct ManifestWriter<W> {
    out: W,
    digest: Md5,
    manifest: Manifest,
    max_bytes: u64,
}

/// The totals and the checksum of a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Number of objects.
    pub objects: u64,
    /// Size of all objects in bytes, as they are stored.
    pub object_bytes: u64,
    /// Size of the manifest in bytes.
    pub bytes: u64,
    /// MD5 of the manifest. It is the ETag if the manifest is uploaded in one request and encrypted with S3's own key.
    pub md5: [u8; 16],
}

/// The reason why a manifest cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be written.
    #[error("cannot write the manifest: {0}")]
    Io(#[from] io::Error),
    /// The manifest cannot be uploaded in one request.
    #[error(
        "cannot write the manifest: it has more than {0} bytes, too many for one job; plan several jobs for shorter time ranges \
         with --since and --until"
    )]
    TooLarge(u64),
}

impl<W: Write> ManifestWriter<W> {
    /// Starts a manifest.
    pub fn new(out: W) -> Self {
        ManifestWriter { out, digest: Md5::new(), manifest: Manifest::default(), max_bytes: MAX_MANIFEST_BYTES }
    }

    /// Adds an object of `object_bytes` bytes.
    ///
    /// # Errors
    /// The line cannot be written, or the manifest becomes too large.
    pub fn add(&mut self, bucket: &str, key: &str, object_bytes: u64) -> Result<(), ManifestError> {
        let line = format!("{bucket},{}\n", utf8_percent_encode(key, ENCODED));
        self.manifest.bytes += line.len() as u64;
        if self.manifest.bytes > self.max_bytes {
            return Err(ManifestError::TooLarge(self.max_bytes));
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
    /// The last lines cannot be written.
    pub fn finish(mut self) -> Result<Manifest, ManifestError> {
        self.out.flush()?;
        Ok(Manifest { md5: self.digest.finalize().into(), ..self.manifest })
    }
}

impl Manifest {
    /// Returns the ETag without quotes.
    pub fn etag(&self) -> String {
        hex::encode(self.md5)
    }

    /// Returns the value of `Content-MD5`, with which S3 rejects an incomplete upload.
    pub fn content_md5(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.md5)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    #[test]
    fn encodes_keys_so_that_no_field_needs_quotes() {
        let (text, manifest) = manifest(&["a/b-c_d.e~f", "team a+b/x", "ä,\"\n%41"]);
        assert_eq!(text, "logs,a/b-c_d.e~f\nlogs,team%20a%2Bb/x\nlogs,%C3%A4%2C%22%0A%2541\n");
        assert_eq!((manifest.objects, manifest.object_bytes, manifest.bytes), (3, 3_000, text.len() as u64));
    }

    #[test]
    fn the_function_reads_the_same_keys() {
        let keys = ["plain.log", "team a+b/ä ü+%2B%20,\"'.log", "x\u{1F600}\n\t/y"];
        let (text, _) = manifest(&keys);
        for (line, key) in text.lines().zip(keys) {
            let encoded = line.strip_prefix("logs,").unwrap();
            let event = json!({"invocationSchemaVersion": "2.0", "invocationId": "i",
                "tasks": [{"taskId": "t", "s3Bucket": "logs", "s3Key": encoded}]});
            let Ok(Notification::Job(job)) = parse(&event) else { panic!("{event} is not read as the event of a job") };
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
    fn rejects_a_manifest_that_is_too_large_to_upload() {
        let mut writer = ManifestWriter { max_bytes: 20, ..ManifestWriter::new(Vec::new()) };
        writer.add("logs", "0123456789", 1).unwrap();
        assert!(
            writer.add("logs", "0123456789", 1).unwrap_err().to_string().contains("plan several jobs for shorter time ranges")
        );
    }
}
