//! How a command fails, and the exit status of the process.

use std::io;
use std::process::ExitCode;

use elb_common::terminal::escape;

use crate::signals::Signal;

/// Exit status of a program that SIGPIPE has ended, as a shell shows it.
const CLOSED_PIPE: u8 = 141;

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// Something was not delivered, or cannot be read or written: exit status 1. The text may contain names and responses of
    /// others, and is shown in one line.
    #[error("{}", escape(.0))]
    Failed(String),
    /// A flag or a variable is invalid: exit status 2.
    #[error("{0}")]
    Usage(String),
    /// A signal has ended the run: exit status 130 or 143. The text says what was done and how to continue.
    #[error("{}", escape(.1))]
    Interrupted(Signal, String),
    /// The reader of standard output needs no more of it, as in `elbship … | head`: exit status 141, without a message.
    #[error("standard output is closed")]
    ClosedPipe,
}

impl CommandError {
    /// Returns the error of a failed write to standard output.
    pub(crate) fn of_stdout(error: &io::Error) -> CommandError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CommandError::ClosedPipe,
            _ => CommandError::Failed(format!("cannot write to standard output: {error}")),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            CommandError::Failed(_) => ExitCode::from(1),
            CommandError::Usage(_) => ExitCode::from(2),
            CommandError::Interrupted(signal, _) => ExitCode::from(signal.exit_code()),
            CommandError::ClosedPipe => ExitCode::from(CLOSED_PIPE),
        }
    }
}
