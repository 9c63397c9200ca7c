//! The report of a run: the JSON of `--report`, written while the run goes on, and a summary in one sentence.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use elb_common::terminal::escape_json;
use elb_log_shipper::ledger::{ObjectReport, Report, Tally, Totals};

use crate::cli::ShipArgs;
use crate::error::CommandError;

/// Permissions of a new report or state file. The errors in a report contain the start of responses, and a receiver may repeat a
/// secret in its response.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// Maximum number of reports that wait for an earlier object to end.
const MAX_WAITING: usize = 1_000;

/// The file of `--report` while the run goes on. The reports are kept in a temporary file without a name, so that memory does not
/// grow with the number of objects, and so that the file is replaced as a whole.
pub(crate) struct ReportFile {
    target: String,
    writer: ReportWriter<BufWriter<File>>,
    /// The first error. The run continues without a report.
    failed: Option<io::Error>,
}

/// Writes the JSON of a report. The reports of objects are in the order in which the objects were requested, unless more than
/// [`MAX_WAITING`] objects end before an earlier one does.
struct ReportWriter<W> {
    out: W,
    written: u64,
    /// The next object in order.
    next: usize,
    /// The reports of later objects.
    waiting: BTreeMap<usize, ObjectReport>,
}

impl ReportFile {
    /// Begins the file of `--report`, if there is one.
    ///
    /// # Errors
    /// A temporary file cannot be written.
    pub(crate) fn begin(args: &ShipArgs) -> Result<Option<Self>, CommandError> {
        let Some(target) = args.report.clone() else { return Ok(None) };
        let begin = || {
            let spool = if is_replaced(Path::new(&target)) {
                tempfile::tempfile_in(directory_of(Path::new(&target)))?
            } else {
                tempfile::tempfile()?
            };
            ReportWriter::begin(BufWriter::new(spool))
        };
        match begin() {
            Ok(writer) => Ok(Some(ReportFile { target, writer, failed: None })),
            Err(error) => Err(failure(&target, &error)),
        }
    }

    /// Adds the report of the object with this number.
    pub(crate) fn add(&mut self, index: usize, report: ObjectReport) {
        if self.failed.is_none() {
            self.failed = self.writer.add(index, report).err();
        }
    }

    /// Writes the end of the report, and replaces the file.
    ///
    /// # Errors
    /// The report cannot be written.
    pub(crate) fn finish(self, totals: &Totals) -> Result<(), CommandError> {
        let ReportFile { target, writer, failed } = self;
        let finish = || {
            let out = failed.map_or_else(|| writer.finish(totals), Err)?;
            let mut spool = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            spool.rewind()?;
            if target == "-" {
                return io::copy(&mut spool, &mut io::stderr()).map(drop);
            }
            replace_file(&target, &mut spool, PRIVATE_MODE)
        };
        finish().map_err(|error| failure(&target, &error))
    }
}

fn failure(target: &str, error: &io::Error) -> CommandError {
    CommandError::Failed(format!("cannot write the report to {target}: {error}"))
}

impl<W: Write> ReportWriter<W> {
    fn begin(mut out: W) -> io::Result<Self> {
        out.write_all(b"{\"objects\":[")?;
        Ok(ReportWriter { out, written: 0, next: 0, waiting: BTreeMap::new() })
    }

    fn add(&mut self, index: usize, report: ObjectReport) -> io::Result<()> {
        if index < self.next {
            return self.write(&report);
        }
        self.waiting.insert(index, report);
        if self.waiting.len() > MAX_WAITING {
            self.next = self.waiting.first_key_value().map_or(self.next, |(first, _)| *first);
        }
        while let Some(report) = self.waiting.remove(&self.next) {
            self.write(&report)?;
            self.next += 1;
        }
        Ok(())
    }

    fn write(&mut self, report: &ObjectReport) -> io::Result<()> {
        if self.written > 0 {
            self.out.write_all(b",")?;
        }
        self.written += 1;
        self.out.write_all(escape_json(&serde_json::to_string(report)?).as_bytes())
    }

