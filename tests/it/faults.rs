//! The delivery policy against real sockets: faults of networks and of overloaded servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::faulty::{
    DeadPeer, Faulty, address_of, forward, forward_connection, read_head, read_request, wait_for_close, write,
};
use crate::support::{Object, Receiver, Scripted, assert_books, closed_port, status};

/// One batch at a time, so that requests can be counted, and a budget that ends endless retries.
const ONE_BY_ONE: [(&str, &str); 2] = [("SEND_CONCURRENCY", "1"), ("RETRY_BUDGET", "10s")];

/// Bodies that are larger than the buffers of the sockets.
const LARGE_BODIES: [(&str, &str); 3] = [("SEND_CONCURRENCY", "1"), ("RETRY_BUDGET", "10s"), ("COMPRESSION", "none")];

/// Ships `lines` through a proxy whose first three connections have a fault, and checks that each line arrives once.
async fn check_fault<F, R>(lines: usize, variables: &[(&str, &str)], fault: F)
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let receiver = Receiver::start().await;
    let proxy = Faulty::start(&receiver.url, 3, fault).await;
    let (exit, report, stderr) = Object::of_lines(lines).ship(&proxy.url, variables).await;
    assert_eq!(proxy.faults(), 3, "the fault did not happen three times: {report}");
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, &format!("{lines} delivered, 0 undelivered, complete true"));
    assert_eq!(report["retries"], 3, "{report}");
    let ids = receiver.ids();
    assert_eq!((ids.len(), ids.values().sum::<usize>()), (lines, lines), "a line arrives more than once");
}

