//! Ships objects: ties reading, event writing, batching and sending together.
//!
//! An object is read by one task. Each block of lines that it reads goes to a task of its own, which parses the lines, writes
//! and compresses their events, and sends them. There are never more such tasks than `SEND_CONCURRENCY` in the whole process,
//! and reading waits for them, so a slow receiver slows the reading and memory stays bounded.

pub mod rate_limit;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dead_letter::DeadLetterDestination;
use crate::ledger::{Disposition, Ledger, ObjectReport, Pending, Report, Tally};
use elb_log::batch::{Batch, BatchBuilder, BatchSettings};
use elb_log::event::{EventSettings, EventWriter, Scratch};
use elb_log::format::Kind;
use elb_log::lines::{Block, LineLimits};

use crate::buffer_pool::BufferPool;
use crate::object::{ObjectError, ObjectReader, ObjectRef, SkipReason, Store, Task};
use crate::ship::rate_limit::RateLimit;
use crate::shutdown::Shutdown;
use crate::sink::{Evidence, HttpTransport, RejectedEvent, SendError, Sink, Transport};
use crate::summary_log::SummaryLog;

/// Objects read at the same time, at most. Each holds a block of lines while it waits for its turn to send.
const OBJECTS_AT_ONCE: usize = 4;

/// Blocks and batch builders kept for the next ones to be made: about as many as processors give back at once.
const SPARES: usize = 4;

/// Writing the dead letter of a batch takes no longer.
const DEAD_LETTER_TIME: Duration = Duration::from_secs(30);

/// Events are some two to three times as long as their lines, so a block of a third of a batch's bytes mostly makes one batch.
const BLOCK_SHARE_OF_BATCH: usize = 3;

/// How objects are shipped.
#[derive(Clone, Debug)]
pub struct ShipSettings {
    /// What events look like.
    pub events: EventSettings,
    /// What batches are like.
    pub batch: BatchSettings,
    /// Batches in flight in the whole process; `SEND_CONCURRENCY`. With one, events leave in the order of their lines.
    pub concurrency: usize,
    /// See `MAX_LINE_BYTES`.
    pub max_line_bytes: usize,
    /// See `POISON_LIMIT`.
    pub poison_limit: usize,
    /// Events sent in a second, at most; none for no bound.
    pub events_per_second: Option<NonZeroU32>,
}

/// Ships objects from a store to a sink.
#[derive(Debug)]
pub struct Shipper<T = HttpTransport> {
    store: Store,
    sink: Sink<T>,
    dead_letter: Option<DeadLetterDestination>,
    settings: ShipSettings,
    journal: SummaryLog,
    in_flight: Arc<Semaphore>,
    blocks: Arc<BufferPool<Block>>,
    builders: BufferPool<BatchBuilder>,
    pace: Option<RateLimit>,
    progress: Progress,
}

/// How far a run has come, for a progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    objects: AtomicU64,
    lines: AtomicU64,
    bytes: AtomicU64,
}

/// Why an object was not shipped to its end.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("{0}")]
    Stopped(String),
    #[error("a bug: a task failed ({0}); its events are undelivered")]
    Task(String),
}

impl ShipError {
    /// Whether nothing more of the object is to be read and sent.
    fn stops_object(&self) -> bool {
        match self {
            ShipError::Send(failure) => failure.stops_object(),
            ShipError::Object(_) | ShipError::Stopped(_) | ShipError::Task(_) => true,
        }
    }
}

/// What became of a block.
#[derive(Default)]
struct BlockResult {
    settled: Vec<(Pending, Disposition)>,
    tally: Tally,
    error: Option<SendError>,
}

