//! `elbship receive`: receives events instead of Logstash.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use elb_common::terminal::escape_json;
use elb_common::text::counted;
use elb_log_shipper::receive::{EventStore, ReceiveSettings, router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::ReceiveArgs;
use crate::error::CommandError;
use crate::output::Output;
use crate::signals::Signals;
use crate::terminal::print_error;

/// Permissions of a new file for events, before the umask.
const EVENT_FILE_MODE: u32 = 0o666;

/// Writes the events of each request to a file or to standard output.
struct EventFile {
    out: Mutex<Box<dyn Write + Send>>,
    written: Arc<AtomicU64>,
    /// Whether the events are shown on a terminal, and not kept exactly as they were received.
    shown: bool,
    /// Cancelled when the reader of standard output has closed it.
    closed: CancellationToken,
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
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                self.closed.cancel();
            }
            error.to_string()
        })?;
        self.written.fetch_add(events.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs the command until it is interrupted.
pub(crate) async fn run(args: ReceiveArgs) -> Result<(), CommandError> {
    let closed = CancellationToken::new();
    let written = serve(args, closed.clone()).await.map_err(CommandError::Failed)?;
    if closed.is_cancelled() {
        return Err(CommandError::ClosedPipe);
    }
    print_error(&format!("{} received", counted(written, "event")));
    Ok(())
}

async fn serve(args: ReceiveArgs, closed: CancellationToken) -> Result<u64, String> {
    let out = Output::open(&args.out, EVENT_FILE_MODE);
    let shown = matches!(out, Ok(Output::Stdout)) && io::stdout().is_terminal();
    let out = out.and_then(Output::into_writer).map_err(|error| format!("cannot write events to {}: {error}", args.out))?;
    let listen = args.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    print_error(&format!("listening on http://{address}/"));
    let written = Arc::new(AtomicU64::new(0));
    let events = EventFile { out: Mutex::new(out), written: Arc::clone(&written), shown, closed: closed.clone() };
    let settings = ReceiveSettings { credentials: args.user.zip(args.password) };
    let mut signals = Signals::new().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let server = axum::serve(listener, router(settings, events));
    tokio::select! {
        served = server => served.map_err(|error| error.to_string())?,
        // This is how the command ends.
        _ = signals.next() => {}
        () = closed.cancelled() => {}
    }
    Ok(written.load(Ordering::Relaxed))
}
