//! `elbship invoke`: runs the function's handler once, in this process.

use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _};

use elb_common::log::{self, LogFormat};
use elb_common::terminal::escape_json;
use elb_log_shipper::lambda::handler::{CompletedInvocation, HandlerError, handle};
use elb_log_shipper::lambda::response::{InvocationResponse, TASK_SUCCEEDED};
use elb_log_shipper::ledger::Report;
use elb_log_shipper::shutdown::Shutdown;

use crate::cli::InvokeArgs;
use crate::error::CommandError;
use crate::progress::Printer;
use crate::report::ReportFile;
use crate::setup::{self, Input, Use};
use crate::signals::stop_on_signals;
use crate::terminal::{is_interactive, print, print_error};

/// Runs the command.
pub(crate) async fn run(args: InvokeArgs) -> Result<(), CommandError> {
    let InvokeArgs { event, objects, ship } = args;
    let config = setup::read_config(&ship, objects.map(|directory| format!("dir:{}", directory.display())))?;
    log::init(if is_interactive() { LogFormat::StderrText } else { LogFormat::StderrJson }, config.log_level);
    let events_to_stdout = setup::writes_events_to_stdout(&config, &ship);
    let report_file = ReportFile::begin(&ship, events_to_stdout)?;
    let response_to_stderr = events_to_stdout || report_file.as_ref().is_some_and(ReportFile::is_on_stdout);
    let write_report = |report: &Report| report_file.map_or(Ok(()), |file| file.write(report));
    let notification = match read_event(&event) {
        Ok(notification) => notification,
        Err(error) => {
            write_report(&unknown_objects())?;
            return Err(error);
        }
    };
    let shipper = setup::shipper(config, Use { input: Input::Store, shown: false, dry_run: ship.dry_run })?;
    let shutdown = Shutdown::at(None);
    let signal = stop_on_signals(shutdown.clone(), ship.grace, Printer::default());
    let signal = signal.map_err(|error| CommandError::Failed(format!("cannot watch for signals: {error}")))?;
    // Messages in a file are not in a queue, so no queue has to know which of them failed.
    // The command line has no checkpoints, so the request needs no ID.
    let result = match handle(&shipper, None, "", &notification, &shutdown).await {
        Ok(CompletedInvocation { response, report }) => {
            write_report(&report)?;
            print_response(&response, response_to_stderr)?;
            check_failures(&response)
        }
        Err(error) => {
            let unknown = unknown_objects();
            let report = if let HandlerError::Failed { report, .. } = &error { report } else { &unknown };
            write_report(report)?;
            Err(CommandError::Failed(error.to_string()))
        }
    };
    if shipper.progress().is_output_closed() {
        return Err(CommandError::ClosedPipe);
    }
    match (signal.get(), result) {
        (Some(signal), Ok(())) => {
            Err(CommandError::Interrupted(signal, format!("interrupted by {signal}, after everything was shipped")))
        }
        (Some(signal), Err(error)) => Err(CommandError::Interrupted(signal, error.to_string())),
        (None, result) => result,
    }
}

/// Returns an error if a message or a task failed: for Lambda the invocation is then a success, for a person it is not.
fn check_failures(response: &InvocationResponse) -> Result<(), CommandError> {
    let failed = match response {
        InvocationResponse::Report(_) => 0,
        InvocationResponse::Queue(failures) => failures.batch_item_failures.len(),
        InvocationResponse::Job(results) => {
            results.results.iter().filter(|result| result.result_code.as_deref() != Some(TASK_SUCCEEDED)).count()
        }
    };
    match failed {
        0 => Ok(()),
        1 => Err(CommandError::Failed("1 message or task of the event failed".to_owned())),
        failed => Err(CommandError::Failed(format!("{failed} messages or tasks of the event failed"))),
    }
}

/// Returns the report of an event whose objects are unknown.
fn unknown_objects() -> Report {
    let mut report = Report::default();
    report.totals.complete = false;
    report
}

fn read_event(path: &str) -> Result<serde_json::Value, CommandError> {
    let failed = |error: &dyn Display| CommandError::Failed(format!("cannot read the event {path}: {error}"));
    let text = if path == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    serde_json::from_str(&text.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
}

/// Prints the response on standard output, or on standard error if the events are on standard output.
fn print_response(response: &InvocationResponse, to_stderr: bool) -> Result<(), CommandError> {
    let json = serde_json::to_string_pretty(response);
    let json = json.map_err(|error| CommandError::Failed(format!("cannot write the response as JSON: {error}")))?;
    let json = escape_json(&json);
    if to_stderr {
        print_error(&json);
        return Ok(());
    }
    print(&json)
}
