//! Ships an object in several attempts: looks for the checkpoint of the last attempt, and leaves one for the next.

use std::time::Duration;

use super::Shipper;
use super::object::ShipError;
use crate::checkpoint::{Checkpoint, VersionTag};
use crate::ledger::{ObjectReport, SettledPart};
use crate::object::{ObjectError, ObjectRef, OpenedObject};
use crate::reason::Reason;
use crate::shutdown::Shutdown;
use crate::sink::{SendError, Transport};

/// Where an attempt to ship an object begins.
#[derive(Debug)]
pub(super) struct Continuation {
    version: VersionTag,
    /// What an earlier attempt has delivered, if there is a checkpoint of this version of the object.
    resumed: Option<SettledPart>,
}

impl Continuation {
    /// Continues at a checkpoint if it is of the object's present version, and begins at the object's start otherwise.
    pub(super) fn new(opened: &OpenedObject, checkpoint: Option<Checkpoint>) -> Self {
        let version = VersionTag::of(opened);
        let resumed = checkpoint.filter(|checkpoint| checkpoint.is_of_version(&version)).map(|checkpoint| checkpoint.settled);
        Continuation { version, resumed }
    }

    /// Returns what need not be sent again.
    pub(super) fn settled(&self) -> SettledPart {
        self.resumed.unwrap_or_default()
    }

    /// Notes in the report what was counted before.
    pub(super) fn describe(&self, report: &mut ObjectReport) {
        report.resumed_at = self.resumed.map(|settled| settled.offset);
        report.resumed_counts = self.settled().counts;
    }
}

impl<T: Transport> Shipper<T> {
    /// Returns the checkpoint that an earlier delivery of the notification has left.
    pub(super) async fn find_checkpoint(&self, object: &ObjectRef, run_shutdown: &Shutdown) -> Option<Checkpoint> {
        let (checkpoints, owner) = (self.checkpoints.as_ref()?, object.checkpoint_owner.as_ref()?);
        if !owner.is_repeated {
            return None;
        }
        // A store that does not respond leaves most of the time for shipping.
        let limit = run_shutdown.cap(Duration::MAX) / 4;
        tokio::select! {
            biased;
            found = checkpoints.find(object.name(), &owner.id, limit) => found,
            () = run_shutdown.stopped() => None,
        }
    }

    /// Writes a checkpoint if the object only needs more time and this attempt has made progress. Then the object is continued
    /// instead of failed. Deletes the checkpoint that this attempt continued at, if no attempt needs it again.
    pub(super) async fn keep_progress(
        &self,
        object: &ObjectRef,
        continuation: &Continuation,
        (settled, sent): (SettledPart, Result<(), ShipError>),
        run_shutdown: &Shutdown,
        report: &mut ObjectReport,
    ) -> Result<(), ShipError> {
        let (Some(checkpoints), Some(owner)) = (&self.checkpoints, &object.checkpoint_owner) else { return sent };
        // The other half of the time is for the response to the notification.
        let limit = run_shutdown.time_to_report() / 2;
        let stopped = match sent {
            Err(error) if error.is_lack_of_time(run_shutdown) && settled.offset > continuation.settled().offset => error,
            sent => {
                if continuation.resumed.is_some() && ends_checkpoint(&sent) {
                    checkpoints.delete(object.name(), limit).await;
                }
                return sent;
            }
        };
        let version = continuation.version.clone();
        match checkpoints.write(object.name(), version, &owner.id, settled, limit).await {
            Ok(()) => {
                (report.complete, report.out_of_time, report.continued_at) = (false, true, Some(settled.offset));
                report.reason = Some(Reason::Continued);
                Ok(())
            }
            Err(error) => Err(ShipError::NoCheckpoint { stopped: stopped.to_string(), error }),
        }
    }
}

/// Returns whether the checkpoint that an attempt continued at is of no more use: the object is shipped, or it can only be shipped
/// from its start. An endpoint that has accepted the beginning of the object is not known as a witness after it.
fn ends_checkpoint(sent: &Result<(), ShipError>) -> bool {
    match sent {
        Ok(()) => true,
        Err(ShipError::Send(error)) => matches!(error, SendError::NoWitness { .. } | SendError::NoFreshWitness { .. }),
        Err(ShipError::Object(error)) => matches!(error, ObjectError::BeforeCheckpoint { .. }),
        Err(ShipError::Stopped(_) | ShipError::NoCheckpoint { .. } | ShipError::Task(_)) => false,
    }
}
