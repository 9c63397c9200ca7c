//! Random numbers.

/// A small random number generator (splitmix64). The lines therefore do not depend on the version of a library.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Returns a number below the bound. Small numbers are much more likely than large ones.
    pub(super) fn skewed(&mut self, bound: u64) -> u64 {
        let bound = self.below(bound) + 1;
        self.below(bound)
    }

    pub(super) fn chance(&mut self, of_a_thousand: u64) -> bool {
        self.below(1_000) < of_a_thousand
    }

    pub(super) fn port(&mut self) -> u64 {
        1_024 + self.below(64_000)
    }

    pub(super) fn hex(&mut self, digits: usize) -> String {
        let mut text = format!("{:016x}{:016x}", self.next(), self.next());
        text.truncate(digits);
        text
    }
}
