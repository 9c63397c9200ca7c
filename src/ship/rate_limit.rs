//! How many events leave in a second, so that a replay does not take the receiver away from live traffic.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bound on the events of the whole process; `--max-events-per-second`. It is a token bucket that a single batch empties:
/// batches begin no sooner than what went before them allows, and time in which nothing is sent is not made up for.
#[derive(Debug)]
pub struct RateLimit {
    per_second: NonZeroU32,
    /// When the next batch may begin.
    free_at: Mutex<Instant>,
}

impl RateLimit {
    /// A pace of which nothing is used up yet.
    pub fn new(per_second: NonZeroU32) -> Self {
        RateLimit { per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until a batch of this many events may begin. Who waits first is first.
    pub async fn wait(&self, events: usize) {
        tokio::time::sleep_until(self.take(events)).await;
    }

    /// When a batch may begin that is taken now. Its share is used up, even if it is never sent.
    fn take(&self, events: usize) -> Instant {
        let share = Duration::from_secs_f64(events as f64 / f64::from(self.per_second.get()));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*free_at).max(Instant::now());
        *free_at = begin + share;
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_second: u32) -> RateLimit {
        RateLimit::new(NonZeroU32::new(per_second).unwrap())
    }

    /// The milliseconds at which batches of these sizes begin, one waiting for the other.
    async fn begins(pace: &RateLimit, batches: &[usize]) -> Vec<u128> {
        let start = Instant::now();
        let mut begins = Vec::new();
        for &events in batches {
            pace.wait(events).await;
            begins.push(start.elapsed().as_millis());
        }
        begins
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_batch_leaves_at_once_and_the_next_when_it_is_paid_for() {
        assert_eq!(begins(&pace(1_000), &[500, 500, 250, 1]).await, [0, 500, 1_000, 1_250]);
        assert_eq!(begins(&pace(1), &[2, 1, 1]).await, [0, 2_000, 3_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_not_made_up_for() {
        let pace = pace(100);
        assert_eq!(begins(&pace, &[100]).await, [0]);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(begins(&pace, &[100, 100, 100]).await, [0, 1_000, 2_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn all_senders_share_one_pace() {
        let pace = pace(100);
        let start = Instant::now();
        let two = [50; 10];
        tokio::join!(begins(&pace, &two), begins(&pace, &two));
        // The last batch begins when the 950 events before it are paid for.
        assert_eq!(start.elapsed().as_millis(), 9_500);
    }
}
