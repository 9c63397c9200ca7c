//! Where batches go.

mod credentials;
mod discovery;
mod endpoint;
mod logstash;
mod outcome;
mod pool;
mod retry_plan;
mod stdout;
mod transport;

use std::sync::{Arc, Mutex};

use bytes::Bytes;

pub use self::credentials::Credentials;
pub use self::discovery::{Discovery, EndpointList};
pub use self::endpoint::{Endpoint, EndpointError, EndpointTemplate};
pub use self::logstash::{EndpointSource, Logstash, LogstashSettings};
pub use self::outcome::{Fault, Outcome, Response, Verdict};
pub use self::pool::EndpointId;
pub use self::retry_plan::{Evidence, Failure, Form, Part, Rejection, RetryContext, RetryPlan, Step};
pub use self::stdout::StdoutSink;
pub use self::transport::{HttpSettings, HttpTransport, Transport};
use crate::shutdown::Shutdown;
use elb_log::batch::Batch;

/// Takes batches. Whoever ships knows no more of where they go.
#[derive(Debug)]
pub enum Sink<T = HttpTransport> {
    /// Logstash's http input.
    Logstash(Arc<Logstash<T>>),
    /// Standard output, one event a line.
    Stdout(StdoutSink),
    /// Nowhere: a dry run.
    Nowhere,
}

/// What became of a batch. Events that are in none of the numbers are undelivered.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Events that were accepted.
    pub delivered: usize,
    /// Events that, by intent, were not sent.
    pub filtered: usize,
    /// Events that nobody will ever take.
    pub rejected: Vec<RejectedEvent>,
    /// Requests begun.
    pub requests: u64,
    /// Why events are undelivered, if any are.
    pub error: Option<SendError>,
}

/// An event that nobody will ever take.
#[derive(Clone, Debug)]
pub struct RejectedEvent {
    /// Its JSON.
    pub event: Bytes,
    /// Who refused it, without secrets.
    pub endpoint: String,
    /// With what answer.
    pub outcome: Outcome,
}

/// Why events were not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The endpoint answered in a way that no retry will change and every other batch would meet too.
    #[error("{endpoint} answered {outcome}")]
    Misconfigured {
        /// The URL without secrets.
        endpoint: String,
        /// What it answered.
        outcome: Outcome,
    },
    /// The endpoint refused a batch down to a single event, and has accepted no other body of the object.
    #[error(
        "{endpoint} refused a batch down to a single event and has accepted nothing else of the object, so that the endpoint may be at fault: {outcome}"
    )]
    NoWitness {
        /// The URL without secrets.
        endpoint: String,
        /// What it answered.
        outcome: Outcome,
    },
    /// The endpoint refuses more events than can be by accident.
    #[error("{endpoint} refused more events of the object than POISON_LIMIT allows; the last one: {outcome}")]
    PoisonLimit {
        /// The URL without secrets.
        endpoint: String,
        /// What it answered.
        outcome: Outcome,
    },
    /// Events were refused for good, and there is no place for them.
    #[error("{endpoint} refuses {events} events of the object for good, and DEAD_LETTER_URL names no place for them: {outcome}")]
    RejectedEvents {
        /// The URL without secrets.
        endpoint: String,
        /// How many of the batch.
        events: usize,
        /// What it answered to the first.
        outcome: Outcome,
    },
    /// The place for such events did not take them.
    #[error("{0}")]
    DeadLetter(String),
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
        last: Outcome,
    },
    /// The run ended before it was delivered.
    #[error("stopped before a batch was delivered: {why}{}", .last.as_ref().map(|last| format!("; its last request: {last}")).unwrap_or_default())]
    Stopped {
        /// Why the run ended.
        why: String,
        /// What happened to the last request, if there was one.
        last: Option<String>,
    },
    /// There are no credentials.
    #[error("{0}")]
    Credentials(String),
    /// The output could not be written.
    #[error("writing the events failed: {0}")]
    Stdout(String),
}

impl SendError {
    /// Whether nothing more of the object is to be sent. Poison without a place fails the object, and the rest of it is
    /// delivered all the same.
    pub fn stops_object(&self) -> bool {
        !matches!(self, SendError::RejectedEvents { .. } | SendError::DeadLetter(_))
    }

    /// Whether every other object of the run would fail in the same way.
    pub fn ends_run(&self) -> bool {
        match self {
            SendError::Misconfigured { .. }
            | SendError::BudgetSpent { .. }
            | SendError::Credentials(_)
            | SendError::Stdout(_) => true,
            SendError::NoWitness { .. }
            | SendError::PoisonLimit { .. }
            | SendError::RejectedEvents { .. }
            | SendError::DeadLetter(_)
            | SendError::Stopped { .. } => false,
        }
    }
}

impl<T: Transport> Sink<T> {
    /// Delivers one batch, or says what of it not and why. `evidence` is what the batches of one object share. Ends soon after
    /// `stop` does.
    pub async fn deliver(&self, batch: &Batch, evidence: &Mutex<Evidence>, stop: &Shutdown) -> Delivery {
        match self {
            Sink::Logstash(logstash) => logstash.deliver(batch, evidence, stop).await,
            Sink::Stdout(stdout) => stdout.deliver(batch).await,
            Sink::Nowhere => Delivery { filtered: batch.event_count(), ..Delivery::default() },
        }
    }
}
