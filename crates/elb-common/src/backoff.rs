//! Exponential back-off: waits that double from one retry to the next, up to a limit.

use std::time::Duration;

/// A wait that doubles with each retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Creates a back-off that begins with `first` and never exceeds `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest }
    }

    /// Returns the wait after `retries` earlier ones. Any number of retries is valid.
    pub fn wait(&self, retries: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(retries)).min(self.longest)
    }

    /// Returns a wait between zero and [`Backoff::wait`] (full jitter), so that many clients do not retry at the same time.
    /// `jitter` is drawn evenly from 0 to 1.
    pub fn jittered(&self, retries: u32, jitter: f64) -> Duration {
        self.wait(retries).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits = [0, 1, 2, 5, 6, 1_000, u32::MAX].map(|retries| BACKOFF.wait(retries).as_millis());
        assert_eq!(waits, [100, 200, 400, 3_200, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn jitter_is_a_share_of_the_wait() {
        assert_eq!([0.0, 0.25, 1.0, 7.0].map(|jitter| BACKOFF.jittered(2, jitter).as_millis()), [0, 100, 400, 400]);
    }

    #[test]
    fn very_long_waits_do_not_overflow() {
        assert_eq!(Backoff::new(Duration::MAX, Duration::MAX).wait(u32::MAX), Duration::MAX);
    }
}
