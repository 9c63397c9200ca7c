//! Objects in S3.

use std::error::Error;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2Error, ListObjectsV2Output};
use aws_smithy_async::future::pagination_stream::PaginationStream;

use super::{Body, ObjectError, ObjectName, Opened};

/// Amazon S3, or a server that speaks its protocol.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
}

impl S3Store {
    /// A store with the region, credentials and endpoint of `shared`. `path_style` puts the bucket in the path instead of the
    /// host name, which a server on an address needs.
    pub fn new(shared: &aws_config::SdkConfig, path_style: bool) -> Self {
        let config = aws_sdk_s3::config::Builder::from(shared)
            .force_path_style(path_style)
            // gzip has a checksum of its own, and a second one over a stream that is read slowly costs more than it finds.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        S3Store { client: Client::from_conf(config) }
    }

    /// The objects below a prefix, a page at a time.
    pub(super) fn list(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> PaginationStream<Result<ListObjectsV2Output, SdkError<ListObjectsV2Error>>> {
        self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send()
    }

    pub(super) async fn open(&self, name: &ObjectName) -> Result<Opened, ObjectError> {
        let request = self.client.get_object().bucket(&name.bucket).key(&name.key);
        let object = request.send().await.map_err(|error| open_error(name, &error))?;
        let modified = object.last_modified.and_then(|time| jiff::Timestamp::new(time.secs(), 0).ok()).unwrap_or_default();
        Ok(Opened {
            etag: object.e_tag.map(|etag| etag.trim_matches('"').to_owned()),
            length: object.content_length.and_then(|length| u64::try_from(length).ok()),
            modified,
            body: Body::S3(object.body),
        })
    }
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
        _ => ObjectError::Unreadable { name, at: 0, detail: detail(error) },
    }
}
