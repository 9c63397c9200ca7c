//! The command line: the function's code on a person's machine or a batch host.

mod backfill;
mod check;
mod cli;
mod error;
mod explain;
mod invoke;
mod listing;
mod output;
mod progress;
mod receive;
mod replay;
mod report;
mod resume;
mod setup;
mod signals;
mod terminal;
mod time_arg;

use std::process::ExitCode;

use clap::Parser as _;
use elb_common::redact::redact_arguments;

use crate::cli::{Cli, Command};
use crate::error::CommandError;
use crate::terminal::print_error;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&format!("elbship: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let exit_code = runtime.block_on(run());
    // A thread that writes to a pipe without a reader, or reads a file that does not respond, must not hold the process.
    runtime.shutdown_background();
    exit_code
}

async fn run() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) if error.use_stderr() => {
            print_error(redact_arguments(&error.to_string(), arguments()).trim_end());
            return ExitCode::from(2);
        }
        // The text of --help or --version.
        Err(text) => text.exit(),
    };
    let result = match command {
        Command::Replay(args) => replay::run(args).await,
        Command::Backfill(args) => backfill::run(args).await,
        Command::Invoke(args) => invoke::run(args).await,
        Command::Receive(args) => receive::run(args).await,
        Command::Explain(args) => explain::run(args),
        Command::Check(args) => check::run(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ CommandError::ClosedPipe) => error.exit_code(),
        Err(error) => {
            print_error(&format!("elbship: {error}"));
            error.exit_code()
        }
    }
}

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned())
}
