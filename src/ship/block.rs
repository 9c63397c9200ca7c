//! Ships one block: its lines come in, their events are sent in batches, and what happened to them goes out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use elb_log::batch::{Batch, BatchBuilder};
use elb_log::event::{EventWriter, Scratch, Written};
use elb_log::lines::Block;
use tokio::sync::OwnedSemaphorePermit;

use super::Shipper;
use crate::ledger::{BlockAccount, Counts, Disposition, KindCounts, Pending};
use crate::reason::Reason;
use crate::shutdown::Shutdown;
use crate::sink::{Evidence, RejectedEvent, SendError, Transport};

/// Timeout for writing the dead letters of one batch.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(30);

/// What the blocks of one object share.
#[derive(Clone, Debug)]
pub(super) struct ObjectContext {
    pub(super) writer: Arc<EventWriter>,
    pub(super) evidence: Arc<Mutex<Evidence>>,
    /// Stops the object.
    pub(super) object_shutdown: Shutdown,
    /// Stops the whole run.
    pub(super) run_shutdown: Shutdown,
}

/// What happened to a block.
#[derive(Debug)]
pub(super) struct BlockResult {
    pub(super) account: BlockAccount,
    pub(super) settled: Vec<(Pending, Disposition)>,
    pub(super) counts: Counts,
    pub(super) kinds: KindCounts,
    pub(super) error: Option<SendError>,
}

impl<T: Transport> Shipper<T> {
    /// Writes the events of a block, and sends them in one batch or, if they are unusually long, in several, one after the other.
    pub(super) async fn ship_block(
        self: Arc<Self>,
        block: Block,
        (account, mut pending): (BlockAccount, Pending),
        _permit: OwnedSemaphorePermit,
        object: ObjectContext,
    ) -> BlockResult {
        let mut result = BlockResult::new(account);
        let mut builder = self.builder_pool.take().unwrap_or_else(|| BatchBuilder::new(self.settings.batch));
        let mut scratch = Scratch::default();
        for line in block.lines() {
            let (written, full) = builder.add(|out| object.writer.write(out, &line, &mut scratch));
            result.count_line(written);
            if let Some(batch) = full
                && !self.ship_batch(&batch, &mut pending, &mut result, &object).await
            {
                return result;
            }
        }
        let last = builder.finish();
        // Sending can take long, and no longer needs the text.
        drop(scratch);
        self.block_pool.put(block);
        if let Some(batch) = last {
            self.ship_batch(&batch, &mut pending, &mut result, &object).await;
            builder.reuse(batch);
        }
        self.builder_pool.put(builder);
        result
    }

    /// Sends one batch. Returns whether the block's next batch should be sent too.
    async fn ship_batch(&self, batch: &Batch, pending: &mut Pending, result: &mut BlockResult, object: &ObjectContext) -> bool {
        self.wait_for_rate_limit(batch, &object.object_shutdown).await;
        let delivery = self.sink.deliver(batch, &object.evidence, &object.object_shutdown).await;
        self.progress.add_delivered(delivery.delivered as u64);
        if delivery.error == Some(SendError::ClosedPipe) {
            self.progress.close_output();
        }
        result.counts.batches += 1;
        result.counts.requests += delivery.requests;
        result.counts.retries += delivery.requests.saturating_sub(1);
        // Each batch has its own share of the pending events, whether it is settled or not.
        let mut share = pending.take(batch.event_count() as u64);
        result.settled.push((share.take(delivery.delivered as u64), Disposition::Delivered));
        result.settled.push((share.take(delivery.filtered as u64), Disposition::Filtered));
        // Writing dead letters takes time, in which the other tasks would still send.
        if let Some(error) = &delivery.error {
            object.stop_after(error);
        }
        let (written, unwritten) = self.write_dead_letters(&delivery.rejected, object).await;
        result.settled.push((share.take(written as u64), Disposition::DeadLettered));
        match delivery.error.or(unwritten) {
            Some(error) => result.record_error(error, object),
            None => true,
        }
    }

    /// Waits until the batch may be sent, or the object is stopped.
    async fn wait_for_rate_limit(&self, batch: &Batch, object_shutdown: &Shutdown) {
        let Some(rate_limit) = &self.rate_limit else { return };
        tokio::select! {
            biased;
            () = object_shutdown.stopped() => {}
            () = rate_limit.wait(batch.event_count()) => {}
        }
    }

    /// Writes rejected events to the dead-letter destination. Returns how many are written, and why the others are not.
    async fn write_dead_letters(&self, rejected: &[RejectedEvent], object: &ObjectContext) -> (usize, Option<SendError>) {
        let Some(first) = rejected.first() else { return (0, None) };
        let Some(destination) = &self.dead_letter else {
            let (endpoint, outcome) = (first.endpoint.clone(), first.outcome.clone());
            return (0, Some(SendError::RejectedEvents { endpoint, events: rejected.len(), outcome }));
        };
        let timeout = object.object_shutdown.cap(DEAD_LETTER_TIMEOUT);
        tokio::select! {
            biased;
            written = destination.write(rejected, timeout) => (written.events, written.error().map(SendError::DeadLetter)),
            () = object.object_shutdown.abandoned() => {
                let error = format!("cannot write dead letters: {}", object.object_shutdown.description());
                (0, Some(SendError::DeadLetter(error)))
            }
        }
    }
}

impl BlockResult {
    fn new(account: BlockAccount) -> Self {
        let (counts, kinds) = (Counts::default(), KindCounts::default());
        BlockResult { account, settled: Vec::new(), counts, kinds, error: None }
    }

    fn count_line(&mut self, written: Written) {
        if let Some(kind) = written.kind {
            self.kinds.count(kind);
        }
        self.counts.count_line(written);
    }

    /// Records an error, and stops what it stops. Returns whether the block's next batch should be sent.
    fn record_error(&mut self, error: SendError, object: &ObjectContext) -> bool {
        let stops = object.stop_after(&error);
        if stops {
            self.error = Some(error);
        } else {
            self.error.get_or_insert(error);
        }
        !stops
    }
}

impl ObjectContext {
    /// Stops the object if its other batches would fail too, and the run if every other object would. This happens before the
    /// failed task releases its permit, because otherwise the next task would still send. Returns whether the object stops.
    fn stop_after(&self, error: &SendError) -> bool {
        if error.ends_run() {
            self.run_shutdown.stop(self.reason_or_end(error.reason()), &error.to_string());
        }
        if error.stops_object() {
            self.stop_object(error.reason(), error);
        }
        error.stops_object()
    }

    /// Stops the object because of an error. `reason` is that of the error; none if the end of the run is the reason.
    pub(super) fn stop_object(&self, reason: Option<Reason>, error: &dyn std::error::Error) {
        self.object_shutdown.stop(self.reason_or_end(reason), &error.to_string());
    }

    fn reason_or_end(&self, reason: Option<Reason>) -> Reason {
        reason.or_else(|| self.run_shutdown.reason()).unwrap_or(Reason::OutOfTime)
    }
}
