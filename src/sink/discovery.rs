//! The registry's list of Logstash servers: what of it can be believed.

use std::net::SocketAddr;
use std::time::Duration;

use elb_common::redact::redact_url;
use ipnet::IpNet;
use reqwest::Url;

use super::endpoint::{Endpoint, EndpointTemplate};

/// A list is asked for again once it is this old.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(30);

/// While an endpoint is down it may be gone from the list, so the next one comes sooner.
pub(super) const REFRESH_WHEN_DOWN: Duration = Duration::from_secs(5);

/// No autoscaling group of Logstash servers is larger.
const MOST_ENTRIES: usize = 1_000;

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

/// A list that can be used.
#[derive(Debug, PartialEq, Eq)]
pub struct EndpointList {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Entries outside of the allowed ranges.
    pub refused: Vec<String>,
}

impl Discovery {
    /// Reads a registry's answer: a JSON array of `ip:port`, with the address in brackets if it is one of IPv6.
    ///
    /// # Errors
    /// Anything else, and a list of which nothing can be used. It is not to replace one that can.
    pub fn read(&self, answer: &[u8]) -> Result<EndpointList, String> {
        let entries: Vec<String> = serde_json::from_slice(answer).map_err(|error| format!("it is no list of texts ({error})"))?;
        if entries.len() > MOST_ENTRIES {
            return Err(format!("it has {} entries, more than {MOST_ENTRIES}", entries.len()));
        }
        let mut list = EndpointList { endpoints: Vec::new(), refused: Vec::new() };
        for entry in entries {
            let address: SocketAddr = entry.parse().map_err(|_| format!("its entry {entry:?} is no ip:port"))?;
            if !self.allows(address) {
                list.refused.push(entry);
                continue;
            }
            let endpoint = self.template.endpoint(address).map_err(|error| format!("its entry {entry:?} {error}"))?;
            if !list.endpoints.contains(&endpoint) {
                list.endpoints.push(endpoint);
            }
        }
        match list.endpoints.is_empty() {
            true if list.refused.is_empty() => Err("it is empty".to_owned()),
            true => Err(format!("all its entries are outside of REGISTRY_ALLOWED_CIDRS: {}", list.refused.join(", "))),
            false => Ok(list),
        }
    }

    /// The URL without what may be secret in it.
    pub fn shown(&self) -> String {
        redact_url(&self.url)
    }

    fn allows(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let in_range = |range: &&IpNet| range.contains(&ip);
        // A range as wide as 0.0.0.0/0 does not name loopback.
        let named = |range: &IpNet| !ip.is_loopback() || range.network().is_loopback();
        address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && self.allowed.iter().filter(in_range).any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(allowed: &[&str], answer: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let registry = Discovery {
            url: Url::parse("http://registry.internal/logstash-ip?dcid=x").unwrap(),
            template: EndpointTemplate::parse("http://{ip}:{port}/").unwrap(),
            allowed: allowed.iter().map(|range| range.parse().unwrap()).collect(),
        };
        let list = registry.read(answer.as_bytes())?;
        Ok((list.endpoints.iter().map(ToString::to_string).collect(), list.refused))
    }

    #[test]
    fn a_list_becomes_endpoints() {
        let (endpoints, refused) =
            read(&["10.0.0.0/8", "fc00::/7"], r#"["10.0.0.5:8080","[fd00::1]:8080","10.0.0.5:8080"]"#).unwrap();
        assert_eq!(endpoints, ["http://10.0.0.5:8080/", "http://[fd00::1]:8080/"]);
        assert!(refused.is_empty());
    }

    #[test]
    fn entries_outside_of_the_allowed_ranges_are_refused() {
        let outside =
            r#"["10.0.0.5:8080","203.0.113.9:8080","127.0.0.1:8080","[::ffff:127.0.0.1]:80","169.254.169.254:80","10.0.0.6:0"]"#;
        let (endpoints, refused) = read(&["10.0.0.0/8"], outside).unwrap();
        assert_eq!((endpoints.len(), refused.len()), (1, 5));
        let error = read(&["0.0.0.0/0", "::/0"], r#"["127.0.0.1:80","[::1]:80","0.0.0.0:80","224.0.0.1:80"]"#).unwrap_err();
        assert!(error.starts_with("all its entries are outside of REGISTRY_ALLOWED_CIDRS: 127.0.0.1:80, "), "{error}");
        assert!(read(&["127.0.0.0/8"], r#"["127.0.0.1:80"]"#).is_ok(), "loopback is accepted where a range names it");
    }

    #[test]
    fn what_is_no_list_is_not_believed() {
        for wrong in ["", "[]", "{}", "null", "[1]", r#"["10.0.0.5"]"#, r#"["10.0.0.5:8080","logstash:8080"]"#, "<html>"] {
            assert!(read(&["10.0.0.0/8"], wrong).is_err(), "{wrong} is taken for a list");
        }
        let endless = serde_json::to_string(&vec!["10.0.0.5:8080"; 1_001]).unwrap();
        assert!(read(&["10.0.0.0/8"], &endless).is_err());
    }
}
