//! `elbship replay`: ships the objects in files, directories and S3 prefixes.

use std::sync::Arc;
use std::time::Duration;

use elb_common::log::{self, LogFormat};
use elb_common::redact::redact_value;
use elb_common::terminal::escape;
use elb_log_shipper::config::{Config, Target};
use elb_log_shipper::ledger::Tally;
use elb_log_shipper::object::Task;
use elb_log_shipper::ship::{Shipper, TaskEnd, TaskEndKind};
use elb_log_shipper::shutdown::Shutdown;
use elb_log_shipper::sink::EndpointSource;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;

use crate::cli::{ReplayArgs, split_s3};
use crate::error::CommandError;
use crate::listing::{STDIN, Selection};
use crate::progress::{FoundObjects, Printer, ProgressDisplay};
use crate::report::{ReportFile, RunEnd, counts, summary};
use crate::resume::{FinishedObjects, ResumeFile, ResumeWriter};
use crate::setup::{self, Input, Use};
use crate::signals::{ReceivedSignal, Signal, stop_on_signals};
use crate::terminal::{is_interactive, print_error, stdout_is_file};
use crate::time_arg::time_range;

/// Number of tasks that the listing may be ahead of the shipping: a page of S3's list, so that the display shows more than the
/// objects that are being shipped.
const LISTED_AHEAD: usize = 1_000;

/// Maximum time for counting local files after an interrupted run, whose summary shows their number.
const COUNTING_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) async fn run(args: ReplayArgs) -> Result<(), CommandError> {
    check_paths(&args)?;
    let now = Timestamp::now();
    time_range(args.since.as_ref(), args.until.as_ref(), now)?;
    let config = read_config(&args)?;
    let events_to_stdout = setup::writes_events_to_stdout(&config, &args.ship);
    let report = ReportFile::begin(&args.ship, events_to_stdout)?;
    // What reads the events from a pipe may write to the same terminal.
    let display = ProgressDisplay::new(is_interactive() && (!events_to_stdout || stdout_is_file()));
    start_log(&config, display.printer());
    let resumed = open_resume_file(&args, &config, now)?;
    let time_range = time_range(args.since.as_ref(), args.until.as_ref(), resumed.started_at)?;
    let ReplayArgs { paths, original_prefix, ship, resume, .. } = args;
    let local = !paths.iter().any(|path| split_s3(path).is_some());
    let usage =
        Use { input: if local { Input::LocalFiles } else { Input::Store }, shown: is_interactive(), dry_run: ship.dry_run };
    let shipper = setup::shipper(config, usage)?;
    let (shutdown, found) = (Shutdown::at(None), Arc::<FoundObjects>::default());
    let signal = stop_on_signals(shutdown.clone(), ship.grace, display.printer());
    let signal = signal.map_err(|error| CommandError::Failed(format!("cannot watch for signals: {error}")))?;
    let run = Run { shipper, shutdown, signal, found, local, dry_run: ship.dry_run };
    let mut record = RunRecord { writer: resumed.writer, report, printer: display.printer(), ..RunRecord::default() };
    let selection = Selection { paths, original_prefix, time_range, finished: resumed.finished };
    let listed = run.ship(selection, &mut record, display).await;
    record.finish(&run, listed, resume.is_some())
}

fn check_paths(args: &ReplayArgs) -> Result<(), CommandError> {
    let usage = |text: &str| Err(CommandError::Usage(text.to_owned()));
    if args.paths.iter().any(|path| split_s3(path).is_some()) && args.original_prefix.is_some() {
        return usage("cannot use --as with s3:// paths: objects in S3 keep their own names");
    }
    if args.paths.iter().any(|path| path == STDIN) {
        if args.original_prefix.is_some() {
            return usage("cannot use --as with -: standard input has no name below the prefix; replay a file instead");
        }
        if args.resume.is_some() {
            return usage("cannot use --resume with -: standard input cannot be read again; replay files instead");
        }
    }
    if let Some(url) = args.paths.iter().find(|path| path.starts_with("http://") || path.starts_with("https://")) {
        return Err(CommandError::Usage(format!(
            "cannot replay {}: neither a path nor s3://BUCKET/PREFIX; name the URL of Logstash with --to",
            redact_value(url)
        )));
    }
    Ok(())
}

/// Starts the log. A person sees only warnings, above the progress display, unless LOG_LEVEL is set.
fn start_log(config: &Config, printer: Printer) {
    if !is_interactive() {
        log::init(LogFormat::StderrJson, config.log_level);
        return;
    }
    let level = if setup::has_variable("LOG_LEVEL") { config.log_level } else { LevelFilter::WARN };
    log::init_beside_display(level, move || printer.clone());
}

