//! A progress bar for a person who watches.

use std::sync::Arc;
use std::time::Duration;

use elb_log_shipper::ship::Shipper;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

/// How often the bar is drawn anew.
const EVERY: Duration = Duration::from_millis(100);

/// A bar that is being drawn.
pub(crate) struct Bar {
    bar: ProgressBar,
    drawing: JoinHandle<()>,
}

/// Draws a run's progress on standard error. Where that is no terminal, nothing is drawn.
pub(crate) fn watch(shipper: Arc<Shipper>) -> Bar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let drawn = bar.clone();
    let drawing = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            let progress = shipper.progress();
            drawn.set_message(format!(
                "{} objects done, {} lines, {} of text read",
                HumanCount(progress.objects()),
                HumanCount(progress.lines()),
                HumanBytes(progress.bytes())
            ));
            drawn.tick();
        }
    });
    Bar { bar, drawing }
}

impl Bar {
    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.drawing.abort();
        self.bar.finish_and_clear();
    }
}
