//! Lists in the memory of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{MAX_VALUE_BYTES, Stored};
use crate::group::Key;

/// Lists that are lost when the process ends. Clones share the same lists.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    values: Arc<Mutex<HashMap<Key, Vec<u8>>>>,
    leases: Arc<Mutex<HashMap<Key, Instant>>>,
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

    /// See [`super::Store::acquire_lease`].
    pub fn acquire_lease(&self, key: &Key, duration: Duration) -> bool {
        let mut leases = self.leases();
        let is_free = leases.get(key).is_none_or(|ends| *ends <= Instant::now());
        if is_free {
            leases.insert(key.clone(), Instant::now() + duration);
        }
        is_free
    }

    /// See [`super::Store::end_lease`].
    pub fn end_lease(&self, key: &Key, pause: Duration) {
        self.leases().insert(key.clone(), Instant::now() + pause);
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No code panics in the middle of a change while it holds the lock.
    fn values(&self) -> MutexGuard<'_, HashMap<Key, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stored(value: Option<&Vec<u8>>) -> Stored {
    match value {
        None => Stored::Absent,
        Some(value) if value.len() > MAX_VALUE_BYTES => Stored::Unreadable,
        Some(value) => Stored::Value(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_value_only_if_it_is_the_expected_one() {
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
    async fn only_one_caller_has_the_lease_of_a_list() {
        let (store, time) = (MemoryStore::default(), Duration::from_secs(2));
        let key = |dcid: &str| Key { region: "eu-west-1".to_owned(), dcid: dcid.to_owned() };
        assert!(store.acquire_lease(&key("eu1"), time) && store.acquire_lease(&key("eu2"), time));
        assert!(!store.clone().acquire_lease(&key("eu1"), time));
        tokio::time::advance(time).await;
        assert!(store.acquire_lease(&key("eu1"), time * 100));
        store.end_lease(&key("eu1"), time);
        assert!(!store.acquire_lease(&key("eu1"), time));
        tokio::time::advance(time).await;
        assert!(store.acquire_lease(&key("eu1"), time));
    }
}
