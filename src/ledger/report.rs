//! The report of a run: the JSON of `--report` and of the function's response.

use elb_log::origin::ObjectName;
use serde::Serialize;
use tracing::Level;

use super::Counts;
use crate::object::SkipReason;
use crate::reason::Reason;

/// What a run did. It grows with the number of objects, so it is for runs of few; see [`Tally`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One entry for each object, in the order in which they were requested.
    pub objects: Vec<ObjectReport>,
    /// The sums.
    pub totals: Totals,
}

/// The entry of one object in a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectReport {
    /// The bucket; empty for a local file that does not stand for an object in S3.
    pub bucket: String,
    /// The decoded key, or the file's path.
    pub key: String,
    /// The ETag without quotes.
    pub etag: Option<String>,
    /// The log type of most lines.
    pub kind: Option<&'static str>,
    /// The counters.
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether the object was read to its end. True for a skipped object.
    pub complete: bool,
    /// Why the object was skipped.
    pub skipped: Option<String>,
    /// The offset in the object's text at which an earlier attempt ended. The counters include what that attempt delivered before
    /// this offset.
    pub resumed_at: Option<u64>,
    /// The offset in the object's text at which the next attempt continues, because no time was left. None if there was no
    /// progress.
    pub continued_at: Option<u64>,
    /// Time for the object, in milliseconds.
    pub duration_ms: u64,
    /// The class of the error, or why the object is continued: equal for equal causes.
    pub reason: Option<Reason>,
    /// Why the object failed.
    pub error: Option<String>,
    /// Whether another attempt cannot succeed: the object does not exist, cannot be read, or is corrupt.
    #[serde(skip)]
    pub permanent: bool,
    /// Whether the object only needs more time: it failed, or continues in the next attempt, because the run had no time left.
    #[serde(skip)]
    pub out_of_time: bool,
    /// The part of the counters that an earlier attempt has counted.
    #[serde(skip)]
    pub resumed_counts: Counts,
}

/// The sums of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// The sums of the counters.
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether every object was read to its end.
    pub complete: bool,
    /// The sum of the objects' durations, in milliseconds. The durations overlap.
    pub duration_ms: u64,
}

/// How many objects of a run ended in which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of objects.
    pub objects: u64,
    /// Number of skipped objects.
    pub skipped: u64,
    /// Number of objects of which something is missing at the receiver.
    pub failed: u64,
    /// Name and error of the object that failed first. Later failures are often its consequence.
    pub first_failure: Option<String>,
    /// The sums.
    pub totals: Totals,
}

impl ObjectReport {
    /// Returns the entry of an object that has not been read.
    pub fn unread(name: &ObjectName) -> Self {
        ObjectReport { bucket: name.bucket.clone(), key: name.key.clone(), ..ObjectReport::default() }
    }

    /// Returns the entry of a skipped object.
    pub(crate) fn skipped(name: &ObjectName, reason: &SkipReason) -> Self {
        ObjectReport { complete: true, skipped: Some(reason.to_string()), ..ObjectReport::unread(name) }
    }

    /// Returns the entry of an object that failed before it was read.
    pub fn failed(name: &ObjectName, reason: Reason, error: String) -> Self {
        ObjectReport { reason: Some(reason), error: Some(error), ..ObjectReport::unread(name) }
    }

    /// Returns whether nothing of the object is missing at the receiver.
    pub fn is_success(&self) -> bool {
        self.complete && self.counts.undelivered == 0 && self.error.is_none()
    }

    /// Returns whether the next attempt continues the object where this one ended.
    pub fn is_continued(&self) -> bool {
        self.continued_at.is_some()
    }

    /// Returns what this run alone has counted.
    pub(crate) fn own_counts(&self) -> Counts {
        self.counts.without(&self.resumed_counts)
    }

    /// Describes why the object is not shipped.
    pub(crate) fn failure(&self) -> String {
        match (&self.error, self.continued_at) {
            (Some(error), _) => error.clone(),
            (None, Some(offset)) => format!("continued at byte {offset}"),
            (None, None) => "incomplete".to_owned(),
        }
    }

    /// Returns the object's name.
    fn name(&self) -> ObjectName {
        ObjectName { bucket: self.bucket.clone(), key: self.key.clone() }
    }

    /// Returns the level and message of the object's summary line. ERROR means that data is at risk.
    pub(crate) fn summary(&self) -> (Level, &'static str) {
        if self.is_continued() {
            (Level::INFO, "object continued")
        } else if !self.is_success() {
            (Level::ERROR, "object failed")
        } else if self.skipped.is_some() {
            (Level::INFO, "object skipped")
        } else {
            (Level::INFO, "object shipped")
        }
    }
}

impl Report {
    /// Creates the report of these objects.
    pub(crate) fn of(objects: Vec<ObjectReport>) -> Self {
        let mut tally = Tally::default();
        objects.iter().for_each(|object| tally.add(object));
        Report { objects, totals: tally.totals }
    }

    /// Returns the objects of which something is missing at the receiver.
    pub fn failures(&self) -> impl Iterator<Item = &ObjectReport> {
        self.objects.iter().filter(|object| !object.is_success())
    }
}

impl Tally {
    /// Adds an object.
    pub fn add(&mut self, object: &ObjectReport) {
        self.objects += 1;
        self.skipped += u64::from(object.skipped.is_some());
        if !object.is_success() {
            self.failed += 1;
            self.first_failure.get_or_insert_with(|| format!("{}: {}", object.name(), object.failure()));
        }
        self.totals.counts.add(&object.counts);
        self.totals.complete &= object.complete;
        self.totals.duration_ms += object.duration_ms;
    }
}

impl Default for Totals {
    fn default() -> Self {
        Totals { counts: Counts::default(), complete: true, duration_ms: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_a_success_only_without_any_failure() {
        let success = ObjectReport { complete: true, ..ObjectReport::default() };
        assert!(success.is_success());
        let undelivered = Counts { undelivered: 1, ..Counts::default() };
        for failure in [
            ObjectReport { complete: false, ..success.clone() },
            ObjectReport { counts: undelivered, ..success.clone() },
            ObjectReport { error: Some("cannot read it".to_owned()), ..success.clone() },
        ] {
            assert!(!failure.is_success(), "{failure:?} counts as a success");
        }
    }
}
