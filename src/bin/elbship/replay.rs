//! `elbship replay`: ships what lies in files, directories and S3 prefixes.

use elb_log_shipper::stop::Stop;
use elb_log_shipper::telemetry::{self, LogFormat};
use tokio::sync::mpsc;

use crate::cli::{ReplayArgs, split_s3};
use crate::listing::Selection;
use crate::progress;
use crate::run::{Exit, build, configure, has_audience, say, summary, write_report};

/// Tasks that are listed ahead of the reading.
const LISTED_AHEAD: usize = 64;

/// Runs the command.
pub async fn run(args: ReplayArgs) -> Exit {
    match try_run(args).await {
        Ok(()) => Exit::Delivered,
        Err(exit) => exit,
    }
}

async fn try_run(args: ReplayArgs) -> Result<(), Exit> {
    let ReplayArgs { paths, taken_as, since, until, ship } = args;
    let s3_needed = paths.iter().any(|path| split_s3(path).is_some());
    if s3_needed && taken_as.is_some() {
        return Err(Exit::Usage("--as is for local files; objects in S3 have their own names".to_owned()));
    }
    let mut config = configure(&ship, None)?;
    config.ship.events.resend = true;
    if !has_audience() {
        telemetry::init(LogFormat::StderrJson, config.log_level);
    }
    let shipper = build(config, &ship, s3_needed)?;
    let (sender, tasks) = mpsc::channel(LISTED_AHEAD);
    let listing = tokio::spawn(Selection { paths, taken_as, since, until }.send_tasks(shipper.clone(), sender));
    let bar = progress::watch(shipper.clone());
    let report = shipper.ship(tasks, &Stop::at(None)).await;
    let listed = listing.await;
    bar.finish();
    let written = write_report(&ship, &report);
    for failure in report.failures().filter(|_| has_audience()) {
        say(&format!("{}: {}", failure.key, failure.error.as_deref().unwrap_or("incomplete")));
    }
    listed.map_err(|error| Exit::Failed(format!("listing the objects failed: {error}")))?;
    if report.failures().next().is_some() {
        return Err(Exit::Failed(summary(&report)));
    }
    say(&summary(&report));
    written
}
