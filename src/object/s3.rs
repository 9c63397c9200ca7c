//! Objects in S3.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2Error, ListObjectsV2Output};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_async::future::pagination_stream::PaginationStream;
use bytes::Bytes;
use tokio::sync::OnceCell;

use elb_log::origin::ObjectName;

use super::{Body, ObjectError, Opened};
use elb_common::aws::AwsConfig;
use elb_common::backoff::Backoff;

/// Pages of a listing, a page at a time.
pub(super) type Pages = PaginationStream<Result<ListObjectsV2Output, SdkError<ListObjectsV2Error>>>;

/// How often a body is read on from where it broke before the object fails, unless it makes progress in between.
const RESUMES: u32 = 5;

/// How many bytes are progress enough to begin counting anew.
const MUCH_PROGRESS: u64 = 1024 * 1024;

/// The wait before each of these.
const RESUME_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// Writing an object takes no longer, retries included.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Amazon S3, or a server that speaks its protocol.
#[derive(Clone, Debug)]
pub struct S3Store {
    aws: AwsConfig,
    path_style: bool,
    client: Arc<OnceCell<Client>>,
}

impl S3Store {
    /// A store with the region, credentials and endpoint of `aws`. `path_style` puts the bucket in the path instead of the host
    /// name, which a server on an address needs.
    pub fn new(aws: AwsConfig, path_style: bool) -> Self {
        S3Store { aws, path_style, client: Arc::default() }
    }

    /// The objects below a prefix, a page at a time; with a delimiter, those that stand in it itself, and its directories.
    pub(super) async fn pages(&self, bucket: &str, prefix: &str, delimiter: Option<&str>) -> Pages {
        let request = self.client().await.list_objects_v2().bucket(bucket).prefix(prefix);
        request.set_delimiter(delimiter.map(str::to_owned)).into_paginator().send()
    }

    /// Writes an object.
    pub(crate) async fn put(&self, bucket: &str, key: &str, body: ByteStream) -> Result<(), String> {
        let request = self.client().await.put_object().bucket(bucket).key(key).content_type("application/gzip").body(body);
        let time = TimeoutConfig::builder().operation_timeout(WRITE_TIME).build();
        let limited = request.customize().config_override(aws_sdk_s3::config::Config::builder().timeout_config(time));
        limited.send().await.map(drop).map_err(|error| format!("{}; allow s3:PutObject on it", detail(&error)))
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| async { self.make_client().await }).await
    }

    async fn make_client(&self) -> Client {
        let config = aws_sdk_s3::config::Builder::from(self.aws.config().await)
            .force_path_style(self.path_style)
            // gzip has a checksum of its own, and a second one over a stream that is read slowly costs more than it finds.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Client::from_conf(config)
    }

    /// The first request is unconditional and names no version: events of one object may come in any order.
    pub(super) async fn open(&self, name: &ObjectName) -> Result<Opened, ObjectError> {
        let client = self.client().await;
        let request = client.get_object().bucket(&name.bucket).key(&name.key);
        let object = request.send().await.map_err(|error| open_error(name, &error))?;
        let modified = object.last_modified.and_then(|time| jiff::Timestamp::new(time.secs(), 0).ok()).unwrap_or_default();
        let length = object.content_length.and_then(|length| u64::try_from(length).ok());
        let body = S3Body {
            client: client.clone(),
            name: name.clone(),
            etag: object.e_tag.clone(),
            length,
            stream: object.body,
            at: 0,
            broken: None,
            broken_at: 0,
            resumes: 0,
        };
        let etag = object.e_tag.map(|etag| etag.trim_matches('"').to_owned());
        Ok(Opened { etag, length, modified, body: Body::S3(Box::new(body)) })
    }
}

/// The bytes of an object, read on from the last one after the connection broke.
#[derive(Debug)]
pub struct S3Body {
    client: Client,
    name: ObjectName,
    /// As S3 wrote it, with its quotes.
    etag: Option<String>,
    length: Option<u64>,
    stream: ByteStream,
    /// Bytes received.
    at: u64,
    /// Why it broke, until it goes on. Kept here because whoever waits for a chunk may stop waiting.
    broken: Option<String>,
    /// Where it broke last.
    broken_at: u64,
    /// Times it broke without much progress in between.
    resumes: u32,
}

impl S3Body {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// A body that broke, or ended before its length, too often in the same region; or one that has become another.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ObjectError> {
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
                Err(error) => Some(detail(&error)),
            };
        }
    }

    /// Asks for the rest of the same object.
    async fn resume(&mut self, mut broken: String) -> Result<(), ObjectError> {
        if self.at >= self.broken_at + MUCH_PROGRESS {
            self.resumes = 0;
        }
        self.broken_at = self.at;
        let Some(etag) = self.etag.clone() else { return Err(self.unreadable(broken)) };
        while self.resumes < RESUMES {
            tokio::time::sleep(RESUME_BACKOFF.wait(self.resumes)).await;
            self.resumes += 1;
            tracing::debug!(object = %self.name, at = self.at, error = broken, "reading on where the body broke");
            let request = self.client.get_object().bucket(&self.name.bucket).key(&self.name.key).if_match(&etag);
            match request.range(format!("bytes={}-", self.at)).send().await {
                Ok(rest) if self.begins_here(rest.content_range()) => {
                    self.stream = rest.body;
                    return Ok(());
                }
                Ok(rest) => broken = format!("asked for the rest, the store gave {:?}", rest.content_range()),
                Err(error) if is_changed(&error) => return Err(ObjectError::Changed { name: self.name.clone(), at: self.at }),
                Err(error) => broken = detail(&error),
            }
        }
        Err(self.unreadable(broken))
    }

    /// A store that ignores the range would give the beginning again.
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

/// An SDK error with its causes: the outermost text alone is often just "dispatch failure".
pub(super) fn detail(error: &(impl Error + 'static)) -> String {
    DisplayErrorContext(error).to_string()
}

fn open_error<E: ProvideErrorMetadata + Error + 'static>(name: &ObjectName, error: &SdkError<E>) -> ObjectError {
    let name = name.clone();
    match error.code() {
        Some("NoSuchKey" | "NoSuchBucket") => ObjectError::NotFound { name },
        Some(code @ "AccessDenied") => ObjectError::Denied { name, detail: code.to_owned() },
        Some("InvalidObjectState") => ObjectError::Archived { name },
        _ => ObjectError::Unreadable { name, at: 0, detail: detail(error) },
    }
}
