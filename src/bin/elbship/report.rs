//! The report of a run: the JSON of `--report`, and a summary in one sentence.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use elb_log_shipper::ledger::Report;

use crate::cli::ShipArgs;
use crate::error::CommandError;

/// Writes the report to the file of `--report`, if there is one.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_report(args: &ShipArgs, report: &Report) -> Result<(), CommandError> {
    let Some(target) = &args.report else { return Ok(()) };
    let failed = |error: io::Error| CommandError::Failed(format!("cannot write the report to {target}: {error}"));
    let json = serde_json::to_string(report).map_err(|error| failed(error.into()))? + "\n";
    if target == "-" {
        io::stderr().write_all(json.as_bytes()).map_err(failed)
    } else {
        replace_file(target, &json).map_err(failed)
    }
}

/// Replaces a file, so that a reader never sees half of it. A target that is not a plain file, such as `/dev/stdout` or a link,
/// is written in place.
pub(crate) fn replace_file(target: &str, text: &str) -> io::Result<()> {
    let path = Path::new(target);
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(path, text);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, path)
}

/// Returns the result of a run in one sentence.
pub(crate) fn summary(report: &Report) -> String {
    let counts = &report.totals.counts;
    let skipped = report.objects.iter().filter(|object| object.skipped.is_some()).count();
    let parts = [
        (counts.filtered, "not sent (dry run)"),
        (counts.unparsed, "unparsed"),
        (counts.dead_lettered, "dead-lettered"),
        (counts.undelivered, "UNDELIVERED"),
        (skipped as u64, "objects skipped"),
        (report.failures().count() as u64, "objects FAILED"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    let (objects, delivered, lines) = (report.objects.len(), counts.delivered, counts.lines);
    format!("{objects} objects: {delivered} of {lines} lines delivered{}", parts.collect::<String>())
}
