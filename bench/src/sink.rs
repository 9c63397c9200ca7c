//! A receiver that reads requests, returns 200 and discards the bodies.
//!
//! The receiver does not decode the bodies, so that it takes little CPU time from the measured program on a small machine.

use std::fs;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use flate2::read::GzDecoder;

use crate::Result;
use crate::http::{Request, read_request};

/// Number of bodies that are kept: about 30 MB, which is enough to be representative.
const KEPT_BODIES: u64 = 10;

#[derive(Debug)]
struct Sink {
    delay: ResponseDelay,
    keep: Option<PathBuf>,
    connections: AtomicU64,
    requests: AtomicU64,
    body_bytes: AtomicU64,
    text_bytes: AtomicU64,
}

/// When the receiver responds.
#[derive(Clone, Copy, Debug)]
enum ResponseDelay {
    After(Duration),
    Never,
}

/// Prints the port, receives requests until standard input ends, and prints the counts.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (delay, keep) = match arguments {
        ["never"] => (ResponseDelay::Never, None),
        [milliseconds, keep @ ..] => {
            (ResponseDelay::After(Duration::from_millis(milliseconds.parse()?)), keep.first().map(PathBuf::from))
        }
        [] => (ResponseDelay::After(Duration::ZERO), None),
    };
    let sink = Arc::new(Sink::new(delay, keep));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let accepting = Arc::clone(&sink);
    thread::spawn(move || accept(&listener, &accepting));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    println!(
        r#"{{"connections":{},"requests":{},"body_bytes":{},"text_bytes":{}}}"#,
        sink.connections.load(Relaxed),
        sink.requests.load(Relaxed),
        sink.body_bytes.load(Relaxed),
        sink.text_bytes.load(Relaxed)
    );
    Ok(())
}

fn accept(listener: &TcpListener, sink: &Arc<Sink>) {
    for stream in listener.incoming().flatten() {
        sink.connections.fetch_add(1, Relaxed);
        let sink = Arc::clone(sink);
        thread::spawn(move || {
            // The sender may disconnect at any time, and reports missing responses itself.
            let _ = sink.serve(&stream);
        });
    }
}

impl Sink {
    fn new(delay: ResponseDelay, keep: Option<PathBuf>) -> Self {
        let [connections, requests, body_bytes, text_bytes] = [const { AtomicU64::new(0) }; 4];
        Sink { delay, keep, connections, requests, body_bytes, text_bytes }
    }

    fn serve(&self, stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(256 * 1024, stream);
        while let Some(request) = read_request(&mut reader)? {
            self.count(&request)?;
            match self.delay {
                ResponseDelay::After(time) => thread::sleep(time),
                ResponseDelay::Never => loop {
                    thread::park();
                },
            }
            (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
        Ok(())
    }

    fn count(&self, request: &Request) -> Result<()> {
        let number = self.requests.fetch_add(1, Relaxed);
        self.body_bytes.fetch_add(request.body.len() as u64, Relaxed);
        self.text_bytes.fetch_add(text_length(request), Relaxed);
        if let Some(directory) = self.keep.as_ref().filter(|_| number < KEPT_BODIES) {
            let mut text = Vec::new();
            GzDecoder::new(&request.body[..]).read_to_end(&mut text)?;
            fs::write(directory.join(format!("{number:03}.json")), text)?;
        }
        Ok(())
    }
}

/// Returns the length of the text, with which a gzip stream ends.
fn text_length(request: &Request) -> u64 {
    match request.body.last_chunk::<4>() {
        Some(length) if request.gzip => u64::from(u32::from_le_bytes(*length)),
        _ => request.body.len() as u64,
    }
}
