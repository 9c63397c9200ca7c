//! The counters of an object and of a run: one list, from which everything else about them follows.

use std::array;
use std::collections::BTreeMap;

use elb_log::event::Written;
use elb_log::format::Kind;
use serde::{Deserialize, Serialize};

/// Calls the macro `$callback` with `$argument`s in brackets and the list of all counters.
///
/// To add a counter, add it to this list, and count it where it happens. From the list follow [`Counts`] and its sums, the JSON of
/// reports, the CloudWatch metrics, the fields of the summary log, and the table in `docs/delivery.md`. An entry is a doc comment, the counter's name and, if it
/// is a CloudWatch metric, the metric's name and unit.
macro_rules! for_each_counter {
    ($callback:ident $(, $argument:ident)*) => {
        $callback! {
            [$($argument),*]
            /// Bytes received from the store.
            bytes_compressed => ("BytesRead", "Bytes");
            /// Bytes of text.
            bytes;
            /// Lines that are neither empty nor of spaces only, which is also the number of events.
            lines => ("LinesRead", "Count");
            /// Lines whose event contains only the raw text.
            unparsed => ("EventsUnparsed", "Count");
            /// Lines with fewer fields than their log type ever had.
            short_lines => ("ShortLines", "Count");
            /// Lines with more fields than the program knows, also if the new fields have no value.
            longer_lines;
            /// Fields with a value of the wrong type.
            invalid_fields => ("FieldsInvalid", "Count");
            /// Fields after the known fields.
            extra_fields => ("FieldsExtra", "Count");
            /// Events that were deliberately not sent, such as with `--dry-run`.
            filtered => ("EventsFiltered", "Count");
            /// Events that the receiver accepted.
            delivered => ("EventsDelivered", "Count");
            /// Events in the dead-letter destination.
            dead_lettered => ("EventsDeadLettered", "Count");
            /// Events that were not accepted.
            undelivered => ("EventsUndelivered", "Count");
            /// Batches, before any splitting.
            batches;
            /// Requests sent.
            requests => ("SendAttempts", "Count");
            /// Requests that were not the first for their batch.
            retries => ("SendRetries", "Count");
        }
    };
}
pub(crate) use for_each_counter;

macro_rules! define_counts {
    ([] $($(#[$doc:meta])* $counter:ident $(=> ($metric:literal, $unit:literal))?;)*) => {
        /// The counters of an object, of a part of it, or of a run.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        // A checkpoint of an earlier version lacks the counters that were added later.
        #[serde(default)]
        pub struct Counts {
            $($(#[$doc])* pub $counter: u64,)*
        }

        impl Counts {
            /// Adds the counts of another part. Saturates, because counts of a checkpoint can be any numbers.
            pub(super) fn add(&mut self, other: &Counts) {
                $(self.$counter = self.$counter.saturating_add(other.$counter);)*
            }

            /// Returns the counts without those of a part.
            pub(crate) fn without(&self, part: &Counts) -> Counts {
                Counts { $($counter: self.$counter.saturating_sub(part.$counter),)* }
            }
        }
    };
}
for_each_counter!(define_counts);

impl Counts {
    /// Counts how one line was understood.
    pub(crate) fn count_line(&mut self, written: Written) {
        self.unparsed += u64::from(written.unparsed);
        self.short_lines += u64::from(written.short);
        self.longer_lines += u64::from(written.unknown_fields > 0);
        self.invalid_fields += u64::from(written.invalid_fields);
        self.extra_fields += u64::from(written.extra_fields);
    }
}

/// The number of parsed lines of each log type, in the order of [`Kind::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, u64>", into = "BTreeMap<&'static str, u64>")]
pub(crate) struct KindCounts([u64; Kind::ALL.len()]);

impl KindCounts {
    /// Counts one line.
    pub(crate) fn count(&mut self, kind: Kind) {
        // The variants are declared in the order of `Kind::ALL`.
        self.0[kind as usize] += 1;
    }

    /// Adds the counts of another part.
    pub(super) fn add(&mut self, other: &KindCounts) {
        self.0 = array::from_fn(|index| self.0[index].saturating_add(other.0[index]));
    }

    /// Returns the log type of most lines; of several, the first in the order of [`Kind::ALL`].
    pub(super) fn most(&self) -> Option<Kind> {
        let most = self.0.into_iter().max().filter(|&most| most > 0)?;
        Kind::ALL.into_iter().zip(self.0).find(|&(_, lines)| lines == most).map(|(kind, _)| kind)
    }
}

/// By name, so that a version with more log types understands the checkpoints of this one.
impl From<BTreeMap<String, u64>> for KindCounts {
    fn from(lines: BTreeMap<String, u64>) -> Self {
        KindCounts(Kind::ALL.map(|kind| lines.get(kind.name()).copied().unwrap_or_default()))
    }
}

impl From<KindCounts> for BTreeMap<&'static str, u64> {
    fn from(kinds: KindCounts) -> Self {
        Kind::ALL.into_iter().zip(kinds.0).filter(|&(_, lines)| lines > 0).map(|(kind, lines)| (kind.name(), lines)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn kind_is_that_of_most_lines() {
        let mut kinds = KindCounts::default();
        assert_eq!(kinds.most(), None);
        for kind in [Kind::Nlb, Kind::Alb, Kind::Alb, Kind::Nlb] {
            kinds.count(kind);
        }
        assert_eq!(kinds.most(), Some(Kind::Alb));
        let json = serde_json::to_string(&kinds).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str(&json).unwrap()), (r#"{"alb":2,"nlb":2}"#, kinds));
    }

    macro_rules! markdown_rows {
        ([] $($(#[doc = $doc:literal])+ $counter:ident $(=> ($metric:literal, $unit:literal))?;)*) => {
            [$(concat!("| `", stringify!($counter), "` |", $(" `", $metric, "`",)? " |", $($doc,)+ " |\n")),*].concat()
        };
    }

    /// `UPDATE_GOLDEN=1 cargo test --lib lists_all_counters` writes the table.
    #[test]
    fn the_delivery_page_lists_all_counters() {
        const HEAD: &str = "| counter | metric | meaning |\n| --- | --- | --- |\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/delivery.md");
        let page = fs::read_to_string(path).expect("the page");
        let (before, rest) = page.split_once(HEAD).expect("the table of counters");
        let (table, after) = rest.split_at(rest.find("\n\n").map_or(0, |end| end + 1));
        let expected = for_each_counter!(markdown_rows);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(path, [before, HEAD, &expected, after].concat()).expect("writing the page");
        } else {
            assert_eq!(table, expected, "docs/delivery.md is stale; run this test with UPDATE_GOLDEN=1");
        }
    }
}
