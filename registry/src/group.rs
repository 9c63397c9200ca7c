//! The configured groups: the operator decides which Auto Scaling group serves which data centre. A request selects one of the
//! configured groups and cannot name any other.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use elb_common::address::is_reserved;
use ipnet::IpNet;
use serde::Deserialize;

/// Default ranges of allowed addresses: RFC 1918 and RFC 4193.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// Maximum length of a data centre's name.
const MAX_DCID_LENGTH: usize = 64;

/// Maximum length of the name of an Auto Scaling group in AWS.
const MAX_GROUP_NAME_LENGTH: usize = 255;

/// The key of a list in look-ups and in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// AWS region, such as `eu-west-1`.
    pub region: String,
    /// Name of a data centre: 1 to 64 letters, digits, dots, dashes and underscores.
    pub dcid: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.region, self.dcid)
    }
}

/// An Auto Scaling group of Logstash servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Key of the list that the group fills.
    pub key: Key,
    /// Name in AWS.
    pub name: String,
    /// Port of the http input on every server.
    pub port: u16,
    /// Allowed ranges of the servers' addresses.
    pub allowed: Vec<IpNet>,
}

impl Group {
    /// Returns whether an address may be in the list. Addresses that cannot belong to a server are refused even if a range contains them.
    pub fn admits(&self, address: IpAddr) -> bool {
        can_be_a_server(address) && self.allowed.iter().any(|range| range.contains(&address))
    }
}

/// All configured groups; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups(Vec<Group>);

impl Groups {
    /// Reads groups from TOML or JSON, or from the file at the path `text`.
    ///
    /// # Errors
    /// Describes the mistake, as the rest of a sentence that begins with the variable.
    pub fn read(text: &str) -> Result<Groups, String> {
        if is_inline(text) {
            return Groups::parse(text);
        }
        let content = std::fs::read_to_string(Path::new(text))
            .map_err(|error| format!("is neither TOML, nor JSON, nor a readable file ({error})"))?;
        Groups::parse(&content)
    }

    /// Returns all groups.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.0.iter()
    }

    /// Returns the group that fills a list.
    pub fn select(&self, region: &str, dcid: &str) -> Option<&Group> {
        self.0.iter().find(|group| group.key.region == region && group.key.dcid == dcid)
    }

    /// Returns the groups with this name in AWS: one Auto Scaling group can serve several data centres.
    pub fn named(&self, region: &str, name: &str) -> Vec<&Group> {
        self.0.iter().filter(|group| group.key.region == region && group.name == name).collect()
    }

    fn parse(text: &str) -> Result<Groups, String> {
        let file: GroupsFile = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| format!("cannot be parsed ({error})"))?
        } else {
            toml::from_str(text).map_err(|error| format!("cannot be parsed ({})", error.message()))?
        };
        let groups: Vec<Group> = file.groups.into_iter().map(Group::try_from).collect::<Result<_, _>>()?;
        let mut keys = HashSet::new();
        if let Some(twice) = groups.iter().find(|group| !keys.insert(&group.key)) {
            return Err(format!("has two groups for the data centre {} in {}", twice.key.dcid, twice.key.region));
        }
        if groups.is_empty() { Err("contains no group".to_owned()) } else { Ok(Groups(groups)) }
    }
}

/// The content of `REGISTRY_GROUPS`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupsFile {
    groups: Vec<GroupEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupEntry {
    region: String,
    dcid: String,
    autoscaling_group: String,
    port: u16,
    allowed_cidrs: Option<Vec<IpNet>>,
}

impl TryFrom<GroupEntry> for Group {
    type Error = String;

    fn try_from(entry: GroupEntry) -> Result<Group, String> {
        let GroupEntry { region, dcid, autoscaling_group: name, port, allowed_cidrs } = entry;
        if !is_region(&region) {
            return Err(format!("has the region {region:?}, which is not an AWS region"));
        }
        if !is_dcid(&dcid) {
            return Err(format!(
                "has the dcid {dcid:?}; 1 to {MAX_DCID_LENGTH} letters, digits, dots, dashes and underscores are allowed"
            ));
        }
        if !is_group_name(&name) {
            return Err(format!("has the autoscaling_group {name:?}, which is not a valid name of an Auto Scaling group"));
        }
        if port == 0 {
            return Err(format!("has the port 0 for the data centre {dcid}"));
        }
        let allowed = allowed_cidrs.unwrap_or_else(|| PRIVATE.iter().filter_map(|range| range.parse().ok()).collect());
        if allowed.is_empty() {
            return Err(format!("has an empty allowed_cidrs for the data centre {dcid}; remove it to allow the private ranges"));
        }
        Ok(Group { key: Key { region, dcid }, name, port, allowed })
    }
}

/// Every TOML or JSON text of groups contains one of these characters; paths rarely do.
fn is_inline(text: &str) -> bool {
    text.trim_start().starts_with('{') || text.contains('=')
}

/// A region becomes part of a host name.
fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let first = parts.next().is_some_and(letters);
    let number =
        parts.next_back().is_some_and(|part| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()));
    let middle: Vec<&str> = parts.collect();
    text.len() <= 32 && first && number && !middle.is_empty() && middle.into_iter().all(letters)
}

