//! One question to AWS at a time for each list: who asks meanwhile shares the next answer, and after an answer there is a pause.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use elb_common::backoff::Backoff;
use fastrand::Rng;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The pause after an answer, before jitter.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);

/// The pause doubles with each failure up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A caller is not kept waiting for the end of a longer pause.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How new an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Asked for after the caller came: something has changed.
    News,
    /// The last one will do during the pause after it, be it a failure.
    Any,
}

/// The pause after many failures is too long to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon {
    /// When it ends.
    pub wait: Duration,
}

/// The questions of one list.
#[derive(Debug)]
pub struct Flights<T> {
    begun: AtomicU64,
    last: Mutex<Option<Last<T>>>,
    jitter: StdMutex<Rng>,
}

#[derive(Debug)]
struct Last<T> {
    number: u64,
    failures: u32,
    pause_ends: Instant,
    answer: T,
}

impl<T: Clone> Flights<T> {
    /// `seed` decides the jitter.
    pub fn new(seed: u64) -> Self {
        Flights { begun: AtomicU64::new(0), last: Mutex::new(None), jitter: StdMutex::new(Rng::with_seed(seed)) }
    }

    /// Asks, or shares the answer to a question of somebody else. `failed` says whether an answer makes the pause longer.
    ///
    /// # Errors
    /// There were so many failures lately that the pause is too long to wait for.
    pub async fn ask(&self, need: Need, question: impl AsyncFnOnce() -> T, failed: impl Fn(&T) -> bool) -> Result<T, TooSoon> {
        let begun_before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        let mut failures = 0;
        if let Some(last) = last.as_ref() {
            let shares = last.number > begun_before || (need == Need::Any && Instant::now() < last.pause_ends);
            if shares {
                return Ok(last.answer.clone());
            }
            let wait = last.pause_ends.saturating_duration_since(Instant::now());
            if wait > LONGEST_WAIT {
                return Err(TooSoon { wait });
            }
            sleep_until(last.pause_ends).await;
            failures = last.failures;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = question().await;
        failures = if failed(&answer) { failures.saturating_add(1) } else { 0 };
        let pause = pause(failures);
        let pause_ends = Instant::now() + pause + self.jitter(pause / 2);
        *last = Some(Last { number, failures, pause_ends, answer: answer.clone() });
        Ok(answer)
    }

    /// A random time below `most`, so that several registries do not ask in step.
    pub fn jitter(&self, most: Duration) -> Duration {
        most.mul_f64(self.jitter.lock().unwrap_or_else(PoisonError::into_inner).f64())
    }
}

fn pause(failures: u32) -> Duration {
    Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE).wait(failures)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep};

    use super::*;

    /// Answers with the number of the question after a tenth of a second, and fails as `answers` says.
    #[derive(Clone)]
    struct Service {
        flights: Arc<Flights<Result<u32, u32>>>,
        asked: Arc<AtomicU64>,
        is_down: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Service {
        fn new() -> Self {
            Service { flights: Arc::new(Flights::new(7)), asked: Arc::default(), is_down: Arc::default() }
        }

        async fn ask(&self, need: Need) -> Result<Result<u32, u32>, TooSoon> {
            let question = async || {
                let number = u32::try_from(self.asked.fetch_add(1, Ordering::SeqCst) + 1).unwrap();
                sleep(Duration::from_millis(100)).await;
                if self.is_down.load(Ordering::SeqCst) { Err(number) } else { Ok(number) }
            };
            self.flights.ask(need, question, Result::is_err).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hundreds_who_ask_at_once_share_two_questions() {
        let service = Service::new();
        let first = tokio::spawn({
            let service = service.clone();
            async move { service.ask(Need::News).await }
        });
        sleep(Duration::from_millis(50)).await;
        let mut others: JoinSet<_> =
            (0..500).map(|_| service.clone()).map(|service| async move { service.ask(Need::News).await }).collect();
        assert_eq!(first.await.unwrap(), Ok(Ok(1)));
        while let Some(answer) = others.join_next().await {
            assert_eq!(answer.unwrap(), Ok(Ok(2)), "an answer that was under way before is no news");
        }
        assert_eq!(service.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_no_news_takes_the_last_answer_during_the_pause() {
        let service = Service::new();
        assert_eq!(service.ask(Need::Any).await, Ok(Ok(1)));
        assert_eq!(service.ask(Need::Any).await, Ok(Ok(1)));
        advance(SHORTEST_PAUSE * 2).await;
        assert_eq!(service.ask(Need::Any).await, Ok(Ok(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_failures_until_nobody_waits_for_them() {
        let service = Service::new();
        service.is_down.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(service.ask(Need::News).await);
        }
        assert!(matches!(answers.last(), Some(Err(TooSoon { wait })) if *wait > LONGEST_WAIT), "{answers:?}");
        assert!(service.asked.load(Ordering::SeqCst) <= 4, "{answers:?}");
        assert!(begin.elapsed() < Duration::from_secs(30));
        service.is_down.store(false, Ordering::SeqCst);
        advance(LONGEST_PAUSE * 2).await;
        assert!(matches!(service.ask(Need::News).await, Ok(Ok(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_given_up_blocks_nobody() {
        let service = Service::new();
        let gone = tokio::time::timeout(Duration::from_millis(10), service.ask(Need::News)).await;
        assert!(gone.is_err());
        assert_eq!(service.ask(Need::News).await, Ok(Ok(2)));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        assert_eq!([0, 1, 2, 4, 5, 9, u32::MAX].map(|failures| pause(failures).as_secs()), [2, 4, 8, 32, 60, 60, 60]);
    }
}
