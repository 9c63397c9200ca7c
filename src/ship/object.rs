//! Ships one object: reads it block by block, starts a task for each block, and records what happened to the blocks.

use std::sync::{Arc, Mutex};

use elb_log::event::EventWriter;
use elb_log::format::Kind;
use elb_log::lines::LineLimits;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::Shipper;
use super::block::{BlockResult, ObjectContext};
use super::continuation::Continuation;
use crate::ledger::{Ledger, ObjectReport, SettledPart};
use crate::object::{ObjectError, ObjectReader, ObjectRef, OpenedObject, SkipReason};
use crate::reason::Reason;
use crate::shutdown::Shutdown;
use crate::sink::{Evidence, SendError, Transport};

/// A block is this fraction of `BATCH_BYTES`. Events are two to three times as long as their lines, so most blocks become one
/// batch.
const BLOCKS_PER_BATCH: usize = 3;

/// Why an object was not shipped to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShipError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("stopped before the end of the object: {0}")]
    Stopped(String),
    #[error("{stopped}; {error}")]
    NoCheckpoint { stopped: String, error: String },
    #[error("internal error: the task of a block failed ({0}), and its events are undelivered; report this as a bug")]
    Task(JoinError),
}

impl ShipError {
    fn stopped(shutdown: &Shutdown) -> Self {
        ShipError::Stopped(shutdown.description())
    }

    /// Returns whether the rest of the object should not be read and sent.
    fn stops_object(&self) -> bool {
        match self {
            ShipError::Send(error) => error.stops_object(),
            ShipError::Object(_) | ShipError::Stopped(_) | ShipError::NoCheckpoint { .. } | ShipError::Task(_) => true,
        }
    }

    /// Returns the reason with which the object fails; none if the end of the run is the reason.
    fn reason(&self) -> Option<Reason> {
        match self {
            ShipError::Object(error) => Some(error.reason()),
            ShipError::Send(error) => error.reason(),
            ShipError::Stopped(_) | ShipError::NoCheckpoint { .. } => None,
            ShipError::Task(_) => Some(Reason::Internal),
        }
    }

    fn is_permanent(&self) -> bool {
        matches!(self, ShipError::Object(error) if error.is_permanent())
    }

    /// Returns whether the object failed only because the run had no time left. A dead letter may be one that the deadline has
    /// interrupted.
    pub(super) fn is_lack_of_time(&self, run_shutdown: &Shutdown) -> bool {
        let has_stopped = match self {
            ShipError::Stopped(_) | ShipError::NoCheckpoint { .. } => true,
            ShipError::Send(error) => matches!(error, SendError::Stopped { .. } | SendError::DeadLetter(_)),
            ShipError::Object(_) | ShipError::Task(_) => false,
        };
        has_stopped && run_shutdown.is_out_of_time()
    }
}

impl<T: Transport> Shipper<T> {
    /// Ships an object, and writes its summary line.
    pub(super) async fn ship_object(self: Arc<Self>, object: ObjectRef, run_shutdown: Shutdown) -> ObjectReport {
        let started = Instant::now();
        let mut report = self.open_and_ship(&object, &run_shutdown).await;
        report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A reader that needs no more events, such as `head`, is not a failure to report.
        if !self.progress.is_output_closed() {
            self.summary_log.write(&report, object.notified_at);
        }
        self.progress.add_object();
        report
    }

    /// Returns the reason of an object that the end of the run has stopped, or that was not started: the error that ended the run.
    /// A run without time left has had time enough if Logstash had accepted its batches.
    pub(super) fn reason_of_end(&self, run_shutdown: &Shutdown) -> Reason {
        run_shutdown.reason().or_else(|| self.sink.outage()).unwrap_or(Reason::OutOfTime)
    }

