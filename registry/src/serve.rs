//! The server's sockets. Slow clients delay neither other clients nor the shutdown.

use std::io;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;

/// How long the server waits for its clients.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Time limit for the head of a connection's next request. A client that sends requests less often opens a new connection.
    pub request_head: Duration,
    /// Time limit for requests in progress when the server shuts down.
    pub shutdown: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { request_head: Duration::from_secs(30), shutdown: Duration::from_secs(10) }
    }
}

/// Serves until `shutdown` completes, and then until the requests in progress are complete or their time limit is reached.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    timeouts: Timeouts,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener.into_std()?)?.handle(handle.clone()).http1_only();
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(timeouts.request_head);
    let stop = async {
        shutdown.await;
        handle.graceful_shutdown(Some(timeouts.shutdown));
        std::future::pending().await
    };
    tokio::select! {
        served = server.serve(routes.into_make_service()) => served,
        never = stop => never,
    }
}
