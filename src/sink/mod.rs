//! Delivers batches of events, and reports what became of each event.
//!
//! A [`Batch`] comes in, a [`Delivery`] goes out. [`Logstash`] carries out what `retry_plan` decides, through `transport`, at the
//! endpoints that `endpoints` keeps up to date.

mod acceptances;
mod connection;
mod credentials;
mod discovery;
mod endpoint;
mod endpoints;
mod evidence;
mod logstash;
mod outcome;
mod part;
mod pool;
mod request_body;
mod retry_plan;
mod retrying;
mod secrets;
mod stdout;
mod tls_fault;
mod transport;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use elb_common::text::counted;
use elb_log::batch::Batch;

pub use self::connection::{Connection, TlsSession};
pub use self::credentials::Credentials;
pub use self::discovery::Discovery;
pub use self::endpoint::{Endpoint, EndpointError, EndpointTemplate};
pub use self::endpoints::EndpointSource;
pub use self::evidence::Evidence;
pub use self::logstash::{Logstash, LogstashSettings};
pub(crate) use self::outcome::Verdict;
pub use self::outcome::{Fault, Outcome, Response, ResponseCheck};
pub use self::retrying::Retrying;
pub use self::stdout::StdoutSink;
pub use self::tls_fault::TlsFault;
pub use self::transport::{HttpSettings, HttpTransport, Transport};
use crate::reason::Reason;
use crate::shutdown::Shutdown;

/// The destination of batches.
#[derive(Debug)]
pub enum Sink<T = HttpTransport> {
    /// Logstash's http input.
    Logstash(Arc<Logstash<T>>),
    /// Standard output, one event a line.
    Stdout(StdoutSink),
    /// Nowhere: a dry run.
    Nowhere,
}

/// What became of a batch's events. Events in none of the numbers are undelivered.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Number of events that an endpoint accepted.
    pub delivered: usize,
    /// Number of events that were intentionally not sent.
    pub filtered: usize,
    /// Events that an endpoint rejects permanently.
    pub rejected: Vec<RejectedEvent>,
    /// Number of requests that were started.
    pub requests: u64,
    /// Why events are undelivered, if any are.
    pub error: Option<SendError>,
}

/// An event that an endpoint rejects, while it accepts other events.
#[derive(Clone, Debug)]
pub struct RejectedEvent {
    /// The event's JSON.
    pub event: Bytes,
    /// The endpoint's URL, without secrets.
    pub endpoint: String,
    /// How the endpoint rejected it.
    pub outcome: Outcome,
}

/// Why events were not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The response shows that no retry will succeed, and that every other batch would fail, too.
    #[error("cannot deliver events to {endpoint}: {outcome}")]
    Misconfigured {
        /// The URL without secrets.
        endpoint: String,
        /// How the request ended.
        outcome: Outcome,
    },
    /// The endpoint refused a batch down to a single event, and has accepted no other body of the object, so it lacks a witness.
    #[error(
        "cannot deliver events to {endpoint}: it refused a batch down to a single event and has accepted nothing else of the object; check that it is a Logstash http input; last response: {outcome}"
    )]
    NoWitness {
        /// The URL without secrets.
        endpoint: String,
        /// How the last request ended.
        outcome: Outcome,
    },
    /// The endpoint, or a firewall in front of it, blocked a batch down to a single event, and accepted no other event since.
    #[error(
        "cannot deliver events to {endpoint}: it accepts an empty batch, blocks these events, and has accepted no other event since; if a firewall in front of Logstash blocks their content, allow it there, or ship the object together with others; last response: {outcome}"
    )]
    NoFreshWitness {
        /// The URL without secrets.
        endpoint: String,
        /// How the last request ended.
        outcome: Outcome,
    },
    /// The endpoint rejects too many events of the object.
    #[error(
        "cannot deliver events to {endpoint}: it rejected more events of the object than POISON_LIMIT allows; last response: {outcome}"
    )]
    PoisonLimit {
        /// The URL without secrets.
        endpoint: String,
        /// How the last request ended.
        outcome: Outcome,
    },
    /// Events were rejected, and there is no dead-letter destination.
    #[error("cannot deliver {} of the object to {endpoint}: {outcome}; set DEAD_LETTER_URL to keep rejected events", counted(*.events as u64, "event"))]
    RejectedEvents {
        /// The URL without secrets.
        endpoint: String,
        /// Number of rejected events in the batch.
        events: usize,
        /// How the first of them was rejected.
        outcome: Outcome,
    },
    /// Rejected events could not be written to the dead-letter destination.
    #[error("{0}")]
    DeadLetter(String),
    /// Retries used up the retry budget.
    #[error(
        "cannot deliver a batch to {endpoint}: {last}; gave up after {requests} requests because RETRY_BUDGET ({budget_s} s) leaves no time for another"
    )]
    BudgetSpent {
        /// The URL without secrets.
        endpoint: String,
        /// Number of requests that were started.
        requests: u64,
        /// The budget in seconds.
        budget_s: u64,
        /// How the last request ended.
        last: Outcome,
    },
    /// Every endpoint asked to wait, for longer than the rest of the retry budget.
    #[error(
        "cannot deliver a batch: every endpoint asked to wait (Retry-After), and the first wait ends in {wait_s} s, after the rest of RETRY_BUDGET ({budget_s} s){}", .last.as_ref().map(|last| format!("; last response: {last}")).unwrap_or_default()
    )]
    AllPaused {
        /// The time until the first endpoint may get a request, in seconds. `RETRY_BUDGET` limits it.
        wait_s: u64,
        /// The budget in seconds.
        budget_s: u64,
        /// How the batch's last request ended, if there was one.
        last: Option<String>,
    },
    /// The run ended before the batch was delivered.
    #[error("cannot deliver a batch: {why}{}", .last.as_ref().map(|last| format!("; its last request: {last}")).unwrap_or_default())]
    Stopped {
        /// Why the run ended.
        why: String,
        /// How the last request ended, if there was one.
        last: Option<String>,
    },
    /// There are no credentials.
    #[error("{0}")]
    Credentials(String),
    /// Standard output could not be written.
    #[error("cannot write events to standard output: {0}")]
    Stdout(String),
    /// The program that reads standard output has closed it, because it needs no more events.
    #[error("cannot write events to standard output: its reader has closed it")]
    ClosedPipe,
}

