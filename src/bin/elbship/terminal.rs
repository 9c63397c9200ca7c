//! Standard output and standard error. What is printed contains names and responses of others, so it is escaped.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use elb_common::terminal::escape_lines;

use crate::error::CommandError;

/// Prints a text and a line feed on standard output. Unlike `println!`, it does not panic if the pipe is closed.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    writeln!(io::stdout(), "{}", escape_lines(text)).map_err(|error| CommandError::of_stdout(&error))
}

/// Prints a text and a line feed on standard error. A closed standard error is ignored, because no channel is left to report it.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escape_lines(text));
}

/// Returns whether standard error is a terminal, where a person reads it.
pub(crate) fn is_interactive() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether standard output is a plain file, and so shown nowhere.
pub(crate) fn stdout_is_file() -> bool {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    stdout.and_then(|stdout| File::from(stdout).metadata()).is_ok_and(|metadata| metadata.is_file())
}
