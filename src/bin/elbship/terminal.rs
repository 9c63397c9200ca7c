//! Standard output and standard error. What is printed contains names and responses of others, so it is escaped.

use std::io::{self, IsTerminal as _, Write as _};

use elb_common::terminal::escape_lines;

use crate::error::CommandError;

/// Prints a text and a line feed on standard output. Unlike `println!`, it does not panic if the pipe is closed.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let written = writeln!(io::stdout(), "{}", escape_lines(text));
    written.map_err(|error| CommandError::Failed(format!("cannot write to standard output: {error}")))
}

/// Prints a text and a line feed on standard error. A closed standard error is ignored, because no channel is left to report it.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escape_lines(text));
}

/// Returns whether standard error is a terminal, where a person reads it.
pub(crate) fn is_interactive() -> bool {
    io::stderr().is_terminal()
}
