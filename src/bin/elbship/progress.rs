//! The progress of a run on a terminal, in two lines.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use elb_common::text::{counted, plural};
use elb_log_shipper::ship::Shipper;
use elb_log_shipper::sink::Retrying;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::terminal::print_error;

/// Time between two updates of the display.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// Number of updates over which the rate is measured: ten seconds.
const RATE_UPDATES: usize = 100;

/// The objects that a run has found so far.
#[derive(Debug, Default)]
pub(crate) struct FoundObjects {
    listed: AtomicU64,
    total: OnceLock<u64>,
}

impl FoundObjects {
    /// Counts an object that was listed.
    pub(crate) fn add(&self) {
        self.listed.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the number of all objects, unless it is known.
    pub(crate) fn set_total(&self, total: u64) {
        let _ = self.total.set(total);
    }

    /// Returns the number of objects listed so far.
    pub(crate) fn listed(&self) -> u64 {
        self.listed.load(Ordering::Relaxed)
    }

    /// Returns the number of all objects, once it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total.get().copied()
    }
}

/// A display, which is updated from its start on.
pub(crate) struct ProgressDisplay {
    bar: ProgressBar,
    updates: Option<JoinHandle<()>>,
}

/// Prints lines where the display lets them.
#[derive(Clone, Debug)]
pub(crate) struct Printer(ProgressBar);

