//! Clients that are slow, and an end that does not wait for them.

use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use elb_log_registry::serve::{Patience, serve};
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
async fn served(patience: Patience) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/", get(|| async { "here" })).route("/never", get(pending::<()>));
    let (stop, stopped) = oneshot::channel();
    let end = tokio::spawn(async move { serve(listener, routes, patience, async { _ = stopped.await }).await.unwrap() });
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
    // A connection that is reset is closed too.
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn half_a_head_is_waited_for_no_longer_than_patience_lasts() {
    let served = served(Patience { head: Duration::from_millis(100), end: LONG }).await;
    let slow = sent(served.address, "GET / HTTP/1.1\r\nHost: registry\r\nX-Slow: ").await;
    let silent = sent(served.address, "").await;
    let kept = sent(served.address, "GET / HTTP/1.1\r\nHost: registry\r\n\r\n").await;
    assert!(!rest(slow).await.contains("200 OK"));
    assert_eq!(rest(silent).await, "");
    assert!(rest(kept).await.ends_with("\r\n\r\nhere"), "who has asked is answered before the connection ends");
}

#[tokio::test]
async fn what_is_under_way_does_not_hold_up_the_end() {
    let served = served(Patience { head: LONG, end: Duration::from_millis(100) }).await;
    let waiting = sent(served.address, "GET /never HTTP/1.1\r\nHost: registry\r\n\r\n").await;
    let slow = sent(served.address, "GET / HTTP/1.1\r\n").await;
    // A connection that is answered was accepted after those two.
    let quick = sent(served.address, "GET / HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n").await;
    assert!(rest(quick).await.ends_with("here"));
    let began = Instant::now();
    served.stop.send(()).unwrap();
    served.end.await.unwrap();
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert_eq!((rest(waiting).await, rest(slow).await), (String::new(), String::new()));
}
