//! A receiver that does as little as possible: it reads requests, answers 200 and drops them.
//!
//! It decodes nothing, so that on a small machine it takes no time from what is measured.

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

/// How many bodies are kept: some 30 MB, enough to be like the rest.
const KEPT: u64 = 10;

#[derive(Debug)]
struct Sink {
    patience: Patience,
    keep: Option<PathBuf>,
    connections: AtomicU64,
    requests: AtomicU64,
    body_bytes: AtomicU64,
    text_bytes: AtomicU64,
}

/// How soon it answers.
#[derive(Clone, Copy, Debug)]
enum Patience {
    After(Duration),
    Never,
}

/// Prints its port, takes requests until standard input ends, and prints what came.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (patience, keep) = match arguments {
        ["never"] => (Patience::Never, None),
        [milliseconds, keep @ ..] => {
            (Patience::After(Duration::from_millis(milliseconds.parse()?)), keep.first().map(PathBuf::from))
        }
        [] => (Patience::After(Duration::ZERO), None),
    };
    let sink = Arc::new(Sink::new(patience, keep));
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
            // The sender may go at any time; what it then lacks, it notices itself.
            let _ = sink.serve(&stream);
        });
    }
}

impl Sink {
    fn new(patience: Patience, keep: Option<PathBuf>) -> Self {
        let [connections, requests, body_bytes, text_bytes] = [const { AtomicU64::new(0) }; 4];
        Sink { patience, keep, connections, requests, body_bytes, text_bytes }
    }

    fn serve(&self, stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(256 * 1024, stream);
        while let Some(request) = read_request(&mut reader)? {
            self.take(&request)?;
            match self.patience {
                Patience::After(time) => thread::sleep(time),
                Patience::Never => loop {
                    thread::park();
                },
            }
            (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
        Ok(())
    }

    fn take(&self, request: &Request) -> Result<()> {
        let number = self.requests.fetch_add(1, Relaxed);
        self.body_bytes.fetch_add(request.body.len() as u64, Relaxed);
        self.text_bytes.fetch_add(text_length(request), Relaxed);
        if let Some(directory) = self.keep.as_ref().filter(|_| number < KEPT) {
            let mut text = Vec::new();
            GzDecoder::new(&request.body[..]).read_to_end(&mut text)?;
            fs::write(directory.join(format!("{number:03}.json")), text)?;
        }
        Ok(())
    }
}

/// A gzip stream ends with the length of its text.
fn text_length(request: &Request) -> u64 {
    match request.body.last_chunk::<4>() {
        Some(length) if request.gzip => u64::from(u32::from_le_bytes(*length)),
        _ => request.body.len() as u64,
    }
}
