//! The server's sockets: who is slow to ask, or to be answered, does not hold up anybody else, nor the end.

use std::io;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;

/// How long the server waits for its clients.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a connection's next request. A client that asks less often opens a new connection.
    pub head: Duration,
    /// For what is under way when the server is told to stop.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { head: Duration::from_secs(30), end: Duration::from_secs(10) }
    }
}

/// Serves until `stop` ends, and then for as long as what is under way takes, within the patience.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(listener: TcpListener, routes: Router, patience: Patience, stop: impl Future<Output = ()>) -> io::Result<()> {
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener.into_std()?)?.handle(handle.clone()).http1_only();
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(patience.head);
    let stopped = async {
        stop.await;
        handle.graceful_shutdown(Some(patience.end));
        std::future::pending().await
    };
    tokio::select! {
        served = server.serve(routes.into_make_service()) => served,
        never = stopped => never,
    }
}
