//! Objects in S3.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::{TimeoutConfig, TimeoutConfigBuilder};
use aws_sdk_s3::config::{self, ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2Error, ListObjectsV2Output};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_async::future::pagination_stream::PaginationStream;
use elb_common::aws::AwsConfig;
use elb_log::origin::ObjectName;
use tokio::sync::OnceCell;

use super::body::{Body, OpenedObject};
use super::error::ObjectError;
use super::s3_body::{ObjectVersion, S3Body};
use super::s3_error::{S3Call, describe_s3_error, open_error};

/// The pages of a listing.
pub(super) type Pages = PaginationStream<Result<ListObjectsV2Output, SdkError<ListObjectsV2Error>>>;

/// Timeout for a connection. Long enough for a lost first packet, which the operating system repeats after 1 s and after 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3_100);

/// Timeout for one attempt to read or write an object. For reading it ends with the headers of the response. S3 sends them within
/// a second, so after this time a new connection is more likely to succeed. A dead letter is small enough for it too.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for reading the headers of an object or for writing an object, including the SDK's retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout for one attempt to list a page. S3 needs longer than for an object where it passes over many delete markers.
const LIST_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);

/// Timeout for listing a page, including the SDK's retries.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// Amazon S3, or a server with the same API.
#[derive(Clone, Debug)]
pub struct S3Store {
    aws: AwsConfig,
    path_style: bool,
    client: Arc<OnceCell<Client>>,
}

impl S3Store {
    /// Creates a store with the region, credentials and endpoint of `aws`. `path_style` puts the bucket into the path instead of
    /// the host name; a server that is addressed by its IP address needs this.
    pub fn new(aws: AwsConfig, path_style: bool) -> Self {
        S3Store { aws, path_style, client: Arc::default() }
    }

    /// Lists the objects below a prefix. With a delimiter, lists the objects of this level and its directories.
    pub(super) async fn list_pages(&self, bucket: &str, prefix: &str, delimiter: Option<&str>) -> Pages {
        let request = self.client().await.list_objects_v2().bucket(bucket).prefix(prefix);
        request.set_delimiter(delimiter.map(str::to_owned)).into_paginator().send()
    }

    /// Writes an object.
    pub(crate) async fn put(&self, bucket: &str, key: &str, body: ByteStream) -> Result<(), String> {
        let request = self.client().await.put_object().bucket(bucket).key(key).content_type("application/gzip").body(body);
        let limited = request.customize().config_override(object_timeouts(OPERATION_TIMEOUT));
        limited.send().await.map(drop).map_err(|error| describe_s3_error(S3Call::Put, &error))
    }

    /// Begins to read an object. The first request is unconditional and names no version, because the notifications of one
    /// object can arrive in any order.
    pub(super) async fn open(&self, name: &ObjectName) -> Result<OpenedObject, ObjectError> {
        let client = self.client().await;
        let request = client.get_object().bucket(&name.bucket).key(&name.key).customize();
        let limited = request.config_override(object_timeouts(OPERATION_TIMEOUT));
        let object = limited.send().await.map_err(|error| open_error(name, &error))?;
        let modified = object.last_modified.and_then(|time| jiff::Timestamp::new(time.secs(), 0).ok()).unwrap_or_default();
        let length = object.content_length.and_then(|length| u64::try_from(length).ok());
        let version = ObjectVersion::new(client.clone(), name.clone(), object.e_tag.clone(), length);
        let body = S3Body::new(version, object.body);
        let etag = object.e_tag.map(|etag| etag.trim_matches('"').to_owned());
        Ok(OpenedObject { etag, length, modified, body: Body::S3(Box::new(body)) })
    }

    /// Returns the client, which connects at its first request.
    pub(crate) async fn client(&self) -> &Client {
        self.client.get_or_init(|| async { self.make_client().await }).await
    }

    async fn make_client(&self) -> Client {
        let config = config::Builder::from(self.aws.config().await)
            .force_path_style(self.path_style)
            // These are for listings, whose requests cannot have their own. All other requests have.
            .timeout_config(timeouts(LIST_ATTEMPT_TIMEOUT, LIST_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build())
            // It gives up a body that pauses for 6 s, however much of the body has arrived. `S3Body` has a timeout of its own.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // gzip has its own checksum, and a second checksum of a stream that is read slowly costs more than it finds.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Client::from_conf(config)
    }
}

/// Returns the timeouts of a request that reads or writes an object. `operation` includes the SDK's retries.
pub(super) fn object_timeouts(operation: Duration) -> config::Builder {
    config::Config::builder().timeout_config(timeouts(ATTEMPT_TIMEOUT, operation).build())
}

fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfigBuilder {
    TimeoutConfig::builder().operation_attempt_timeout(attempt).operation_timeout(operation)
}
