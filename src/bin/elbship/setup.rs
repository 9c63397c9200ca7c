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
        ("LOGSTASH_URL", args.to.clone()),
        ("EVENT_SCHEMA", args.schema.clone()),
        ("LABELS", labels),
        ("INCLUDE_ORIGINAL", args.include_original.then(|| "true".to_owned())),
        ("SEND_CONCURRENCY", args.concurrency.clone()),
        ("OBJECT_STORE", object_store),
    ];
    let lookup = |name: &str| {
        // `--to` replaces both variables that name endpoints.
        if name == "REGISTRY_URL" && args.to.is_some() {
            return None;
        }
        let flag = flags.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone());
        flag.or_else(|| Some(env::var_os(name)?.to_string_lossy().into_owned()))
    };
    Config::from_vars(Program::CommandLine, lookup).map_err(|errors| CommandError::Usage(errors.to_string()))
}

/// Returns whether events go to standard output, so that nothing else may be written there.
pub(crate) fn writes_events_to_stdout(config: &Config, args: &ShipArgs) -> bool {
    matches!(config.target, Target::Output) && !args.dry_run
}

/// Builds the shipper. With `local_files`, all objects are files named on the command line.
///
/// # Errors
/// The certificates are invalid.
pub(crate) fn shipper(config: Config, args: &ShipArgs, local_files: bool) -> Result<Arc<Shipper>, CommandError> {
    build_shipper(config, platform(local_files, args.dry_run)).map_err(CommandError::Failed)
}

/// Returns what the command line provides in addition to the configuration.
pub(crate) fn platform(local_files: bool, dry_run: bool) -> Platform {
    let roots = SystemRoots::new();
    let http = http_client(roots.clone(), ProxyConfig::from_env());
    Platform {
        aws: AwsConfig::new(move || aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).load()),
        roots,
        local_files,
        dry_run,
        checkpoints: false,
        summary_log: SummaryLog::Log,
        seed: fastrand::u64(..),
        now: jiff::Timestamp::now,
    }
}