    async fn open_and_ship(self: &Arc<Self>, object: &ObjectRef, run_shutdown: &Shutdown) -> ObjectReport {
        let mut report = ObjectReport::unread(object.name());
        let checkpoint = self.find_checkpoint(object, run_shutdown).await;
        let opened = tokio::select! {
            biased;
            opened = self.store.open(object) => opened.map_err(ShipError::from),
            () = run_shutdown.stopped() => Err(ShipError::stopped(run_shutdown)),
        };
        let result = match opened {
            Ok(opened) => {
                let continuation = Continuation::new(&opened, checkpoint);
                let sent = self.read_and_send(object, opened, &continuation, run_shutdown, &mut report).await;
                self.keep_progress(object, &continuation, sent, run_shutdown, &mut report).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            report.permanent = error.is_permanent();
            report.out_of_time = error.is_lack_of_time(run_shutdown);
            let reason = error.reason().filter(|_| !report.out_of_time);
            report.reason = Some(reason.unwrap_or_else(|| self.reason_of_end(run_shutdown)));
            report.error = Some(error.to_string());
        } else if report.counts.bytes_compressed == 0 && !object.requested_by_name {
            report.skipped = Some(SkipReason::Empty.to_string());
        }
        report
    }

    /// Reads the object to its end or to the first error, and waits for all tasks of its blocks. Returns also how much of it is
    /// settled from its start on.
    async fn read_and_send(
        self: &Arc<Self>,
        object: &ObjectRef,
        opened: OpenedObject,
        continuation: &Continuation,
        run_shutdown: &Shutdown,
        report: &mut ObjectReport,
    ) -> (SettledPart, Result<(), ShipError>) {
        report.etag.clone_from(&opened.etag);
        continuation.describe(report);
        let before = continuation.settled();
        let rejected_before = usize::try_from(before.counts.dead_lettered).unwrap_or(usize::MAX);
        let mut delivery = ObjectDelivery::new(
            before,
            ObjectContext {
                writer: Arc::new(EventWriter::new(&self.settings.events, &object.origin, opened.modified)),
                evidence: Arc::new(Mutex::new(Evidence::after(rejected_before, self.settings.poison_limit))),
                object_shutdown: run_shutdown.child(),
                run_shutdown: run_shutdown.clone(),
            },
        );
        let (name, block_pool) = (object.name().clone(), Arc::clone(&self.block_pool));
        let mut reader = ObjectReader::new(name, opened, self.line_limits(), self.dead_letter_line_bytes(), block_pool);
        reader.start_at(before.offset);
        let read = self.read_blocks(&mut reader, &mut delivery).await;
        delivery.wait_for_all().await;
        // An error that stops the reading leaves it unknown what else is in the object.
        report.complete = read.is_ok() && !delivery.error.as_ref().is_some_and(ShipError::stops_object);
        report.kind = delivery.ledger.kind().map(Kind::name);
        report.counts = delivery.ledger.counts(reader.received(), reader.text_bytes());
        if reader.is_checkpoint() {
            report.skipped = Some(SkipReason::Checkpoint.to_string());
        }
        (delivery.ledger.settled(), delivery.error.map_or(read, Err))
    }

    async fn read_blocks(self: &Arc<Self>, reader: &mut ObjectReader, delivery: &mut ObjectDelivery) -> Result<(), ShipError> {
        let shutdown = delivery.context.object_shutdown.clone();
        loop {
            let bytes_before = reader.text_bytes();
            let block = tokio::select! {
                biased;
                () = shutdown.stopped() => return Err(ShipError::stopped(&shutdown)),
                Some(ended) = delivery.tasks.join_next() => {
                    delivery.record(ended);
                    continue;
                }
                block = reader.next_block() => block?,
            };
            self.progress.add_bytes(reader.text_bytes() - bytes_before);
            let Some(block) = block else { return Ok(()) };
            let lines = block.len() as u64;
            self.progress.add_lines(lines);
            let account = delivery.ledger.add_block(lines, block.end());
            let Some(permit) = self.acquire_permit(delivery).await else { return Err(ShipError::stopped(&shutdown)) };
            let task = Arc::clone(self).ship_block(block, account, permit, delivery.context.clone());
            delivery.tasks.spawn(task);
        }
    }

    /// Waits for a permit to send, and meanwhile records the tasks that end. Returns none if the object is stopped.
    async fn acquire_permit(&self, delivery: &mut ObjectDelivery) -> Option<OwnedSemaphorePermit> {
        loop {
            tokio::select! {
                biased;
                () = delivery.context.object_shutdown.stopped() => return None,
                Some(ended) = delivery.tasks.join_next() => delivery.record(ended),
                // The semaphore is never closed.
                permit = Arc::clone(&self.in_flight).acquire_owned() => return permit.ok(),
            }
        }
    }

    fn line_limits(&self) -> LineLimits {
        LineLimits {
            line_bytes: self.settings.max_line_bytes,
            block_lines: self.settings.batch.max_events,
            block_bytes: self.settings.batch.max_bytes / BLOCKS_PER_BATCH,
        }
    }

    /// Returns the maximum length of a dead-letter line when dead letters are sent again. The event of a line contains each
    /// character of the line at most twice, six times as long, and bucket and key are in the event and beside it.
    fn dead_letter_line_bytes(&self) -> Option<usize> {
        self.settings.events.resend.then_some(16 * self.settings.max_line_bytes + 64 * 1024)
    }
}

/// The blocks of one object that are being sent.
struct ObjectDelivery {
    context: ObjectContext,
    tasks: JoinSet<BlockResult>,
    ledger: Ledger,
    /// The cause of the object's failure.
    error: Option<ShipError>,
}

impl ObjectDelivery {
    /// Begins after the part of the object that an earlier attempt has settled.
    fn new(before: SettledPart, context: ObjectContext) -> Self {
        ObjectDelivery { context, tasks: JoinSet::new(), ledger: Ledger::after(before), error: None }
    }

    /// Waits for all tasks and records their results. After an error the requests already sent are awaited too, because they may
    /// be accepted.
    async fn wait_for_all(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            self.record(ended);
        }
    }

    fn record(&mut self, ended: Result<BlockResult, JoinError>) {
        let error = match ended {
            Ok(BlockResult { account, settled, counts, kinds, error }) => {
                self.ledger.end_block(account, settled, &counts, &kinds);
                error.map(ShipError::from)
            }
            Err(error) => Some(ShipError::Task(error)),
        };
        if let Some(error) = error {
            self.record_error(error);
        }
    }

    /// Keeps the first error as the cause. A later error replaces it if the first one is only a consequence of the shutdown, or
    /// if only the later one stops the object.
    fn record_error(&mut self, error: ShipError) {
        if error.stops_object() {
            self.context.stop_object(error.reason(), &error);
        }
        let replaces = match &self.error {
            None | Some(ShipError::Send(SendError::Stopped { .. })) => true,
            Some(first) => !first.stops_object() && error.stops_object(),
        };
        if replaces {
            self.error = Some(error);
        }
    }
}
