//! A progress display on the terminal.

use std::sync::Arc;
use std::time::Duration;

use elb_log_shipper::ship::Shipper;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::terminal::print_error;

/// Time between two updates of the display.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// A display that is being updated.
pub(crate) struct ProgressDisplay {
    bar: ProgressBar,
    updates: JoinHandle<()>,
}

impl ProgressDisplay {
    /// Shows the progress of a run on standard error, if that is a terminal.
    pub(crate) fn start(shipper: Arc<Shipper>) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        let updates = tokio::spawn(update(bar.clone(), shipper));
        ProgressDisplay { bar, updates }
    }

    /// Prints a line above the display.
    pub(crate) fn print(&self, line: &str) {
        self.bar.suspend(|| print_error(line));
    }

    /// Removes the display.
    pub(crate) fn finish(self) {
        self.updates.abort();
        self.bar.finish_and_clear();
    }
}

async fn update(bar: ProgressBar, shipper: Arc<Shipper>) {
    let mut ticks = tokio::time::interval(UPDATE_INTERVAL);
    loop {
        ticks.tick().await;
        let progress = shipper.progress();
        bar.set_message(format!(
            "{} objects done, {} lines, {} of text read",
            HumanCount(progress.objects()),
            HumanCount(progress.lines()),
            HumanBytes(progress.bytes())
        ));
        bar.tick();
    }
}
