//! Stores of lists: one value for each list, replaced atomically.

mod memory;
mod redis;

pub use self::memory::MemoryStore;
pub use self::redis::{RedisAddress, RedisStore, STORE_TIMEOUT};
use std::time::Duration;

use crate::group::Key;

/// Maximum length of a value, in bytes. A list of a thousand servers has an eighth of it.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// The stored value of a key. It also identifies the value to replace: every list contains its generation, so equal values have the same
/// generation. A value that is not a list can be replaced just as safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// No value.
    Absent,
    /// A value.
    Value(Vec<u8>),
    /// A value that is not a text, or too long.
    Unreadable,
}

/// Why an operation of the store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store {store} {problem}")]
pub struct StoreError {
    /// Address of the store, without secrets.
    pub store: String,
    /// The rest of the sentence: what happened.
    pub problem: String,
}

/// A store.
#[derive(Debug)]
pub enum Store {
    /// The memory of this process.
    Memory(MemoryStore),
    /// A Redis server or cluster, which many processes share.
    Redis(Box<RedisStore>),
}

impl Store {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// The store does not respond in time, or returns an error.
    pub async fn read(&self, key: &Key) -> Result<Stored, StoreError> {
        match self {
            Store::Memory(store) => Ok(store.read(key)),
            Store::Redis(store) => store.read(key).await,
        }
    }

    /// Replaces `expected` by `value`. Returns whether `expected` was still the current value; if not, nothing changes.
    ///
    /// # Errors
    /// As [`Store::read`]; the value may have been replaced or not.
    pub async fn replace(&self, key: &Key, expected: &Stored, value: &str) -> Result<bool, StoreError> {
        match self {
            Store::Memory(store) => Ok(store.replace(key, expected, value)),
            Store::Redis(store) => store.replace(key, expected, value).await,
        }
    }

    /// Acquires the lease to fetch a list from AWS. Returns whether it was free. The lease expires after `duration`.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn acquire_lease(&self, key: &Key, duration: Duration) -> Result<bool, StoreError> {
        match self {
            Store::Memory(store) => Ok(store.acquire_lease(key, duration)),
            Store::Redis(store) => store.acquire_lease(key, duration).await,
        }
    }

    /// Ends the lease that this process has acquired, after a pause.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn end_lease(&self, key: &Key, pause: Duration) -> Result<(), StoreError> {
        match self {
            Store::Memory(store) => {
                store.end_lease(key, pause);
                Ok(())
            }
            Store::Redis(store) => store.end_lease(key, pause).await,
        }
    }
}