impl<T: Transport> Shipper<T> {
    /// A shipper from `store` to `sink`. Without a dead letter, poison events fail their object.
    pub fn new(
        store: Store,
        sink: Sink<T>,
        dead_letter: Option<DeadLetterDestination>,
        settings: ShipSettings,
        journal: SummaryLog,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(settings.concurrency));
        Shipper {
            store,
            sink,
            dead_letter,
            journal,
            in_flight,
            blocks: Arc::new(BufferPool::new(SPARES)),
            builders: BufferPool::new(SPARES),
            pace: settings.events_per_second.map(RateLimit::new),
            settings,
            progress: Progress::default(),
        }
    }

    /// The task that a notification is to become: a dead letter is not shipped again, or it would go in circles.
    pub fn notified(&self, task: Task) -> Task {
        match (task, &self.dead_letter) {
            (Task::Ship(object), Some(dead_letter))
                if dead_letter.contains(object.name(), self.store.file_path(object.name())) =>
            {
                Task::Skip(object.name().clone(), SkipReason::DeadLetter)
            }
            (task, _) => task,
        }
    }

    /// Where objects come from.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How far it has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Does every task that comes, and reports on each in the order in which they came. Writes one log line an object.
    pub async fn ship(self: &Arc<Self>, tasks: mpsc::Receiver<Task>, stop: &Shutdown) -> Report {
        self.ship_and_tell(tasks, stop, |_| {}).await
    }

    /// The same, and tells of every object that was to be shipped when it has ended, well or not.
    pub async fn ship_and_tell(
        self: &Arc<Self>,
        mut tasks: mpsc::Receiver<Task>,
        stop: &Shutdown,
        mut ended: impl FnMut(&ObjectReport),
    ) -> Report {
        let at_once = OBJECTS_AT_ONCE.min(self.settings.concurrency);
        let mut running = JoinSet::new();
        let mut reports = Vec::new();
        while let Some(task) = tasks.recv().await {
            while running.len() >= at_once {
                finish_one(&mut running, &mut reports, &mut ended).await;
            }
            let index = reports.len();
            reports.push(match &task {
                Task::Ship(object) => {
                    ObjectReport::failed(object.name(), "a bug: its task failed; nothing is known of it".to_owned())
                }
                Task::Skip(name, reason) => ObjectReport::skipped(name, reason),
                Task::Fail(name, error) => ObjectReport::failed(name, error.clone()),
            });
            if let Task::Ship(object) = task {
                let (shipper, stop) = (Arc::clone(self), stop.clone());
                running.spawn(async move { (index, shipper.ship_object(&object, &stop).await) });
            } else {
                self.journal.object(&reports[index], None);
                self.progress.objects.fetch_add(1, Ordering::Relaxed);
            }
        }
        while !running.is_empty() {
            finish_one(&mut running, &mut reports, &mut ended).await;
        }
        Report::of(reports)
    }

    async fn ship_object(self: Arc<Self>, object: &ObjectRef, run: &Shutdown) -> ObjectReport {
        let started = Instant::now();
        let mut report = ObjectReport::unread(object.name());
        if run.is_stopped() {
            report.error = Some(format!("not begun: {}", run.description()));
        } else {
            let mut ledger = Ledger::default();
            let result = self.read_and_send(object, run, &mut ledger, &mut report).await;
            report.kind = ledger.kind().map(Kind::name);
            report.counts = ledger.counts(report.counts.bytes_compressed, report.counts.bytes);
            if let Err(error) = result {
                report.permanent = matches!(&error, ShipError::Object(error) if error.is_permanent());
                report.error = Some(error.to_string());
            } else if report.counts.bytes_compressed == 0 && !object.requested_by_name {
                report.skipped = Some(SkipReason::Empty.to_string());
            }
        }
        report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.journal.object(&report, object.notified_at);
        self.progress.objects.fetch_add(1, Ordering::Relaxed);
        report
    }

    /// Reads the object to its end or to the first failure, and waits for all that was sent of it.
    async fn read_and_send(
        self: &Arc<Self>,
        object: &ObjectRef,
        run: &Shutdown,
        ledger: &mut Ledger,
        report: &mut ObjectReport,
    ) -> Result<(), ShipError> {
        let opened = tokio::select! {
            biased;
            opened = self.store.open(object) => opened?,
            () = run.stopped() => return Err(stopped(run)),
        };
        report.etag.clone_from(&opened.etag);
        let writer = Arc::new(EventWriter::new(&self.settings.events, &object.origin, opened.modified));
        let (name, spares) = (object.name().clone(), Arc::clone(&self.blocks));
        let mut reader = ObjectReader::new(name, opened, self.line_limits(), self.letter_bytes(), spares);
        let stop = run.child();
        let evidence = Arc::new(Mutex::new(Evidence::new(self.settings.poison_limit)));
        let mut sending = ObjectDelivery { tasks: JoinSet::new(), ledger, run, stop: &stop, evidence, error: None };
        let read = self.read_blocks(&mut reader, &writer, &mut sending).await;
        sending.finish().await;
        let sent = sending.error.take();
        // A failure that stops the reading leaves it open what else stands in the object.
        report.complete = read.is_ok() && !sent.as_ref().is_some_and(ShipError::stops_object);
        report.counts.bytes_compressed = reader.received();
        report.counts.bytes = reader.text_bytes();
        match sent {
            Some(error) => Err(error),
            None => read,
        }
    }

    async fn read_blocks(
        self: &Arc<Self>,
        reader: &mut ObjectReader,
        writer: &Arc<EventWriter>,
        sending: &mut ObjectDelivery<'_>,
    ) -> Result<(), ShipError> {
        let stop = sending.stop;
        loop {
            let before = reader.text_bytes();
            let block = tokio::select! {
                biased;
                () = stop.stopped() => return Err(stopped(stop)),
                Some(ended) = sending.tasks.join_next() => {
                    sending.book(ended);
                    continue;
                }
                block = reader.next_block() => block?,
            };
            self.progress.bytes.fetch_add(reader.text_bytes() - before, Ordering::Relaxed);
            let Some(block) = block else { return Ok(()) };
            self.progress.lines.fetch_add(block.len() as u64, Ordering::Relaxed);
            let pending = sending.ledger.read(block.len() as u64);
            let Some(permit) = self.permit(sending).await else { return Err(stopped(stop)) };
            let task = Arc::clone(self).ship_block(block, pending, Arc::clone(writer), permit, sending.of_object());
            sending.tasks.spawn(task);
        }
    }

    /// Waits for room to send, and books meanwhile what ends; none if the object is to end.
    async fn permit(&self, sending: &mut ObjectDelivery<'_>) -> Option<OwnedSemaphorePermit> {
        loop {
            tokio::select! {
                biased;
                () = sending.stop.stopped() => return None,
                Some(ended) = sending.tasks.join_next() => sending.book(ended),
                // The semaphore is never closed.
                permit = Arc::clone(&self.in_flight).acquire_owned() => return permit.ok(),
            }
        }
    }

    /// Makes a block's events, and sends them in one batch or, if they are unusually long, in several, one after the other.
    async fn ship_block(
        self: Arc<Self>,
        block: Block,
        mut pending: Pending,
        writer: Arc<EventWriter>,
        _permit: OwnedSemaphorePermit,
        object: ObjectContext,
    ) -> BlockResult {
        let mut shipped = BlockResult::default();
        let mut builder = self.builders.take().unwrap_or_else(|| BatchBuilder::new(self.settings.batch));
        let mut scratch = Scratch::default();
        for line in block.lines() {
            let (written, full) = builder.add(|out| writer.write(out, &line, &mut scratch));
            shipped.tally.line(written);
            if let Some(batch) = full
                && !self.ship_batch(&batch, &mut pending, &mut shipped, &object).await
            {
                return shipped;
            }
        }
        let last = builder.finish();
        // ObjectDelivery may take long, and needs the text no more.
        drop(scratch);
        self.blocks.give(block);
        if let Some(batch) = last {
            self.ship_batch(&batch, &mut pending, &mut shipped, &object).await;
            builder.reuse(batch);
        }
        self.builders.give(builder);
        shipped
    }

    /// Whether the block's next batch is to be sent as well.
    async fn ship_batch(&self, batch: &Batch, pending: &mut Pending, shipped: &mut BlockResult, object: &ObjectContext) -> bool {
        self.keep_pace(batch, &object.stop).await;
        let delivery = self.sink.deliver(batch, &object.evidence, &object.stop).await;
        shipped.tally.batches += 1;
        shipped.tally.requests += delivery.requests;
        shipped.tally.retries += delivery.requests.saturating_sub(1);
        // Each batch has its own share of what is pending, whether it is settled or not.
        let mut share = pending.take(batch.event_count() as u64);
        shipped.settled.push((share.take(delivery.delivered as u64), Disposition::Delivered));
        shipped.settled.push((share.take(delivery.filtered as u64), Disposition::Filtered));
        let buried = self.bury(&delivery.rejected, object).await;
        if buried.is_ok() {
            shipped.settled.push((share.take(delivery.rejected.len() as u64), Disposition::DeadLettered));
        }
        let Some(failure) = delivery.error.or(buried.err()) else { return true };
        let stops = failure.stops_object();
        if stops {
            object.end(&failure);
            shipped.error = Some(failure);
        } else {
            shipped.error.get_or_insert(failure);
        }
        !stops
    }

    /// Waits until the batch may leave, or the object is to end.
    async fn keep_pace(&self, batch: &Batch, stop: &Shutdown) {
        let Some(pace) = &self.pace else { return };
        tokio::select! {
            biased;
            () = stop.stopped() => {}
            () = pace.wait(batch.event_count()) => {}
        }
    }

    /// Brings poison events to a safe place.
    async fn bury(&self, poison: &[RejectedEvent], object: &ObjectContext) -> Result<(), SendError> {
        let Some(first) = poison.first() else { return Ok(()) };
        match &self.dead_letter {
            Some(dead_letter) => {
                dead_letter.write(poison, object.stop.cap(DEAD_LETTER_TIME)).await.map_err(SendError::DeadLetter)
            }
            None => Err(SendError::RejectedEvents {
                endpoint: first.endpoint.clone(),
                events: poison.len(),
                outcome: first.outcome.clone(),
            }),
        }
    }

    /// Where dead letters are sent again, the longest line of one: its event has each character of its line twice at most, six
    /// times as long, and bucket and key stand in it and beside it.
    fn letter_bytes(&self) -> Option<usize> {
        self.settings.events.resend.then_some(16 * self.settings.max_line_bytes + 64 * 1024)
    }

    fn line_limits(&self) -> LineLimits {
        LineLimits {
            line_bytes: self.settings.max_line_bytes,
            block_lines: self.settings.batch.max_events,
            block_bytes: self.settings.batch.max_bytes / BLOCK_SHARE_OF_BATCH,
        }
    }
}

