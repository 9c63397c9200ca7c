//! The directories of a log object below `AWSLogs/`: a path comes in, its account and the directories below the account go out.
//!
//! | layout | directories |
//! | --- | --- |
//! | plain | `AWSLogs/ACCOUNT/SERVICE/REGION/YYYY/MM/DD/` |
//! | of an organisation | `AWSLogs/o-ORGANISATION/ACCOUNT/SERVICE/…` |
//! | compatible with Hive | `AWSLogs/aws-account-id=ACCOUNT/aws-service=SERVICE/aws-region=REGION/year=YYYY/month=MM/day=DD/` |
//! | below a folder | `AWSLogs/FOLDER/ACCOUNT/SERVICE/…` |
//! | with a prefix that repeats the directory | `AWSLogs/AWSLogs/ACCOUNT/SERVICE/…` |
//!
//! <https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html>

use super::{AWS_LOGS, from_aws_logs, is_account, is_region};

/// The directory of load balancer logs.
pub(super) const SERVICE: &str = "elasticloadbalancing";

/// Maximum number of folders of the bucket's owner between `AWSLogs/` and the account. In deeper directories nothing tells that a
/// number is an account.
const MAX_FOLDERS: usize = 1;

/// What the directories of a path tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout<'a> {
    /// The path ends above the account, or above `AWSLogs/`.
    AboveAccount,
    /// The path has the directory of an account.
    Account(Account<'a>),
    /// None of the known layouts.
    Unknown,
}

/// An account's directory and what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account<'a> {
    pub(super) account: &'a str,
    /// The directory below the account.
    pub(super) service: Option<Service<'a>>,
    /// The directory below the service, if it is a region.
    pub(super) region: Option<&'a str>,
    /// The directories below the one of the region, without the names of Hive's partitions.
    pub(super) dates: Vec<&'a str>,
    /// Whether there is a directory below the service.
    pub(super) has_region_level: bool,
}

/// The directory below an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service<'a> {
    /// Load balancer logs.
    LoadBalancing,
    /// Logs of another service, with its name.
    Other(&'a str),
    /// No name of a service, so that the logs may be of load balancers.
    Unknown,
}

impl<'a> Layout<'a> {
    /// Reads the directories of a path: all of it up to its last slash.
    pub(super) fn of(path: &'a str) -> Self {
        let Some(below) = from_aws_logs(path).and_then(|path| path.strip_prefix(AWS_LOGS)) else { return Layout::AboveAccount };
        let Some((directories, _)) = below.rsplit_once('/') else { return Layout::AboveAccount };
        let mut parts = directories.split('/').map(without_partition);
        let mut folders = 0;
        while let Some(part) = parts.next() {
            if is_account(part) {
                return Layout::Account(Account::new(part, parts));
            }
            if part == AWS_LOGS.trim_end_matches('/') {
                folders = 0;
            } else if !part.starts_with("o-") {
                folders += 1;
            }
            if folders > MAX_FOLDERS {
                return Layout::Unknown;
            }
        }
        Layout::AboveAccount
    }
}

impl<'a> Account<'a> {
    fn new(account: &'a str, mut below: impl Iterator<Item = &'a str>) -> Self {
        let (service, region) = (below.next().map(Service::of), below.next());
        let has_region_level = region.is_some();
        Account { account, service, region: region.filter(|part| is_region(part)), dates: below.collect(), has_region_level }
    }
}

impl<'a> Service<'a> {
    fn of(part: &'a str) -> Self {
        let is_name = part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        match part {
            SERVICE => Service::LoadBalancing,
            _ if is_name && !is_region(part) => Service::Other(part),
            _ => Service::Unknown,
        }
    }
}

/// Returns the value of a directory `name=value`, as Hive names partitions, or the directory itself.
fn without_partition(directory: &str) -> &str {
    directory.split_once('=').map_or(directory, |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows a layout as `account service region dates`, with `-` for a missing part.
    fn show(path: &str) -> String {
        match Layout::of(path) {
            Layout::AboveAccount => "above the account".to_owned(),
            Layout::Unknown => "unknown".to_owned(),
            Layout::Account(Account { account, service, region, dates, .. }) => {
                let service = match service {
                    None => "-",
                    Some(Service::LoadBalancing) => "elb",
                    Some(Service::Other(other)) => other,
                    Some(Service::Unknown) => "?",
                };
                format!("{account} {service} {} {}", region.unwrap_or("-"), dates.join("/"))
            }
        }
    }

    #[test]
    fn reads_every_layout() {
        for path in [
            "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/03/02/x.log.gz",
            "p/q/AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/03/02/",
            "AWSLogs/o-a1b2c3/123456789012/vpcflowlogs/eu-west-1/2026/03/02/x",
            "o-a1b2c3/AWSLogs/o-a1b2c3/123456789012/vpcflowlogs/eu-west-1/2026/03/02/x",
            "AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2026/month=03/day=02/x",
            "AWSLogs/team/123456789012/vpcflowlogs/eu-west-1/2026/03/02/x",
            "AWSLogs/AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/03/02/x",
            "AWSLogs/team/AWSLogs/o-a1b2c3/123456789012/vpcflowlogs/eu-west-1/2026/03/02/x",
        ] {
            assert_eq!(show(path), "123456789012 vpcflowlogs eu-west-1 2026/03/02", "{path}");
            assert_eq!(
                show(&path.replace("vpcflowlogs", "elasticloadbalancing")),
                "123456789012 elb eu-west-1 2026/03/02",
                "{path}"
            );
        }
    }

    #[test]
    fn other_directories_are_unknown_or_above_the_account() {
        for path in ["", "x.log", "team/", "AWSLogs/", "AWSLogs/o-a1/", "AWSLogs/team/", "AWSLogs/123456789012", "AWSLogs/x.log"]
        {
            assert_eq!(show(path), "above the account", "{path}");
        }
        for path in ["AWSLogs/a/b/", "AWSLogs/a/b/123456789012/vpcflowlogs/x", "AWSLogs/a/AWSLogs/b/c/x"] {
            assert_eq!(show(path), "unknown", "{path}");
        }
        for (path, expected) in [
            ("AWSLogs/123456789012/x", "123456789012 - - "),
            ("AWSLogs/123456789012/2026/03/x", "123456789012 ? - "),
            ("AWSLogs/123456789012/eu-west-1/2026/x", "123456789012 ? - "),
            ("AWSLogs/123456789012/network-firewall/alert/eu-west-1/x", "123456789012 network-firewall - eu-west-1"),
            ("AWSLogs/123456789012/my logs/x", "123456789012 ? - "),
        ] {
            assert_eq!(show(path), expected, "{path}");
        }
    }
}
