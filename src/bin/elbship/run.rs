//! What replay and invoke have in common: configuration, the report, and how they end.

use std::env;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use aws_config::BehaviorVersion;
use aws_smithy_http_client::proxy::ProxyConfig;
use elb_common::aws::{AwsConfig, http_client};
use elb_common::tls::SystemRoots;
use elb_log_shipper::config::{Config, Program, Target};
use elb_log_shipper::ledger::Report;
use elb_log_shipper::ship::Shipper;
use elb_log_shipper::summary_log::SummaryLog;
use elb_log_shipper::wiring::{Platform, build_shipper};

use crate::cli::ShipArgs;

/// How the program ends.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Everything was delivered: status 0.
    Delivered,
    /// Something was not: status 1.
    Failed(String),
    /// Wrong flags or variables: status 2.
    Usage(String),
}

/// Reads the configuration; a flag beats its variable.
pub(crate) fn configure(args: &ShipArgs, object_store: Option<String>) -> Result<Config, Exit> {
    if let Some(label) = args.labels.iter().find(|label| label.contains(',')) {
        return Err(Exit::Usage(format!(
            "--label {label:?} holds a comma, which separates labels in LABELS; give one label a flag"
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
        // A flag beats its variable, and the variable that stands for the same.
        if name == "REGISTRY_URL" && args.to.is_some() {
            return None;
        }
        let flag = flags.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone());
        flag.or_else(|| Some(env::var_os(name)?.to_string_lossy().into_owned()))
    };
    Config::from_vars(Program::CommandLine, lookup).map_err(|errors| Exit::Usage(errors.to_string()))
}

/// Whether events go to standard output, which then is no place for anything else.
pub(crate) fn writes_to_stdout(config: &Config, args: &ShipArgs) -> bool {
    matches!(config.target, Target::Output) && !args.dry_run
}

/// Builds the shipper. Without `store_needed` all objects are local files.
pub(crate) fn build(config: Config, args: &ShipArgs, store_needed: bool) -> Result<Arc<Shipper>, Exit> {
    build_shipper(config, surroundings(!store_needed, args.dry_run)).map_err(Exit::Failed)
}

/// What a person's machine adds to the configuration.
pub(crate) fn surroundings(local_files: bool, dry_run: bool) -> Platform {
    let roots = SystemRoots::new();
    let http = http_client(roots.clone(), ProxyConfig::from_env());
    Platform {
        aws: AwsConfig::new(move || aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).load()),
        roots,
        local_files,
        dry_run,
        summary_log: SummaryLog::Log,
        seed: fastrand::u64(..),
        now: jiff::Timestamp::now,
    }
}

/// Whether a person watches.
pub(crate) fn has_audience() -> bool {
    io::stderr().is_terminal()
}

/// Writes the report where it was asked for.
pub(crate) fn write_report(args: &ShipArgs, report: &Report) -> Result<(), Exit> {
    let Some(target) = &args.report else { return Ok(()) };
    let failed = |error: io::Error| Exit::Failed(format!("writing the report to {target} failed: {error}"));
    let json = serde_json::to_string(report).map_err(|error| failed(error.into()))? + "\n";
    if target == "-" {
        io::stderr().write_all(json.as_bytes()).map_err(failed)
    } else {
        replace_file(target, &json).map_err(failed)
    }
}

/// Says in one sentence what a run did.
pub(crate) fn summary(report: &Report) -> String {
    let counts = &report.totals.counts;
    let mut parts = vec![format!("{} of {} lines delivered", counts.delivered, counts.lines)];
    if counts.filtered > 0 {
        parts.push(format!("{} not sent (dry run)", counts.filtered));
    }
    if counts.unparsed > 0 {
        parts.push(format!("{} unparsed", counts.unparsed));
    }
    if counts.dead_lettered > 0 {
        parts.push(format!("{} in the dead letter", counts.dead_lettered));
    }
    if counts.undelivered > 0 {
        parts.push(format!("{} UNDELIVERED", counts.undelivered));
    }
    let skipped = report.objects.iter().filter(|object| object.skipped.is_some()).count();
    if skipped > 0 {
        parts.push(format!("{skipped} objects skipped"));
    }
    let failed = report.failures().count();
    if failed > 0 {
        parts.push(format!("{failed} objects FAILED"));
    }
    format!("{} objects: {}", report.objects.len(), parts.join(", "))
}

/// A reader never sees half a report. What is no plain file, such as `/dev/stdout` or a link, is written through.
pub(crate) fn replace_file(target: &str, json: &str) -> io::Result<()> {
    let path = Path::new(target);
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(path, json);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    fs::write(&unfinished, json)?;
    fs::rename(&unfinished, path)
}

/// Prints on standard output. Nobody may read it any more.
pub(crate) fn print(text: &str) -> Result<(), Exit> {
    writeln!(io::stdout(), "{text}").map_err(|error| Exit::Failed(format!("writing to standard output failed: {error}")))
}

/// Says something on standard error. Where nobody listens, nothing can be said about that either.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