impl Progress {
    /// Objects ended, well or not.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Lines read.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Bytes of text read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The blocks of one object that are on their way.
struct ObjectDelivery<'a> {
    tasks: JoinSet<BlockResult>,
    ledger: &'a mut Ledger,
    run: &'a Shutdown,
    stop: &'a Shutdown,
    evidence: Arc<Mutex<Evidence>>,
    /// The first failure.
    error: Option<ShipError>,
}

/// What the blocks of an object share.
struct ObjectContext {
    run: Shutdown,
    stop: Shutdown,
    evidence: Arc<Mutex<Evidence>>,
}

impl ObjectContext {
    /// Ends what the failure ends. Called before the failed task gives up its place, or the next one would still send.
    fn end(&self, failure: &SendError) {
        if failure.ends_run() {
            self.run.stop(&failure.to_string());
        }
        self.stop.stop(&failure.to_string());
    }
}

impl ObjectDelivery<'_> {
    fn of_object(&self) -> ObjectContext {
        ObjectContext { run: self.run.clone(), stop: self.stop.clone(), evidence: Arc::clone(&self.evidence) }
    }

    /// Waits for all and books them. Requests already sent are awaited after a failure too: they may have been accepted.
    async fn finish(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            self.book(ended);
        }
    }

    fn book(&mut self, ended: Result<BlockResult, tokio::task::JoinError>) {
        let error = match ended {
            Ok(BlockResult { settled, tally, error }) => {
                for (pending, fate) in settled {
                    self.ledger.settle(pending, fate);
                }
                self.ledger.count(&tally);
                error.map(ShipError::from)
            }
            Err(failure) => Some(ShipError::Task(failure.to_string())),
        };
        let Some(error) = error else { return };
        if error.stops_object() {
            self.stop.stop(&error.to_string());
        }
        // The first failure is the cause, unless it merely stopped because of another one, or one that is worse comes later.
        let replaces = match &self.error {
            None | Some(ShipError::Send(SendError::Stopped { .. })) => true,
            Some(first) => !first.stops_object() && error.stops_object(),
        };
        if replaces {
            self.error = Some(error);
        }
    }
}

async fn finish_one(
    running: &mut JoinSet<(usize, ObjectReport)>,
    reports: &mut [ObjectReport],
    ended: &mut impl FnMut(&ObjectReport),
) {
    match running.join_next().await {
        Some(Ok((index, report))) => {
            ended(&report);
            reports[index] = report;
        }
        // The entry made when it began already says that it failed.
        Some(Err(error)) => tracing::error!(%error, "a bug: the task of an object failed; its events are undelivered"),
        None => {}
    }
}

fn stopped(stop: &Shutdown) -> ShipError {
    ShipError::Stopped(format!("stopped before the object's end: {}", stop.description()))
}
