//! What became of every line: the proof that nothing is lost.

use serde::Serialize;
use tracing::Level;

use elb_log::event::Written;
use elb_log::format::Kind;
use elb_log::origin::ObjectName;

use crate::object::SkipReason;

/// The books of one object: `lines = delivered + filtered + dead_lettered + undelivered`, always.
///
/// Only [`Ledger::read`] makes [`Pending`] events, and only [`Ledger::settle`] ends them, each once. What is never settled,
/// for whatever reason, counts as undelivered.
#[derive(Debug, Default)]
pub struct Ledger {
    lines: u64,
    delivered: u64,
    filtered: u64,
    dead_lettered: u64,
    tally: Tally,
}

/// Events of an object that are not accounted for yet. They cannot be copied, and dropping them leaves them undelivered.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "events that are not settled count as undelivered"]
pub struct Pending {
    events: u64,
}

/// How events end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The receiver accepted them.
    Delivered,
    /// They were made and, by intent, not sent.
    Filtered,
    /// They are kept in the dead letter, because no receiver will ever take them.
    DeadLettered,
}

/// Counts that say how lines were read and sent. They are sums, so the parts of an object can be counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Parsed lines by kind, in the order of [`Kind::ALL`].
    pub kinds: [u64; Kind::ALL.len()],
    /// Lines sent with their raw text only.
    pub unparsed: u64,
    /// Lines with fewer fields than their kind ever had.
    pub short_lines: u64,
    /// Fields that were not of their type.
    pub invalid_fields: u64,
    /// Fields beyond the known ones.
    pub extra_fields: u64,
    /// Batches made.
    pub batches: u64,
    /// Requests begun.
    pub requests: u64,
    /// Requests that were not the first for their batch.
    pub retries: u64,
}

/// One object's entry in a run's report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectReport {
    /// The bucket; empty for a local file that stands for itself.
    pub bucket: String,
    /// The key, decoded, or the file's path.
    pub key: String,
    /// The ETag without quotes.
    pub etag: Option<String>,
    /// The kind of most lines.
    pub kind: Option<&'static str>,
    /// The numbers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether the object was read to its end. An object skipped on purpose counts as that.
    pub complete: bool,
    /// Why it was not read, on purpose.
    pub skipped: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether no other attempt can end better: the object is not there, not readable, or not what it should be.
    #[serde(skip)]
    pub permanent: bool,
}

/// The numbers of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Bytes received from the store.
    pub bytes_compressed: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Lines that are not empty, which is also the number of events made.
    pub lines: u64,
    /// See [`Tally`].
    pub unparsed: u64,
    /// See [`Tally`].
    pub short_lines: u64,
    /// See [`Tally`].
    pub invalid_fields: u64,
    /// See [`Tally`].
    pub extra_fields: u64,
    /// See [`Disposition`].
    pub filtered: u64,
    /// See [`Disposition`].
    pub delivered: u64,
    /// See [`Disposition`].
    pub dead_lettered: u64,
    /// Events that nobody has accepted.
    pub undelivered: u64,
    /// See [`Tally`].
    pub batches: u64,
    /// See [`Tally`].
    pub requests: u64,
    /// See [`Tally`].
    pub retries: u64,
}

/// What a run did: the JSON of `--report` and of the function's response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One entry an object, in the order in which they were asked for.
    pub objects: Vec<ObjectReport>,
    /// The sums.
    pub totals: Totals,
}

/// The sums of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// The numbers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether every object was read to its end.
    pub complete: bool,
    /// The sum of the objects' durations, which overlap, in milliseconds.
    pub duration_ms: u64,
}

impl Ledger {
    /// Books lines that were read.
    pub fn read(&mut self, lines: u64) -> Pending {
        self.lines += lines;
        Pending { events: lines }
    }

    /// Books how events ended.
    pub fn settle(&mut self, pending: Pending, fate: Disposition) {
        let account = match fate {
            Disposition::Delivered => &mut self.delivered,
            Disposition::Filtered => &mut self.filtered,
            Disposition::DeadLettered => &mut self.dead_lettered,
        };
        *account += pending.events;
    }

    /// Adds a part's counts.
    pub fn count(&mut self, tally: &Tally) {
        self.tally.add(tally);
    }

    /// Events that nobody has accepted.
    pub fn undelivered(&self) -> u64 {
        self.lines - self.delivered - self.filtered - self.dead_lettered
    }

    /// The report's numbers. The byte counts are the reader's.
    pub fn counts(&self, bytes_compressed: u64, bytes: u64) -> Counts {
        let Tally { unparsed, short_lines, invalid_fields, extra_fields, batches, requests, retries, .. } = self.tally;
        let Ledger { lines, delivered, filtered, dead_lettered, .. } = *self;
        let undelivered = self.undelivered();
        Counts {
            bytes_compressed,
            bytes,
            lines,
            unparsed,
            short_lines,
            invalid_fields,
            extra_fields,
            filtered,
            delivered,
            dead_lettered,
            undelivered,
            batches,
            requests,
            retries,
        }
    }

    /// The kind of most lines; of several, the first in the order of [`Kind::ALL`].
    pub fn kind(&self) -> Option<Kind> {
        let most = self.tally.kinds.iter().copied().max().filter(|&most| most > 0)?;
        Kind::ALL.into_iter().zip(self.tally.kinds).find(|&(_, lines)| lines == most).map(|(kind, _)| kind)
    }
}

