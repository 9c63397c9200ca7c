//! Accounts for every line: lines read and batches sent come in, a report of what happened to each line goes out.

mod counts;
mod report;

use elb_log::format::Kind;

pub use self::counts::Counts;
pub(crate) use self::counts::{KindCounts, for_each_counter};
pub use self::report::{ObjectReport, Report, Tally, Totals};

/// The account of one object. `lines = delivered + filtered + dead_lettered + undelivered` always holds.
///
/// Only [`Ledger::add_lines`] creates [`Pending`] events, and only [`Ledger::settle`] ends them, each once. Events that are never
/// settled, for whatever reason, count as undelivered.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    lines: u64,
    delivered: u64,
    filtered: u64,
    dead_lettered: u64,
    counts: Counts,
    kinds: KindCounts,
}

/// Events of an object that are not accounted for yet. They cannot be copied, and dropping them leaves them undelivered.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "events that are not settled count as undelivered"]
pub(crate) struct Pending {
    events: u64,
}

/// What happened to events that are not undelivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The receiver accepted them.
    Delivered,
    /// They were not sent on purpose.
    Filtered,
    /// They are in the dead-letter destination, because the receiver never accepts them.
    DeadLettered,
}

impl Ledger {
    /// Adds lines that were read.
    pub(crate) fn add_lines(&mut self, lines: u64) -> Pending {
        self.lines += lines;
        Pending { events: lines }
    }

    /// Records what happened to events.
    pub(crate) fn settle(&mut self, pending: Pending, disposition: Disposition) {
        let account = match disposition {
            Disposition::Delivered => &mut self.delivered,
            Disposition::Filtered => &mut self.filtered,
            Disposition::DeadLettered => &mut self.dead_lettered,
        };
        *account += pending.events;
    }

    /// Adds the other counts of a part of the object.
    pub(crate) fn add_counts(&mut self, counts: &Counts, kinds: &KindCounts) {
        self.counts.add(counts);
        self.kinds.add(kinds);
    }

    /// Returns all counts of the object. The reader counts the bytes.
    pub(crate) fn counts(&self, bytes_compressed: u64, bytes: u64) -> Counts {
        let Ledger { lines, delivered, filtered, dead_lettered, counts, .. } = *self;
        let undelivered = lines - delivered - filtered - dead_lettered;
        Counts { bytes_compressed, bytes, lines, delivered, filtered, dead_lettered, undelivered, ..counts }
    }

    /// Returns the log type of most lines.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kinds.most()
    }
}

impl Pending {
    /// Splits off the first `events` of them, or all if there are fewer.
    pub(crate) fn take(&mut self, events: u64) -> Pending {
        let events = events.min(self.events);
        self.events -= events;
        Pending { events }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unsettled_events_are_undelivered() {
        let mut ledger = Ledger::default();
        let mut pending = ledger.add_lines(10);
        let first = pending.take(4);
        ledger.settle(first, Disposition::Delivered);
        drop(pending);
        let counts = ledger.counts(0, 0);
        assert_eq!((counts.lines, counts.delivered, counts.undelivered), (10, 4, 6));
    }

    proptest! {
        #[test]
        fn lines_are_always_the_sum_of_their_dispositions(
            steps in prop::collection::vec((0_u64..1_000, 0_u64..1_000, 0_u8..4), 0..50),
        ) {
            let mut ledger = Ledger::default();
            for (lines, taken, disposition) in steps {
                let mut pending = ledger.add_lines(lines);
                let part = pending.take(taken);
                match disposition {
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
