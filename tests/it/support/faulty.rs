//! Servers that break the rules of TCP and HTTP, which no HTTP library would do.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// A front for a receiver. Its first connections meet a fault, the later ones are passed on.
pub struct Faulty {
    pub url: String,
    met: Arc<AtomicUsize>,
}

impl Faulty {
    /// The first `times` connections get `fault`, the others reach `behind`, the URL of a receiver.
    pub async fn start<F, R>(behind: &str, times: usize, fault: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let met = Arc::new(AtomicUsize::new(0));
        let (count, behind) = (Arc::clone(&met), address_of(behind));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if count.load(Ordering::Relaxed) < times {
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(fault(stream));
                } else {
                    tokio::spawn(pass_on(stream, behind.clone()));
                }
            }
        });
        Faulty { url, met }
    }

    /// A server of which every connection meets the fault.
    pub async fn always<F, R>(fault: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Faulty::start("http://127.0.0.1:1/", usize::MAX, fault).await
    }

    /// Connections that met the fault.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

/// `127.0.0.1:8080` of `http://127.0.0.1:8080/`.
pub fn address_of(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

async fn pass_on(mut client: TcpStream, behind: String) {
    let mut server = TcpStream::connect(behind).await.expect("the receiver behind");
    // A connection that breaks is the end of it, for whatever reason.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// A request as it came.
pub struct Request {
    /// The request line and the headers, with the empty line.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// Reads up to the end of the headers, and maybe the start of the body; none if the client has closed.
pub async fn read_head(stream: &mut TcpStream) -> Option<Request> {
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

/// Reads a whole request; none if the client has closed.
pub async fn read_request(stream: &mut TcpStream) -> Option<Request> {
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
    /// As its headers say.
    pub fn length(&self) -> usize {
        let head = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
        length.trim().parse().expect("a number")
    }
}

/// Hands a request on to the server `behind` and gives its answer, which is a short one.
pub async fn answer_of(behind: &str, request: Request) -> Vec<u8> {
    let mut server = TcpStream::connect(behind).await.expect("the receiver behind");
    server.write_all(&[request.head, request.body].concat()).await.expect("handing on");
    let mut answer = vec![0; 4_096];
    let length = server.read(&mut answer).await.expect("an answer");
    answer.truncate(length);
    answer
}

/// Waits until the client has given up.
pub async fn wait_for_the_end(stream: &mut TcpStream) {
    while stream.read(&mut [0; 4_096]).await.is_ok_and(|length| length > 0) {}
}

/// Writes, whether or not the client still listens.
pub async fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
}

/// A peer that is dead without refusing: nobody accepts, and there is no room for another connection.
pub struct DeadPeer {
    pub url: String,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl DeadPeer {
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(0).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(connected.expect("a connection, or none at all"));
            assert!(waiting.len() < 100, "the backlog has no end: this system does not drop connections when it is full");
        }
        DeadPeer { url: format!("http://{address}/"), _listener: listener, _waiting: waiting }
    }
}