impl Pending {
    /// How many there are.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Takes the first `events` of them apart, or all if there are fewer.
    pub fn take(&mut self, events: u64) -> Pending {
        let events = events.min(self.events);
        self.events -= events;
        Pending { events }
    }
}

impl Tally {
    /// Counts one line.
    pub fn line(&mut self, written: Written) {
        if let Some(kind) = written.kind {
            self.kinds[kind as usize] += 1;
        }
        self.unparsed += u64::from(written.unparsed);
        self.short_lines += u64::from(written.short);
        self.invalid_fields += u64::from(written.invalid_fields);
        self.extra_fields += u64::from(written.extra_fields);
    }

    /// Adds another part's counts.
    pub fn add(&mut self, other: &Tally) {
        for (sum, part) in self.kinds.iter_mut().zip(other.kinds) {
            *sum += part;
        }
        self.unparsed += other.unparsed;
        self.short_lines += other.short_lines;
        self.invalid_fields += other.invalid_fields;
        self.extra_fields += other.extra_fields;
        self.batches += other.batches;
        self.requests += other.requests;
        self.retries += other.retries;
    }
}

impl ObjectReport {
    /// The entry of an object of which nothing has been read.
    pub fn unread(name: &ObjectName) -> Self {
        ObjectReport { bucket: name.bucket.clone(), key: name.key.clone(), ..ObjectReport::default() }
    }

    /// The entry of an object that is skipped on purpose.
    pub fn skipped(name: &ObjectName, reason: &SkipReason) -> Self {
        ObjectReport { complete: true, skipped: Some(reason.to_string()), ..ObjectReport::unread(name) }
    }

    /// The entry of an object that could not be begun.
    pub fn failed(name: &ObjectName, error: String) -> Self {
        ObjectReport { error: Some(error), ..ObjectReport::unread(name) }
    }

    /// What its summary line says. ERROR means that data is at risk.
    pub fn verdict(&self) -> (Level, &'static str) {
        if !self.is_success() {
            (Level::ERROR, "object failed")
        } else if self.skipped.is_some() {
            (Level::INFO, "object skipped")
        } else {
            (Level::INFO, "object shipped")
        }
    }

    /// Whether nothing of the object is missing at the receiver.
    pub fn is_success(&self) -> bool {
        self.complete && self.counts.undelivered == 0 && self.error.is_none()
    }
}

impl Report {
    /// The report of these objects.
    pub fn of(objects: Vec<ObjectReport>) -> Self {
        let mut totals = Totals::default();
        for object in &objects {
            totals.counts.add(&object.counts);
            totals.complete &= object.complete;
            totals.duration_ms += object.duration_ms;
        }
        Report { objects, totals }
    }

    /// The objects of which something is missing at the receiver.
    pub fn failures(&self) -> impl Iterator<Item = &ObjectReport> {
        self.objects.iter().filter(|object| !object.is_success())
    }
}

impl Default for Totals {
    fn default() -> Self {
        Totals { counts: Counts::default(), complete: true, duration_ms: 0 }
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.bytes_compressed += other.bytes_compressed;
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.unparsed += other.unparsed;
        self.short_lines += other.short_lines;
        self.invalid_fields += other.invalid_fields;
        self.extra_fields += other.extra_fields;
        self.filtered += other.filtered;
        self.delivered += other.delivered;
        self.dead_lettered += other.dead_lettered;
        self.undelivered += other.undelivered;
        self.batches += other.batches;
        self.requests += other.requests;
        self.retries += other.retries;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_never_settled_is_undelivered() {
        let mut ledger = Ledger::default();
        let mut pending = ledger.read(10);
        let first = pending.take(4);
        ledger.settle(first, Disposition::Delivered);
        drop(pending);
        let counts = ledger.counts(0, 0);
        assert_eq!((counts.lines, counts.delivered, counts.undelivered), (10, 4, 6));
    }

    #[test]
    fn the_kind_is_that_of_most_lines() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.kind(), None);
        let mut tally = Tally::default();
        for kind in [Kind::Nlb, Kind::Alb, Kind::Alb, Kind::Nlb] {
            tally.line(Written { kind: Some(kind), ..Written::default() });
        }
        ledger.count(&tally);
        assert_eq!(ledger.kind(), Some(Kind::Alb));
    }

    #[test]
    fn kinds_are_counted_at_their_own_place() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "Kind::ALL is not in the order of declaration at {kind}");
        }
    }

    proptest! {
        #[test]
        fn the_books_always_balance(steps in prop::collection::vec((0_u64..1_000, 0_u64..1_000, 0_u8..4), 0..50)) {
            let mut ledger = Ledger::default();
            for (lines, taken, fate) in steps {
                let mut pending = ledger.read(lines);
                let part = pending.take(taken);
                match fate {
                    0 => ledger.settle(part, Disposition::Delivered),
                    1 => ledger.settle(part, Disposition::Filtered),
                    2 => ledger.settle(part, Disposition::DeadLettered),
                    _ => drop(part),
                }
                let counts = ledger.counts(0, 0);
                prop_assert_eq!(counts.lines, counts.delivered + counts.filtered + counts.dead_lettered + counts.undelivered);
            }
        }
    }
}
