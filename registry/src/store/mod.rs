//! Where lists are kept: one value for each list, replaced in one step or not at all.

mod memory;
mod redis;

pub use self::memory::MemoryStore;
pub use self::redis::{RedisAddress, RedisStore, STORE_PATIENCE};
use std::time::Duration;

use crate::group::Key;

/// Longest value that is read, in bytes. A list of a thousand servers has an eighth of it.
const LONGEST_VALUE: usize = 1 << 20;

/// What is kept under a key, byte by byte. It also says what is to be replaced: every value carries its generation, so an equal
/// value is the same generation, and what is no list at all can be replaced just as safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// A value.
    Value(Vec<u8>),
    /// Something else than a text, or one that is far too long.
    Unreadable,
}

/// The store did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store {store} {problem}")]
pub struct StoreError {
    /// Its address without secrets.
    pub store: String,
    /// What happened, as the rest of the sentence.
    pub problem: String,
}

/// The stores there are.
#[derive(Debug)]
pub enum Store {
    /// The memory of this process.
    Memory(MemoryStore),
    /// A Redis, which many processes share.
    Redis(Box<RedisStore>),
}

impl Store {
    /// What is kept under a key.
    ///
    /// # Errors
    /// The store does not answer in time, or refuses.
    pub async fn read(&self, key: &Key) -> Result<Stored, StoreError> {
        match self {
            Store::Memory(store) => Ok(store.read(key)),
            Store::Redis(store) => store.read(key).await,
        }
    }

    /// Puts `value` in the place of `expected`, and says whether that was still there. Otherwise nothing has changed.
    ///
    /// # Errors
    /// As [`Store::read`]; whether the value was replaced is then unknown.
    pub async fn replace(&self, key: &Key, expected: &Stored, value: &str) -> Result<bool, StoreError> {
        match self {
            Store::Memory(store) => Ok(store.replace(key, expected, value)),
            Store::Redis(store) => store.replace(key, expected, value).await,
        }
    }

    /// Takes the turn to ask AWS for a list, and says whether it was free. It ends by itself after `turn`.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn take_turn(&self, key: &Key, turn: Duration) -> Result<bool, StoreError> {
        match self {
            Store::Memory(store) => Ok(store.take_turn(key, turn)),
            Store::Redis(store) => store.take_turn(key, turn).await,
        }
    }

    /// Ends the turn that was taken, after a pause.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn end_turn(&self, key: &Key, pause: Duration) -> Result<(), StoreError> {
        match self {
            Store::Memory(store) => {
                store.end_turn(key, pause);
                Ok(())
            }
            Store::Redis(store) => store.end_turn(key, pause).await,
        }
    }
}
