//! Endpoints: the URLs that batches are sent to, and the URLs that the registry's addresses become.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use elb_common::env::values::{self, UrlError};
use elb_common::redact::redact_url;
use reqwest::Url;

/// A URL that batches are sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    /// The address to connect to, if it is not the one that the URL's host name resolves to.
    address: Option<SocketAddr>,
}

/// Why a text is not an endpoint. No message repeats a part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The text is not a URL.
    #[error("is not a URL ({0}); write http://host:port/ or https://host:port/path")]
    NotAUrl(String),
    /// The scheme is neither http nor https.
    #[error("does not begin with http:// or https://; write http://host:port/ or https://host:port/path")]
    Scheme,
    /// The URL contains a user or a password, or an `@` elsewhere.
    #[error(
        "contains credentials; set LOGSTASH_USER and LOGSTASH_PASSWORD instead, which are never logged, and write an @ in the \
         path or query as %40"
    )]
    Credentials,
}

/// `REGISTRY_ENDPOINT`: the URL for an address of the registry's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTemplate(String);

impl Endpoint {
    /// Parses a URL.
    ///
    /// # Errors
    /// The text is not an http or https URL, or it contains an `@`; see [`values::url`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let url = values::url(text).map_err(|error| match error {
            UrlError::NotAUrl(_) if text.contains('@') => EndpointError::Credentials,
            UrlError::NotAUrl(error) => EndpointError::NotAUrl(error.to_string()),
            UrlError::Credentials => EndpointError::Credentials,
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointError::Scheme);
        }
        Ok(Endpoint { url, address: None })
    }

    /// Returns the URL, with its secrets.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the address to connect to instead of the one that the URL's host name resolves to.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl EndpointTemplate {
    /// Parses a URL with the placeholders `{ip}` and `{port}`. Without `{ip}`, the server's certificate is verified against the
    /// URL's host.
    ///
    /// # Errors
    /// The text lacks `{port}`, or its URL is not an endpoint.
    pub fn parse(text: &str) -> Result<Self, String> {
        let template = EndpointTemplate(text.to_owned());
        if !text.contains("{port}") {
            return Err("lacks the placeholder {port}".to_owned());
        }
        template.endpoint(SocketAddr::from(([10, 0, 0, 1], 1))).map_err(|error| error.to_string())?;
        Ok(template)
    }

    /// Returns the endpoint at an address.
    ///
    /// # Errors
    /// None for a template that was parsed.
    pub(super) fn endpoint(&self, address: SocketAddr) -> Result<Endpoint, EndpointError> {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let endpoint = Endpoint::parse(&self.0.replace("{ip}", &ip).replace("{port}", &address.port().to_string()))?;
        let address = (!self.0.contains("{ip}")).then_some(address);
        Ok(Endpoint { address, ..endpoint })
    }
}

/// The URL without secrets: the query may hold a token.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.url))?;
        match self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_http_urls_shown_without_their_query() {
        let parse = |text: &str| Endpoint::parse(text).map(|endpoint| endpoint.to_string()).map_err(|error| error.to_string());
        assert_eq!(parse("http://127.0.0.1:8080"), Ok("http://127.0.0.1:8080/".to_owned()));
        assert_eq!(parse("https://logs.example/in?token=secret#x"), Ok("https://logs.example/in".to_owned()));
        let error = |text: &str| parse(text).unwrap_err();
        assert!(error("logs.example:8080").starts_with("does not begin with http://"), "{}", error("logs.example:8080"));
        assert!(error("8080").starts_with("is not a URL"), "{}", error("8080"));
        for text in
            ["https://user:secret@logs.example/", "https://user:/secret@logs.example/", "https://user:1#secret@logs.example/"]
        {
            assert!(error(text).starts_with("contains credentials"), "{text}: {}", error(text));
        }
        assert!(!error("https://user:secret@logs.example/").contains("secret"));
        assert!(!format!("{:?}", Endpoint::parse("http://h/?token=secret")).contains("secret"));
    }

    #[test]
    fn a_template_makes_an_endpoint_of_an_address() {
        let endpoint = |template: &str, address: &str| {
            let template = EndpointTemplate::parse(template).unwrap();
            template.endpoint(address.parse().unwrap()).unwrap().to_string()
        };
        assert_eq!(endpoint("http://{ip}:{port}/", "10.0.0.5:8080"), "http://10.0.0.5:8080/");
        assert_eq!(endpoint("http://{ip}:{port}/in", "[fd00::5]:8080"), "http://[fd00::5]:8080/in");
        assert_eq!(
            endpoint("https://logstash.internal:{port}/", "10.0.0.5:8443"),
            "https://logstash.internal:8443/ at 10.0.0.5:8443"
        );
        for wrong in ["http://{ip}/", "ftp://{ip}:{port}/", "{ip}:{port}", "http://user:secret@{ip}:{port}/"] {
            assert!(EndpointTemplate::parse(wrong).is_err(), "{wrong} is accepted as a template");
        }
    }
}