/// What a run works with.
struct Run {
    shipper: Arc<Shipper>,
    shutdown: Shutdown,
    signal: ReceivedSignal,
    found: Arc<FoundObjects>,
    /// Whether all objects are local files.
    local: bool,
    dry_run: bool,
}

impl Run {
    /// Ships the selection. Returns whether all of it was listed.
    async fn ship(
        &self,
        selection: Selection,
        record: &mut RunRecord,
        mut display: ProgressDisplay,
    ) -> Result<bool, CommandError> {
        let selection = Arc::new(selection);
        let counting = self.local.then(|| {
            let (selection, found) = (Arc::clone(&selection), Arc::clone(&self.found));
            tokio::task::spawn_blocking(move || selection.count_local(&found))
        });
        let (sender, tasks) = mpsc::channel(LISTED_AHEAD);
        let listing = tokio::spawn(list(selection, self.shipper.clone(), self.found.clone(), self.listing_end(), sender));
        display.start(self.shipper.clone(), Arc::clone(&self.found), self.dry_run);
        self.shipper.ship_each(tasks, &self.shutdown, |end| record.add(end, &self.shutdown)).await;
        display.finish();
        if let Some(counting) = counting {
            // Without the number, the summary only says that there are more objects.
            let _ = tokio::time::timeout(COUNTING_TIMEOUT, counting).await;
        }
        listing.await.map_err(|error| CommandError::Failed(format!("cannot list the objects: {error}")))
    }

    /// Returns what ends the listing early. After a failure, local files are still listed for the report; a bucket may have millions
    /// of objects, and a closed pipe is not a failure.
    fn listing_end(&self) -> impl Future<Output = ()> + Send + 'static {
        let (shipper, shutdown) = (self.shipper.clone(), self.shutdown.clone());
        let (signal, local) = (self.signal.clone(), self.local);
        async move {
            shutdown.stopped().await;
            if local && !shipper.progress().is_output_closed() {
                signal.wait().await;
            }
        }
    }
}

/// Sends the tasks of a selection until `end`. Returns whether all were sent.
async fn list(
    selection: Arc<Selection>,
    shipper: Arc<Shipper>,
    found: Arc<FoundObjects>,
    end: impl Future<Output = ()>,
    tasks: mpsc::Sender<Task>,
) -> bool {
    tokio::select! {
        biased;
        () = end => false,
        () = selection.send_tasks(&shipper, tasks, &found) => true,
    }
}

/// What is kept of the objects that have ended. It does not grow with their number.
#[derive(Default)]
struct RunRecord {
    tally: Tally,
    end: RunEnd,
    writer: Option<ResumeWriter>,
    report: Option<ReportFile>,
    printer: Printer,
    /// Whether a person has already seen the first failure.
    first_is_shown: bool,
}

impl RunRecord {
    /// Records the end of a task, and shows a failure to a person at once, unless it is a consequence of the end of the run.
    fn add(&mut self, task: TaskEnd, shutdown: &Shutdown) {
        let TaskEnd { index, kind, report, .. } = task;
        match kind {
            TaskEndKind::NotBegun => {
                self.end.not_begun += 1;
                self.tally.totals.complete = false;
            }
            TaskEndKind::Attempted | TaskEndKind::Resumed | TaskEndKind::Unread => self.tally.add(&report),
        }
        self.end.resumed += u64::from(kind == TaskEndKind::Resumed);
        if let Some(writer) = self.writer.as_ref().filter(|_| kind == TaskEndKind::Attempted) {
            writer.record(&report);
        }
        let error = report.error.as_deref().unwrap_or("incomplete");
        let is_consequence = shutdown.error().is_some_and(|cause| error.contains(cause));
        if is_interactive() && !report.is_success() && !is_consequence {
            self.printer.print(&escape(&format!("{}: {error}", report.key)));
            self.first_is_shown |= self.tally.failed == 1;
        }
        if let Some(file) = &mut self.report {
            file.add(index, report);
        }
    }

