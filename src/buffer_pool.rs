//! A pool of buffers for reuse.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Values that are expensive to create, kept for reuse up to a maximum number. The value returned last is taken first, because it
/// is likely to be in the processor's cache.
pub(crate) struct BufferPool<T> {
    values: Mutex<Vec<T>>,
    capacity: usize,
}

impl<T> BufferPool<T> {
    /// Creates an empty pool that keeps at most `capacity` values.
    pub(crate) fn new(capacity: usize) -> Self {
        BufferPool { values: Mutex::default(), capacity }
    }

    /// Takes a value out of the pool, or none if the pool is empty.
    pub(crate) fn take(&self) -> Option<T> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Puts a value into the pool, or drops it if the pool is full.
    pub(crate) fn put(&self, value: T) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() < self.capacity {
            values.push(value);
        }
    }
}

impl<T> fmt::Debug for BufferPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
