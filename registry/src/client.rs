//! The command-line client: shows a list, its age and its source.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{AGE, ETAG, HeaderMap, IF_NONE_MATCH, WARNING};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use crate::routes::{GENERATION_HEADER, SOURCE_HEADER};

/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum length of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// A list, as a registry returned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListView {
    /// Endpoints, sorted.
    pub endpoints: BTreeSet<SocketAddr>,
    /// Description of the list for a person, from the response's headers.
    pub about: String,
    /// Why the list may be outdated.
    pub warning: Option<String>,
    /// ETag for the next request.
    pub etag: Option<String>,
}

/// The response to an update.
#[derive(Debug, Deserialize)]
pub struct Updated {
    /// Endpoints, sorted.
    pub endpoints: BTreeSet<SocketAddr>,
    /// Generation of the list.
    pub generation: u64,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not the URL of a look-up.
    #[error("{0}")]
    Url(String),
    /// The registry does not respond.
    #[error("cannot reach the registry: {0}")]
    Unreachable(String),
    /// The registry returned an error.
    #[error("the registry returned {status}{}", .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Error in the body.
        reason: Option<String>,
    },
    /// The response is not a list.
    #[error("cannot parse the response as a list: {0}; check that the path of --url is /logstash-ip")]
    InvalidList(String),
}

/// The result of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// A new list.
    New(ListView),
    /// The list has not changed since the last look-up.
    Unchanged {
        /// Why the list may be outdated.
        warning: Option<String>,
    },
}

/// Looks up a list. `etag` is the ETag of the last look-up.
///
/// # Errors
/// See [`ClientError`].
pub async fn get(client: &Client, url: &Url, etag: Option<&str>) -> Result<Fetched, ClientError> {
    let mut request = client.get(url.clone()).timeout(TIMEOUT);
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let response = request.send().await.map_err(unreachable)?;
    if response.status() == StatusCode::NOT_MODIFIED {
        return Ok(Fetched::Unchanged { warning: shown(response.headers(), WARNING.as_str()) });
    }
    let headers = response.headers().clone();
    let body = body_of(response).await?;
    let endpoints = serde_json::from_slice(&body).map_err(|error| ClientError::InvalidList(error.to_string()))?;
    let etag = headers.get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let warning = shown(&headers, WARNING.as_str());
    Ok(Fetched::New(ListView { endpoints, about: about(&headers), warning, etag }))
}

/// Requests an update of a list. `lookup` is the URL of its look-up.
///
/// # Errors
/// See [`ClientError`]; the registry keeps the old list.
pub async fn update(client: &Client, lookup: &Url, as_name: &str, token: Option<&SecretString>) -> Result<Updated, ClientError> {
    let mut request = client.post(update_url(lookup, as_name)?).timeout(TIMEOUT);
    if let Some(token) = token {
        request = request.bearer_auth(token.expose_secret());
    }
    let response = request.send().await.map_err(unreachable)?;
    let body = body_of(response).await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::InvalidList(error.to_string()))
}

/// Returns the URL of the update route that belongs to a look-up.
///
/// # Errors
/// The URL is not the URL of a look-up.
fn update_url(lookup: &Url, as_name: &str) -> Result<Url, ClientError> {
    let Some(prefix) = lookup.path().strip_suffix("/logstash-ip") else {
        return Err(ClientError::Url(format!("the path of --url is {} instead of /logstash-ip", lookup.path())));
    };
    let mut url = lookup.clone();
    url.set_path(&format!("{prefix}/update-ip-list"));
    url.query_pairs_mut().append_pair("as_name", as_name);
    Ok(url)
}

/// Returns the changes between two lists: `-` for each removed endpoint, `+` for each new one.
pub fn changes(old: &BTreeSet<SocketAddr>, new: &BTreeSet<SocketAddr>) -> Vec<String> {
    let left = old.difference(new).map(|endpoint| format!("- {endpoint}"));
    let came = new.difference(old).map(|endpoint| format!("+ {endpoint}"));
    left.chain(came).collect()
}

/// Returns a header without control characters: the peer may be any program, and the header is printed on a terminal.
fn shown(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.chars().filter(|letter| !letter.is_control()).take(200).collect())
}

fn about(headers: &HeaderMap) -> String {
    let mut parts = Vec::new();
    if let Some(generation) = shown(headers, GENERATION_HEADER) {
        parts.push(format!("generation {generation}"));
    }
    if let Some(source) = shown(headers, SOURCE_HEADER) {
        parts.push(format!("made by {source}"));
    }
    if let Some(age) = shown(headers, AGE.as_str()) {
        parts.push(format!("{age} s old"));
    }
    if let Some(warning) = shown(headers, WARNING.as_str()) {
        parts.push(format!("warning: {warning}"));
    }
    parts.join(", ")
}

async fn body_of(mut response: Response) -> Result<Vec<u8>, ClientError> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(ClientError::InvalidList(format!("longer than {MAX_RESPONSE_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body);
    }
    let reason = serde_json::from_slice::<Reason>(&body).ok().map(|reason| reason.error);
    Err(ClientError::Refused { status, reason })
}

#[derive(Deserialize)]
struct Reason {
    error: String,
}

fn unreachable(error: reqwest::Error) -> ClientError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    ClientError::Unreachable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_the_update_url_from_the_lookup_url() {
        let url = |text: &str| update_url(&text.parse().unwrap(), "logstash eu1").map(|url| url.to_string());
        let expected = "http://h:1/a/update-ip-list?dcid=eu1&region=eu-west-1&as_name=logstash+eu1";
        assert_eq!(url("http://h:1/a/logstash-ip?dcid=eu1&region=eu-west-1").unwrap(), expected);
        assert!(url("http://h:1/").is_err());
    }

    #[test]
    fn lists_changes_one_by_one() {
        let set = |text: &str| text.split(' ').map(|endpoint| endpoint.parse().unwrap()).collect::<BTreeSet<SocketAddr>>();
        let lines = changes(&set("10.0.0.1:1 10.0.0.2:1"), &set("10.0.0.2:1 10.0.0.3:1"));
        assert_eq!(lines, ["- 10.0.0.1:1", "+ 10.0.0.3:1"]);
    }

    #[test]
    fn removes_control_characters_from_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(AGE, "7".parse().unwrap());
        headers.insert(WARNING, "110 a\tb".parse().unwrap());
        assert_eq!(about(&headers), "7 s old, warning: 110 ab");
    }
}
