//! `elbship invoke`: the function's handler, once, in this process.

use std::fs;
use std::io::{self, Read as _};

use elb_common::log::{self, LogFormat};
use elb_log_shipper::lambda::handler::{CompletedInvocation, HandlerError, handle};
use elb_log_shipper::lambda::response::{InvocationResponse, TASK_SUCCEEDED};
use elb_log_shipper::ledger::Report;
use elb_log_shipper::shutdown::Shutdown;

use crate::cli::InvokeArgs;
use crate::run::{Exit, build, configure, has_audience, print, say, write_report, writes_to_stdout};

/// Runs the command.
pub(crate) async fn run(args: InvokeArgs) -> Exit {
    match try_run(args).await {
        Ok(()) => Exit::Delivered,
        Err(exit) => exit,
    }
}

async fn try_run(args: InvokeArgs) -> Result<(), Exit> {
    let InvokeArgs { event, objects, ship } = args;
    let config = configure(&ship, objects.map(|directory| format!("dir:{}", directory.display())))?;
    log::init(if has_audience() { LogFormat::StderrText } else { LogFormat::StderrJson }, config.log_level);
    let notification = match read_event(&event) {
        Ok(notification) => notification,
        Err(exit) => {
            write_report(&ship, &nothing_known())?;
            return Err(exit);
        }
    };
    let to_stderr = writes_to_stdout(&config, &ship);
    let shipper = build(config, &ship, true)?;
    // Messages of an event in a file are in no queue that would have to be told.
    match handle(&shipper, None, &notification, &Shutdown::at(None)).await {
        Ok(CompletedInvocation { response, report }) => {
            write_report(&ship, &report)?;
            print_response(&response, to_stderr)?;
            failures_of(&response).map_or(Ok(()), |failures| Err(Exit::Failed(failures)))
        }
        Err(error) => {
            let nothing = nothing_known();
            let report = if let HandlerError::Failed { report, .. } = &error { report } else { &nothing };
            write_report(&ship, report)?;
            Err(Exit::Failed(error.to_string()))
        }
    }
}

/// A queue's event or a job's can fail in part, which is a success to Lambda and none to a person.
fn failures_of(response: &InvocationResponse) -> Option<String> {
    let failed = match response {
        InvocationResponse::Report(_) => 0,
        InvocationResponse::Queue(failures) => failures.batch_item_failures.len(),
        InvocationResponse::Job(results) => {
            results.results.iter().filter(|result| result.result_code.as_deref() != Some(TASK_SUCCEEDED)).count()
        }
    };
    (failed > 0).then(|| format!("{failed} of the event's messages or tasks failed"))
}

/// The report where it is not even known which objects were meant.
fn nothing_known() -> Report {
    let mut report = Report::default();
    report.totals.complete = false;
    report
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
fn print_response(response: &InvocationResponse, to_stderr: bool) -> Result<(), Exit> {
    let json = serde_json::to_string_pretty(response).map_err(|error| Exit::Failed(error.to_string()))?;
    if to_stderr {
        say(&json);
        return Ok(());
    }
    print(&json)
}
