//! Accounts for every line: lines read and batches sent come in, a report of what happened to each line goes out.

mod counts;
mod prefix;
mod report;

use elb_log::format::Kind;

pub use self::counts::Counts;
pub(crate) use self::counts::{KindCounts, for_each_counter};
pub(crate) use self::prefix::SettledPart;
use self::prefix::SettledPrefix;
pub use self::report::{ObjectReport, Report, Tally, Totals};

/// The account of one object. `lines = delivered + filtered + dead_lettered + undelivered` always holds.
///
/// Only [`Ledger::add_block`] creates [`Pending`] events, and only [`Ledger::end_block`] ends them, each once. Events that are
/// never settled, for whatever reason, count as undelivered.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The counts of the object without `undelivered` and those of bytes.
    counts: Counts,
    kinds: KindCounts,
    blocks: u64,
    prefix: SettledPrefix,
}

/// Events of an object that are not accounted for yet. They cannot be copied, and dropping them leaves them undelivered.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "events that are not settled count as undelivered"]
pub(crate) struct Pending {
    events: u64,
}

/// A block of the object, so that its end can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockAccount {
    number: u64,
    lines: u64,
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
    /// Begins after a part of the object that was settled before.
    pub(crate) fn after(settled: SettledPart) -> Self {
        Ledger { counts: settled.counts, kinds: settled.kinds, blocks: 0, prefix: SettledPrefix::after(settled) }
    }

    /// Adds a block of lines that was read. `end` is the offset at which the next block begins.
    pub(crate) fn add_block(&mut self, lines: u64, end: u64) -> (BlockAccount, Pending) {
        self.counts.lines += lines;
        let number = self.blocks;
        self.prefix.add(number, end);
        self.blocks += 1;
        (BlockAccount { number, lines }, Pending { events: lines })
    }

    /// Records what happened to the events of a block, and its other counts.
    pub(crate) fn end_block(
        &mut self,
        block: BlockAccount,
        settled: Vec<(Pending, Disposition)>,
        counts: &Counts,
        kinds: &KindCounts,
    ) {
        let mut counts = *counts;
        for (pending, disposition) in settled {
            let account = match disposition {
                Disposition::Delivered => &mut counts.delivered,
                Disposition::Filtered => &mut counts.filtered,
                Disposition::DeadLettered => &mut counts.dead_lettered,
            };
            *account += pending.events;
        }
        self.counts.add(&counts);
        self.kinds.add(kinds);
        let is_settled = counts.delivered + counts.filtered + counts.dead_lettered == block.lines;
        counts.lines = block.lines;
        self.prefix.end(block.number, is_settled.then_some((counts, *kinds)));
    }

    /// Returns all counts of the object. The reader counts the bytes.
    pub(crate) fn counts(&self, bytes_compressed: u64, bytes: u64) -> Counts {
        let Counts { lines, delivered, filtered, dead_lettered, .. } = self.counts;
        let undelivered = lines - delivered - filtered - dead_lettered;
        Counts { bytes_compressed, bytes, undelivered, ..self.counts }
    }

    /// Returns the longest part of the object, from its start on, of which every event is settled.
    pub(crate) fn settled(&self) -> SettledPart {
        *self.prefix.settled()
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
        let (block, mut pending) = ledger.add_block(10, 100);
        let settled = vec![(pending.take(4), Disposition::Delivered)];
        drop(pending);
        ledger.end_block(block, settled, &Counts::default(), &KindCounts::default());
        let counts = ledger.counts(0, 0);
        assert_eq!((counts.lines, counts.delivered, counts.undelivered), (10, 4, 6));
        assert_eq!(ledger.settled(), SettledPart::default());
    }

    #[test]
    fn counts_go_on_after_a_settled_part() {
        let counts = Counts { lines: 7, delivered: 6, dead_lettered: 1, requests: 3, ..Counts::default() };
        let mut ledger = Ledger::after(SettledPart { offset: 70, counts, ..SettledPart::default() });
        let (block, pending) = ledger.add_block(3, 100);
        let requests = Counts { requests: 1, ..Counts::default() };
        ledger.end_block(block, vec![(pending, Disposition::Delivered)], &requests, &KindCounts::default());
        let counts = ledger.counts(0, 0);
        assert_eq!((counts.lines, counts.delivered, counts.dead_lettered, counts.requests), (10, 9, 1, 4));
        assert_eq!((ledger.settled().offset, ledger.settled().counts), (100, counts));
    }

    proptest! {
        #[test]
        fn lines_are_always_the_sum_of_their_dispositions(
            steps in prop::collection::vec((0_u64..1_000, 0_u64..1_000, 0_u8..4), 0..50),
        ) {
            let (mut ledger, mut end) = (Ledger::default(), 0);
            for (lines, taken, disposition) in steps {
                end += 10 * lines;
                let (block, mut pending) = ledger.add_block(lines, end);
                let part = pending.take(taken);
                let settled = match disposition {
                    0 => vec![(part, Disposition::Delivered)],
                    1 => vec![(part, Disposition::Filtered), (pending, Disposition::Delivered)],
                    2 => vec![(part, Disposition::DeadLettered), (pending, Disposition::Filtered)],
                    _ => Vec::new(),
                };
                ledger.end_block(block, settled, &Counts::default(), &KindCounts::default());
                let counts = ledger.counts(0, 0);
                prop_assert_eq!(counts.lines, counts.delivered + counts.filtered + counts.dead_lettered + counts.undelivered);
                prop_assert!(ledger.settled().is_consistent(), "{:?}", ledger.settled());
            }
        }
    }
}
