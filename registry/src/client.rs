//! The client: a person's way to look at a list, its age, and where it came from.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{AGE, ETAG, HeaderMap, IF_NONE_MATCH, WARNING};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use crate::routes::{GENERATION_HEADER, SOURCE_HEADER};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// What a registry says of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The endpoints, sorted.
    pub endpoints: BTreeSet<SocketAddr>,
    /// What the registry says about the list in its headers, for a person.
    pub about: String,
    /// Why the list may be old.
    pub warning: Option<String>,
    /// What to ask with next time.
    pub etag: Option<String>,
}

/// What was updated.
#[derive(Debug, Deserialize)]
pub struct Updated {
    /// The endpoints, sorted.
    pub endpoints: BTreeSet<SocketAddr>,
    /// The list's generation.
    pub generation: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not one of a look-up.
    #[error("{0}")]
    Url(String),
    /// Nobody answers.
    #[error("the registry could not be asked: {0}")]
    Unreachable(String),
    /// Not what was asked for.
    #[error("the registry answered {status}{}", .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it said.
        reason: Option<String>,
    },
    /// No list.
    #[error("the answer is no list of a registry: {0}; is the path of --url /logstash-ip?")]
    NoList(String),
}

/// What there is to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// A list.
    New(Seen),
    /// The list that was seen last.
    Same {
        /// Why it may be old.
        warning: Option<String>,
    },
}

/// Asks for a list, unless it is still the one with this `etag`.
///
/// # Errors
/// No list.
pub async fn get(client: &Client, url: &Url, etag: Option<&str>) -> Result<Look, ClientError> {
    let mut request = client.get(url.clone()).timeout(PATIENCE);
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let answer = request.send().await.map_err(unreachable)?;
    if answer.status() == StatusCode::NOT_MODIFIED {
        return Ok(Look::Same { warning: shown(answer.headers(), WARNING.as_str()) });
    }
    let headers = answer.headers().clone();
    let body = body_of(answer).await?;
    let endpoints = serde_json::from_slice(&body).map_err(|error| ClientError::NoList(error.to_string()))?;
    let etag = headers.get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let warning = shown(&headers, WARNING.as_str());
    Ok(Look::New(Seen { endpoints, about: about(&headers), warning, etag }))
}

/// Has a list made anew. `lookup` is the URL of its look-up, beside which the update route is.
///
/// # Errors
/// It was not; the old list stays.
pub async fn update(client: &Client, lookup: &Url, as_name: &str, token: Option<&SecretString>) -> Result<Updated, ClientError> {
    let mut request = client.post(update_url(lookup, as_name)?).timeout(PATIENCE);
    if let Some(token) = token {
        request = request.bearer_auth(token.expose_secret());
    }
    let answer = request.send().await.map_err(unreachable)?;
    let body = body_of(answer).await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::NoList(error.to_string()))
}

/// The URL of the update route that belongs to a look-up.
///
/// # Errors
/// It is no URL of a look-up.
fn update_url(lookup: &Url, as_name: &str) -> Result<Url, ClientError> {
    let Some(prefix) = lookup.path().strip_suffix("/logstash-ip") else {
        return Err(ClientError::Url(format!("the path of --url is {}, not /logstash-ip", lookup.path())));
    };
    let mut url = lookup.clone();
    url.set_path(&format!("{prefix}/update-ip-list"));
    url.query_pairs_mut().append_pair("as_name", as_name);
    Ok(url)
}

/// What has changed from one list to the next: `+` for each that came, `-` for each that left.
pub fn changes(old: &BTreeSet<SocketAddr>, new: &BTreeSet<SocketAddr>) -> Vec<String> {
    let left = old.difference(new).map(|endpoint| format!("- {endpoint}"));
    let came = new.difference(old).map(|endpoint| format!("+ {endpoint}"));
    left.chain(came).collect()
}

/// A registry may be any program, and its headers are shown on a terminal.
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

async fn body_of(mut answer: Response) -> Result<Vec<u8>, ClientError> {
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(ClientError::NoList(format!("it is longer than {LONGEST_ANSWER} bytes")));
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
    fn the_update_route_is_beside_the_lookup() {
        let url = |text: &str| update_url(&text.parse().unwrap(), "logstash eu1").map(|url| url.to_string());
        let expected = "http://h:1/a/update-ip-list?dcid=eu1&region=eu-west-1&as_name=logstash+eu1";
        assert_eq!(url("http://h:1/a/logstash-ip?dcid=eu1&region=eu-west-1").unwrap(), expected);
        assert!(url("http://h:1/").is_err());
    }

    #[test]
    fn changes_are_told_one_by_one() {
        let set = |text: &str| text.split(' ').map(|endpoint| endpoint.parse().unwrap()).collect::<BTreeSet<SocketAddr>>();
        let told = changes(&set("10.0.0.1:1 10.0.0.2:1"), &set("10.0.0.2:1 10.0.0.3:1"));
        assert_eq!(told, ["- 10.0.0.1:1", "+ 10.0.0.3:1"]);
    }

    #[test]
    fn headers_are_shown_without_control_characters() {
        let mut headers = HeaderMap::new();
        headers.insert(AGE, "7".parse().unwrap());
        headers.insert(WARNING, "110 a\tb".parse().unwrap());
        assert_eq!(about(&headers), "7 s old, warning: 110 ab");
    }
}
