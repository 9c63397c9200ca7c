//! When a run ends: an invocation has a deadline, a failure that every object would share ends the whole run, and so does a signal
//! to the command line.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::reason::Reason;

/// The signal that ends a run, or one object of it, with its deadline and its reason. Clones share the signal.
#[derive(Clone, Debug)]
pub struct Shutdown {
    deadline: Option<Instant>,
    /// The deadline for reporting to other services how the run ended.
    report_until: Option<Instant>,
    token: CancellationToken,
    /// Cancelled when work in flight is given up, too. All objects of a run share it.
    abandonment: CancellationToken,
    cause: Arc<OnceLock<Cause>>,
    /// The run's cause, if this is the signal of one object.
    parent_cause: Arc<OnceLock<Cause>>,
}

/// The error that began a shutdown.
#[derive(Debug)]
struct Cause {
    reason: Reason,
    error: String,
}

impl Shutdown {
    /// Creates a signal that begins at `deadline` (`None`: never), or earlier after a fatal error.
    pub fn at(deadline: Option<Instant>) -> Self {
        Shutdown {
            deadline,
            report_until: None,
            token: CancellationToken::new(),
            abandonment: CancellationToken::new(),
            cause: Arc::default(),
            parent_cause: Arc::default(),
        }
    }

    /// Creates a signal that begins at `deadline`, and leaves time until `report_until` to report how the run ended.
    pub(crate) fn with_report_time(deadline: Instant, report_until: Instant) -> Self {
        Shutdown { report_until: Some(report_until), ..Shutdown::at(Some(deadline)) }
    }

    /// Returns a signal that begins together with this one, or earlier.
    pub(crate) fn child(&self) -> Self {
        let (token, parent_cause) = (self.token.child_token(), Arc::clone(&self.cause));
        let Shutdown { deadline, report_until, .. } = *self;
        Shutdown { deadline, report_until, token, abandonment: self.abandonment.clone(), cause: Arc::default(), parent_cause }
    }

    /// Begins the shutdown. Only the first error is kept, because later ones are its consequences.
    pub fn stop(&self, reason: Reason, error: &str) {
        let _ = self.cause.set(Cause { reason, error: error.to_owned() });
        self.token.cancel();
    }

    /// Gives up the work that is still in flight after [`Shutdown::stop`]: requests without a response count as failed.
    pub fn abandon(&self) {
        self.abandonment.cancel();
    }

    /// Returns the reason of the error that began the shutdown; none before, and none after the deadline alone.
    pub fn reason(&self) -> Option<Reason> {
        self.cause().map(|cause| cause.reason)
    }

    /// Returns the error that began the shutdown; none before, and none after the deadline alone.
    pub fn error(&self) -> Option<&str> {
        self.cause().map(|cause| cause.error.as_str())
    }

    fn cause(&self) -> Option<&Cause> {
        self.cause.get().or_else(|| self.parent_cause.get())
    }

    /// Describes why the run ended, as part of an error message.
    pub(crate) fn description(&self) -> String {
        self.cause().map_or_else(
            || "the run has no time left (DEADLINE_RESERVE)".to_owned(),
            |cause| format!("the run ended early: {}", cause.error),
        )
    }

    /// Returns whether the shutdown has begun, so that no new work may start.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled() || self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns whether the shutdown has begun because of the deadline alone.
    pub(crate) fn is_out_of_time(&self) -> bool {
        self.is_stopped() && self.reason().is_none()
    }

    /// Waits until work in flight is given up.
    pub(crate) async fn abandoned(&self) {
        self.abandonment.cancelled().await;
    }

    /// Waits until the shutdown begins.
    pub async fn stopped(&self) {
        match self.deadline {
            Some(deadline) => tokio::select! {
                biased;
                () = self.token.cancelled() => {}
                () = tokio::time::sleep_until(deadline) => {}
            },
            None => self.token.cancelled().await,
        }
    }

    /// Returns how long a report to other services may take if it starts now.
    pub(crate) fn time_to_report(&self) -> Duration {
        self.report_until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Shortens the timeout of work that starts now to the time left before the deadline.
    pub(crate) fn cap(&self, timeout: Duration) -> Duration {
        match self.deadline {
            Some(deadline) => timeout.min(deadline.saturating_duration_since(Instant::now())),
            None => timeout,
        }
    }
}
