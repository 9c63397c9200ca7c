//! Reads the keys of log objects: `[prefix/]AWSLogs/[organisation/]account/elasticloadbalancing/region/yyyy/mm/dd/file`.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html>
//!
//! ```
//! use elb_log::key::{KeyFacts, TimeRange};
//!
//! let key = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/\
//!            123456789012_elasticloadbalancing_eu-west-1_app.web.1_20260302T1020Z_203.0.113.7_x.log.gz";
//! let facts = KeyFacts::from_key(key);
//! assert_eq!(facts.region.as_deref(), Some("eu-west-1"));
//! assert_eq!(facts.end_time.as_deref(), Some("2026-03-02T10:20:00Z"));
//!
//! let since = Some("2026-03-02T10:00:00Z".parse()?);
//! assert!(TimeRange { since, until: None }.includes(key));
//! # Ok::<(), jiff::Error>(())
//! ```

mod date_prefixes;

use std::net::IpAddr;

pub use self::date_prefixes::{DirectoryMatch, TimeRange};

/// The directory to which AWS services deliver logs.
const AWS_LOGS: &str = "AWSLogs/";

/// The directory of load balancer logs.
const SERVICE: &str = "elasticloadbalancing";

/// Names of the objects that AWS writes to test its permissions when logging is enabled.
const TEST_OBJECTS: [&str; 3] = ["ELBAccessLogTestFile", "ELBConnectionLogTestFile", "ELBHealthCheckLogTestFile"];

/// The parts of a key that describe the load balancer and the time. A part is none if the key does not have the documented form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// The load balancer's AWS account.
    pub account: Option<String>,
    /// The load balancer's region.
    pub region: Option<String>,
    /// The IP address of the load balancer node that wrote the object. Keys of Network Load Balancers do not have it.
    pub node_ip: Option<IpAddr>,
    /// The end of the time interval that the object covers, in RFC 3339 format.
    pub end_time: Option<String>,
}

/// Why a key does not name a load balancer log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotALogObject {
    /// A key that ends in `/`, which S3 consoles create for folders.
    #[error("a folder marker")]
    Folder,
    /// A test object of AWS.
    #[error("the test object that AWS writes when logging is switched on")]
    TestObject,
    /// A log of another AWS service. Holds the name of its directory.
    #[error("logs of another service: {0}")]
    OtherService(String),
}

impl KeyFacts {
    /// Reads a key, or the path of a downloaded file that kept its directories or its name.
    pub fn from_key(key: &str) -> KeyFacts {
        let directories = Directories::of(key);
        let file = FileName::of(key);
        KeyFacts {
            account: directories.as_ref().map(|found| found.account).or(file.account).map(str::to_owned),
            region: directories.and_then(|found| found.region).or(file.region).map(str::to_owned),
            node_ip: file.node_ip,
            end_time: file.end_time,
        }
    }
}

/// Returns why an object does not hold load balancer logs; none if it may hold them.
pub fn skip_reason(key: &str) -> Option<NotALogObject> {
    let name = key.rsplit('/').next().unwrap_or(key);
    if name.is_empty() {
        return Some(NotALogObject::Folder);
    }
    if TEST_OBJECTS.contains(&name) {
        return Some(NotALogObject::TestObject);
    }
    match Directories::of(key)?.service {
        SERVICE => None,
        other => Some(NotALogObject::OtherService(other.to_owned())),
    }
}

/// Returns the part of `path` that starts with `AWSLogs/`.
pub fn from_aws_logs(path: &str) -> Option<&str> {
    let at = path.match_indices(AWS_LOGS).map(|(at, _)| at).find(|&at| at == 0 || path.as_bytes()[at - 1] == b'/')?;
    Some(&path[at..])
}

/// The directories of a key.
struct Directories<'a> {
    account: &'a str,
    service: &'a str,
    region: Option<&'a str>,
}

impl<'a> Directories<'a> {
    fn of(key: &'a str) -> Option<Self> {
        let mut parts = from_aws_logs(key)?.strip_prefix(AWS_LOGS)?.split('/').peekable();
        parts.next_if(|part| part.starts_with("o-"));
        let account = parts.next().filter(|part| is_account(part))?;
        let service = parts.next()?;
        // The last part is the file name, so the service must be followed by another part.
        parts.peek()?;
        Some(Directories { account, service, region: parts.next().filter(|part| is_region(part)) })
    }
}

/// The parts of a file name.
#[derive(Default)]
struct FileName<'a> {
    account: Option<&'a str>,
    region: Option<&'a str>,
    node_ip: Option<IpAddr>,
    end_time: Option<String>,
}

impl<'a> FileName<'a> {
    /// Reads `[conn_log_|health_check_log_]account_elasticloadbalancing_region_name_end[_ip]_random.log[.gz]`
    fn of(key: &'a str) -> Self {
        let name = key.rsplit('/').next().unwrap_or(key);
        let parts: Vec<&str> = name.split('_').collect();
        let Some(service) = parts.iter().position(|part| *part == SERVICE).filter(|&at| at > 0) else {
            return FileName::default();
        };
        // Some names have `conn_log.` instead of `conn_log_`, so a dot may precede the account.
        let account = parts[service - 1].rsplit('.').next().filter(|part| is_account(part));
        let region = parts.get(service + 1).copied().filter(|part| is_region(part));
        let end = parts.iter().position(|part| end_time(part).is_some());
        FileName {
            account,
            region,
            node_ip: end.and_then(|end| parts.get(end + 1)).and_then(|part| node_ip(part)),
            end_time: end.and_then(|end| end_time(parts[end])),
        }
    }
}

