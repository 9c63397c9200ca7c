//! When to end: an invocation has a deadline, and a failure that no object can escape ends the whole run.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The end of a run, or of one object of it. Clones are the same end.
#[derive(Clone, Debug)]
pub struct Shutdown {
    deadline: Option<Instant>,
    /// Until when something may still be told to others about how it ended.
    tell_until: Option<Instant>,
    token: CancellationToken,
    reason: Arc<OnceLock<String>>,
    /// The reason of the run, for an object's end.
    parent_reason: Arc<OnceLock<String>>,
}

impl Shutdown {
    /// Ends at `deadline` (none: never), unless told to end before.
    pub fn at(deadline: Option<Instant>) -> Self {
        Shutdown {
            deadline,
            tell_until: None,
            token: CancellationToken::new(),
            reason: Arc::default(),
            parent_reason: Arc::default(),
        }
    }

    /// Ends at `deadline`. What is to be told to others about the end has to be told by `tell_until`.
    pub fn before(deadline: Instant, tell_until: Instant) -> Self {
        Shutdown { tell_until: Some(tell_until), ..Shutdown::at(Some(deadline)) }
    }

    /// An end that comes with this one's, or before.
    pub fn child(&self) -> Self {
        let (token, parent_reason) = (self.token.child_token(), Arc::clone(&self.reason));
        Shutdown { deadline: self.deadline, tell_until: self.tell_until, token, reason: Arc::default(), parent_reason }
    }

    /// Ends now. The first reason counts.
    pub fn stop(&self, reason: &str) {
        // A second reason is a consequence of the first.
        let _ = self.reason.set(reason.to_owned());
        self.token.cancel();
    }

    /// Why it was told to end; none if it was not, or by its deadline.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().or_else(|| self.parent_reason.get()).map(String::as_str)
    }

    /// Why it has ended, as a sentence's end.
    pub fn why(&self) -> String {
        self.reason().map_or_else(
            || "the time for the run is used up (DEADLINE_RESERVE)".to_owned(),
            |reason| format!("the run ended, because {reason}"),
        )
    }

    /// Whether nothing new is to be begun.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled() || self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Waits for the end.
    pub async fn stopped(&self) {
        match self.deadline {
            Some(deadline) => tokio::select! {
                () = self.token.cancelled() => {}
                () = tokio::time::sleep_until(deadline) => {}
            },
            None => self.token.cancelled().await,
        }
    }

    /// How long telling others about the end may take, if it is begun now.
    pub fn time_to_tell(&self) -> Duration {
        self.tell_until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }

    /// How long something begun now may take, if it would like to take `wanted`.
    pub fn cap(&self, wanted: Duration) -> Duration {
        match self.deadline {
            Some(deadline) => wanted.min(deadline.saturating_duration_since(Instant::now())),
            None => wanted,
        }
    }
}
