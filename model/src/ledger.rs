//! The program's own decision about checkpoints.

#[path = "../../src/ledger/counts.rs"]
mod counts;
#[path = "../../src/ledger/prefix.rs"]
mod prefix;

use self::counts::{Counts, KindCounts};
use self::prefix::{SettledPart, SettledPrefix};

/// Returns the number of batches before the first one that is not settled. `batches` says of each batch that was read whether it
/// is settled; the first `resumed_at` were settled before.
pub(crate) fn settled(resumed_at: usize, batches: impl Iterator<Item = Option<bool>>) -> usize {
    let mut prefix = SettledPrefix::after(SettledPart { offset: resumed_at as u64, ..SettledPart::default() });
    let read: Vec<(u64, bool)> =
        (0..).zip(batches).skip(resumed_at).map_while(|(index, is_settled)| Some((index, is_settled?))).collect();
    for &(index, _) in &read {
        prefix.add(index, index + 1);
    }
    // The last ones first, because the order in which batches end must not matter.
    for &(index, is_settled) in read.iter().rev() {
        prefix.end(index, is_settled.then(|| (Counts::default(), KindCounts::default())));
    }
    usize::try_from(prefix.settled().offset).unwrap_or(usize::MAX)
}
