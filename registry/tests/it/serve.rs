//! Slow clients, and a shutdown that does not wait for them.

use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use elb_log_registry::serve::{Timeouts, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_mins(10);

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    end: JoinHandle<()>,
}

/// A server of one route that answers and one that never does.
async fn served(timeouts: Timeouts) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/", get(|| async { "here" })).route("/never", get(pending::<()>));
    let (stop, stopped) = oneshot::channel();
    let end = tokio::spawn(async move { serve(listener, routes, timeouts, async { _ = stopped.await }).await.unwrap() });
    Served { address, stop, end }
}

async fn sent(address: SocketAddr, text: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(text.as_bytes()).await.unwrap();
    client
}

/// Everything until the server closes the connection.
async fn rest(mut client: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset connection is closed as well.
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn closes_connections_whose_request_head_is_late() {
    let served = served(Timeouts { request_head: Duration::from_millis(100), shutdown: LONG }).await;
    let slow = sent(served.address, "GET / HTTP/1.1\r\nHost: registry\r\nX-Slow: ").await;
    let silent = sent(served.address, "").await;
    let kept = sent(served.address, "GET / HTTP/1.1\r\nHost: registry\r\n\r\n").await;
    assert!(!rest(slow).await.contains("200 OK"));
    assert_eq!(rest(silent).await, "");
    assert!(rest(kept).await.ends_with("\r\n\r\nhere"), "a complete request gets its response before the connection closes");
}

#[tokio::test]
async fn requests_in_progress_do_not_delay_the_shutdown() {
    let served = served(Timeouts { request_head: LONG, shutdown: Duration::from_millis(100) }).await;
    let waiting = sent(served.address, "GET /never HTTP/1.1\r\nHost: registry\r\n\r\n").await;
    let slow = sent(served.address, "GET / HTTP/1.1\r\n").await;
    // This connection was accepted after the other two, so those are accepted once it has its response.
    let quick = sent(served.address, "GET / HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n").await;
    assert!(rest(quick).await.ends_with("here"));
    let began = Instant::now();
    served.stop.send(()).unwrap();
    served.end.await.unwrap();
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert_eq!((rest(waiting).await, rest(slow).await), (String::new(), String::new()));
}
