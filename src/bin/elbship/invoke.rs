//! `elbship invoke`: the function's handler, once, in this process.

use std::fs;
use std::io::{self, Read as _};

use elb_log_shipper::handler::{HandlerError, handle};
use elb_log_shipper::ledger::Report;
use elb_log_shipper::stop::Stop;
use elb_log_shipper::telemetry::{self, LogFormat};

use crate::cli::InvokeArgs;
use crate::run::{Exit, build, configure, has_audience, write_report, writes_to_stdout};

/// Runs the command.
pub async fn run(args: InvokeArgs) -> Exit {
    match try_run(args).await {
        Ok(()) => Exit::Delivered,
        Err(exit) => exit,
    }
}

async fn try_run(args: InvokeArgs) -> Result<(), Exit> {
    let InvokeArgs { event, objects, ship } = args;
    let config = configure(&ship, objects.map(|directory| format!("dir:{}", directory.display())))?;
    telemetry::init(if has_audience() { LogFormat::StderrText } else { LogFormat::StderrJson }, config.log_level);
    let notification = read_event(&event)?;
    let to_stderr = writes_to_stdout(&config, &ship);
    let shipper = build(config, &ship, true).await?;
    let outcome = handle(&shipper, &notification, &Stop::at(None)).await;
    match outcome {
        Ok(report) => {
            write_report(&ship, &report)?;
            print_response(&report, to_stderr)
        }
        Err(HandlerError::Objects { ref report, .. }) => {
            write_report(&ship, report)?;
            Err(Exit::Failed(outcome.err().map(|error| error.to_string()).unwrap_or_default()))
        }
        Err(error) => {
            write_report(&ship, &Report::default())?;
            Err(Exit::Failed(error.to_string()))
        }
    }
}

fn read_event(path: &str) -> Result<serde_json::Value, Exit> {
    let failed = |error: &dyn std::fmt::Display| Exit::Failed(format!("reading the event {path} failed: {error}"));
    let text = if path == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    serde_json::from_str(&text.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
}

/// The response goes to standard output, unless the events are there.
fn print_response(report: &Report, to_stderr: bool) -> Result<(), Exit> {
    let json = serde_json::to_string_pretty(report).map_err(|error| Exit::Failed(error.to_string()))?;
    if to_stderr {
        eprintln!("{json}")
    } else {
        println!("{json}")
    }
    Ok(())
}
