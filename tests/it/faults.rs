//! The delivery policy against real sockets: what networks, and servers that are overloaded, really do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::faulty::{DeadPeer, Faulty, address_of, answer_of, read_head, read_request, say, wait_for_the_end};
use crate::support::{Object, Receiver, Scripted, assert_books, closed_port, status};

/// One batch at a time, so that requests can be counted, and an end where the program would otherwise go on trying.
const ONE_BY_ONE: [(&str, &str); 2] = [("SEND_CONCURRENCY", "1"), ("RETRY_BUDGET", "10s")];

/// Bodies that are larger than what the sockets' buffers hold.
const LARGE_BODIES: [(&str, &str); 3] = [("SEND_CONCURRENCY", "1"), ("RETRY_BUDGET", "10s"), ("COMPRESSION", "none")];

/// Ships `lines` through a front of which the first three connections meet a fault, and checks that each line comes once.
async fn check_fault<F, R>(lines: usize, variables: &[(&str, &str)], fault: F)
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let receiver = Receiver::start().await;
    let front = Faulty::start(&receiver.url, 3, fault).await;
    let (exit, report, stderr) = Object::of_lines(lines).ship(&front.url, variables).await;
    assert_eq!(front.met(), 3, "the fault did not happen three times: {report}");
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, &format!("{lines} delivered, 0 undelivered, complete true"));
    assert_eq!(report["retries"], 3, "{report}");
    let ids = receiver.ids();
    assert_eq!((ids.len(), ids.values().sum::<usize>()), (lines, lines), "each line comes once");
}