async fn refuse_at_the_header(mut stream: TcpStream) {
    let request = read_head(&mut stream).await.expect("a request");
    assert!(request.length() > 1 << 20, "the body fits into the buffers of the sockets; make it larger");
    // Dropping the socket resets the connection, because the body was not read.
    write(&mut stream, "HTTP/1.1 429 Too Many Requests\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_when_a_blocked_logstash_refuses_at_the_header() {
    check_fault(3_000, &LARGE_BODIES, refuse_at_the_header).await;
}

async fn reset_in_the_body(mut stream: TcpStream) {
    read_head(&mut stream).await.expect("a request");
    let mut some = vec![0; 10_000];
    stream.read_exact(&mut some).await.expect("some of the body");
    stream.set_zero_linger().expect("a socket that is reset when it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_after_a_reset_within_the_body() {
    check_fault(3_000, &LARGE_BODIES, reset_in_the_body).await;
}

async fn close_one_side(mut stream: TcpStream) {
    read_request(&mut stream).await.expect("a request");
    stream.shutdown().await.expect("closing one side");
    wait_for_close(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_after_a_half_closed_connection() {
    check_fault(50, &ONE_BY_ONE, close_one_side).await;
}

async fn never_respond(mut stream: TcpStream) {
    read_request(&mut stream).await.expect("a request");
    wait_for_close(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_after_a_response_timeout() {
    let started = Instant::now();
    check_fault(50, &[ONE_BY_ONE[0], ONE_BY_ONE[1], ("REQUEST_TIMEOUT", "300ms")], never_respond).await;
    assert!(started.elapsed() >= Duration::from_millis(900), "three timeouts took less than 900 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_a_silent_endpoint_when_the_budget_is_spent() {
    let server = Faulty::always(never_respond).await;
    let variables = [("REQUEST_TIMEOUT", "200ms"), ("RETRY_BUDGET", "600ms")];
    let (exit, report, _) = Object::of_lines(50).ship(&server.url, &variables).await;
    assert!(server.faults() >= 2, "{} requests: nothing was retried", server.faults());
    assert_eq!(exit, 1);
    assert_books(&report, "0 delivered, 50 undelivered, complete false");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("no response within REQUEST_TIMEOUT") && error.contains(&server.url), "{error}");
}

/// Forwards the request, and responds after the client has given up.
async fn respond_too_late(mut client: TcpStream, behind: String) {
    let request = read_request(&mut client).await.expect("a request");
    let response = forward(&behind, request).await;
    wait_for_close(&mut client).await;
    let _ = client.write_all(&response).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_accepted_too_late_comes_again_with_the_same_ids() {
    let receiver = Receiver::start().await;
    let behind = address_of(&receiver.url);
    let proxy = Faulty::start(&receiver.url, 1, move |stream| respond_too_late(stream, behind.clone())).await;
    let variables = [ONE_BY_ONE[0], ONE_BY_ONE[1], ("REQUEST_TIMEOUT", "500ms")];
    let (exit, report, stderr) = Object::of_lines(50).ship(&proxy.url, &variables).await;
    assert_eq!((exit, proxy.faults()), (0, 1), "{stderr}");
    assert_books(&report, "50 delivered, 0 undelivered, complete true");
    let ids = receiver.ids();
    assert_eq!(ids.len(), 50, "the retry has other ids than the first request");
    assert!(ids.values().all(|&times| times == 2), "the batch was not sent again: {ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_gets_everything() {
    let receiver = Receiver::start().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(16).expect("a listener");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (reads, behind) = (Arc::new(AtomicUsize::new(0)), address_of(&receiver.url));
    let count = Arc::clone(&reads);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward_slowly(client, behind.clone(), Arc::clone(&count)));
        }
    });
    let (exit, report, stderr) = Object::of_lines(1_000).ship(&url, &LARGE_BODIES).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "1000 delivered, 0 undelivered, complete true");
    assert_eq!((receiver.ids().len(), &report["retries"]), (1_000, &Value::from(0)));
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads > 5_000, "{reads} reads: the receiver was not slow");
}

/// Forwards 200 bytes at a time.
async fn forward_slowly(client: TcpStream, behind: String, reads: Arc<AtomicUsize>) {
    let server = TcpStream::connect(behind).await.expect("the receiver behind");
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut piece = [0; 200];
    while let Ok(length @ 1..) = from_client.read(&mut piece).await {
        reads.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        to_server.write_all(&piece[..length]).await.expect("the receiver behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_costs_one_connect_timeout() {
    let (dead, receiver) = (DeadPeer::start().await, Receiver::start().await);
    let variables = [("CONNECT_TIMEOUT", "300ms"), ("BATCH_EVENTS", "50"), ("SEND_CONCURRENCY", "1"), ("LOG_LEVEL", "debug")];
    let started = Instant::now();
    let (exit, report, stderr) = Object::of_lines(500).ship(&format!("{},{}", dead.url, receiver.url), &variables).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "500 delivered, 0 undelivered, complete true");
    assert_eq!(receiver.ids().len(), 500);
    let failed = stderr.lines().filter(|line| line.contains("retrying a request") && line.contains(&dead.url)).count();
    assert_eq!(failed, 1, "the dead peer gets more than one request: {stderr}");
    assert!(stderr.contains("no connection"), "{stderr}");
    assert!(started.elapsed() < Duration::from_secs(4), "waiting for the dead peer took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses_connections_costs_one_retry() {
    let receiver = Receiver::start().await;
    let urls = format!("{},{}", closed_port(), receiver.url);
    let (exit, report, stderr) = Object::of_lines(500).ship(&urls, &[("BATCH_EVENTS", "50"), ONE_BY_ONE[0]]).await;
    assert_eq!((exit, receiver.ids().len()), (0, 500), "{stderr}");
    assert_eq!(report["retries"], 1, "it gets more than one request: {report}");
}

/// Accepts, and then sends a response body without end.
async fn respond_without_end(mut stream: TcpStream) {
    while read_request(&mut stream).await.is_some() {
        write(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while stream.write_all(b"4\r\nok, \r\n").await.is_ok() {}
    }
}

/// Accepts, announces a response body, and does not send it.
async fn never_send_the_body(mut stream: TcpStream) {
    while read_request(&mut stream).await.is_some() {
        write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
        wait_for_close(&mut stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_check_status_needs_no_end_of_the_response() {
    let servers = [Faulty::always(respond_without_end).await, Faulty::always(never_send_the_body).await];
    for server in servers {
        let started = Instant::now();
        let (exit, report, stderr) = Object::of_lines(50).ship(&server.url, &[("RESPONSE_CHECK", "status")]).await;
        assert_eq!((exit, server.faults()), (0, 1), "{stderr}");
        assert_books(&report, "50 delivered, 0 undelivered, complete true");
        assert!(started.elapsed() < Duration::from_secs(4), "a response without end delayed it by {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_after_a_response_whose_body_never_comes() {
    check_fault(50, &[ONE_BY_ONE[0], ONE_BY_ONE[1], ("REQUEST_TIMEOUT", "300ms")], never_send_the_body).await;
}

/// Responds to the first request when it has read the head, and then resets the connection. The later connections reach `behind`.
async fn start_accepting_at_the_header(behind: String) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(16).expect("a listener");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.expect("a connection");
        let request = read_head(&mut first).await.expect("a request");
        assert!(request.length() > 8 << 20, "the body fits into the buffers of the sockets; make it larger");
        write(&mut first, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        drop(first);
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward_connection(client, behind.clone()));
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_before_the_end_of_the_request_is_no_delivery() {
    let receiver = Receiver::start().await;
    let url = start_accepting_at_the_header(address_of(&receiver.url)).await;
    let variables = [LARGE_BODIES[0], LARGE_BODIES[1], LARGE_BODIES[2], ("BATCH_BYTES", "64MiB"), ("BATCH_EVENTS", "10000")];
    let (exit, report, stderr) = Object::of_lines(10_000).ship(&url, &variables).await;
    assert_eq!((exit, receiver.ids().len()), (0, 10_000), "{stderr}");
    assert_eq!((&report["batches"], &report["retries"]), (&Value::from(1), &Value::from(1)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_until_the_date_in_retry_after() {
    let until = jiff::Timestamp::now() + Duration::from_secs(2);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&until).expect("a date");
    let server = Scripted::start(move |number, _| {
        let early = jiff::Timestamp::now().as_second() < until.as_second();
        match (number, early) {
            (0, true) => Response::builder().status(503).header("retry-after", &date).body(Body::empty()).expect("a response"),
            (_, true) => status(404),
            (_, false) => status(200),
        }
    })
    .await;
    let (exit, report, stderr) = Object::of_lines(5).ship(&server.url, &[]).await;
    assert_eq!((exit, server.seen().len()), (0, 2), "it was retried before the date: {stderr}");
    assert_books(&report, "5 delivered, 0 undelivered, complete true");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_a_server_that_does_not_speak_http() {
    let beats = Faulty::always(|mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "2A\0\0\0\x01").await;
        wait_for_close(&mut stream).await;
    })
    .await;
    let (exit, report, _) = Object::of_lines(5).ship(&beats.url, &[("RETRY_BUDGET", "300ms")]).await;
    assert_eq!(exit, 1);
    assert!(beats.faults() > 0, "the server got no request");
    assert_books(&report, "0 delivered, 5 undelivered, complete false");
    assert!(
        report["error"].as_str().is_some_and(|error| error.contains("is this the Beats port, or a port with TLS?")),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_if_the_server_closes_between_batches() {
    let receiver = Receiver::start().await;
    let behind = address_of(&receiver.url);
    let closing = Faulty::always(move |stream| respond_once(stream, behind.clone())).await;
    let (exit, report, stderr) = Object::of_lines(500).ship(&closing.url, &[("BATCH_EVENTS", "50"), ONE_BY_ONE[0]]).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "500 delivered, 0 undelivered, complete true");
    assert_eq!(receiver.ids().len(), 500);
    assert!(closing.faults() >= 10, "{} connections for ten batches: none was closed", closing.faults());
}

/// Handles one request for each connection, and does not announce that it closes the connection.
async fn respond_once(mut client: TcpStream, behind: String) {
    let Some(request) = read_request(&mut client).await else { return };
    let response = forward(&behind, request).await;
    let _ = client.write_all(&response).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_endpoint_gets_few_of_the_requests() {
    let (busy, receiver) = (Scripted::start(|_, _| status(503)).await, Receiver::start().await);
    let urls = format!("{},{}", busy.url, receiver.url);
    let (exit, report, stderr) = Object::of_lines(5_000).ship(&urls, &[("BATCH_EVENTS", "50")]).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "5000 delivered, 0 undelivered, complete true");
    assert_eq!(receiver.ids().len(), 5_000);
    let requests = busy.seen().len();
    assert!((1..=12).contains(&requests), "the busy endpoint got {requests} of some 100 requests");
}

/// An endpoint that breaks its first connection, and then works.
struct Recovering {
    server: Scripted,
    proxy: Faulty,
    /// Whether the endpoint has got a health check.
    checked: Arc<AtomicBool>,
}

impl Recovering {
    async fn start() -> Self {
        let checked = Arc::new(AtomicBool::new(false));
        let is_checked = Arc::clone(&checked);
        let server = Scripted::start(move |_, request| {
            is_checked.fetch_or(request.body == b"[]", Ordering::Relaxed);
            status(200)
        })
        .await;
        let proxy = Faulty::start(&server.url, 1, close_one_side).await;
        Recovering { server, proxy, checked }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_a_recovered_endpoint_with_an_empty_batch_first() {
    let recovering = Recovering::start().await;
    let checked = Arc::clone(&recovering.checked);
    // Busy until the other endpoint has got its health check: so the other one's time out of service ends.
    let busy =
        Scripted::start(move |number, _| status(if number == 0 || checked.load(Ordering::Relaxed) { 200 } else { 429 })).await;
    let variables = [ONE_BY_ONE[0], ONE_BY_ONE[1], ("BATCH_EVENTS", "20"), ("COMPRESSION", "none"), ("LOG_LEVEL", "debug")];
    let urls = format!("{},{}", recovering.proxy.url, busy.url);
    let (exit, report, stderr) = Object::of_lines(2_000).ship(&urls, &variables).await;
    assert_eq!((exit, recovering.proxy.faults()), (0, 1), "{stderr}");
    assert_books(&report, "2000 delivered, 0 undelivered, complete true");
    let seen = recovering.server.seen();
    assert!(seen.len() > 1, "the endpoint has recovered and got only its health check: {stderr}");
    assert_eq!((seen[0].body.as_slice(), seen[0].headers["content-type"].as_bytes()), (&b"[]"[..], &b"application/json"[..]));
    assert!(seen.iter().all(|request| request.method == "POST"), "a GET would make an event");
    assert!(seen[1..].iter().all(|request| request.body != b"[]"), "it got more than one health check");
}
