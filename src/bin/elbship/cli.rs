//! The commands and their flags.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use elb_common::env::values;
use elb_log_shipper::backfill::{Arn, S3Location};

use crate::time_arg::TimeArg;

/// Ships AWS load balancer logs to Logstash, one structured event per line.
///
/// Environment variables configure all commands. A flag takes precedence over its variable, which the help shows in brackets.
#[derive(Debug, Parser)]
// build.rs makes the version.
#[command(name = "elbship", version = env!("ELBSHIP_VERSION"), propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Replay(ReplayArgs),
    Backfill(BackfillArgs),
    Invoke(InvokeArgs),
    Receive(ReceiveArgs),
    Explain(ExplainArgs),
    Check(CheckArgs),
}

/// Ship log objects: files, directories and S3 prefixes.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// What to ship: a file, a directory with everything below it, s3://BUCKET/PREFIX, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
    /// Treat local files as copies of the objects below s3://BUCKET[/PREFIX], so that their events have the same IDs.
    #[arg(long = "as", value_name = "s3://BUCKET[/PREFIX]", value_parser = parse_original_prefix)]
    pub original_prefix: Option<S3Location>,
    /// Ship only objects whose interval ends at this time or later: an RFC 3339 time, a date, or an age such as 7d. Objects without
    /// a time in their key are always shipped.
    #[arg(long, value_name = "T", value_parser = TimeArg::parse)]
    pub since: Option<TimeArg>,
    /// Ship only objects whose interval ends before this time.
    #[arg(long, value_name = "T", value_parser = TimeArg::parse)]
    pub until: Option<TimeArg>,
    /// Record delivered objects in this file, and skip the objects that it already contains. To continue an interrupted run,
    /// repeat the command.
    #[arg(long, value_name = "STATE", conflicts_with = "dry_run")]
    pub resume: Option<String>,
    /// Maximum number of events per second in the whole process, so that live traffic keeps its share of Logstash.
    #[arg(long, value_name = "N")]
    pub max_events_per_second: Option<NonZeroU32>,
    #[command(flatten)]
    pub ship: ShipArgs,
}

/// Plan an S3 Batch Operations job that invokes the function for every object below a prefix.
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// What to ship: s3://BUCKET/PREFIX.
    #[arg(required = true, value_name = "s3://BUCKET/PREFIX")]
    pub paths: Vec<String>,
    /// Write the manifest and the job request, and print the commands. Required with --function-arn: AWS runs the job, not this
    /// command.
    #[arg(long)]
    pub plan: bool,
    /// Function that the job invokes. Give it its own reserved concurrency, so that live traffic keeps its share. Without it, the
    /// command prints the number of objects and the price, and writes nothing.
    #[arg(long, value_name = "ARN", value_parser = Arn::parse_function, requires_all = ["role_arn", "manifest", "report"])]
    pub function_arn: Option<Arn>,
    /// Role of the job, which allows it to invoke the function, read the manifest and write the report.
    #[arg(long, value_name = "ARN", value_parser = Arn::parse_role, requires = "function_arn")]
    pub role_arn: Option<Arn>,
    /// Where you upload the manifest; not below a prefix that is shipped.
    #[arg(long, value_name = "s3://BUCKET/KEY", value_parser = parse_location, requires = "function_arn")]
    pub manifest: Option<S3Location>,
    /// Where the job reports the objects that failed; not below a prefix that is shipped.
    #[arg(long, value_name = "s3://BUCKET/PREFIX", value_parser = parse_location, requires = "function_arn")]
    pub report: Option<S3Location>,
    /// Priority among the account's jobs; a higher number runs first.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=2_147_483_647))]
    pub priority: u32,
    /// Ship only objects whose interval ends at this time or later: an RFC 3339 time, a date, or an age such as 7d. Objects without
    /// a time in their key are always shipped.
    #[arg(long, value_name = "T", value_parser = TimeArg::parse)]
    pub since: Option<TimeArg>,
    /// Ship only objects whose interval ends before this time.
    #[arg(long, value_name = "T", value_parser = TimeArg::parse)]
    pub until: Option<TimeArg>,
    /// Directory for manifest.csv and job.json.
    #[arg(long, value_name = "DIR", default_value = "backfill")]
    pub out: PathBuf,
}

