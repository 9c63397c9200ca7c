//! `elbship receive`: receives events instead of Logstash.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use elb_common::terminal::escape_json;
use elb_log_shipper::receive::{EventStore, ReceiveSettings, router};
use tokio::net::TcpListener;

use crate::cli::ReceiveArgs;
use crate::error::CommandError;
use crate::terminal::print_error;

/// Writes the events of each request to a file or to standard output.
struct EventFile {
    out: Mutex<Box<dyn Write + Send>>,
    written: Arc<AtomicU64>,
    /// Whether the events are shown on a terminal, and not kept exactly as they were received.
    shown: bool,
}

impl EventStore for EventFile {
    async fn store(&self, events: Vec<String>) -> Result<(), String> {
        let mut text = events.join("\n");
        if !events.is_empty() {
            text.push('\n');
        }
        if self.shown {
            text = escape_json(&text).into_owned();
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())?;
        self.written.fetch_add(events.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs the command until it is interrupted.
pub(crate) async fn run(args: ReceiveArgs) -> Result<(), CommandError> {
    let written = serve(args).await.map_err(CommandError::Failed)?;
    print_error(&format!("{written} events received"));
    Ok(())
}

async fn serve(args: ReceiveArgs) -> Result<u64, String> {
    let out: Box<dyn Write + Send> = match args.out.as_str() {
        "-" => Box::new(io::stdout()),
        path => Box::new(File::create(path).map_err(|error| format!("cannot write events to {path}: {error}"))?),
    };
    let listen = args.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    print_error(&format!("listening on http://{address}/"));
    let written = Arc::new(AtomicU64::new(0));
    let events =
        EventFile { out: Mutex::new(out), written: Arc::clone(&written), shown: args.out == "-" && io::stdout().is_terminal() };
    let settings = ReceiveSettings { credentials: args.user.zip(args.password) };
    let interrupted = async {
        // Without a signal handler, an interrupt ends the process.
        let _ = tokio::signal::ctrl_c().await;
    };
    let server = axum::serve(listener, router(settings, events));
    tokio::select! {
        served = server => served.map_err(|error| error.to_string())?,
        () = interrupted => {}
    }
    Ok(written.load(Ordering::Relaxed))
}
