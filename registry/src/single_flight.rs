//! One call to AWS at a time for each list. Callers that arrive while a call is in flight share the result of the next call. After each
//! call there is a pause, which grows with failures.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use elb_common::backoff::Backoff;
use fastrand::Rng;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Pause after a successful call, before jitter.
const MIN_PAUSE: Duration = Duration::from_secs(2);

/// Maximum pause. The pause doubles with each failure up to this.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// Maximum time that a caller waits for the end of a pause.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// How recent a result has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// From a call that began after the caller arrived, because something has changed.
    New,
    /// During the pause after a call, the result of that call is sufficient, even if it is a failure.
    Recent,
}

/// The pause after many failures is longer than a caller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon {
    /// Time until the pause ends.
    pub wait: Duration,
}

/// The calls for one list.
#[derive(Debug)]
pub struct SingleFlight<T> {
    begun: AtomicU64,
    last: Mutex<Option<LastCall<T>>>,
    jitter: StdMutex<Rng>,
}

#[derive(Debug)]
struct LastCall<T> {
    number: u64,
    failures: u32,
    pause_ends: Instant,
    result: T,
}

impl<T: Clone> SingleFlight<T> {
    /// Creates a single flight whose jitter is decided by `seed`.
    pub fn new(seed: u64) -> Self {
        SingleFlight { begun: AtomicU64::new(0), last: Mutex::new(None), jitter: StdMutex::new(Rng::with_seed(seed)) }
    }

    /// Runs `call`, or shares the result of another caller's call. `failed` decides whether a result makes the pause longer.
    ///
    /// # Errors
    /// The pause after many failures is longer than a caller waits.
    pub async fn run(
        &self,
        freshness: Freshness,
        call: impl AsyncFnOnce() -> T,
        failed: impl Fn(&T) -> bool,
    ) -> Result<T, TooSoon> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        let mut failures = 0;
        if let Some(last) = last.as_ref() {
            let is_paused = Instant::now() < last.pause_ends;
            if last.number > begun_before || (freshness == Freshness::Recent && is_paused) {
                return Ok(last.result.clone());
            }
            let wait = last.pause_ends.saturating_duration_since(Instant::now());
            if wait > MAX_WAIT {
                return Err(TooSoon { wait });
            }
            sleep_until(last.pause_ends).await;
            failures = last.failures;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = call().await;
        failures = if failed(&result) { failures.saturating_add(1) } else { 0 };
        let pause = pause(failures);
        let pause_ends = Instant::now() + pause + self.jitter(pause / 2);
        *last = Some(LastCall { number, failures, pause_ends, result: result.clone() });
        Ok(result)
    }

    /// Returns a random time below `max`, so that several registries do not call AWS at the same moment.
    pub fn jitter(&self, max: Duration) -> Duration {
        max.mul_f64(self.jitter.lock().unwrap_or_else(PoisonError::into_inner).f64())
    }
}

fn pause(failures: u32) -> Duration {
    Backoff::new(MIN_PAUSE, MAX_PAUSE).wait(failures)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep};

    use super::*;

    /// A service that takes 100 ms for a call, and returns the number of the call.
    #[derive(Clone)]
    struct Service {
        single_flight: Arc<SingleFlight<Result<u32, u32>>>,
        calls: Arc<AtomicU64>,
        is_down: Arc<AtomicBool>,
    }

    impl Service {
        fn new() -> Self {
            Service { single_flight: Arc::new(SingleFlight::new(7)), calls: Arc::default(), is_down: Arc::default() }
        }

        async fn call(&self, freshness: Freshness) -> Result<Result<u32, u32>, TooSoon> {
            let call = async || {
                let number = u32::try_from(self.calls.fetch_add(1, Ordering::SeqCst) + 1).unwrap();
                sleep(Duration::from_millis(100)).await;
                if self.is_down.load(Ordering::SeqCst) { Err(number) } else { Ok(number) }
            };
            self.single_flight.run(freshness, call, Result::is_err).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hundreds_of_callers_share_two_calls() {
        let service = Service::new();
        let first = tokio::spawn({
            let service = service.clone();
            async move { service.call(Freshness::New).await }
        });
        sleep(Duration::from_millis(50)).await;
        let mut others: JoinSet<_> =
            (0..500).map(|_| service.clone()).map(|service| async move { service.call(Freshness::New).await }).collect();
        assert_eq!(first.await.unwrap(), Ok(Ok(1)));
        while let Some(result) = others.join_next().await {
            assert_eq!(result.unwrap(), Ok(Ok(2)), "the result of an earlier call is not new");
        }
        assert_eq!(service.calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_recent_result_is_reused_during_the_pause() {
        let service = Service::new();
        assert_eq!(service.call(Freshness::Recent).await, Ok(Ok(1)));
        assert_eq!(service.call(Freshness::Recent).await, Ok(Ok(1)));
        advance(MIN_PAUSE * 2).await;
        assert_eq!(service.call(Freshness::Recent).await, Ok(Ok(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_failures_until_callers_do_not_wait() {
        let service = Service::new();
        service.is_down.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        let mut results = Vec::new();
        for _ in 0..100 {
            results.push(service.call(Freshness::New).await);
        }
        assert!(matches!(results.last(), Some(Err(TooSoon { wait })) if *wait > MAX_WAIT), "{results:?}");
        assert!(service.calls.load(Ordering::SeqCst) <= 4, "{results:?}");
        assert!(begin.elapsed() < Duration::from_secs(30));
        service.is_down.store(false, Ordering::SeqCst);
        advance(MAX_PAUSE * 2).await;
        assert!(matches!(service.call(Freshness::New).await, Ok(Ok(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_call_blocks_no_other() {
        let service = Service::new();
        let abandoned = tokio::time::timeout(Duration::from_millis(10), service.call(Freshness::New)).await;
        assert!(abandoned.is_err());
        assert_eq!(service.call(Freshness::New).await, Ok(Ok(2)));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        assert_eq!([0, 1, 2, 4, 5, 9, u32::MAX].map(|failures| pause(failures).as_secs()), [2, 4, 8, 32, 60, 60, 60]);
    }
}
