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
//! assert_eq!(facts.load_balancer.as_deref(), Some("app/web/1"));
//! assert_eq!(facts.end_time.as_deref(), Some("2026-03-02T10:20:00Z"));
//!
//! let since = Some("2026-03-02T10:00:00Z".parse()?);
//! assert!(TimeRange { since, until: None }.includes(key));
//! # Ok::<(), jiff::Error>(())
//! ```

mod date_prefixes;
mod layout;

use std::net::IpAddr;

pub use self::date_prefixes::{DirectoryMatch, TimeRange};
use self::layout::{Layout, SERVICE, Service};

/// The directory to which AWS services deliver logs.
const AWS_LOGS: &str = "AWSLogs/";

/// Names of the objects that AWS writes to test its permissions when logging is enabled.
const TEST_OBJECTS: [&str; 3] = ["ELBAccessLogTestFile", "ELBConnectionLogTestFile", "ELBHealthCheckLogTestFile"];

/// The parts of a key that describe the load balancer and the time. A part is none if the key does not have the documented form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// The load balancer's AWS account.
    pub account: Option<String>,
    /// The load balancer's region.
    pub region: Option<String>,
    /// The load balancer's ID, such as `app/web/50dc6c495c0c9188`, or its name if it is a Classic Load Balancer.
    pub load_balancer: Option<String>,
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
        let (account, region) = match Layout::of(key) {
            Layout::Account(found) => (Some(found.account).filter(|_| found.service.is_some()), found.region),
            Layout::AboveAccount | Layout::Unknown => (None, None),
        };
        let file = FileName::of(key);
        KeyFacts {
            account: account.or(file.account).map(str::to_owned),
            region: region.or(file.region).map(str::to_owned),
            load_balancer: file.load_balancer,
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
    match Layout::of(key) {
        Layout::Account(found) => match found.service? {
            Service::Other(name) => Some(NotALogObject::OtherService(name.to_owned())),
            Service::LoadBalancing | Service::Unknown => None,
        },
        Layout::AboveAccount | Layout::Unknown => None,
    }
}

/// Returns the part of `path` that starts with `AWSLogs/`.
pub fn from_aws_logs(path: &str) -> Option<&str> {
    let at = path.match_indices(AWS_LOGS).map(|(at, _)| at).find(|&at| at == 0 || path.as_bytes()[at - 1] == b'/')?;
    Some(&path[at..])
}

/// The parts of a file name.
#[derive(Default)]
struct FileName<'a> {
    account: Option<&'a str>,
    region: Option<&'a str>,
    load_balancer: Option<String>,
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
            load_balancer: end.and_then(|end| load_balancer(parts.get(service + 2..end)?)),
            node_ip: end.and_then(|end| parts.get(end + 1)).and_then(|part| node_ip(part)),
            end_time: end.and_then(|end| end_time(parts[end])),
        }
    }
}

fn is_account(part: &str) -> bool {
    part.len() == 12 && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether a text has the form of a region, such as `eu-west-1` and `us-gov-east-1`.
fn is_region(part: &str) -> bool {
    let Some((area, number)) = part.rsplit_once('-') else { return false };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && area.contains('-') && area.split('-').all(is_word)
}

/// Returns the ID of a load balancer from its part of a file name, in which AWS replaces each slash by a dot.
fn load_balancer(parts: &[&str]) -> Option<String> {
    Some(parts.join("_").replace('.', "/")).filter(|id| !id.is_empty())
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
        let KeyFacts { account, region, node_ip, end_time, .. } = KeyFacts::from_key(key);
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
    fn reads_the_load_balancer() {
        let id = |key: &str| KeyFacts::from_key(key).load_balancer;
        assert_eq!(id(ALB).as_deref(), Some("app/web/50dc6c495c0c9188"));
        assert_eq!(
            id(&format!("AWSLogs/conn_log_{}", ALB.rsplit('/').next().unwrap())).as_deref(),
            Some("app/web/50dc6c495c0c9188")
        );
        assert_eq!(id(&ALB.replace("app.web.50dc6c495c0c9188", "my-classic")).as_deref(), Some("my-classic"));
        assert_eq!(id("123456789012_elasticloadbalancing_eu-west-1_20260302T1020Z_x.log"), None);
        assert_eq!(id("123456789012_elasticloadbalancing_20260302T1020Z_x.log"), None);
        assert_eq!(id("renamed.log"), None);
    }

    #[test]
    fn reads_a_region_only_in_its_form() {
        for region in ["eu-west-1", "us-gov-east-1", "us-isob-east-1", "eusc-de-east-1", "ap-southeast-10"] {
            assert!(is_region(region), "{region}");
        }
        for other in ["", "-", "1", "eu-1", "network-firewall", "2026-03-02", "eu-west-", "EU-WEST-1", "-west-1"] {
            assert!(!is_region(other), "{other}");
        }
    }

    #[test]
    fn skips_other_services_in_every_layout() {
        let skipped = |key: &str| skip_reason(key).map(|skip| skip.to_string()).unwrap_or_default();
        for layout in [
            "AWSLogs/123456789012/NAME/eu-west-1/2026/03/02/x.log.gz",
            "AWSLogs/o-a1b2/123456789012/NAME/eu-west-1/2026/03/02/x.log.gz",
            "AWSLogs/aws-account-id=123456789012/aws-service=NAME/aws-region=eu-west-1/year=2026/month=03/day=02/x.log.gz",
            "AWSLogs/team/123456789012/NAME/eu-west-1/2026/03/02/x.log.gz",
            "AWSLogs/AWSLogs/123456789012/NAME/eu-west-1/2026/03/02/x.log.gz",
        ] {
            for name in ["vpcflowlogs", "CloudTrail", "CloudTrail-Digest", "Config", "WAFLogs", "network-firewall"] {
                assert_eq!(skipped(&layout.replace("NAME", name)), format!("logs of another service: {name}"), "{layout}");
            }
            assert_eq!(skipped(&layout.replace("NAME", SERVICE)), "", "{layout}");
        }
    }

    #[test]
    fn reads_unknown_layouts() {
        for key in [
            "AWSLogs/team/x.log",
            "AWSLogs/team/2026/03/02/x.log",
            "AWSLogs/123456789012/2026/03/02/x.log",
            "AWSLogs/123456789012/eu-west-1/x.log",
            "AWSLogs/a/b/123456789012/vpcflowlogs/x.log",
            "logs/123456789012/vpcflowlogs/x.log",
        ] {
            assert_eq!(skip_reason(key), None, "{key}");
        }
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
