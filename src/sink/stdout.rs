//! Writes events to standard output: for a look at them, and for pipes.

use elb_log::batch::Batch;
use tokio::io::{AsyncWriteExt as _, Stdout};
use tokio::sync::Mutex;

use super::{Delivery, SendError};

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

    /// Writes a batch.
    pub(super) async fn deliver(&self, batch: &Batch) -> Delivery {
        let mut stdout = self.stdout.lock().await;
        let written = async {
            stdout.write_all(&batch.body.bytes).await?;
            stdout.flush().await
        };
        match written.await {
            Ok(()) => Delivery { delivered: batch.event_count(), ..Delivery::default() },
            Err(error) => Delivery { error: Some(SendError::Stdout(error.to_string())), ..Delivery::default() },
        }
    }
}
