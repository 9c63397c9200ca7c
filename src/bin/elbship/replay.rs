//! `elbship replay`: ships what lies in files, directories and S3 prefixes.

use std::fmt::Write as _;
use std::sync::Arc;

use elb_common::log::{self, LogFormat};
use elb_log::key::TimeRange;
use elb_log_shipper::config::{Config, Target};
use elb_log_shipper::ledger::{ObjectReport, Report};
use elb_log_shipper::ship::Shipper;
use elb_log_shipper::shutdown::Shutdown;
use elb_log_shipper::sink::EndpointSource;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::cli::{ReplayArgs, split_s3};
use crate::listing::Selection;
use crate::progress;
use crate::resume::{Finished, Recorder, ResumeFile};
use crate::run::{Exit, build, configure, has_audience, say, summary, write_report};

/// Tasks that are listed ahead of the reading.
const LISTED_AHEAD: usize = 64;

/// Runs the command.
pub(crate) async fn run(args: ReplayArgs) -> Exit {
    match try_run(args).await {
        Ok(()) => Exit::Delivered,
        Err(exit) => exit,
    }
}

async fn try_run(args: ReplayArgs) -> Result<(), Exit> {
    let s3_needed = args.paths.iter().any(|path| split_s3(path).is_some());
    if s3_needed && args.taken_as.is_some() {
        return Err(Exit::Usage("--as is for local files; objects in S3 have their own names".to_owned()));
    }
    let config = configure_replay(&args)?;
    if !has_audience() {
        log::init(LogFormat::StderrJson, config.log_level);
    }
    let (recorder, finished) = resume(&args, &config)?;
    let ReplayArgs { paths, taken_as, since, until, ship, .. } = args;
    let selection = Selection { paths, taken_as, period: TimeRange { since, until }, finished };
    let shipper = build(config, &ship, s3_needed)?;
    let (report, listed) = ship_selection(&shipper, selection, recorder.as_ref()).await;
    let recorded = recorder.map_or(Ok(()), Recorder::finish);
    let written = write_report(&ship, &report);
    for failure in report.failures().filter(|_| has_audience()) {
        say(&format!("{}: {}", failure.key, failure.error.as_deref().unwrap_or("incomplete")));
    }
    listed?;
    if report.failures().next().is_some() {
        recorded.err().iter().for_each(|problem| say(problem));
        return Err(Exit::Failed(summary(&report)));
    }
    say(&summary(&report));
    recorded.map_err(Exit::Failed)?;
    written
}

fn configure_replay(args: &ReplayArgs) -> Result<Config, Exit> {
    let mut config = configure(&args.ship, None)?;
    config.ship.events.resend = true;
    config.ship.events_per_second = args.max_events_per_second.filter(|_| !args.ship.dry_run);
    if let Some(bound) = config.ship.events_per_second {
        // A batch leaves as a whole, so it is not to hold more than a second's events.
        config.ship.batch.max_events = config.ship.batch.max_events.min(usize::try_from(bound.get()).unwrap_or(usize::MAX));
    }
    Ok(config)
}

async fn ship_selection(shipper: &Arc<Shipper>, selection: Selection, recorder: Option<&Recorder>) -> (Report, Result<(), Exit>) {
    let (sender, tasks) = mpsc::channel(LISTED_AHEAD);
    let listing = tokio::spawn(selection.send_tasks(shipper.clone(), sender));
    let bar = progress::watch(shipper.clone());
    let note = |object: &ObjectReport| recorder.iter().for_each(|recorder| recorder.note(object));
    let report = shipper.ship_with(tasks, &Shutdown::at(None), note).await;
    let listed = listing.await.map_err(|error| Exit::Failed(format!("listing the objects failed: {error}")));
    bar.finish();
    (report, listed)
}

/// Opens the state of `--resume`, if there is to be one.
fn resume(args: &ReplayArgs, config: &Config) -> Result<(Option<Recorder>, Finished), Exit> {
    let Some(path) = &args.resume else { return Ok((None, Finished::default())) };
    let (state, finished) = ResumeFile::open(path, identity(args, config)).map_err(Exit::Usage)?;
    Ok((Some(state.recorder()), finished))
}

/// What makes a run another one: the selection, the destination, and what decides how events look.
fn identity(args: &ReplayArgs, config: &Config) -> Map<String, Value> {
    let events = &config.ship.events;
    let labels: Map<String, Value> = events.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let members = [
        ("paths", json!(args.paths)),
        ("as", json!(args.taken_as.as_ref().map(|taken| format!("s3://{}/{}", taken.bucket, taken.prefix)))),
        ("since", json!(args.since.map(|time| time.to_string()))),
        ("until", json!(args.until.map(|time| time.to_string()))),
        ("to", json!(destination(config))),
        ("schema", json!(format!("{:?}", events.schema).to_lowercase())),
        ("labels", json!(labels)),
        ("include_original", json!(events.include_original)),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Where events go, without secrets.
fn destination(config: &Config) -> String {
    let Target::Http(target) = &config.target else { return "-".to_owned() };
    match &target.endpoints {
        EndpointSource::Fixed(endpoints) => endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        EndpointSource::Registry(registry) => {
            // The query says which list is meant, but it may hold a secret.
            let digest = Sha256::digest(registry.url.as_str());
            let digits = digest.iter().take(4).fold(String::new(), |mut digits, byte| {
                // Writing to a string cannot fail.
                let _ = write!(digits, "{byte:02x}");
                digits
            });
            format!("{} ({digits})", registry.redacted_url())
        }
    }
}
