//! `elbship receive`: a stand-in for Logstash's http input.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use elb_log_shipper::receive::{Events, ReceiveSettings, router};
use tokio::net::TcpListener;

use crate::cli::ReceiveArgs;
use crate::run::Exit;

/// Writes events to a file or to standard output, a request at a time.
struct Writer {
    out: Mutex<Box<dyn Write + Send>>,
    written: Arc<AtomicU64>,
}

impl Events for Writer {
    async fn take(&self, events: Vec<String>) -> Result<(), String> {
        let mut text = events.join("\n");
        if !events.is_empty() {
            text.push('\n');
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())?;
        self.written.fetch_add(events.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs the command until it is interrupted.
pub(crate) async fn run(args: ReceiveArgs) -> Exit {
    match serve(args).await {
        Ok(written) => {
            eprintln!("{written} events received");
            Exit::Delivered
        }
        Err(message) => Exit::Failed(message),
    }
}

async fn serve(args: ReceiveArgs) -> Result<u64, String> {
    let out: Box<dyn Write + Send> = match args.out.as_str() {
        "-" => Box::new(io::stdout()),
        path => Box::new(File::create(path).map_err(|error| format!("writing events to {path} failed: {error}"))?),
    };
    let listen = args.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("listening on {listen} failed: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    eprintln!("listening on http://{address}/");
    let written = Arc::new(AtomicU64::new(0));
    let writer = Writer { out: Mutex::new(out), written: Arc::clone(&written) };
    let settings = ReceiveSettings { credentials: args.user.zip(args.password) };
    let interrupted = async {
        // Without a signal handler the process just ends when it is interrupted.
        let _ = tokio::signal::ctrl_c().await;
    };
    let server = axum::serve(listener, router(settings, writer));
    tokio::select! {
        served = server => served.map_err(|error| error.to_string())?,
        () = interrupted => {}
    }
    Ok(written.load(Ordering::Relaxed))
}
