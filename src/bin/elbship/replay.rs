//! `elbship replay`: ships the objects in files, directories and S3 prefixes.

use std::sync::Arc;

use elb_common::log::{self, LogFormat};
use elb_common::redact::redact_value;
use elb_common::terminal::escape;
use elb_log::key::TimeRange;
use elb_log_shipper::config::{Config, Target};
use elb_log_shipper::ledger::Tally;
use elb_log_shipper::ship::{Shipper, TaskEnd};
use elb_log_shipper::shutdown::Shutdown;
use elb_log_shipper::sink::EndpointSource;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::cli::{ReplayArgs, split_s3};
use crate::error::CommandError;
use crate::listing::Selection;
use crate::progress::ProgressDisplay;
use crate::report::{ReportFile, summary};
use crate::resume::{FinishedObjects, ResumeFile, ResumeWriter};
use crate::setup;
use crate::terminal::{is_interactive, print_error};

/// Number of tasks that the listing may be ahead of the shipping.
const LISTED_AHEAD: usize = 64;

/// Runs the command.
pub(crate) async fn run(args: ReplayArgs) -> Result<(), CommandError> {
    let reads_s3 = args.paths.iter().any(|path| split_s3(path).is_some());
    if reads_s3 && args.original_prefix.is_some() {
        return Err(CommandError::Usage("cannot use --as with s3:// paths: objects in S3 keep their own names".to_owned()));
    }
    if let Some(url) = args.paths.iter().find(|path| path.starts_with("http://") || path.starts_with("https://")) {
        return Err(CommandError::Usage(format!(
            "cannot replay {}: neither a path nor s3://BUCKET/PREFIX; name the URL of Logstash with --to",
            redact_value(url)
        )));
    }
    let config = read_config(&args)?;
    if !is_interactive() {
        log::init(LogFormat::StderrJson, config.log_level);
    }
    let (resume_writer, finished) = open_resume_file(&args, &config)?;
    let ReplayArgs { paths, original_prefix, since, until, ship, .. } = args;
    let selection = Selection { paths, original_prefix, time_range: TimeRange { since, until }, finished };
    let shipper = setup::shipper(config, &ship, !reads_s3)?;
    let mut record = RunRecord { tally: Tally::default(), resume_writer, report: ReportFile::begin(&ship)? };
    let listed = ship_selection(&shipper, selection, &mut record).await;
    let RunRecord { tally, resume_writer, report } = record;
    let recorded = resume_writer.map_or(Ok(()), ResumeWriter::finish);
    let written = report.map_or(Ok(()), |report| report.finish(&tally.totals));
    listed?;
    if tally.failed > 0 {
        for error in [recorded, written.map_err(|error| error.to_string())].into_iter().filter_map(Result::err) {
            print_error(&error);
        }
        return Err(CommandError::Failed(summary(&tally)));
    }
    print_error(&summary(&tally));
    recorded.map_err(CommandError::Failed)?;
    written
}

/// What is kept of the objects that have ended. It does not grow with their number.
struct RunRecord {
    tally: Tally,
    resume_writer: Option<ResumeWriter>,
    report: Option<ReportFile>,
}

impl RunRecord {
    /// Records the end of a task, and shows a failure to a person at once.
    fn add(&mut self, end: TaskEnd, display: &ProgressDisplay) {
        let TaskEnd { index, attempted, report } = end;
        self.tally.add(&report);
        if let Some(writer) = self.resume_writer.as_ref().filter(|_| attempted) {
            writer.record(&report);
        }
        if is_interactive() && !report.is_success() {
            let line = format!("{}: {}", report.key, report.error.as_deref().unwrap_or("incomplete"));
            display.print(&escape(&line));
        }
        if let Some(file) = &mut self.report {
            file.add(index, report);
        }
    }
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

async fn ship_selection(shipper: &Arc<Shipper>, selection: Selection, record: &mut RunRecord) -> Result<(), CommandError> {
    let (sender, tasks) = mpsc::channel(LISTED_AHEAD);
    let listing = tokio::spawn(selection.send_tasks(shipper.clone(), sender));
    let display = ProgressDisplay::start(shipper.clone());
    shipper.ship_each(tasks, &Shutdown::at(None), |end| record.add(end, &display)).await;
    let listed = listing.await.map_err(|error| CommandError::Failed(format!("cannot list the objects: {error}")));
    display.finish();
    listed
}

/// Opens the state file of `--resume`, if there is one.
fn open_resume_file(args: &ReplayArgs, config: &Config) -> Result<(Option<ResumeWriter>, FinishedObjects), CommandError> {
    let Some(path) = &args.resume else { return Ok((None, FinishedObjects::default())) };
    let (file, finished) = ResumeFile::open(path, run_identity(args, config)).map_err(CommandError::Usage)?;
    Ok((Some(file.into_writer()), finished))
}

/// Returns what a state file belongs to: the selection, the destination, and the settings that change the events.
fn run_identity(args: &ReplayArgs, config: &Config) -> Map<String, Value> {
    let events = &config.ship.events;
    let labels: Map<String, Value> = events.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let members = [
        ("paths", json!(args.paths)),
        ("as", json!(args.original_prefix.as_ref().map(ToString::to_string))),
        ("since", json!(args.since.map(|time| time.to_string()))),
        ("until", json!(args.until.map(|time| time.to_string()))),
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
