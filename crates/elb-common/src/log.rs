//! Sets up logging.

use std::io;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::terminal::EscapingWriter;

/// Form and destination of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON on standard output, which Lambda sends to CloudWatch.
    StdoutJson,
    /// JSON on standard error, for other programs.
    StderrJson,
    /// Text on standard error, for people. Control characters are escaped.
    StderrText,
}

/// Starts logging. Only the first call in a process has an effect.
pub fn init(format: LogFormat, level: LevelFilter) {
    // If standard error is closed, reporting the failed write there would panic.
    let lines = || tracing_subscriber::fmt().with_max_level(level).with_target(false).log_internal_errors(false);
    let text = lines();
    let json = lines().json().flatten_event(true);
    let json = json.with_current_span(false).with_span_list(false);
    // The only error is that logging has already started.
    let _ = match format {
        LogFormat::StdoutJson => json.with_writer(io::stdout).finish().with(filter_fn(is_ours)).try_init(),
        LogFormat::StderrJson => json.with_writer(io::stderr).finish().with(filter_fn(is_ours)).try_init(),
        LogFormat::StderrText => {
            let text = text.with_ansi(false).without_time().with_writer(|| EscapingWriter(io::stderr()));
            text.finish().with(filter_fn(is_ours)).try_init()
        }
    };
}

/// Returns whether an event is not the one with which the Lambda runtime repeats the error of an invocation, in debug form and
/// without fields. The programs log these errors themselves. Panics, which the runtime logs in the same place, have a field.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target() != "lambda_runtime::layers::panic" || metadata.fields().field("error").is_some()
}

/// Starts logging as text beside a progress display, for people. `writer` writes each line where the display lets it. Only the
/// programs of this workspace log there: the AWS SDK also logs what is no problem.
pub fn init_beside_display<W: io::Write + 'static>(level: LevelFilter, writer: impl Fn() -> W + Send + Sync + 'static) {
    let lines = tracing_subscriber::fmt().with_max_level(level).with_target(false).log_internal_errors(false);
    let lines = lines.with_ansi(false).without_time().with_writer(move || EscapingWriter(writer()));
    let own = Targets::new().with_targets(["elb_log_shipper", "elb_common", "elbship"].map(|program| (program, level)));
    // The only error is that logging has already started.
    let _ = tracing::subscriber::set_global_default(lines.finish().with(own));
}