/// Run the function's handler once, in this process, with a notification.
#[derive(Debug, Args)]
pub(crate) struct InvokeArgs {
    /// Notification as a JSON file; - reads standard input.
    #[arg(value_name = "EVENT.json")]
    pub event: String,
    /// Read objects from a directory whose sub-directories are buckets, instead of S3 [env: OBJECT_STORE=dir:DIR].
    #[arg(long, value_name = "DIR")]
    pub objects: Option<PathBuf>,
    #[command(flatten)]
    pub ship: ShipArgs,
}

/// Receive events instead of Logstash: decode requests like its http input, and write one event per line.
#[derive(Debug, Args)]
pub(crate) struct ReceiveArgs {
    /// Address to listen on; port 0 selects a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// File for the events; - is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub out: String,
    /// Reject requests without this user name.
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    /// Reject requests without this password.
    #[arg(long, requires = "user")]
    pub password: Option<String>,
}

/// Show how a line is read: its log type, each field with its names and values, and where parsing stopped.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Line to explain; without it or with -, lines are read from standard input.
    #[arg(allow_hyphen_values = true)]
    pub line: Option<String>,
    /// Write one JSON object per line instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Test the connection to Logstash: addresses, TLS, credentials, an empty batch and the size limit.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Also send one event, tagged elbship-canary.
    #[arg(long)]
    pub canary: bool,
    /// Also test whether the objects below this prefix can be listed and read.
    #[arg(long, value_name = "s3://BUCKET/PREFIX", value_parser = parse_location)]
    pub objects: Option<S3Location>,
    /// URL of the Logstash http input, or several URLs separated by commas [env: LOGSTASH_URL].
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
}

/// Flags of replay and invoke.
#[derive(Debug, Default, Args)]
pub(crate) struct ShipArgs {
    /// URL of the Logstash http input, several URLs separated by commas, or - for standard output [env: LOGSTASH_URL] [default: -].
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Field names of the events [env: EVENT_SCHEMA] [default: native].
    #[arg(long, value_name = "SCHEMA", value_enum)]
    pub schema: Option<SchemaArg>,
    /// Constant label of every event; can be repeated [env: LABELS].
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Also send the raw line in event.original [env: INCLUDE_ORIGINAL].
    #[arg(long)]
    pub include_original: bool,
    /// Number of batches in flight, from 1 to 256 [env: SEND_CONCURRENCY] [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,
    /// Make the events and send none; the report counts them as filtered.
    #[arg(long)]
    pub dry_run: bool,
    /// Write the report of the run, one JSON object, to this file; - is standard output, unless the events go there.
    #[arg(long, value_name = "FILE")]
    pub report: Option<String>,
    /// Time for requests in flight after Ctrl-C or SIGTERM. A second signal ends the command at once.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_grace)]
    pub grace: Duration,
}

/// Value of `--schema`, one for each value of `EVENT_SCHEMA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaArg {
    /// AWS's own names.
    Native,
    /// Names of the Elastic Common Schema.
    Ecs,
}

impl SchemaArg {
    /// Returns the value of `EVENT_SCHEMA`.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            SchemaArg::Native => "native",
            SchemaArg::Ecs => "ecs",
        }
    }
}

/// Splits `s3://BUCKET/KEY`. The key may be empty.
pub(crate) fn split_s3(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("s3://")?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, key))
}

fn parse_location(text: &str) -> Result<S3Location, String> {
    let (bucket, key) = split_s3(text).ok_or("not of the form s3://BUCKET/KEY")?;
    Ok(S3Location { bucket: bucket.to_owned(), key: key.to_owned() })
}

fn parse_original_prefix(text: &str) -> Result<S3Location, String> {
    let (bucket, prefix) = split_s3(text).ok_or("not of the form s3://BUCKET or s3://BUCKET/PREFIX")?;
    Ok(S3Location { bucket: bucket.to_owned(), key: prefix.trim_end_matches('/').to_owned() })
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    values::duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn parses_a_bucket_and_a_prefix() {
        let read = |text| parse_original_prefix(text).map(|original| (original.bucket, original.key));
        assert_eq!(read("s3://logs"), Ok(("logs".to_owned(), String::new())));
        assert_eq!(read("s3://logs/a/b/"), Ok(("logs".to_owned(), "a/b".to_owned())));
        assert!(read("logs/a").is_err());
        assert!(read("s3:///a").is_err());
    }
}
