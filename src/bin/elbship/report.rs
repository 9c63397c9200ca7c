//! The report of a run: the JSON of `--report`, written while the run goes on, and a summary in one sentence.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};

use elb_common::terminal::escape_json;
use elb_common::text::{counted, plural};
use elb_log_shipper::ledger::{ObjectReport, Report, Tally, Totals};

use crate::cli::ShipArgs;
use crate::error::CommandError;
use crate::output::Output;

/// Permissions of a new report or state file. The errors in a report contain the start of responses, and a receiver may repeat a
/// secret in its response.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// Maximum number of reports that wait for an earlier object to end.
const MAX_WAITING: usize = 1_000;

/// The file of `--report` while the run goes on. The reports are kept in a temporary file without a name, so that memory does not
/// grow with the number of objects, and so that the file is replaced as a whole.
pub(crate) struct ReportFile {
    target: String,
    output: Output,
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
    /// Opens the file of `--report`, if there is one.
    ///
    /// # Errors
    /// The file, or a temporary file, cannot be written, or the file is standard output and the events go there.
    pub(crate) fn begin(args: &ShipArgs, events_to_stdout: bool) -> Result<Option<Self>, CommandError> {
        let Some(target) = args.report.clone() else { return Ok(None) };
        let output = Output::open(&target, PRIVATE_MODE).map_err(|error| failure(&target, &error))?;
        if events_to_stdout && matches!(output, Output::Stdout) {
            return Err(CommandError::Usage(format!(
                "cannot write the report to {target}: the events go to standard output; name another file, or use --to or --dry-run"
            )));
        }
        let writer = output.spool().and_then(|spool| ReportWriter::begin(BufWriter::new(spool)));
        let writer = writer.map_err(|error| failure(&target, &error))?;
        Ok(Some(ReportFile { target, output, writer, failed: None }))
    }

    /// Returns whether the report goes to standard output.
    pub(crate) fn is_on_stdout(&self) -> bool {
        matches!(self.output, Output::Stdout)
    }

    /// Adds the report of the object with this number.
    pub(crate) fn add(&mut self, index: usize, report: ObjectReport) {
        if self.failed.is_none() {
            self.failed = self.writer.add(index, report).err();
        }
    }

    /// Writes the end of the report, and then the file.
    ///
    /// # Errors
    /// The report cannot be written.
    pub(crate) fn finish(self, totals: &Totals) -> Result<(), CommandError> {
        let ReportFile { target, output, writer, failed } = self;
        let is_stdout = matches!(output, Output::Stdout);
        let finish = || {
            let out = failed.map_or_else(|| writer.finish(totals), Err)?;
            let mut spool = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            spool.rewind()?;
            output.write(&mut spool, PRIVATE_MODE)
        };
        finish().map_err(|error| if is_stdout { CommandError::of_stdout(&error) } else { failure(&target, &error) })
    }

    /// Adds the reports of all objects, and finishes the file.
    ///
    /// # Errors
    /// The report cannot be written.
    pub(crate) fn write(mut self, report: &Report) -> Result<(), CommandError> {
        for (index, object) in report.objects.iter().enumerate() {
            self.add(index, object.clone());
        }
        self.finish(&report.totals)
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

/// What to do about events in the dead-letter destination.
const AFTER_DEAD_LETTERS: &str = "; the rejected events are in DEAD_LETTER_URL: repair the cause, then replay them";

/// What a summary says about a run, beside the sums of its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunEnd {
    /// Number of objects that an earlier run has delivered. They are among the skipped objects.
    pub resumed: u64,
    /// Number of objects that the run left when it ended early. The tally does not contain them.
    pub not_begun: u64,
    /// Whether there are more objects, because the run ended before all were listed.
    pub has_more: bool,
}

/// Returns the result of a run in one sentence, which ends with what to do if anything failed.
pub(crate) fn summary(tally: &Tally, end: RunEnd) -> String {
    let advice = match &tally.first_failure {
        Some(first) => format!("; the first: {first}"),
        None if tally.totals.counts.dead_lettered > 0 => AFTER_DEAD_LETTERS.to_owned(),
        None => String::new(),
    };
    counts(tally, end) + &advice
}

/// Returns the numbers of a run in one sentence.
pub(crate) fn counts(tally: &Tally, end: RunEnd) -> String {
    let counts = &tally.totals.counts;
    let object = |count, what: &str| (count, format!("{} {what}", plural(count, "object")));
    let parts = [
        (counts.filtered, "not sent (dry run)".to_owned()),
        (counts.unparsed, "unparsed".to_owned()),
        (counts.dead_lettered, "dead-lettered".to_owned()),
        (counts.undelivered, "UNDELIVERED".to_owned()),
        object(tally.skipped.saturating_sub(end.resumed), "skipped"),
        object(end.resumed, "delivered by an earlier run"),
        object(tally.failed, "FAILED"),
        object(end.not_begun, "not begun"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    let (delivered, lines) = (counts.delivered, counts.lines);
    let objects = counted(tally.objects + end.not_begun, "object");
    let objects = if end.has_more { format!("at least {objects}") } else { objects };
    format!("{objects}: {delivered} of {} delivered{}", counted(lines, "line"), parts.collect::<String>())
}

#[cfg(test)]
mod tests {
    use elb_log::origin::ObjectName;
    use elb_log_shipper::reason::Reason;

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
    fn one_object_is_singular_in_the_summary() {
        let mut tally = Tally::default();
        tally.add(&ObjectReport { complete: true, ..report(1) });
        assert_eq!(counts(&tally, RunEnd::default()), "1 object: 0 of 0 lines delivered");
        let name = ObjectName { bucket: "logs".to_owned(), key: "x".to_owned() };
        tally.add(&ObjectReport::failed(&name, Reason::NotFound, "no".to_owned()));
        tally.totals.counts.lines = 1;
        let end = RunEnd { not_begun: 48, ..RunEnd::default() };
        let expected = "50 objects: 0 of 1 line delivered, 1 object FAILED, 48 objects not begun";
        assert_eq!(summary(&tally, end), format!("{expected}; the first: s3://logs/x: no"));
        let end = RunEnd { not_begun: 48, has_more: true, ..RunEnd::default() };
        assert!(counts(&tally, end).starts_with("at least 50 objects: "));
        tally.skipped = 3;
        let end = RunEnd { resumed: 2, ..RunEnd::default() };
        assert!(counts(&tally, end).contains(", 1 object skipped, 2 objects delivered by an earlier run, 1 object FAILED"));
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