async fn refuse_at_the_header(mut stream: TcpStream) {
    let request = read_head(&mut stream).await.expect("a request");
    assert!(request.length() > 1 << 20, "the body is no larger than the buffers of the sockets: make it so");
    // Dropped with a body that nobody has read, the connection is reset.
    say(&mut stream, "HTTP/1.1 429 Too Many Requests\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_logstash_that_refuses_at_the_header_gets_the_batch_again() {
    check_fault(3_000, &LARGE_BODIES, refuse_at_the_header).await;
}

async fn reset_in_the_body(mut stream: TcpStream) {
    read_head(&mut stream).await.expect("a request");
    let mut some = vec![0; 10_000];
    stream.read_exact(&mut some).await.expect("some of the body");
    stream.set_zero_linger().expect("a socket that is reset when it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_the_middle_of_a_body_is_tried_again() {
    check_fault(3_000, &LARGE_BODIES, reset_in_the_body).await;
}

async fn close_one_side(mut stream: TcpStream) {
    read_request(&mut stream).await.expect("a request");
    stream.shutdown().await.expect("closing one side");
    wait_for_the_end(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_on_one_side_is_tried_again() {
    check_fault(50, &ONE_BY_ONE, close_one_side).await;
}

async fn never_answer(mut stream: TcpStream) {
    read_request(&mut stream).await.expect("a request");
    wait_for_the_end(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_is_tried_again_after_the_time_out() {
    let started = Instant::now();
    check_fault(50, &[ONE_BY_ONE[0], ONE_BY_ONE[1], ("REQUEST_TIMEOUT", "300ms")], never_answer).await;
    assert!(started.elapsed() >= Duration::from_millis(900), "three time-outs are shorter than they should be");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers_is_named_when_the_budget_is_spent() {
    let server = Faulty::always(never_answer).await;
    let variables = [("REQUEST_TIMEOUT", "200ms"), ("RETRY_BUDGET", "600ms")];
    let (exit, report, _) = Object::of_lines(50).ship(&server.url, &variables).await;
    assert!(server.met() >= 2, "{} requests: it was not tried again", server.met());
    assert_eq!(exit, 1);
    assert_books(&report, "0 delivered, 50 undelivered, complete false");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("no response within REQUEST_TIMEOUT") && error.contains(&server.url), "{error}");
}

/// Hands the request on and holds the answer back until nobody waits for it any more.
async fn answer_too_late(mut client: TcpStream, behind: String) {
    let request = read_request(&mut client).await.expect("a request");
    let answer = answer_of(&behind, request).await;
    wait_for_the_end(&mut client).await;
    let _ = client.write_all(&answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_accepted_too_late_comes_again_under_the_same_ids() {
    let receiver = Receiver::start().await;
    let behind = address_of(&receiver.url);
    let front = Faulty::start(&receiver.url, 1, move |stream| answer_too_late(stream, behind.clone())).await;
    let variables = [ONE_BY_ONE[0], ONE_BY_ONE[1], ("REQUEST_TIMEOUT", "500ms")];
    let (exit, report, stderr) = Object::of_lines(50).ship(&front.url, &variables).await;
    assert_eq!((exit, front.met()), (0, 1), "{stderr}");
    assert_books(&report, "50 delivered, 0 undelivered, complete true");
    let ids = receiver.ids();
    assert_eq!(ids.len(), 50, "the second time has other ids than the first");
    assert!(ids.values().all(|&times| times == 2), "what nobody answered in time was not sent again: {ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_everything() {
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
            tokio::spawn(read_in_drops(client, behind.clone(), Arc::clone(&count)));
        }
    });
    let (exit, report, stderr) = Object::of_lines(1_000).ship(&url, &LARGE_BODIES).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "1000 delivered, 0 undelivered, complete true");
    assert_eq!((receiver.ids().len(), &report["retries"]), (1_000, &Value::from(0)));
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads > 5_000, "{reads} reads: the reader was not slow");
}

/// Passes on 200 bytes at a time.
async fn read_in_drops(client: TcpStream, behind: String, reads: Arc<AtomicUsize>) {
    let server = TcpStream::connect(behind).await.expect("the receiver behind");
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut drop = [0; 200];
    while let Ok(length @ 1..) = from_client.read(&mut drop).await {
        reads.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        to_server.write_all(&drop[..length]).await.expect("the receiver behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_costs_one_time_out_and_the_other_endpoint_gets_everything() {
    let (dead, receiver) = (DeadPeer::start().await, Receiver::start().await);
    let variables = [("CONNECT_TIMEOUT", "300ms"), ("BATCH_EVENTS", "50"), ("SEND_CONCURRENCY", "1"), ("LOG_LEVEL", "debug")];
    let started = Instant::now();
    let (exit, report, stderr) = Object::of_lines(500).ship(&format!("{},{}", dead.url, receiver.url), &variables).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "500 delivered, 0 undelivered, complete true");
    assert_eq!(receiver.ids().len(), 500);
    let failed = stderr.lines().filter(|line| line.contains("retrying a request") && line.contains(&dead.url)).count();
    assert_eq!(failed, 1, "the dead peer is asked once and then rests: {stderr}");
    assert!(stderr.contains("no connection"), "{stderr}");
    assert!(started.elapsed() < Duration::from_secs(4), "waiting for the dead peer took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses_connections_costs_nothing_where_there_is_another() {
    let receiver = Receiver::start().await;
    let urls = format!("{},{}", closed_port(), receiver.url);
    let (exit, report, stderr) = Object::of_lines(500).ship(&urls, &[("BATCH_EVENTS", "50"), ONE_BY_ONE[0]]).await;
    assert_eq!((exit, receiver.ids().len()), (0, 500), "{stderr}");
    assert_eq!(report["retries"], 1, "it is asked once and then rests: {report}");
}

/// Accepts, and then says something without end.
async fn never_end_the_answer(mut stream: TcpStream) {
    while read_request(&mut stream).await.is_some() {
        say(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while stream.write_all(b"4\r\nok, \r\n").await.is_ok() {}
    }
}

/// Accepts, announces a text, and does not send it.
async fn never_send_the_text(mut stream: TcpStream) {
    while read_request(&mut stream).await.is_some() {
        say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
        wait_for_the_end(&mut stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_counts_even_if_the_answer_never_ends() {
    let servers = [Faulty::always(never_end_the_answer).await, Faulty::always(never_send_the_text).await];
    for server in servers {
        let started = Instant::now();
        let (exit, report, stderr) = Object::of_lines(50).ship(&server.url, &[]).await;
        assert_eq!((exit, server.met()), (0, 1), "{stderr}");
        assert_books(&report, "50 delivered, 0 undelivered, complete true");
        assert!(started.elapsed() < Duration::from_secs(4), "an answer without end held it up for {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_in_retry_after_is_waited_for() {
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
    assert_eq!((exit, server.seen().len()), (0, 2), "asked again before the date: {stderr}");
    assert_books(&report, "5 delivered, 0 undelivered, complete true");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_no_http_is_named() {
    let beats = Faulty::always(|mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, "2A\0\0\0\x01").await;
        wait_for_the_end(&mut stream).await;
    })
    .await;
    let (exit, report, _) = Object::of_lines(5).ship(&beats.url, &[("RETRY_BUDGET", "300ms")]).await;
    assert_eq!(exit, 1);
    assert!(beats.met() > 0, "nobody was asked");
    assert_books(&report, "0 delivered, 5 undelivered, complete false");
    assert!(report["error"].as_str().is_some_and(|error| error.contains("is this the Beats port?")), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_closes_between_batches_loses_nothing() {
    let receiver = Receiver::start().await;
    let behind = address_of(&receiver.url);
    let closing = Faulty::always(move |stream| answer_once(stream, behind.clone())).await;
    let (exit, report, stderr) = Object::of_lines(500).ship(&closing.url, &[("BATCH_EVENTS", "50"), ONE_BY_ONE[0]]).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "500 delivered, 0 undelivered, complete true");
    assert_eq!(receiver.ids().len(), 500);
    assert!(closing.met() >= 10, "{} connections for ten batches: none was closed", closing.met());
}

/// One request a connection, without a word about closing it.
async fn answer_once(mut client: TcpStream, behind: String) {
    let Some(request) = read_request(&mut client).await else { return };
    let answer = answer_of(&behind, request).await;
    let _ = client.write_all(&answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_endpoints_a_busy_one_gets_few_requests_and_the_other_everything() {
    let (busy, receiver) = (Scripted::start(|_, _| status(503)).await, Receiver::start().await);
    let urls = format!("{},{}", busy.url, receiver.url);
    let (exit, report, stderr) = Object::of_lines(5_000).ship(&urls, &[("BATCH_EVENTS", "50")]).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "5000 delivered, 0 undelivered, complete true");
    assert_eq!(receiver.ids().len(), 5_000);
    let asked = busy.seen().len();
    assert!((1..=12).contains(&asked), "the busy endpoint got {asked} of some 100 requests");
}

/// An endpoint that breaks its first connection, and has come back when it is asked again.
struct ComesBack {
    server: Scripted,
    front: Faulty,
    probed: Arc<Notify>,
}

impl ComesBack {
    async fn start() -> Self {
        let probed = Arc::new(Notify::new());
        let answered = Arc::clone(&probed);
        let server = Scripted::start(move |_, request| {
            if request.body == b"[]" {
                answered.notify_one();
            }
            status(200)
        })
        .await;
        let front = Faulty::start(&server.url, 1, close_one_side).await;
        ComesBack { server, front, probed }
    }
}

/// Asks for a wait of a second first, in which the other one's rest ends, and then waits for that one to be probed.
async fn start_patient(probed: Arc<Notify>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (events, waited) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&events);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (probed, waited, asked, count) =
                (Arc::clone(&probed), Arc::clone(&waited), Arc::clone(&asked), Arc::clone(&count));
            tokio::spawn(async move {
                while let Some(request) = read_request(&mut stream).await {
                    if asked.fetch_add(1, Ordering::Relaxed) == 1 {
                        say(&mut stream, "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n").await;
                        continue;
                    }
                    if asked.load(Ordering::Relaxed) > 2 && !waited.swap(true, Ordering::Relaxed) {
                        timeout(Duration::from_secs(5), probed.notified()).await.expect("the other endpoint is probed");
                    }
                    let events: Vec<Value> = serde_json::from_slice(&request.body).expect("a JSON array");
                    count.fetch_add(events.len(), Ordering::Relaxed);
                    say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    });
    (url, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_comes_back_is_probed_with_an_empty_batch_before_it_gets_events() {
    let back = ComesBack::start().await;
    let (patient, events) = start_patient(Arc::clone(&back.probed)).await;
    let variables = [ONE_BY_ONE[0], ONE_BY_ONE[1], ("BATCH_EVENTS", "20"), ("COMPRESSION", "none"), ("LOG_LEVEL", "debug")];
    let (exit, report, stderr) = Object::of_lines(2_000).ship(&format!("{},{patient}", back.front.url), &variables).await;
    assert_eq!((exit, back.front.met()), (0, 1), "{stderr}");
    assert_books(&report, "2000 delivered, 0 undelivered, complete true");
    let seen = back.server.seen();
    assert!(seen.len() > 1, "the endpoint has come back, and got nothing but its probe: {stderr}");
    assert_eq!((seen[0].body.as_slice(), seen[0].headers["content-type"].as_bytes()), (&b"[]"[..], &b"application/json"[..]));
    assert!(seen.iter().all(|request| request.method == "POST"), "a GET would make an event");
    assert!(seen[1..].iter().all(|request| request.body != b"[]"), "probed more than once");
    let there: usize = seen.iter().map(|request| request.events().len()).sum();
    assert_eq!(there + events.load(Ordering::Relaxed), 2_000);
}
