//! A server of the S3 API in the test process.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt as _, stream};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, GetObjectInput, GetObjectOutput, ListObjectsV2Input, ListObjectsV2Output,
    PutObjectInput, PutObjectOutput, Range, StreamingBlob,
};
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{elbship, put};

/// A server whose buckets are the sub-directories of a temporary directory.
pub(crate) struct Server {
    pub(crate) root: tempfile::TempDir,
    pub(crate) endpoint: String,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Server::breaking_at(&[]).await
    }

    /// Starts a server that breaks the body of an object at each of these bytes, once.
    pub(crate) async fn breaking_at(breaks: &[u64]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let files = FileSystem::new(root.path()).expect("a file system");
        let front = Breaking { files, breaks: Mutex::new(breaks.to_vec()), changes_after_break: false, denies_writing: false };
        Server::serve(root, front).await
    }

    pub(crate) async fn serve(root: tempfile::TempDir, front: impl S3) -> Self {
        let mut builder = S3ServiceBuilder::new(front);
        builder.set_auth(SimpleAuth::from_single("test", "test"));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                tokio::spawn(connection);
            }
        });
        Server { root, endpoint, connections }
    }

    pub(crate) fn put(&self, bucket: &str, key: &str, body: &[u8]) {
        put(self.root.path(), bucket, key, body);
    }

    pub(crate) fn elbship(&self, arguments: &[&str]) -> Command {
        let mut command = elbship(arguments);
        command
            .env("AWS_ENDPOINT_URL_S3", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    pub(crate) fn report(&self) -> String {
        self.root.path().join("report.json").display().to_string()
    }
}

/// Serves files, breaks bodies, and checks `If-Match`, which `FileSystem` does not.
pub(crate) struct Breaking {
    pub(crate) files: FileSystem,
    /// The bytes at which bodies break, the next one first.
    pub(crate) breaks: Mutex<Vec<u64>>,
    /// Whether a resumed read finds another version of the object.
    pub(crate) changes_after_break: bool,
    /// Whether writing is denied.
    pub(crate) denies_writing: bool,
}

#[async_trait::async_trait]
impl S3 for Breaking {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let start = match request.input.range {
            Some(Range::Int { first, .. }) => first,
            _ => 0,
        };
        let conditional = request.input.if_match.is_some();
        assert_eq!(request.input.range.is_some(), conditional, "exactly the resumed reads must name an ETag");
        if conditional && self.changes_after_break {
            return Err(s3_error!(PreconditionFailed));
        }
        let mut response = self.files.get_object(request).await?;
        let next = {
            let mut breaks = self.breaks.lock().expect("no panic while holding");
            if breaks.is_empty() { None } else { Some(breaks.remove(0)) }
        };
        if let Some(at) = next {
            let keep = usize::try_from(at.saturating_sub(start)).expect("a small object");
            let body = response.output.body.take().expect("a body");
            let whole: Vec<_> = body.map(|chunk| chunk.expect("a readable file")).collect().await;
            let kept = bytes::Bytes::from(whole.concat()).slice(..keep);
            // The server sends its data when the stream yields. Only then does the connection break.
            let broken = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken for the test"))
            });
            response.output.body = Some(StreamingBlob::wrap(Box::pin(stream::iter([Ok(kept)]).chain(broken))));
        }
        Ok(response)
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.files.list_objects_v2(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.files.delete_object(request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        if self.denies_writing {
            return Err(s3_error!(AccessDenied));
        }
        self.files.put_object(request).await
    }
}
