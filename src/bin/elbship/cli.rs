//! What a person can type.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use elb_log_shipper::backfill::{Arn, S3Location};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Ships AWS load balancer access logs to Logstash, one structured event a request.
///
/// Every setting is also an environment variable; a flag beats its variable.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
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

/// Ship log objects: files, directories, S3 prefixes.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// What to ship: a file, a directory with all that is below it, or s3://BUCKET/PREFIX.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
    /// Take local files for copies of objects below s3://BUCKET[/PREFIX], so that their events have the same ids.
    #[arg(long = "as", value_name = "s3://BUCKET[/PREFIX]", value_parser = parse_as)]
    pub taken_as: Option<TakenAs>,
    /// Only objects whose interval ends at this time or later: RFC 3339 or a date. Objects without a time in their key are read.
    #[arg(long, value_name = "T", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Only objects whose interval ends before this time.
    #[arg(long, value_name = "T", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// Keep in this file which objects have been delivered, and skip those that are in it already: a run that was ended goes on
    /// where it was.
    #[arg(long, value_name = "STATE", conflicts_with = "dry_run")]
    pub resume: Option<String>,
    /// Send no more events in a second, in the whole process, so that live traffic keeps its share of the receiver.
    #[arg(long, value_name = "N")]
    pub max_events_per_second: Option<NonZeroU32>,
    #[command(flatten)]
    pub ship: ShipArgs,
}

/// Plan a job of S3 Batch Operations that runs the function over the objects below a prefix: years of them, in AWS.
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// What to ship: s3://BUCKET/PREFIX.
    #[arg(required = true, value_name = "s3://BUCKET/PREFIX")]
    pub paths: Vec<String>,
    /// Write the manifest and the request, and print the price and the commands. AWS runs the job, so there is no other way.
    #[arg(long)]
    pub plan: bool,
    /// The function that the job invokes: one with a reserved concurrency of its own, so that live traffic keeps its share.
    #[arg(long, value_name = "ARN", value_parser = Arn::parse_function)]
    pub function_arn: Arn,
    /// The role of the job: it invokes the function, reads the manifest and writes the report.
    #[arg(long, value_name = "ARN", value_parser = Arn::parse_role)]
    pub role_arn: Arn,
    /// Where the manifest is to be uploaded; not among the logs.
    #[arg(long, value_name = "s3://BUCKET/KEY", value_parser = parse_place)]
    pub manifest: S3Location,
    /// Where the job is to report the objects that failed; not among the logs.
    #[arg(long, value_name = "s3://BUCKET/PREFIX", value_parser = parse_place)]
    pub report: S3Location,
    /// The job's priority among the account's jobs; the higher goes first.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=2_147_483_647))]
    pub priority: u32,
    /// Only objects whose interval ends at this time or later: RFC 3339 or a date. Objects without a time in their key are taken.
    #[arg(long, value_name = "T", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Only objects whose interval ends before this time.
    #[arg(long, value_name = "T", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// The directory to write manifest.csv and job.json to.
    #[arg(long, value_name = "DIR", default_value = "backfill")]
    pub out: PathBuf,
}

/// Run the function's handler once, in this process, on a notification.
#[derive(Debug, Args)]
pub(crate) struct InvokeArgs {
    /// The notification, a JSON file; - reads standard input.
    #[arg(value_name = "EVENT.json")]
    pub event: String,
    /// A directory whose sub-directories are buckets, instead of S3 [OBJECT_STORE=dir:DIR].
    #[arg(long, value_name = "DIR")]
    pub objects: Option<PathBuf>,
    #[command(flatten)]
    pub ship: ShipArgs,
}

/// A stand-in for Logstash's http input: decodes requests as it does and writes one event a line.
#[derive(Debug, Args)]
pub(crate) struct ReceiveArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where to write the events; - is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub out: String,
    /// Demand this user.
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    /// Demand this password.
    #[arg(long, requires = "user")]
    pub password: Option<String>,
}

