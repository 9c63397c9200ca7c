//! Limits the number of events per second, so that a replay leaves capacity at the receiver for live traffic.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A limit for the events of the whole process; `--max-events-per-second`. It is a token bucket that a single batch empties: a
/// batch starts only when the earlier batches are paid for, and idle time is not made up for.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: NonZeroU32,
    /// When the next batch may start.
    free_at: Mutex<Instant>,
}

impl RateLimit {
    /// Creates a limit of which nothing is used.
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        RateLimit { per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until a batch of this many events may start. Waiting batches start in the order of their calls.
    pub(super) async fn wait(&self, events: usize) {
        tokio::time::sleep_until(self.reserve(events)).await;
    }

    /// Reserves the time for a batch and returns when it may start. The time is used even if the batch is never sent.
    fn reserve(&self, events: usize) -> Instant {
        let share = Duration::from_secs_f64(events as f64 / f64::from(self.per_second.get()));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*free_at).max(Instant::now());
        *free_at = start + share;
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32) -> RateLimit {
        RateLimit::new(NonZeroU32::new(per_second).unwrap())
    }

    /// Returns the milliseconds at which batches of these sizes start, one after the other.
    async fn starts(limit: &RateLimit, batches: &[usize]) -> Vec<u128> {
        let start = Instant::now();
        let mut starts = Vec::new();
        for &events in batches {
            limit.wait(events).await;
            starts.push(start.elapsed().as_millis());
        }
        starts
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_batch_starts_when_the_first_is_paid_for() {
        assert_eq!(starts(&limit(1_000), &[500, 500, 250, 1]).await, [0, 500, 1_000, 1_250]);
        assert_eq!(starts(&limit(1), &[2, 1, 1]).await, [0, 2_000, 3_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_not_made_up_for() {
        let limit = limit(100);
        assert_eq!(starts(&limit, &[100]).await, [0]);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(starts(&limit, &[100, 100, 100]).await, [0, 1_000, 2_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn all_senders_share_one_limit() {
        let limit = limit(100);
        let start = Instant::now();
        let two = [50; 10];
        tokio::join!(starts(&limit, &two), starts(&limit, &two));
        // The last batch starts when the 950 events before it are paid for.
        assert_eq!(start.elapsed().as_millis(), 9_500);
    }
}
