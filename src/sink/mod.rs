//! Where batches go.

mod http;
mod output;
mod retry;

pub use self::http::{Endpoint, EndpointError, HttpSettings, HttpSink};
pub use self::output::OutputSink;
pub use self::retry::{Answer, Fault, Refusal, Step, next_step};
use crate::batch::Batch;
use crate::ledger::Fate;
use crate::stop::Stop;

/// Takes batches. Whoever ships knows no more of where they go.
pub trait Sink: Send + Sync + 'static {
    /// Delivers one batch, or says why not. Ends soon after `stop` does.
    fn deliver(&self, batch: &Batch, stop: &Stop) -> impl Future<Output = Delivery> + Send;
}

/// What became of a batch.
#[derive(Debug)]
pub struct Delivery {
    /// How its events ended.
    pub result: Result<Fate, SendError>,
    /// Requests begun.
    pub requests: u64,
}

/// Why a batch was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The endpoint answered in a way that no retry will change and every other batch would meet too.
    #[error("{endpoint} answered {refusal}")]
    Misconfigured {
        /// The URL without secrets.
        endpoint: String,
        /// What it answered.
        refusal: Refusal,
    },
    /// The endpoint does not accept this body.
    #[error("{endpoint} refused the batch: {refusal}")]
    Refused {
        /// The URL without secrets.
        endpoint: String,
        /// What it answered.
        refusal: Refusal,
    },
    /// It was tried until the retry budget was spent.
    #[error(
        "gave up after {requests} requests, because RETRY_BUDGET ({budget_s} s) leaves no time for another; the last one to {endpoint}: {last}"
    )]
    BudgetSpent {
        /// The URL without secrets.
        endpoint: String,
        /// Requests begun.
        requests: u64,
        /// The budget in seconds.
        budget_s: u64,
        /// What happened to the last one.
        last: String,
    },
    /// The run ended before it was delivered.
    #[error("the run ended before the batch was delivered{}", .last.as_ref().map(|last| format!("; the last request: {last}")).unwrap_or_default())]
    Stopped {
        /// What happened to the last request, if there was one.
        last: Option<String>,
    },
    /// The output could not be written.
    #[error("writing the events failed: {0}")]
    Output(String),
}

impl SendError {
    /// Whether nothing more of the object is to be sent. A batch that was refused fails the object, and the rest of it is
    /// delivered all the same.
    pub fn stops_object(&self) -> bool {
        !matches!(self, SendError::Refused { .. })
    }

    /// Whether every other object of the run would fail in the same way.
    pub fn ends_run(&self) -> bool {
        match self {
            SendError::Misconfigured { .. } | SendError::BudgetSpent { .. } | SendError::Output(_) => true,
            SendError::Refused { .. } | SendError::Stopped { .. } => false,
        }
    }
}

/// The places that the program itself sends to.
#[derive(Debug)]
pub enum Destination {
    /// Logstash's http input.
    Http(HttpSink),
    /// Standard output, one event a line.
    Output(OutputSink),
    /// Nowhere: a dry run.
    Nowhere,
}

impl Sink for Destination {
    async fn deliver(&self, batch: &Batch, stop: &Stop) -> Delivery {
        match self {
            Destination::Http(sink) => sink.deliver(batch, stop).await,
            Destination::Output(sink) => sink.deliver(batch, stop).await,
            Destination::Nowhere => Delivery { result: Ok(Fate::Filtered), requests: 0 },
        }
    }
}
