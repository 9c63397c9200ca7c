//! How much of an object is settled from its start on: blocks end in any order, the longest prefix without a gap comes out.

use serde::{Deserialize, Serialize};

use super::counts::{Counts, KindCounts};

/// The beginning of an object of which every event is delivered, filtered or dead-lettered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettledPart {
    /// The offset in the object's text at which the part ends and the next block begins.
    pub(crate) offset: u64,
    /// The counts of the part, without those of bytes.
    pub(crate) counts: Counts,
    /// The log types of its lines.
    pub(crate) kinds: KindCounts,
}

impl SettledPart {
    /// Returns whether the counts can be those of a settled part. A checkpoint that was changed by hand may hold any.
    pub(crate) fn is_consistent(&self) -> bool {
        let Counts { lines, delivered, filtered, dead_lettered, undelivered, .. } = self.counts;
        let settled = delivered.checked_add(filtered).and_then(|sum| sum.checked_add(dead_lettered));
        settled == Some(lines) && undelivered == 0 && lines <= self.offset
    }
}

/// Finds the longest prefix of settled blocks. Its memory depends on the number of blocks that are sent at the same time, not on the
/// number of blocks that end while an earlier one is retried.
#[derive(Debug, Default)]
pub(super) struct SettledPrefix {
    settled: SettledPart,
    /// The blocks after the prefix, in their order.
    after: Vec<BlockRun>,
    /// Whether a block has ended with undelivered events. The prefix never goes beyond this block, so neither it nor later blocks
    /// are kept.
    is_limited: bool,
}

/// A block that has not ended, or consecutive settled blocks.
#[derive(Debug)]
struct BlockRun {
    /// The number of the last block.
    number: u64,
    /// The offset in the object's text at which the next block begins.
    end: u64,
    /// The counts and log types of settled blocks.
    settled: Option<(Counts, KindCounts)>,
}

impl SettledPrefix {
    /// Begins with a part that was settled before.
    pub(super) fn after(settled: SettledPart) -> Self {
        SettledPrefix { settled, ..SettledPrefix::default() }
    }

    /// Returns the longest settled prefix so far.
    pub(super) fn settled(&self) -> &SettledPart {
        &self.settled
    }

    /// Adds the next block. Numbers increase by 1.
    pub(super) fn add(&mut self, number: u64, end: u64) {
        if !self.is_limited {
            self.after.push(BlockRun { number, end, settled: None });
        }
    }

    /// Records that a block has ended. `counts` are none if some of its events are undelivered.
    pub(super) fn end(&mut self, number: u64, counts: Option<(Counts, KindCounts)>) {
        let Ok(index) = self.after.binary_search_by_key(&number, |run| run.number) else { return };
        if counts.is_none() {
            self.after.truncate(index);
            self.is_limited = true;
            return;
        }
        self.after[index].settled = counts;
        self.merge_with_next(index);
        if let Some(previous) = index.checked_sub(1) {
            self.merge_with_next(previous);
        }
        if let Some(&BlockRun { end, settled: Some((counts, kinds)), .. }) = self.after.first() {
            self.settled.offset = end;
            self.settled.counts.add(&counts);
            self.settled.kinds.add(&kinds);
            self.after.remove(0);
        }
    }

    /// Merges a run with the run after it, if both are settled.
    fn merge_with_next(&mut self, index: usize) {
        if let Some([BlockRun { settled: Some((counts, kinds)), .. }, BlockRun { settled: Some((sum, all_kinds)), .. }]) =
            self.after.get_mut(index..index + 2)
        {
            sum.add(counts);
            all_kinds.add(kinds);
            self.after.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use elb_log::format::Kind;
    use proptest::prelude::*;

    use super::*;

    fn block(lines: u64) -> (Counts, KindCounts) {
        let mut kinds = KindCounts::default();
        kinds.count(Kind::Alb);
        (Counts { lines, delivered: lines, ..Counts::default() }, kinds)
    }

    #[test]
    fn a_gap_holds_the_prefix_back() {
        let mut prefix = SettledPrefix::default();
        for (number, end) in [(0, 10), (1, 20), (2, 30)] {
            prefix.add(number, end);
        }
        prefix.end(1, Some(block(5)));
        assert_eq!((prefix.settled().offset, prefix.settled().counts.lines), (0, 0));
        prefix.end(0, Some(block(3)));
        assert_eq!((prefix.settled().offset, prefix.settled().counts.lines), (20, 8));
    }

    #[test]
    fn keeps_no_blocks_after_one_with_undelivered_events() {
        let mut prefix = SettledPrefix::default();
        for number in 0..1_000 {
            prefix.add(number, 10 * (number + 1));
            prefix.end(number, (number != 3).then(|| block(1)));
        }
        assert_eq!(prefix.settled().offset, 30);
        assert!(prefix.after.is_empty(), "{} blocks are kept that the prefix never reaches", prefix.after.len());
    }

    #[test]
    fn detects_counts_that_do_not_belong_to_a_settled_part() {
        let part = |counts| SettledPart { offset: 100, counts, ..SettledPart::default() };
        assert!(part(Counts { lines: 3, delivered: 1, filtered: 1, dead_lettered: 1, ..Counts::default() }).is_consistent());
        assert!(!part(Counts { lines: 3, delivered: 1, ..Counts::default() }).is_consistent());
        assert!(!part(Counts { lines: 3, delivered: 3, undelivered: 1, ..Counts::default() }).is_consistent());
        assert!(!part(Counts { lines: 101, delivered: 101, ..Counts::default() }).is_consistent());
        assert!(!part(Counts { lines: 1, delivered: u64::MAX, filtered: 2, ..Counts::default() }).is_consistent());
    }

    proptest! {
        #[test]
        fn the_prefix_is_the_longest_one_without_a_gap(
            blocks in prop::collection::vec((1_u64..100, prop::bool::weighted(0.9)), 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 40),
            read_ahead in 1_usize..8,
        ) {
            let ends: Vec<u64> = blocks.iter().scan(0, |end, (lines, _)| { *end += 10 * lines; Some(*end) }).collect();
            let mut prefix = SettledPrefix::default();
            let (mut added, mut open, mut settled) = (0, Vec::new(), vec![false; blocks.len()]);
            for choice in order {
                while added < blocks.len() && open.len() < read_ahead {
                    prefix.add(added as u64, ends[added]);
                    open.push(added);
                    added += 1;
                }
                if open.is_empty() {
                    break;
                }
                let number = open.remove(choice.index(open.len()));
                let (lines, is_settled) = blocks[number];
                settled[number] = is_settled;
                prefix.end(number as u64, is_settled.then(|| block(lines)));
                let longest = settled.iter().take_while(|settled| **settled).count();
                let lines: u64 = blocks[..longest].iter().map(|(lines, _)| lines).sum();
                prop_assert_eq!(prefix.settled().offset, longest.checked_sub(1).map_or(0, |last| ends[last]));
                prop_assert_eq!((prefix.settled().counts.lines, prefix.settled().counts.delivered), (lines, lines));
                prop_assert!(prefix.after.len() <= 2 * read_ahead, "memory grows with the number of blocks: {:?}", prefix.after);
            }
        }
    }
}