/// A data centre's name becomes part of a store's key, a log line and a metric's label.
fn is_dcid(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_DCID_LENGTH).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_group_name(text: &str) -> bool {
    let allowed = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && byte != b':';
    (1..=MAX_GROUP_NAME_LENGTH).contains(&text.len()) && text.bytes().all(allowed)
}

fn can_be_a_server(address: IpAddr) -> bool {
    // An IPv4-mapped address would bypass the ranges.
    let is_mapped = matches!(address, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    !(address.is_loopback() || is_mapped || is_reserved(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
        [[groups]]
        region = "eu-west-1"
        dcid = "eu1"
        autoscaling_group = "logstash eu1"
        port = 8080
        allowed_cidrs = ["10.1.0.0/16", "fd12::/16"]

        [[groups]]
        region = "us-gov-east-1"
        dcid = "gov"
        autoscaling_group = "logstash"
        port = 8443
    "#;

    fn groups(text: &str) -> Groups {
        Groups::read(text).unwrap_or_else(|error| panic!("{text} {error}"))
    }

    #[test]
    fn parses_toml_and_json_alike() {
        let json = r#"{"groups":[
            {"region":"eu-west-1","dcid":"eu1","autoscaling_group":"logstash eu1","port":8080,"allowed_cidrs":["10.1.0.0/16","fd12::/16"]},
            {"region":"us-gov-east-1","dcid":"gov","autoscaling_group":"logstash","port":8443}]}"#;
        assert_eq!(groups(TOML), groups(json));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        assert_eq!(groups(file.path().to_str().unwrap()), groups(TOML));
    }

    #[test]
    fn requests_can_only_select_configured_groups() {
        let groups = groups(TOML);
        assert_eq!(groups.select("eu-west-1", "eu1").map(|group| group.name.as_str()), Some("logstash eu1"));
        for (region, dcid) in
            [("us-gov-east-1", "eu1"), ("eu-west-1", "eu"), ("", ""), ("EU-WEST-1", "eu1"), ("eu-west-1 ", "eu1")]
        {
            assert_eq!(groups.select(region, dcid), None, "{region}:{dcid}");
        }
        assert_eq!(groups.named("us-gov-east-1", "logstash").len(), 1);
        assert!(groups.named("eu-west-1", "logstash").is_empty());
    }

    #[test]
    fn rejects_special_addresses_even_if_a_range_allows_them() {
        let mut group = groups(TOML).0.remove(0);
        let admits = |group: &Group, text: &str| group.admits(text.parse().unwrap());
        assert!(admits(&group, "10.1.2.3") && admits(&group, "fd12::7"));
        assert!(!admits(&group, "10.2.2.3") && !admits(&group, "fd13::7") && !admits(&group, "::ffff:10.1.2.3"));
        group.allowed = ["0.0.0.0/0", "::/0"].map(|range| range.parse().unwrap()).to_vec();
        assert!(admits(&group, "203.0.113.9"));
        for address in [
            "127.0.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ] {
            assert!(!admits(&group, address), "{address}");
        }
    }

    #[test]
    fn allows_private_addresses_by_default() {
        let group = groups(TOML).0.remove(1);
        for (address, expected) in
            [("172.31.0.1", true), ("192.168.1.1", true), ("fd00::1", true), ("8.8.8.8", false), ("2001:db8::1", false)]
        {
            assert_eq!(group.admits(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn errors_name_the_mistake() {
        let entry = |region: &str, dcid: &str, name: &str, port: u32| {
            format!(r#"{{"groups":[{{"region":{region:?},"dcid":{dcid:?},"autoscaling_group":{name:?},"port":{port}}}]}}"#)
        };
        let error = |text: &str| Groups::read(text).unwrap_err();
        for region in [
            "",
            "eu",
            "eu-west",
            "eu-west-1.evil.example",
            "eu-west-1/",
            "EU-WEST-1",
            "eu--1",
            "-west-1",
            "eu-west-123",
            "eu-west-1\n",
        ] {
            assert!(error(&entry(region, "eu1", "a", 1)).contains("is not an AWS region"), "{region:?}");
        }
        for dcid in ["", "a b", "a/b", "a:b", "a\r\nb", "ä", &"a".repeat(65)] {
            assert!(error(&entry("eu-west-1", dcid, "a", 1)).starts_with("has the dcid"), "{dcid:?}");
        }
        for name in ["", "a:b", "a\nb", "é", &"a".repeat(256)] {
            assert!(error(&entry("eu-west-1", "eu1", name, 1)).starts_with("has the autoscaling_group"), "{name:?}");
        }
        assert!(error(&entry("eu-west-1", "eu1", "a", 0)).contains("port 0"));
        assert!(error(&entry("eu-west-1", "eu1", "a", 65_536)).contains("cannot be parsed"));
        assert_eq!(error("groups = []"), "contains no group");
        assert!(error("no/such/file.toml").contains("nor a readable file"));
        assert!(error("groups = [{region = 1}]").contains("cannot be parsed"));
        assert!(error(r#"{"groups":[],"group":[]}"#).contains("unknown field `group`"));
        let twice = format!("{TOML}\n[[groups]]\nregion='eu-west-1'\ndcid='eu1'\nautoscaling_group='b'\nport=1\n");
        assert_eq!(error(&twice), "has two groups for the data centre eu1 in eu-west-1");
    }
}
