//! Ships objects: tasks come in, each object is read, its events are sent in batches, and a report goes out.
//!
//! One task reads an object. Each block of lines that it reads goes to its own task, which parses the lines, writes and compresses
//! their events, and sends them. The whole process never has more than `SEND_CONCURRENCY` such tasks, and reading waits for them.
//! So a slow receiver slows the reading, and memory is bounded.

mod block;
mod continuation;
mod object;
mod progress;
mod rate_limit;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use elb_log::batch::{BatchBuilder, BatchSettings};
use elb_log::event::EventSettings;
use elb_log::lines::Block;
use elb_log::origin::ObjectName;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};

pub use self::progress::Progress;
use self::rate_limit::RateLimit;
use crate::buffer_pool::BufferPool;
use crate::checkpoint::CheckpointStore;
use crate::dead_letter::DeadLetterDestination;
use crate::ledger::{ObjectReport, Report};
use crate::object::{ObjectRef, SkipReason, Store, Task};
use crate::reason::Reason;
use crate::shutdown::Shutdown;
use crate::sink::{HttpTransport, Retrying, Sink, Transport};
use crate::summary_log::SummaryLog;

/// Maximum number of objects read at the same time. Each holds a block of lines while it waits for a permit to send.
const MAX_OBJECTS: usize = 4;

/// Maximum number of blocks, and of batch builders, kept for reuse: about as many as processors return at once.
const POOL_CAPACITY: usize = 4;

/// How objects are shipped.
#[derive(Clone, Debug)]
pub struct ShipSettings {
    /// The content of events.
    pub events: EventSettings,
    /// The size and compression of batches.
    pub batch: BatchSettings,
    /// Maximum number of batches in flight in the whole process; `SEND_CONCURRENCY`. With 1, events are sent in the order of
    /// their lines.
    pub concurrency: usize,
    /// `MAX_LINE_BYTES`.
    pub max_line_bytes: usize,
    /// Maximum number of rejected events in an object; `POISON_LIMIT`.
    pub poison_limit: usize,
    /// Maximum number of events sent per second; none for no limit.
    pub events_per_second: Option<NonZeroU32>,
}

/// Ships objects from a store to a sink.
#[derive(Debug)]
pub struct Shipper<T = HttpTransport> {
    store: Store,
    sink: Sink<T>,
    dead_letter: Option<DeadLetterDestination>,
    checkpoints: Option<CheckpointStore>,
    settings: ShipSettings,
    summary_log: SummaryLog,
    in_flight: Arc<Semaphore>,
    block_pool: Arc<BufferPool<Block>>,
    builder_pool: BufferPool<BatchBuilder>,
    rate_limit: Option<RateLimit>,
    progress: Progress,
}

impl<T: Transport> Shipper<T> {
    /// Creates a shipper from `store` to `sink`. Without a dead-letter destination, rejected events fail their object.
    pub fn new(
        store: Store,
        sink: Sink<T>,
        dead_letter: Option<DeadLetterDestination>,
        settings: ShipSettings,
        summary_log: SummaryLog,
    ) -> Self {
        Shipper {
            store,
            sink,
            dead_letter,
            checkpoints: None,
            summary_log,
            in_flight: Arc::new(Semaphore::new(settings.concurrency)),
            block_pool: Arc::new(BufferPool::new(POOL_CAPACITY)),
            builder_pool: BufferPool::new(POOL_CAPACITY),
            rate_limit: settings.events_per_second.map(RateLimit::new),
            settings,
            progress: Progress::default(),
        }
    }

    /// Makes objects continue at checkpoints, and leaves a checkpoint where the time of a run ends.
    #[must_use]
    pub fn with_checkpoints(self, checkpoints: CheckpointStore) -> Self {
        Shipper { checkpoints: Some(checkpoints), ..self }
    }

    /// Returns the store that objects are read from.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the progress of the run.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Returns the batches that are being retried now, or none.
    pub fn retrying(&self) -> Option<Retrying> {
        self.sink.retrying()
    }

    /// Turns the task of a notification into a skip if its object is a dead letter. Shipping a dead letter again could repeat
    /// endlessly.
    pub fn skip_dead_letter(&self, task: Task) -> Task {
        match (task, &self.dead_letter) {
            (Task::Ship(object), Some(destination))
                if destination.contains(object.name(), self.store.file_path(object.name())) =>
            {
                Task::Skip(object.name().clone(), SkipReason::DeadLetter)
            }
            (task, _) => task,
        }
    }

    /// Carries out every task, and reports on each in the order in which they came. Writes one log line for each object.
    pub async fn ship(self: &Arc<Self>, tasks: mpsc::Receiver<Task>, shutdown: &Shutdown) -> Report {
        let mut reports = BTreeMap::new();
        let on_end = |end: TaskEnd| {
            if end.kind == TaskEndKind::NotBegun {
                self.summary_log.write(&end.report, end.notified_at);
            }
            reports.insert(end.index, end.report);
        };
        self.ship_each(tasks, shutdown, on_end).await;
        Report::of(reports.into_values().collect())
    }

