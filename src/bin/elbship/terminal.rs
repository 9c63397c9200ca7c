//! Standard output and standard error.

use std::io::{self, IsTerminal as _, Write as _};

use crate::error::CommandError;

/// Prints a text and a line feed on standard output. Unlike `println!`, it does not panic if the pipe is closed.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let written = writeln!(io::stdout(), "{text}");
    written.map_err(|error| CommandError::Failed(format!("cannot write to standard output: {error}")))
}

/// Prints a text and a line feed on standard error. A closed standard error is ignored, because no channel is left to report it.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Returns whether standard error is a terminal, where a person reads it.
pub(crate) fn is_interactive() -> bool {
    io::stderr().is_terminal()
}
