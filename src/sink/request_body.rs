//! The body of a request, which knows whether it was sent to its end.
//!
//! A server may respond before it has read the whole request, and then close the connection. A success status does not mean then
//! that it has the events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Number of bytes that are handed to the HTTP client at once. It asks for the next ones when it has written most of the earlier
/// ones: at most 16 pieces wait in its memory for an unencrypted connection.
const PIECE_BYTES: usize = 4 * 1024;

/// The bytes of a body, handed to the HTTP client piece by piece.
pub(super) struct RequestBody {
    rest: Bytes,
    is_sent: IsSent,
}

/// Whether the HTTP client has taken the last piece of a body.
#[derive(Clone, Default)]
pub(super) struct IsSent(Arc<AtomicBool>);

impl RequestBody {
    /// Creates a body, and the flag that says whether it was sent.
    pub(super) fn new(bytes: Bytes) -> (Self, IsSent) {
        let is_sent = IsSent::default();
        is_sent.0.store(bytes.is_empty(), Ordering::Release);
        (RequestBody { rest: bytes, is_sent: is_sent.clone() }, is_sent)
    }
}

impl IsSent {
    /// Returns whether the HTTP client has taken the last piece of the body.
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        if body.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = body.rest.split_to(PIECE_BYTES.min(body.rest.len()));
        body.is_sent.0.store(body.rest.is_empty(), Ordering::Release);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    /// The exact size, so that the request has a `Content-Length`.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
