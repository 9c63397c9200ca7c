//! Builds the shipper from flags and environment variables.

use std::env;
use std::sync::Arc;

use aws_config::BehaviorVersion;
use aws_smithy_http_client::proxy::ProxyConfig;
use elb_common::aws::{AwsConfig, http_client};
use elb_common::tls::SystemRoots;
use elb_log_shipper::config::{Config, Program, Target};
use elb_log_shipper::ship::Shipper;
use elb_log_shipper::summary_log::SummaryLog;
use elb_log_shipper::wiring::{Platform, build_shipper};

use crate::cli::ShipArgs;
use crate::error::CommandError;

/// Reads the configuration. A flag takes precedence over its variable.
///
/// # Errors
/// Every invalid flag and variable at once.
pub(crate) fn read_config(args: &ShipArgs, object_store: Option<String>) -> Result<Config, CommandError> {
    if let Some(label) = args.labels.iter().find(|label| label.contains(',')) {
        return Err(CommandError::Usage(format!(
            "cannot use --label {label:?}: a comma separates labels; give --label once for each label"
        )));
    }
    let labels = (!args.labels.is_empty()).then(|| args.labels.join(","));
    let flags = [
        ("LOGSTASH_URL", "--to", args.to.clone()),
        ("EVENT_SCHEMA", "--schema", args.schema.map(|schema| schema.variable().to_owned())),
        ("LABELS", "--label", labels),
        ("INCLUDE_ORIGINAL", "--include-original", args.include_original.then(|| "true".to_owned())),
        ("SEND_CONCURRENCY", "--concurrency", args.concurrency.map(|number| number.to_string())),
        ("OBJECT_STORE", "--objects", object_store),
    ];
    let used = |variable: &str| flags.iter().find(|(name, _, value)| *name == variable && value.is_some());
    let lookup = |name: &str| {
        // `--to` replaces both variables that name endpoints.
        if name == "REGISTRY_URL" && args.to.is_some() {
            return None;
        }
        let flag = used(name).and_then(|(_, _, value)| value.clone());
        flag.or_else(|| Some(env::var_os(name)?.to_string_lossy().into_owned()))
    };
    let config = Config::from_flags_and_vars(Program::CommandLine, lookup, |name| used(name).map(|(_, flag, _)| *flag));
    config.map_err(|errors| CommandError::Usage(errors.to_string()))
}

/// Returns whether an environment variable is set.
pub(crate) fn has_variable(name: &str) -> bool {
    env::var_os(name).is_some()
}

/// Returns whether events go to standard output, so that nothing else may be written there.
pub(crate) fn writes_events_to_stdout(config: &Config, args: &ShipArgs) -> bool {
    matches!(config.target, Target::Output) && !args.dry_run
}

/// Where a command reads its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// In the store.
    Store,
    /// In files named on the command line.
    LocalFiles,
}

/// How a command uses a shipper.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub input: Input,
    /// Whether a person sees the end of each object, so that it is not logged, too.
    pub shown: bool,
    pub dry_run: bool,
}

/// Builds the shipper.
///
/// # Errors
/// The certificates are invalid.
pub(crate) fn shipper(config: Config, usage: Use) -> Result<Arc<Shipper>, CommandError> {
    build_shipper(config, platform(usage)).map_err(CommandError::Failed)
}

/// Returns what the command line provides in addition to the configuration.
pub(crate) fn platform(usage: Use) -> Platform {
    let roots = SystemRoots::new();
    let http = http_client(roots.clone(), ProxyConfig::from_env());
    Platform {
        aws: AwsConfig::new(move || aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).load()),
        roots,
        local_files: usage.input == Input::LocalFiles,
        dry_run: usage.dry_run,
        checkpoints: false,
        summary_log: if usage.shown { SummaryLog::Off } else { SummaryLog::Log },
        seed: fastrand::u64(..),
        now: jiff::Timestamp::now,
    }
}
