//! Lists in the memory of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{LONGEST_VALUE, Stored};
use crate::group::Key;

/// Lists that end with the process. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    values: Arc<Mutex<HashMap<Key, Vec<u8>>>>,
    turns: Arc<Mutex<HashMap<Key, Instant>>>,
}

impl MemoryStore {
    /// See [`super::Store::read`].
    pub fn read(&self, key: &Key) -> Stored {
        stored(self.values().get(key))
    }

    /// See [`super::Store::replace`].
    pub fn replace(&self, key: &Key, expected: &Stored, value: &str) -> bool {
        let mut values = self.values();
        let is_expected = stored(values.get(key)) == *expected;
        if is_expected {
            values.insert(key.clone(), value.as_bytes().to_vec());
        }
        is_expected
    }

    /// See [`super::Store::take_turn`].
    pub fn take_turn(&self, key: &Key, turn: Duration) -> bool {
        let mut turns = self.turns();
        let is_free = turns.get(key).is_none_or(|ends| *ends <= Instant::now());
        if is_free {
            turns.insert(key.clone(), Instant::now() + turn);
        }
        is_free
    }

    /// See [`super::Store::end_turn`].
    pub fn end_turn(&self, key: &Key, pause: Duration) {
        self.turns().insert(key.clone(), Instant::now() + pause);
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing that holds the lock can panic half-way through a change.
    fn values(&self) -> MutexGuard<'_, HashMap<Key, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stored(value: Option<&Vec<u8>>) -> Stored {
    match value {
        None => Stored::Absent,
        Some(value) if value.len() > LONGEST_VALUE => Stored::Unreadable,
        Some(value) => Stored::Value(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_replaced_only_by_who_has_seen_it() {
        let store = MemoryStore::default();
        let key = Key { region: "eu-west-1".to_owned(), dcid: "eu1".to_owned() };
        assert_eq!(store.read(&key), Stored::Absent);
        assert!(store.replace(&key, &Stored::Absent, "one"));
        assert!(!store.replace(&key, &Stored::Absent, "two"));
        assert!(store.replace(&key, &Stored::Value(b"one".to_vec()), "two"));
        assert!(!store.replace(&key, &Stored::Value(b"one".to_vec()), "three"));
        assert_eq!(store.read(&key), Stored::Value(b"two".to_vec()));
        let other = Key { dcid: "eu2".to_owned(), ..key };
        assert_eq!(store.read(&other), Stored::Absent);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_has_the_turn_of_a_list() {
        let (store, turn) = (MemoryStore::default(), Duration::from_secs(2));
        let key = |dcid: &str| Key { region: "eu-west-1".to_owned(), dcid: dcid.to_owned() };
        assert!(store.take_turn(&key("eu1"), turn) && store.take_turn(&key("eu2"), turn));
        assert!(!store.clone().take_turn(&key("eu1"), turn));
        tokio::time::advance(turn).await;
        assert!(store.take_turn(&key("eu1"), turn * 100));
        store.end_turn(&key("eu1"), turn);
        assert!(!store.take_turn(&key("eu1"), turn));
        tokio::time::advance(turn).await;
        assert!(store.take_turn(&key("eu1"), turn));
    }
}
