//! Memory that is done with, kept for whoever needs some next.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Things that are costly to make, up to a number. The last one given is the first one taken, because it is likely to be in the
/// processor's cache.
pub struct BufferPool<T> {
    kept: Mutex<Vec<T>>,
    most: usize,
}

impl<T> BufferPool<T> {
    /// Keeps at most this many.
    pub fn new(most: usize) -> Self {
        BufferPool { kept: Mutex::default(), most }
    }

    /// One that was given, if there is one.
    pub fn take(&self) -> Option<T> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps this one, unless there are enough.
    pub fn give(&self, spare: T) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.most {
            kept.push(spare);
        }
    }
}

impl<T> fmt::Debug for BufferPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("most", &self.most).finish_non_exhaustive()
    }
}