    /// Does the same as [`Shipper::ship`], but keeps no report: `on_end` gets the report of each task when the task has ended.
    /// Objects that the end of the run leaves, and objects that an earlier run has delivered, have no log line: they have one
    /// cause, and there may be many of them.
    pub async fn ship_each(self: &Arc<Self>, mut tasks: mpsc::Receiver<Task>, shutdown: &Shutdown, on_end: impl FnMut(TaskEnd)) {
        self.sink.begin_run();
        let max_objects = MAX_OBJECTS.min(self.settings.concurrency);
        let mut run = Run { running: JoinSet::new(), started: Vec::new(), on_end };
        let mut index = 0;
        while let Some(task) = tasks.recv().await {
            while run.running.len() >= max_objects {
                run.wait_for_one().await;
            }
            match task {
                Task::Ship(object) => {
                    let (name, notified_at) = (object.name().clone(), object.notified_at);
                    let started = run.running.spawn(Arc::clone(self).ship_or_leave(object, shutdown.clone()));
                    run.started.push(Started { task: started.id(), index, name, notified_at });
                }
                Task::Skip(name, reason) => {
                    let report = ObjectReport::skipped(&name, &reason);
                    let kind = if reason == SkipReason::Resumed { TaskEndKind::Resumed } else { TaskEndKind::Unread };
                    self.end_unread(index, kind, report, &mut run);
                }
                Task::Fail(name, error) => {
                    let report = ObjectReport::failed(&name, Reason::Listing, error);
                    self.end_unread(index, TaskEndKind::Unread, report, &mut run);
                }
            }
            index += 1;
        }
        while !run.running.is_empty() {
            run.wait_for_one().await;
        }
    }

    /// Ends a task without reading its object.
    fn end_unread<F: FnMut(TaskEnd)>(&self, index: usize, kind: TaskEndKind, report: ObjectReport, run: &mut Run<F>) {
        if kind == TaskEndKind::Unread {
            self.summary_log.write(&report, None);
        }
        self.progress.add_object();
        (run.on_end)(TaskEnd { index, kind, report, notified_at: None });
    }

    /// Ships an object, unless the run has ended.
    async fn ship_or_leave(self: Arc<Self>, object: ObjectRef, shutdown: Shutdown) -> (TaskEndKind, ObjectReport) {
        if !shutdown.is_stopped() {
            return (TaskEndKind::Attempted, self.ship_object(object, shutdown).await);
        }
        let error = format!("not started: {}", shutdown.description());
        let failed = ObjectReport::failed(object.name(), self.reason_of_end(&shutdown), error);
        (TaskEndKind::NotBegun, ObjectReport { out_of_time: shutdown.is_out_of_time(), ..failed })
    }
}

/// The end of a task.
#[derive(Debug)]
pub struct TaskEnd {
    /// Number of the task in its run, from 0.
    pub index: usize,
    /// How far the task came.
    pub kind: TaskEndKind,
    /// What happened to the object.
    pub report: ObjectReport,
    /// The time of the object's notification.
    notified_at: Option<jiff::Timestamp>,
}

/// How far a task came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEndKind {
    /// The object was opened, or opening it failed.
    Attempted,
    /// The run ended before the object was opened.
    NotBegun,
    /// An earlier run has delivered the object.
    Resumed,
    /// The task was to skip an object for another reason, or to fail.
    Unread,
}

/// The objects of one run that are being shipped.
struct Run<F> {
    running: JoinSet<(TaskEndKind, ObjectReport)>,
    /// As many as are running.
    started: Vec<Started>,
    on_end: F,
}

/// An object that is being shipped.
struct Started {
    task: tokio::task::Id,
    index: usize,
    name: ObjectName,
    notified_at: Option<jiff::Timestamp>,
}

impl<F: FnMut(TaskEnd)> Run<F> {
    /// Waits until one object has ended.
    async fn wait_for_one(&mut self) {
        let Some(ended) = self.running.join_next_with_id().await else { return };
        let task = ended.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let Some(position) = self.started.iter().position(|started| started.task == task) else { return };
        let Started { index, name, notified_at, .. } = self.started.swap_remove(position);
        let (kind, report) = ended.map_or_else(|error| (TaskEndKind::Attempted, panicked(&name, &error)), |(_, ended)| ended);
        (self.on_end)(TaskEnd { index, kind, report, notified_at });
    }
}

fn panicked(name: &ObjectName, error: &JoinError) -> ObjectReport {
    tracing::error!(%error, "internal error: the task of an object failed; report this as a bug");
    let text = "internal error: the task of the object failed, and its state is unknown; report this as a bug";
    ObjectReport::failed(name, Reason::Internal, text.to_owned())
}
