//! Ctrl-C and SIGTERM: the first signal lets a command end in order, and the second ends it at once.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use elb_log_shipper::reason::Reason;
use elb_log_shipper::shutdown::Shutdown;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::SetOnce;

use crate::progress::Printer;

/// A signal that ends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT, which Ctrl-C sends.
    Interrupt,
    /// SIGTERM
    Terminate,
}

impl Signal {
    /// Returns the exit status, as a shell shows it for a program that the signal has ended: 128 and the signal's number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Interrupt => "Ctrl-C (SIGINT)",
            Signal::Terminate => "SIGTERM",
        })
    }
}

/// Receives both signals.
pub(crate) struct Signals {
    interrupt: Stream,
    terminate: Stream,
}

impl Signals {
    /// Installs the handlers. From now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// The system does not allow it.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

/// The signal that a run has received, if any.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedSignal(Arc<SetOnce<Signal>>);

impl ReceivedSignal {
    pub(crate) fn get(&self) -> Option<Signal> {
        self.0.get().copied()
    }

    /// Waits for the signal.
    pub(crate) async fn wait(&self) {
        self.0.wait().await;
    }
}

/// Watches for signals while a run goes on. The first one stops the run; after `grace`, requests in flight are given up. The second
/// one ends the process.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn stop_on_signals(shutdown: Shutdown, grace: Duration, printer: Printer) -> io::Result<ReceivedSignal> {
    let mut signals = Signals::new()?;
    let received = ReceivedSignal::default();
    let first = received.clone();
    tokio::spawn(async move {
        let signal = signals.next().await;
        let _ = first.0.set(signal);
        shutdown.stop(Reason::Interrupted, &format!("interrupted by {signal}"));
        let wait = format!("stopping after {signal}: waiting up to {} s for requests in flight", grace.as_secs_f64());
        printer.print(&format!("{wait}; a second Ctrl-C ends at once"));
        let second = tokio::select! {
            second = signals.next() => second,
            () = tokio::time::sleep(grace) => {
                shutdown.abandon();
                signals.next().await
            }
        };
        printer.clear();
        std::process::exit(second.exit_code().into());
    });
    Ok(received)
}
