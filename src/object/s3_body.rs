//! The body of an object in S3, resumed after the last received byte when it breaks or stalls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use elb_common::aws::explain_causes;
use elb_common::backoff::Backoff;
use elb_log::origin::ObjectName;
use tokio::time::{sleep, timeout};

use super::content_range::ContentRange;
use super::error::ObjectError;
use super::s3::object_timeouts;
use super::s3_error::{S3Call, describe_s3_error};

/// Maximum wait for the next bytes of a body. TCP repeats lost packets within a few seconds, so a longer pause is a lost
/// connection or a server that hangs. A body is never given up while its bytes arrive, however slow it is.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Timeout for the headers of a resumed body, including the SDK's retries. Short, because a resume is repeated.
const RESUME_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of times that a body is resumed without progress before the object fails.
const MAX_RESUMES: u32 = 5;

/// Number of bytes after which a body counts as progressing, so that its resumes are counted from zero again.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// The wait before each resume.
const RESUME_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// The bytes of an object in S3.
#[derive(Debug)]
pub(super) struct S3Body {
    version: Arc<ObjectVersion>,
    stream: ByteStream,
    /// Bytes received.
    at: u64,
    /// The byte at which the body broke last.
    broken_at: u64,
    /// Resumes without progress.
    resumes: u32,
    /// The resume that has begun. It is a field because a caller can drop the future of `next_chunk`: a resume that is begun again
    /// each time would never end.
    resuming: Option<Resuming>,
}

/// A request for the rest of the body, with its retries.
struct Resuming(Pin<Box<dyn Future<Output = Result<Resumed, ObjectError>> + Send>>);

/// The rest of the body.
struct Resumed {
    stream: ByteStream,
    /// Resumes without progress, including this one.
    resumes: u32,
}

/// What identifies the bytes of a body: a resumed body must be of the same version of the object.
#[derive(Debug)]
pub(super) struct ObjectVersion {
    client: Client,
    name: ObjectName,
    /// The ETag as S3 wrote it, with its quotes. None if it cannot identify a version.
    etag: Option<String>,
    /// The length of the whole body in bytes.
    length: Option<u64>,
}

/// Why one attempt to resume a body failed.
enum ResumeError {
    /// The object has changed, so no attempt can succeed.
    Changed,
    /// Another attempt may succeed.
    Failed(String),
}

impl S3Body {
    /// Creates a body. `stream` has its bytes from the first one on.
    pub(super) fn new(version: ObjectVersion, stream: ByteStream) -> Self {
        S3Body { version: Arc::new(version), stream, at: 0, broken_at: 0, resumes: 0, resuming: None }
    }

    /// Returns the next bytes, or none at the end. Dropping the future loses nothing. The time between two calls does not count
    /// as a stall, because then it is the caller who is slow.
    ///
    /// # Errors
    /// The body broke, stalled, or ended before its length, too often without progress; or the object has changed.
    pub(super) async fn next_chunk(&mut self) -> Result<Option<Bytes>, ObjectError> {
        loop {
            if let Some(resuming) = &mut self.resuming {
                let resumed = resuming.0.as_mut().await;
                self.resuming = None;
                let Resumed { stream, resumes } = resumed?;
                (self.stream, self.resumes) = (stream, resumes);
            }
            match self.receive().await {
                Ok(chunk) => {
                    self.at += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    return Ok(chunk);
                }
                // The last byte has arrived, so it does not matter how the connection ends.
                Err(_) if self.version.length == Some(self.at) => return Ok(None),
                Err(broken) => self.begin_to_resume(broken),
            }
        }
    }

    /// Returns the next bytes of the stream, or why it broke.
    async fn receive(&mut self) -> Result<Option<Bytes>, String> {
        let received = timeout(READ_TIMEOUT, self.stream.try_next()).await;
        let received = received.map_err(|_| format!("S3 has sent nothing for {} s", READ_TIMEOUT.as_secs()))?;
        match received.map_err(|error| explain_causes(&error))? {
            None if self.version.length.is_some_and(|length| self.at < length) => Err("the body ended early".to_owned()),
            chunk => Ok(chunk),
        }
    }

    fn begin_to_resume(&mut self, broken: String) {
        if self.at >= self.broken_at + PROGRESS_BYTES {
            self.resumes = 0;
        }
        self.broken_at = self.at;
        let resume = Arc::clone(&self.version).resume(self.at, self.resumes, broken);
        self.resuming = Some(Resuming(Box::pin(resume)));
    }
}

impl ObjectVersion {
    /// Names a version by its ETag. Without a strong ETag a body cannot be resumed: neither its length nor its time of modification
    /// proves that two bodies are of the same version.
    pub(super) fn new(client: Client, name: ObjectName, etag: Option<String>, length: Option<u64>) -> Self {
        ObjectVersion { client, name, etag: etag.filter(|etag| !etag.starts_with("W/")), length }
    }

    /// Requests the bytes from `at` on until a request succeeds, or there are too many requests without progress.
    async fn resume(self: Arc<Self>, at: u64, mut resumes: u32, mut broken: String) -> Result<Resumed, ObjectError> {
        let Some(etag) = &self.etag else {
            return Err(self.unreadable(at, broken + "; the body cannot be resumed, because the store sent no ETag"));
        };
        while resumes < MAX_RESUMES {
            sleep(RESUME_BACKOFF.wait(resumes)).await;
            resumes += 1;
            tracing::debug!(object = %self.name, at, error = broken, "resuming a broken body");
            match self.request_rest(etag, at).await {
                Ok(stream) => return Ok(Resumed { stream, resumes }),
                Err(ResumeError::Changed) => return Err(ObjectError::Changed { name: self.name.clone(), at }),
                Err(ResumeError::Failed(detail)) => broken = detail,
            }
        }
        Err(self.unreadable(at, broken))
    }

    /// Requests the bytes from `at` on.
    async fn request_rest(&self, etag: &str, at: u64) -> Result<ByteStream, ResumeError> {
        let request = self.client.get_object().bucket(&self.name.bucket).key(&self.name.key);
        let request = request.if_match(etag).range(format!("bytes={at}-"));
        let rest = request.customize().config_override(object_timeouts(RESUME_TIMEOUT)).send().await;
        let rest = rest.map_err(|error| {
            if is_changed(&error) { ResumeError::Changed } else { ResumeError::Failed(describe_s3_error(S3Call::Get, &error)) }
        })?;
        match rest.e_tag() {
            Some(same) if same == etag => {}
            // The store has ignored `If-Match`.
            Some(_) => return Err(ResumeError::Changed),
            None => return Err(ResumeError::Failed("the store sent no ETag with the rest of the body".to_owned())),
        }
        let range = ContentRange::of(rest.content_range()).map_err(ResumeError::Failed)?;
        range.check(at, self.length, rest.content_length()).map_err(ResumeError::Failed)?;
        Ok(rest.body)
    }

    fn unreadable(&self, at: u64, detail: String) -> ObjectError {
        ObjectError::Unreadable { name: self.name.clone(), at, detail }
    }
}

impl fmt::Debug for Resuming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resuming")
    }
}

fn is_changed<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 412)
}
