//! Which batches are being retried now, for a progress display: failed attempts come in, a summary goes out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::lock;
use super::outcome::Outcome;

/// The batches that are being retried.
#[derive(Debug, Default)]
pub(super) struct RetryList(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    /// When the first attempt of each batch failed, and why the last one did.
    failures: BTreeMap<u64, (Instant, String)>,
}

/// What is being retried now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrying {
    /// Number of batches.
    pub batches: usize,
    /// When the first of their attempts failed.
    pub since: Instant,
    /// Why the last attempt failed, in a few words.
    pub cause: String,
}

/// A batch's place in the list, which it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct RetryEntry {
    list: Arc<RetryList>,
    id: u64,
}

impl RetryList {
    /// Adds a batch whose attempt failed. `known` is its place in the list, if earlier attempts failed, too.
    pub(super) fn add(self: &Arc<Self>, known: Option<RetryEntry>, outcome: &Outcome) -> RetryEntry {
        let mut entries = lock(&self.0);
        let entry = known.unwrap_or_else(|| {
            entries.next_id += 1;
            RetryEntry { list: Arc::clone(self), id: entries.next_id }
        });
        let failure = entries.failures.entry(entry.id).or_insert_with(|| (Instant::now(), String::new()));
        failure.1 = outcome.short_cause();
        drop(entries);
        entry
    }

    /// Returns what is being retried, or none.
    pub(super) fn summary(&self) -> Option<Retrying> {
        let entries = lock(&self.0);
        let (since, cause) = entries.failures.values().min_by_key(|(since, _)| *since)?;
        Some(Retrying { batches: entries.failures.len(), since: *since, cause: cause.clone() })
    }
}

impl Drop for RetryEntry {
    fn drop(&mut self) {
        lock(&self.list.0).failures.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::outcome::Fault;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_listed_from_its_first_failure_to_its_end() {
        let (list, start) = (Arc::<RetryList>::default(), Instant::now());
        assert_eq!(list.summary(), None);
        let refused = Outcome::NoResponse(Fault::Connect("tcp connect error: Connection refused (os error 111)".to_owned()));
        let first = list.add(None, &Outcome::NoResponse(Fault::Timeout));
        tokio::time::advance(Duration::from_secs(3)).await;
        let second = list.add(None, &refused);
        let first = list.add(Some(first), &refused);
        let expected = Retrying { batches: 2, since: start, cause: "connection refused".to_owned() };
        assert_eq!(list.summary(), Some(expected));
        drop(first);
        assert_eq!(
            list.summary().map(|retrying| (retrying.batches, retrying.since.duration_since(start).as_secs())),
            Some((1, 3))
        );
        drop(second);
        assert_eq!(list.summary(), None);
    }
}