fn is_account(part: &str) -> bool {
    part.len() == 12 && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_region(part: &str) -> bool {
    part.contains('-') && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Converts `20140215T2340Z` to `2014-02-15T23:40:00Z`.
fn end_time(part: &str) -> Option<String> {
    let digits = part.strip_suffix('Z')?;
    let (date, time) = digits.split_once('T')?;
    let is_number = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(date, 8) || !is_number(time, 4) {
        return None;
    }
    let text = format!("{}-{}-{}T{}:{}:00Z", &date[..4], &date[4..6], &date[6..], &time[..2], &time[2..]);
    crate::format::is_time(text.as_bytes()).then_some(text)
}

/// Reads the address of a node. AWS documents zero-padded numbers, which `IpAddr::from_str` rejects.
fn node_ip(part: &str) -> Option<IpAddr> {
    if part.contains(':') {
        return part.parse().ok();
    }
    let unpadded: Vec<&str> = part
        .split('.')
        .map(|number| match number.trim_start_matches('0') {
            "" => "0",
            digits => digits,
        })
        .collect();
    unpadded.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALB: &str = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/123456789012_elasticloadbalancing_eu-west-1_app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_3x8q0pzt.log.gz";

    /// Compares the facts as `account region node end`, with `-` for a missing part.
    #[track_caller]
    fn check(key: &str, expected: &str) {
        let KeyFacts { account, region, node_ip, end_time } = KeyFacts::from_key(key);
        let shown = [account, region, node_ip.map(|ip| ip.to_string()), end_time].map(|fact| fact.unwrap_or("-".to_owned()));
        assert_eq!(shown.join(" "), expected, "facts of {key}");
    }

    #[test]
    fn reads_an_application_load_balancer_key() {
        check(ALB, "123456789012 eu-west-1 203.0.113.7 2026-03-02T10:20:00Z");
    }

    #[test]
    fn reads_a_key_with_prefix_and_organisation() {
        check(&format!("a/b/{ALB}"), "123456789012 eu-west-1 203.0.113.7 2026-03-02T10:20:00Z");
        let organisation = ALB.replace("AWSLogs/", "AWSLogs/o-a1b2c3d4e5/");
        check(&organisation, "123456789012 eu-west-1 203.0.113.7 2026-03-02T10:20:00Z");
    }

    #[test]
    fn reads_a_file_name_without_directories() {
        let name = ALB.rsplit('/').next().unwrap();
        check(name, "123456789012 eu-west-1 203.0.113.7 2026-03-02T10:20:00Z");
    }

    #[test]
    fn removes_zero_padding_from_the_node_address() {
        check(&ALB.replace("203.0.113.7", "172.160.001.000"), "123456789012 eu-west-1 172.160.1.0 2026-03-02T10:20:00Z");
    }

    #[test]
    fn reads_connection_and_health_check_log_names() {
        for prefix in ["conn_log_", "conn_log.", "health_check_log_", "health_check_log."] {
            let name = format!("{prefix}{}", ALB.rsplit('/').next().unwrap());
            check(&name, "123456789012 eu-west-1 203.0.113.7 2026-03-02T10:20:00Z");
        }
    }

    #[test]
    fn reads_a_network_load_balancer_key_without_node() {
        check(
            "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/123456789012_elasticloadbalancing_eu-west-1_net.edge.0123456789abcdef_20260302T1020Z_1a2b3c4d.log.gz",
            "123456789012 eu-west-1 - 2026-03-02T10:20:00Z",
        );
    }

    #[test]
    fn returns_no_facts_for_other_names() {
        check("", "- - - -");
        check("access.log", "- - - -");
        check("xAWSLogs/123456789012/elasticloadbalancing/eu-west-1/x.log", "- - - -");
        check(&ALB.replace("20260302T1020Z", "20261302T1020Z"), "123456789012 eu-west-1 - -");
    }

    #[test]
    fn skips_folders_test_objects_and_other_services() {
        let reason = |key: &str| skip_reason(key).map(|skip| skip.to_string()).unwrap_or_default();
        assert_eq!(reason("AWSLogs/"), "a folder marker");
        assert_eq!(reason(""), "a folder marker");
        for name in TEST_OBJECTS {
            assert!(reason(&format!("p/AWSLogs/123456789012/{name}")).starts_with("the test object"), "{name} was not skipped");
        }
        assert_eq!(reason("AWSLogs/123456789012/vpcflowlogs/eu-west-1/x.log.gz"), "logs of another service: vpcflowlogs");
        assert_eq!(reason("AWSLogs/o-a1/123456789012/CloudTrail/x.json.gz"), "logs of another service: CloudTrail");
        assert_eq!(reason(ALB), "");
        assert_eq!(reason("AWSLogs/123456789012/renamed.log"), "");
        assert_eq!(reason("any/other/name.txt"), "");
    }
}
