//! Writes events to standard output: for a look at them, and for pipes.

use std::io;

use elb_log::batch::Batch;
use tokio::io::{AsyncWriteExt as _, Stdout};
use tokio::sync::Mutex;

use super::{Delivery, SendError};
use crate::shutdown::Shutdown;

/// Writes batches of lines to standard output.
#[derive(Debug)]
pub struct StdoutSink {
    stdout: Mutex<Stdout>,
}

impl StdoutSink {
    /// Creates a sink that writes to the process's standard output.
    pub(crate) fn new() -> Self {
        StdoutSink { stdout: Mutex::new(tokio::io::stdout()) }
    }

    /// Writes a batch, unless the run ends while the reader of standard output makes the program wait.
    pub(super) async fn deliver(&self, batch: &Batch, shutdown: &Shutdown) -> Delivery {
        let mut stdout = self.stdout.lock().await;
        let written = async {
            stdout.write_all(&batch.body.bytes).await?;
            stdout.flush().await
        };
        let error = tokio::select! {
            biased;
            written = written => match written {
                Ok(()) => return Delivery { delivered: batch.event_count(), ..Delivery::default() },
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => SendError::ClosedPipe,
                Err(error) => SendError::Stdout(error.to_string()),
            },
            () = shutdown.abandoned() => SendError::Stopped { why: shutdown.description(), last: None },
        };
        Delivery { error: Some(error), ..Delivery::default() }
    }
}
