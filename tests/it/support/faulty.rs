//! Servers that break the rules of TCP and HTTP, which an HTTP library would not allow.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// A proxy before a receiver. Its first connections have a fault, and the later ones are forwarded.
pub(crate) struct Faulty {
    pub(crate) url: String,
    faults: Arc<AtomicUsize>,
}

impl Faulty {
    /// Starts a proxy whose first `times` connections get `fault`. The others reach `behind`, the URL of a receiver.
    pub(crate) async fn start<F, R>(behind: &str, times: usize, fault: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let faults = Arc::new(AtomicUsize::new(0));
        let (count, behind) = (Arc::clone(&faults), address_of(behind));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if count.load(Ordering::Relaxed) < times {
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(fault(stream));
                } else {
                    tokio::spawn(forward_connection(stream, behind.clone()));
                }
            }
        });
        Faulty { url, faults }
    }

    /// Starts a server whose every connection gets `fault`.
    pub(crate) async fn always<F, R>(fault: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Faulty::start("http://127.0.0.1:1/", usize::MAX, fault).await
    }

    /// Returns the number of connections that had the fault.
    pub(crate) fn faults(&self) -> usize {
        self.faults.load(Ordering::Relaxed)
    }
}

/// Returns the address in a URL: `127.0.0.1:8080` for `http://127.0.0.1:8080/`.
pub(crate) fn address_of(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

pub(crate) async fn forward_connection(mut client: TcpStream, behind: String) {
    let mut server = TcpStream::connect(behind).await.expect("the receiver behind");
    // A broken connection ends the forwarding, whatever the reason.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// The bytes of a request.
pub(crate) struct Request {
    /// The request line and the headers, with the empty line.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Reads up to the end of the headers, and possibly the start of the body. Returns none if the client has closed.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Some(Request { head: bytes, body });
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// Reads a whole request. Returns none if the client has closed.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut request = read_head(stream).await?;
    let length = request.length();
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(request)
}

impl Request {
    /// Returns the body's length according to the headers.
    pub(crate) fn length(&self) -> usize {
        let head = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
        length.trim().parse().expect("a number")
    }
}

/// Forwards a request to the server `behind` and returns its response, which is short.
pub(crate) async fn forward(behind: &str, request: Request) -> Vec<u8> {
    let mut server = TcpStream::connect(behind).await.expect("the receiver behind");
    server.write_all(&[request.head, request.body].concat()).await.expect("forwarding");
    let mut response = vec![0; 4_096];
    let length = server.read(&mut response).await.expect("a response");
    response.truncate(length);
    response
}

/// Waits until the client closes the connection.
pub(crate) async fn wait_for_close(stream: &mut TcpStream) {
    while stream.read(&mut [0; 4_096]).await.is_ok_and(|length| length > 0) {}
}

/// Writes a text. A client that has closed the connection is not an error.
pub(crate) async fn write(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
}

/// A peer that neither accepts nor refuses connections: its backlog is full.
pub(crate) struct DeadPeer {
    pub(crate) url: String,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl DeadPeer {
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(0).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(connected.expect("a connection, or a timeout"));
            assert!(waiting.len() < 100, "the backlog never fills up: this system does not drop connections when it is full");
        }
        DeadPeer { url: format!("http://{address}/"), _listener: listener, _waiting: waiting }
    }
}