    /// Writes the reports that still wait, and the totals.
    fn finish(mut self, totals: &Totals) -> io::Result<W> {
        for report in std::mem::take(&mut self.waiting).into_values() {
            self.write(&report)?;
        }
        self.out.write_all(format!("],\"totals\":{}}}\n", serde_json::to_string(totals)?).as_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Writes a report that is complete to the file of `--report`, if there is one.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_report(args: &ShipArgs, report: &Report) -> Result<(), CommandError> {
    let Some(mut file) = ReportFile::begin(args)? else { return Ok(()) };
    for (index, object) in report.objects.iter().enumerate() {
        file.add(index, object.clone());
    }
    file.finish(&report.totals)
}

/// Replaces a file, so that a reader never sees half of it. A new file gets the permissions `mode`, as far as the umask allows; a
/// file that is replaced keeps its permissions. A target that is not a plain file, such as `/dev/stdout` or a link, is written in
/// place.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn replace_file(target: &str, content: &mut dyn Read, mode: u32) -> io::Result<()> {
    let path = Path::new(target);
    if !is_replaced(path) {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        return io::copy(content, &mut file).map(drop);
    }
    let mut unfinished = tempfile::Builder::new();
    let unfinished = unfinished.prefix(".").suffix(".unfinished").permissions(Permissions::from_mode(mode));
    let mut unfinished = unfinished.tempfile_in(directory_of(path))?;
    io::copy(content, unfinished.as_file_mut())?;
    if let Ok(replaced) = fs::metadata(path) {
        unfinished.as_file().set_permissions(replaced.permissions())?;
    }
    unfinished.as_file().sync_all()?;
    unfinished.persist(path)?;
    Ok(())
}

/// Returns whether a target is a plain file or does not exist.
fn is_replaced(target: &Path) -> bool {
    target != Path::new("-") && fs::symlink_metadata(target).map_or(true, |metadata| metadata.is_file())
}

fn directory_of(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).to_owned()
}

/// What to do about events in the dead-letter destination.
const AFTER_DEAD_LETTERS: &str = "; the rejected events are in DEAD_LETTER_URL: repair the cause, then replay them";

/// Returns the result of a run in one sentence, which ends with what to do if anything failed.
pub(crate) fn summary(tally: &Tally) -> String {
    let counts = &tally.totals.counts;
    let parts = [
        (counts.filtered, "not sent (dry run)"),
        (counts.unparsed, "unparsed"),
        (counts.dead_lettered, "dead-lettered"),
        (counts.undelivered, "UNDELIVERED"),
        (tally.skipped, "objects skipped"),
        (tally.failed, "objects FAILED"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    let (objects, delivered, lines) = (tally.objects, counts.delivered, counts.lines);
    let advice = match &tally.first_failure {
        Some(first) => format!("; the first: {first}"),
        None if counts.dead_lettered > 0 => AFTER_DEAD_LETTERS.to_owned(),
        None => String::new(),
    };
    format!("{objects} objects: {delivered} of {lines} lines delivered{}{advice}", parts.collect::<String>())
}

#[cfg(test)]
mod tests {
    use elb_log::origin::ObjectName;

    use super::*;

    fn report(key: usize) -> ObjectReport {
        ObjectReport::unread(&ObjectName { bucket: "logs".to_owned(), key: key.to_string() })
    }

    /// Writes reports in this order. Returns the keys in the file, and the largest number of reports that waited.
    fn written(order: impl IntoIterator<Item = usize>) -> (Vec<usize>, usize) {
        let mut writer = ReportWriter::begin(Vec::new()).unwrap();
        let mut most = 0;
        for index in order {
            writer.add(index, report(index)).unwrap();
            most = most.max(writer.waiting.len());
        }
        let json: serde_json::Value = serde_json::from_slice(&writer.finish(&Totals::default()).unwrap()).unwrap();
        let keys = json["objects"].as_array().unwrap().iter().map(|object| object["key"].as_str().unwrap().parse().unwrap());
        (keys.collect(), most)
    }

    #[test]
    fn reports_are_in_the_order_of_the_objects() {
        assert_eq!(written([]).0, [0; 0]);
        assert_eq!(written([2, 0, 1, 4, 3]), (vec![0, 1, 2, 3, 4], 1));
        // An object whose task ended without a report.
        assert_eq!(written([2, 0]).0, [0, 2]);
    }

    #[test]
    fn only_a_bounded_number_of_reports_waits() {
        let last_is_first = (1..20_000).chain([0]);
        let (keys, most) = written(last_is_first);
        assert_eq!(most, MAX_WAITING);
        assert_eq!((keys.len(), keys[0], keys[19_999]), (20_000, 1, 0));
        assert!(keys[..19_999].is_sorted());
    }

    #[test]
    fn json_is_that_of_a_whole_report() {
        let mut report = Report { objects: vec![report(0), report(1)], totals: Totals::default() };
        report.objects[1].error = Some("a\u{9b}b".to_owned());
        let mut writer = ReportWriter::begin(Vec::new()).unwrap();
        for (index, object) in report.objects.iter().enumerate() {
            writer.add(index, object.clone()).unwrap();
        }
        let json = String::from_utf8(writer.finish(&report.totals).unwrap()).unwrap();
        assert_eq!(json, serde_json::to_string(&report).unwrap().replace('\u{9b}', "\\u009b") + "\n");
    }
}