/// Show how a line is read: its kind, each field, its names and values, and where it stopped.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The line; without it or with -, lines are read from standard input.
    #[arg(allow_hyphen_values = true)]
    pub line: Option<String>,
    /// One JSON object a line instead of a page.
    #[arg(long)]
    pub json: bool,
}

/// Try the configuration against the real Logstash: connection, TLS, credentials, an empty batch, the size limit.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Also send one event, tagged elbship-canary.
    #[arg(long)]
    pub canary: bool,
    /// Where to send: one URL or several separated by commas [LOGSTASH_URL].
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
}

/// What replay and invoke share.
#[derive(Debug, Default, Args)]
pub(crate) struct ShipArgs {
    /// Where to send: one URL or several separated by commas, or - for standard output [LOGSTASH_URL; default: -].
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// The names in the events [EVENT_SCHEMA].
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<String>,
    /// A constant label of every event; may be repeated [LABELS].
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Also send the raw line in event.original [INCLUDE_ORIGINAL].
    #[arg(long)]
    pub include_original: bool,
    /// Batches in flight [SEND_CONCURRENCY].
    #[arg(long, value_name = "N")]
    pub concurrency: Option<String>,
    /// Make the events and send none of them; all count as filtered.
    #[arg(long)]
    pub dry_run: bool,
    /// Write the run's report, one JSON object, to this file; - is standard error.
    #[arg(long, value_name = "FILE")]
    pub report: Option<String>,
}

/// The place that local files are taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TakenAs {
    pub bucket: String,
    /// Without a slash at its end; may be empty.
    pub prefix: String,
}

/// Splits `s3://BUCKET/KEY`; the key may be empty.
pub(crate) fn split_s3(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("s3://")?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, key))
}

fn parse_place(text: &str) -> Result<S3Location, String> {
    let (bucket, key) = split_s3(text).ok_or("write s3://BUCKET/KEY")?;
    Ok(S3Location { bucket: bucket.to_owned(), key: key.to_owned() })
}

fn parse_as(text: &str) -> Result<TakenAs, String> {
    let (bucket, prefix) = split_s3(text).ok_or("write s3://BUCKET or s3://BUCKET/PREFIX")?;
    Ok(TakenAs { bucket: bucket.to_owned(), prefix: prefix.trim_end_matches('/').to_owned() })
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    let date = |date: Date| date.to_zoned(TimeZone::UTC).map(|midnight| midnight.timestamp());
    let time = text.parse::<Timestamp>().or_else(|error| {
        // A time of day without a zone would read as a date, too.
        if text.len() == "2026-03-02".len() { text.parse::<Date>().and_then(date) } else { Err(error) }
    });
    time.map_err(|_| "write a date as 2026-03-02 or a time as 2026-03-02T10:15:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_dates_or_rfc_3339() {
        let read = |text| parse_time(text).map(|time| time.to_string());
        assert_eq!(read("2026-03-02"), Ok("2026-03-02T00:00:00Z".to_owned()));
        assert_eq!(read("2026-03-02T10:15:00Z"), Ok("2026-03-02T10:15:00Z".to_owned()));
        assert_eq!(read("2026-03-02T10:15:00+02:00"), Ok("2026-03-02T08:15:00Z".to_owned()));
        for wrong in ["yesterday", "2026-03-02T10:25:00", "2026-03-02 23:00", "2026-03-02T23"] {
            assert!(read(wrong).is_err(), "{wrong} is neither a date nor RFC 3339");
        }
    }

    #[test]
    fn local_files_are_taken_for_a_bucket_and_a_prefix() {
        let read = |text| parse_as(text).map(|taken| (taken.bucket, taken.prefix));
        assert_eq!(read("s3://logs"), Ok(("logs".to_owned(), String::new())));
        assert_eq!(read("s3://logs/a/b/"), Ok(("logs".to_owned(), "a/b".to_owned())));
        assert!(read("logs/a").is_err());
        assert!(read("s3:///a").is_err());
    }
}
