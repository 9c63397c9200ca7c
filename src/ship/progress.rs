//! The progress of a run, for a progress bar.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters that grow while a run ships objects.
#[derive(Debug, Default)]
pub struct Progress {
    objects: AtomicU64,
    lines: AtomicU64,
    bytes: AtomicU64,
    delivered: AtomicU64,
    output_closed: AtomicBool,
}

impl Progress {
    /// Returns the number of objects that have ended, successfully or not.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Returns the number of lines read.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes of text read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of events that the receiver has accepted.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Returns whether events go to standard output and its reader has closed it.
    pub fn is_output_closed(&self) -> bool {
        self.output_closed.load(Ordering::Relaxed)
    }

    pub(super) fn add_object(&self) {
        self.objects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_lines(&self, lines: u64) {
        self.lines.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_delivered(&self, events: u64) {
        self.delivered.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn close_output(&self) {
        self.output_closed.store(true, Ordering::Relaxed);
    }
}
