//! Reads the endpoint registry's list of Logstash servers, and rejects what cannot be trusted.

use std::net::SocketAddr;

use elb_common::address::is_reserved;
use elb_common::redact::redact_url;
use ipnet::IpNet;
use reqwest::Url;

use super::endpoint::{Endpoint, EndpointError, EndpointTemplate};

/// Maximum number of entries in a list. No autoscaling group of Logstash servers is larger.
const MAX_ENTRIES: usize = 1_000;

/// How to get endpoints from a registry.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// `REGISTRY_URL`
    pub url: Url,
    /// `REGISTRY_ENDPOINT`
    pub template: EndpointTemplate,
    /// `REGISTRY_ALLOWED_CIDRS`
    pub allowed: Vec<IpNet>,
}

/// A valid list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EndpointList {
    /// At least one endpoint.
    pub endpoints: Vec<Endpoint>,
    /// Entries outside the allowed ranges, and reserved addresses.
    pub refused: Vec<String>,
}

/// Why a registry's response is not a valid list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DiscoveryError {
    #[error("the response is not a JSON array of strings ({0})")]
    Json(String),
    #[error("the list has {0} entries, more than {MAX_ENTRIES}")]
    TooLong(usize),
    #[error("the entry {0:?} is not ip:port")]
    Address(String),
    #[error("the URL of the entry {entry:?} {error}")]
    Endpoint { entry: String, error: EndpointError },
    #[error("the list is empty")]
    Empty,
    #[error("all entries are outside REGISTRY_ALLOWED_CIDRS, or reserved addresses: {}", .0.join(", "))]
    NoneAllowed(Vec<String>),
}

impl Discovery {
    /// Reads a registry's response: a JSON array of `ip:port` strings, with an IPv6 address in brackets.
    ///
    /// # Errors
    /// An invalid response, or a list without any allowed entry. It must not replace a valid list.
    pub(super) fn read(&self, response: &[u8]) -> Result<EndpointList, DiscoveryError> {
        let entries: Vec<String> = serde_json::from_slice(response).map_err(|error| DiscoveryError::Json(error.to_string()))?;
        if entries.len() > MAX_ENTRIES {
            return Err(DiscoveryError::TooLong(entries.len()));
        }
        let mut list = EndpointList { endpoints: Vec::new(), refused: Vec::new() };
        for entry in entries {
            let Ok(address) = entry.parse::<SocketAddr>() else { return Err(DiscoveryError::Address(entry)) };
            if !self.allows(address) {
                list.refused.push(entry);
                continue;
            }
            let endpoint = self.template.endpoint(address).map_err(|error| DiscoveryError::Endpoint { entry, error })?;
            if !list.endpoints.contains(&endpoint) {
                list.endpoints.push(endpoint);
            }
        }
        match list.endpoints.is_empty() {
            true if list.refused.is_empty() => Err(DiscoveryError::Empty),
            true => Err(DiscoveryError::NoneAllowed(list.refused)),
            false => Ok(list),
        }
    }

    /// Returns the registry's URL without secrets.
    pub fn redacted_url(&self) -> String {
        redact_url(&self.url)
    }

    fn allows(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let in_range = |range: &&IpNet| range.contains(&ip);
        // A range as wide as 0.0.0.0/0 does not allow loopback.
        let allows_loopback = |range: &IpNet| !ip.is_loopback() || range.network().is_loopback();
        let mut ranges = self.allowed.iter().filter(in_range);
        address.port() != 0 && !is_reserved(address.ip()) && ranges.any(allows_loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(allowed: &[&str], response: &str) -> Result<(Vec<String>, Vec<String>), DiscoveryError> {
        let discovery = Discovery {
            url: Url::parse("http://registry.internal/logstash-ip?dcid=x").unwrap(),
            template: EndpointTemplate::parse("http://{ip}:{port}/").unwrap(),
            allowed: allowed.iter().map(|range| range.parse().unwrap()).collect(),
        };
        let list = discovery.read(response.as_bytes())?;
        Ok((list.endpoints.iter().map(ToString::to_string).collect(), list.refused))
    }

    #[test]
    fn reads_ipv4_and_ipv6_endpoints_once_each() {
        let (endpoints, refused) =
            read(&["10.0.0.0/8", "fc00::/7"], r#"["10.0.0.5:8080","[fd00::1]:8080","10.0.0.5:8080"]"#).unwrap();
        assert_eq!(endpoints, ["http://10.0.0.5:8080/", "http://[fd00::1]:8080/"]);
        assert!(refused.is_empty());
    }

    #[test]
    fn refuses_entries_outside_the_allowed_ranges() {
        let outside =
            r#"["10.0.0.5:8080","203.0.113.9:8080","127.0.0.1:8080","[::ffff:127.0.0.1]:80","169.254.169.254:80","10.0.0.6:0"]"#;
        let (endpoints, refused) = read(&["10.0.0.0/8"], outside).unwrap();
        assert_eq!((endpoints.len(), refused.len()), (1, 5));
        let error =
            read(&["0.0.0.0/0", "::/0"], r#"["127.0.0.1:80","[::1]:80","0.0.0.0:80","224.0.0.1:80"]"#).unwrap_err().to_string();
        assert!(
            error.starts_with("all entries are outside REGISTRY_ALLOWED_CIDRS, or reserved addresses: 127.0.0.1:80, "),
            "{error}"
        );
        assert!(read(&["127.0.0.0/8"], r#"["127.0.0.1:80"]"#).is_ok(), "a loopback range allows loopback");
    }

    #[test]
    fn refuses_metadata_addresses_whatever_is_allowed() {
        for entry in [
            "169.254.169.254:80",
            "169.254.170.2:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:a9fe:a9fe::]:80",
            "[fd00:ec2::254]:80",
            "[fe80::1]:80",
            "[fe80::1%1]:80",
        ] {
            for allowed in [&["0.0.0.0/0", "::/0"][..], &["169.254.0.0/16", "fd00:ec2::/32", "fe80::/10"], &["fc00::/7"]] {
                let result = read(allowed, &format!("[{entry:?}]"));
                assert!(matches!(&result, Err(DiscoveryError::NoneAllowed(_))), "{entry} is accepted: {result:?}");
            }
        }
    }

    #[test]
    fn refuses_invalid_lists() {
        for wrong in ["", "[]", "{}", "null", "[1]", r#"["10.0.0.5"]"#, r#"["10.0.0.5:8080","logstash:8080"]"#, "<html>"] {
            assert!(read(&["10.0.0.0/8"], wrong).is_err(), "{wrong} is accepted as a list");
        }
        let too_long = serde_json::to_string(&vec!["10.0.0.5:8080"; 1_001]).unwrap();
        assert_eq!(read(&["10.0.0.0/8"], &too_long), Err(DiscoveryError::TooLong(1_001)));
    }
}
