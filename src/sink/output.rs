//! Standard output as a sink: for a look at the events, and for pipes.

use tokio::io::{AsyncWriteExt as _, Stdout};
use tokio::sync::Mutex;

use super::{Delivery, SendError, Sink};
use crate::batch::Batch;
use crate::ledger::Fate;
use crate::stop::Stop;

/// Writes batches of lines to standard output.
#[derive(Debug)]
pub struct OutputSink {
    stdout: Mutex<Stdout>,
}

impl OutputSink {
    /// Takes standard output.
    pub fn stdout() -> Self {
        OutputSink { stdout: Mutex::new(tokio::io::stdout()) }
    }
}

impl Sink for OutputSink {
    async fn deliver(&self, batch: &Batch, _stop: &Stop) -> Delivery {
        let mut stdout = self.stdout.lock().await;
        let written = async {
            stdout.write_all(&batch.body).await?;
            stdout.flush().await
        };
        let result = written.await.map(|()| Fate::Delivered).map_err(|error| SendError::Output(error.to_string()));
        Delivery { result, requests: 0 }
    }
}