    /// Writes the state and the report, and returns the result of the command.
    fn finish(mut self, run: &Run, listed: Result<bool, CommandError>, resumes: bool) -> Result<(), CommandError> {
        self.count_unlisted(run, listed.as_ref().is_ok_and(|all| *all));
        let recorded = self.writer.map_or(Ok(()), ResumeWriter::finish).map_err(CommandError::Failed);
        let written = self.report.map_or(Ok(()), |report| report.finish(&self.tally.totals));
        let (tally, end) = (&self.tally, self.end);
        let failed = tally.failed > 0 || end.not_begun > 0 || end.has_more;
        let result = if let Some(signal) = run.signal.get() {
            Err(CommandError::Interrupted(signal, interrupted_summary(signal, tally, end, resumes)))
        } else if run.shipper.progress().is_output_closed() {
            Err(CommandError::ClosedPipe)
        } else if failed {
            Err(CommandError::Failed(match run.shutdown.error() {
                Some(cause) => format!("{}; the run ended early: {cause}", counts(tally, end)),
                None if self.first_is_shown => counts(tally, end) + "; the reasons are above",
                None => summary(tally, end),
            }))
        } else {
            print_error(&summary(tally, end));
            Ok(())
        };
        let mut results = vec![result, listed.map(drop), recorded, written];
        // The first error is returned, the others are only shown.
        let first = results.iter().position(Result::is_err).map(|index| results.remove(index));
        for error in results.into_iter().filter_map(Result::err) {
            print_error(&error.to_string());
        }
        first.unwrap_or(Ok(()))
    }

    /// Counts the objects that were not listed when the run ended, as far as their number is known.
    fn count_unlisted(&mut self, run: &Run, all_listed: bool) {
        if all_listed {
            return;
        }
        let ended = self.tally.objects + self.end.not_begun;
        let unlisted = run.found.total().map(|total| total.saturating_sub(ended));
        self.end.not_begun += unlisted.unwrap_or(0);
        self.end.has_more = unlisted.is_none();
        self.tally.totals.complete &= unlisted == Some(0);
    }
}

/// Describes a run that a signal has ended, and how to continue it.
fn interrupted_summary(signal: Signal, tally: &Tally, end: RunEnd, resumes: bool) -> String {
    let advice = if resumes {
        "run the same command again to continue"
    } else {
        "a new run delivers everything again, with the same event IDs; with --resume STATE, it would continue where this one ended"
    };
    format!("interrupted by {signal}; {}; {advice}", counts(tally, end))
}

fn read_config(args: &ReplayArgs) -> Result<Config, CommandError> {
    let mut config = setup::read_config(&args.ship, None)?;
    config.ship.events.resend = true;
    config.ship.events_per_second = args.max_events_per_second.filter(|_| !args.ship.dry_run);
    if let Some(limit) = config.ship.events_per_second {
        // A batch is sent as a whole, so it must not contain more than the events of one second.
        let batch = &mut config.ship.batch;
        batch.max_events = batch.max_events.min(usize::try_from(limit.get()).unwrap_or(usize::MAX));
    }
    Ok(config)
}

/// What an earlier run has left in the state file.
struct Resumed {
    writer: Option<ResumeWriter>,
    finished: FinishedObjects,
    /// When the first run began. Ages count from this time, so that all runs select the same objects.
    started_at: Timestamp,
}

/// Opens the state file of `--resume`, if there is one.
fn open_resume_file(args: &ReplayArgs, config: &Config, now: Timestamp) -> Result<Resumed, CommandError> {
    let Some(path) = &args.resume else {
        return Ok(Resumed { writer: None, finished: FinishedObjects::default(), started_at: now });
    };
    let is_relative = [&args.since, &args.until].into_iter().flatten().any(|time| time.is_relative());
    let opened = ResumeFile::open(path, run_identity(args, config), is_relative.then_some(now)).map_err(CommandError::Usage)?;
    let (file, finished, started_at) = opened;
    Ok(Resumed { writer: Some(file.into_writer()), finished, started_at: started_at.unwrap_or(now) })
}

/// Returns what a state file belongs to: the selection, the destination, and the settings that change the events.
fn run_identity(args: &ReplayArgs, config: &Config) -> Map<String, Value> {
    let events = &config.ship.events;
    let labels: Map<String, Value> = events.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let members = [
        ("paths", json!(args.paths)),
        ("as", json!(args.original_prefix.as_ref().map(ToString::to_string))),
        ("since", json!(args.since.as_ref().map(ToString::to_string))),
        ("until", json!(args.until.as_ref().map(ToString::to_string))),
        ("to", json!(destination(config))),
        ("schema", json!(format!("{:?}", events.schema).to_lowercase())),
        ("labels", json!(labels)),
        ("include_original", json!(events.include_original)),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns the destination of the events, without secrets.
fn destination(config: &Config) -> String {
    let Target::Http(target) = &config.target else { return "-".to_owned() };
    match &target.endpoints {
        EndpointSource::Fixed(endpoints) => endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        EndpointSource::Registry(registry) => {
            // The query selects the list, but it may contain a secret, so the file contains only a part of its hash.
            let digest = Sha256::digest(registry.url.as_str());
            let start = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
            format!("{} ({start:08x})", registry.redacted_url())
        }
    }
}
