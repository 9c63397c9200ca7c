//! How a command fails, and the exit status of the process.

use std::process::ExitCode;

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// Something was not delivered, or cannot be read or written: exit status 1.
    #[error("{0}")]
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
