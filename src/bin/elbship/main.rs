//! The command line: the same code as the function, on a person's machine or a batch host.

mod backfill;
mod check;
mod cli;
mod explain;
mod invoke;
mod listing;
mod progress;
mod receive;
mod replay;
mod resume;
mod run;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::run::{Exit, say};

#[tokio::main]
async fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Replay(args) => replay::run(args).await,
        Command::Backfill(args) => backfill::run(args).await,
        Command::Invoke(args) => invoke::run(args).await,
        Command::Receive(args) => receive::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Check(args) => check::run(args).await,
    };
    match exit {
        Exit::Delivered => ExitCode::SUCCESS,
        Exit::Failed(message) => {
            say(&format!("elbship: {message}"));
            ExitCode::from(1)
        }
        Exit::Usage(message) => {
            say(&format!("elbship: {message}"));
            ExitCode::from(2)
        }
    }
}