impl SendError {
    /// Returns the reason with which the object fails; none if the end of the run is the reason.
    pub(crate) fn reason(&self) -> Option<Reason> {
        Some(match self {
            SendError::Misconfigured { outcome, .. }
            | SendError::NoWitness { outcome, .. }
            | SendError::NoFreshWitness { outcome, .. }
            | SendError::BudgetSpent { last: outcome, .. } => outcome.reason(),
            SendError::PoisonLimit { .. } | SendError::RejectedEvents { .. } => Reason::Rejected,
            SendError::DeadLetter(_) => Reason::DeadLetter,
            SendError::AllPaused { .. } => Reason::Busy,
            SendError::Credentials(_) => Reason::Credentials,
            SendError::Stdout(_) | SendError::ClosedPipe => Reason::Output,
            SendError::Stopped { .. } => return None,
        })
    }

    /// Returns whether nothing more of the object is sent. A rejected event without a dead-letter destination fails its object,
    /// but the object's other events are still delivered.
    pub(crate) fn stops_object(&self) -> bool {
        !matches!(self, SendError::RejectedEvents { .. } | SendError::DeadLetter(_))
    }

    /// Returns whether every other object of the run would fail in the same way.
    pub(crate) fn ends_run(&self) -> bool {
        match self {
            SendError::Misconfigured { .. }
            | SendError::BudgetSpent { .. }
            | SendError::AllPaused { .. }
            | SendError::Credentials(_)
            | SendError::Stdout(_)
            | SendError::ClosedPipe => true,
            SendError::NoWitness { .. }
            | SendError::NoFreshWitness { .. }
            | SendError::PoisonLimit { .. }
            | SendError::RejectedEvents { .. }
            | SendError::DeadLetter(_)
            | SendError::Stopped { .. } => false,
        }
    }
}

impl<T: Transport> Sink<T> {
    /// Begins a run. What was decided during an earlier one about misconfigured endpoints is decided anew.
    pub(crate) fn begin_run(&self) {
        if let Sink::Logstash(logstash) = self {
            logstash.begin_run();
        }
    }

    /// Returns why batches are waiting: how the last request to Logstash failed, if it did.
    pub(crate) fn outage(&self) -> Option<Reason> {
        match self {
            Sink::Logstash(logstash) => logstash.outage(),
            Sink::Stdout(_) | Sink::Nowhere => None,
        }
    }

    /// Returns what is being retried now.
    pub(crate) fn retrying(&self) -> Option<Retrying> {
        match self {
            Sink::Logstash(logstash) => logstash.retrying(),
            Sink::Stdout(_) | Sink::Nowhere => None,
        }
    }

    /// Delivers one batch. All batches of one object share its `evidence`. Returns soon after `shutdown` begins.
    pub(crate) async fn deliver(&self, batch: &Batch, evidence: &Mutex<Evidence>, shutdown: &Shutdown) -> Delivery {
        match self {
            Sink::Logstash(logstash) => logstash.deliver(batch, evidence, shutdown).await,
            Sink::Stdout(stdout) => stdout.deliver(batch, shutdown).await,
            Sink::Nowhere => Delivery { filtered: batch.event_count(), ..Delivery::default() },
        }
    }
}

/// Locks a mutex even if a thread panicked while it held the lock: what the thread left is still the best knowledge.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
