//! The body of an object in S3, resumed after the last received byte when the connection breaks.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use elb_common::backoff::Backoff;
use elb_log::origin::ObjectName;

use super::error::ObjectError;

/// Maximum number of times that a body is resumed without progress before the object fails.
const MAX_RESUMES: u32 = 5;

/// Number of bytes after which a body counts as progressing, so that its resumes are counted from zero again.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// The wait before each resume.
const RESUME_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// The bytes of an object in S3.
#[derive(Debug)]
pub(super) struct S3Body {
    client: Client,
    name: ObjectName,
    /// The ETag as S3 wrote it, with its quotes.
    etag: Option<String>,
    length: Option<u64>,
    stream: ByteStream,
    /// Bytes received.
    at: u64,
    /// Why the body broke, until it is resumed. A field, because a caller can drop the future of `next_chunk`.
    broken: Option<String>,
    /// The byte at which the body broke last.
    broken_at: u64,
    /// Resumes without progress.
    resumes: u32,
}

impl S3Body {
    /// Creates a body of `length` bytes, if that is known. Without an ETag it cannot be resumed.
    pub(super) fn new(client: Client, name: ObjectName, etag: Option<String>, length: Option<u64>, stream: ByteStream) -> Self {
        S3Body { client, name, etag, length, stream, at: 0, broken: None, broken_at: 0, resumes: 0 }
    }

    /// Returns the next bytes, or none at the end.
    ///
    /// # Errors
    /// The body broke, or ended before its length, too often without progress; or the object has changed.
    pub(super) async fn next_chunk(&mut self) -> Result<Option<Bytes>, ObjectError> {
        loop {
            if let Some(broken) = self.broken.clone() {
                self.resume(broken).await?;
                self.broken = None;
            }
            self.broken = match self.stream.try_next().await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) if self.length.is_none_or(|length| self.at >= length) => return Ok(None),
                Ok(None) => Some("the body ended early".to_owned()),
                Err(error) => Some(DisplayErrorContext(error).to_string()),
            };
        }
    }

    /// Requests the rest of the same version of the object.
    async fn resume(&mut self, mut broken: String) -> Result<(), ObjectError> {
        if self.at >= self.broken_at + PROGRESS_BYTES {
            self.resumes = 0;
        }
        self.broken_at = self.at;
        let Some(etag) = self.etag.clone() else { return Err(self.unreadable(broken)) };
        while self.resumes < MAX_RESUMES {
            tokio::time::sleep(RESUME_BACKOFF.wait(self.resumes)).await;
            self.resumes += 1;
            tracing::debug!(object = %self.name, at = self.at, error = broken, "resuming a broken body");
            let request = self.client.get_object().bucket(&self.name.bucket).key(&self.name.key).if_match(&etag);
            match request.range(format!("bytes={}-", self.at)).send().await {
                Ok(rest) if self.begins_here(rest.content_range()) => {
                    self.stream = rest.body;
                    return Ok(());
                }
                Ok(rest) => broken = format!("the store responded with the range {:?} to a resume", rest.content_range()),
                Err(error) if is_changed(&error) => {
                    return Err(ObjectError::Changed { name: self.name.clone(), at: self.at });
                }
                Err(error) => broken = DisplayErrorContext(error).to_string(),
            }
        }
        Err(self.unreadable(broken))
    }

    /// Returns whether a response continues at the last received byte. A store that ignores the range would send the object's
    /// beginning again.
    fn begins_here(&self, content_range: Option<&str>) -> bool {
        content_range.is_some_and(|range| range.starts_with(&format!("bytes {}-", self.at)))
    }

    fn unreadable(&self, detail: String) -> ObjectError {
        ObjectError::Unreadable { name: self.name.clone(), at: self.at, detail }
    }
}

fn is_changed<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 412)
}