impl ProgressDisplay {
    /// Creates a display on standard error. One that is not visible only prints lines.
    pub(crate) fn new(is_visible: bool) -> Self {
        let target = if is_visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {prefix}\n  {wide_msg}") {
            bar.set_style(style);
        }
        ProgressDisplay { bar, updates: None }
    }

    /// Shows the progress of a run until [`ProgressDisplay::finish`].
    pub(crate) fn start(&mut self, shipper: Arc<Shipper>, found: Arc<FoundObjects>, dry_run: bool) {
        self.bar.reset_elapsed();
        self.updates = Some(tokio::spawn(update(self.bar.clone(), shipper, found, dry_run)));
    }

    pub(crate) fn printer(&self) -> Printer {
        Printer(self.bar.clone())
    }

    /// Removes the display.
    pub(crate) fn finish(self) {
        if let Some(updates) = self.updates {
            updates.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// Without a display.
impl Default for Printer {
    fn default() -> Self {
        ProgressDisplay::new(false).printer()
    }
}

impl Printer {
    /// Prints a line above the display.
    pub(crate) fn print(&self, line: &str) {
        self.0.suspend(|| print_error(line));
    }

    /// Removes the display.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// Writes to standard error, above the display.
impl io::Write for Printer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn update(bar: ProgressBar, shipper: Arc<Shipper>, found: Arc<FoundObjects>, dry_run: bool) {
    let mut ticks = tokio::time::interval(UPDATE_INTERVAL);
    let (started, mut rate) = (Instant::now(), Rate::default());
    loop {
        let now = ticks.tick().await;
        let progress = shipper.progress();
        let snapshot = Snapshot {
            elapsed: now - started,
            done: progress.objects(),
            listed: found.listed(),
            total: found.total(),
            lines: progress.lines(),
            lines_per_second: rate.add(now, progress.lines()),
            delivered: (!dry_run).then(|| progress.delivered()),
            retrying: shipper.retrying(),
        };
        bar.set_prefix(snapshot.work());
        bar.set_message(snapshot.delivery(now));
        bar.tick();
    }
}

/// The rate of a counter during the last updates.
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    /// Adds the value of the counter, and returns the rate per second.
    fn add(&mut self, now: Instant, value: u64) -> u64 {
        self.0.push_back((now, value));
        if self.0.len() > RATE_UPDATES {
            self.0.pop_front();
        }
        let Some((then, before)) = self.0.front() else { return 0 };
        let milliseconds = u64::try_from((now - *then).as_millis()).unwrap_or(u64::MAX);
        ((value - before) * 1_000).checked_div(milliseconds).unwrap_or(0)
    }
}

/// What the display shows at one time.
#[derive(Clone, Debug)]
struct Snapshot {
    elapsed: Duration,
    /// Number of objects that have ended.
    done: u64,
    listed: u64,
    total: Option<u64>,
    /// Number of lines read.
    lines: u64,
    lines_per_second: u64,
    /// Number of events delivered; none in a dry run.
    delivered: Option<u64>,
    retrying: Option<Retrying>,
}

impl Snapshot {
    /// Describes what was read.
    fn work(&self) -> String {
        let found = match self.total {
            Some(total) => format!("{} {}", HumanCount(total), plural(total, "object")),
            // The listing goes on.
            None => format!("{}+ objects", HumanCount(self.listed)),
        };
        let (done, lines) = (HumanCount(self.done), format!("{} {}", HumanCount(self.lines), plural(self.lines, "line")));
        let rate = HumanCount(self.lines_per_second);
        let left = self.left().map(|left| format!(", {:#} left", HumanDuration(left))).unwrap_or_default();
        format!("{done} of {found}, {lines}, {rate}/s{left}")
    }

    /// Estimates the time until all objects have ended. While batches are retried, nobody knows.
    fn left(&self) -> Option<Duration> {
        if self.retrying.is_some() {
            return None;
        }
        let left = self.total?.checked_sub(self.done).filter(|left| *left > 0 && self.done > 0)?;
        Some(self.elapsed.mul_f64(left as f64 / self.done as f64))
    }

    /// Describes what was delivered, and what is being retried.
    fn delivery(&self, now: Instant) -> String {
        let Some(delivered) = self.delivered else { return "nothing is sent (dry run)".to_owned() };
        let delivered = format!("{} delivered", HumanCount(delivered));
        let Some(Retrying { batches, since, cause }) = &self.retrying else { return delivered };
        let batches = counted(*batches as u64, "batch");
        format!("{delivered}, retrying {batches} for {} s: {cause}", (now - *since).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            elapsed: Duration::from_secs(10),
            done: 1,
            listed: 1_000,
            total: None,
            lines: 1_234_567,
            lines_per_second: 98_765,
            delivered: Some(1_200_000),
            retrying: None,
        }
    }

    #[test]
    fn an_estimate_needs_a_total() {
        assert_eq!(snapshot().work(), "1 of 1,000+ objects, 1,234,567 lines, 98,765/s");
        let known = Snapshot { total: Some(10_000), done: 2_500, ..snapshot() };
        assert_eq!(known.work(), "2,500 of 10,000 objects, 1,234,567 lines, 98,765/s, 30s left");
        assert_eq!(Snapshot { total: Some(1), done: 0, lines: 1, ..snapshot() }.work(), "0 of 1 object, 1 line, 98,765/s");
    }

    #[test]
    fn retries_are_shown_with_their_cause() {
        let now = Instant::now();
        assert_eq!(snapshot().delivery(now), "1,200,000 delivered");
        let retrying = Some(Retrying { batches: 4, since: now, cause: "connection refused".to_owned() });
        let shown = Snapshot { retrying: retrying.clone(), ..snapshot() }.delivery(now + Duration::from_secs(12));
        let known = Snapshot { total: Some(10_000), done: 2_500, retrying: retrying.clone(), ..snapshot() };
        assert!(!known.work().contains("left"), "the time that is left is unknown: {}", known.work());
        assert_eq!(shown, "1,200,000 delivered, retrying 4 batches for 12 s: connection refused");
        assert_eq!(Snapshot { delivered: None, ..snapshot() }.delivery(now), "nothing is sent (dry run)");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (start, mut rate) = (Instant::now(), Rate::default());
        assert_eq!(rate.add(start, 0), 0);
        assert_eq!(rate.add(start + Duration::from_secs(1), 500), 500);
        for update in 1..=RATE_UPDATES as u64 {
            rate.add(start + Duration::from_secs(1) + UPDATE_INTERVAL * u32::try_from(update).unwrap(), 500 + update);
        }
        assert_eq!(rate.add(start + Duration::from_millis(11_100), 601), 10, "an old rate is still shown");
    }

    #[test]
    fn lines_fit_into_eighty_columns() {
        let retrying = Some(Retrying { batches: 256, since: Instant::now(), cause: "connection refused".to_owned() });
        let large = Snapshot { done: 99_999, total: Some(100_000), lines: 999_999_999, retrying, ..snapshot() };
        // The spinner and the time come before.
        assert!(large.work().len() + 7 <= 80, "{}", large.work());
        assert!(large.delivery(Instant::now()).len() + 2 <= 80, "{}", large.delivery(Instant::now()));
    }
}
