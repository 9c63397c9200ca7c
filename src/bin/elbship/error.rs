//! How a command fails, and the exit status of the process.

use std::process::ExitCode;

use elb_common::terminal::escape;

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
}

impl CommandError {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            CommandError::Failed(_) => ExitCode::from(1),
            CommandError::Usage(_) => ExitCode::from(2),
        }
    }
}
