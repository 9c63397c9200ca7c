//! An object whose reading has begun, and its bytes chunk by chunk.

use std::io;

use bytes::{Bytes, BytesMut};
use elb_log::origin::ObjectName;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::error::ObjectError;
use super::s3_body::S3Body;
use super::stream::Chunks;

/// Maximum number of bytes that one read of a file returns.
pub(super) const CHUNK_BYTES: usize = 128 * 1024;

/// An object whose reading has begun.
#[derive(Debug)]
pub(crate) struct OpenedObject {
    /// The object's bytes.
    pub(super) body: Body,
    /// The ETag without quotes, if the store has one.
    pub(crate) etag: Option<String>,
    /// The length of the body in bytes, if the store announces it.
    pub(super) length: Option<u64>,
    /// When the object was written.
    pub(crate) modified: jiff::Timestamp,
}

/// An object's bytes.
#[derive(Debug)]
pub(super) enum Body {
    /// From S3.
    S3(Box<S3Body>),
    /// From a regular file.
    File(File),
    /// From a FIFO or a device.
    Stream(Chunks),
}

impl Body {
    /// Returns the next bytes, at most a few hundred KiB, or none at the end. `name` and `at` are for errors.
    pub(super) async fn next_chunk(&mut self, name: &ObjectName, at: u64) -> Result<Option<Bytes>, ObjectError> {
        match self {
            Body::S3(body) => body.next_chunk().await,
            Body::File(file) => next_file_chunk(file).await.map_err(|error| unreadable(name, at, &error)),
            Body::Stream(chunks) => chunks.recv().await.transpose().map_err(|error| unreadable(name, at, &error)),
        }
    }
}

fn unreadable(name: &ObjectName, at: u64, error: &io::Error) -> ObjectError {
    ObjectError::Unreadable { name: name.clone(), at, detail: error.to_string() }
}

async fn next_file_chunk(file: &mut File) -> io::Result<Option<Bytes>> {
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    let read = file.read_buf(&mut buffer).await?;
    Ok((read > 0).then(|| buffer.freeze()))
}
