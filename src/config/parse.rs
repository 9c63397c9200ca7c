//! Parsers of the values that only the shipper has. Each error is the end of a sentence that begins with the variable and its value.
//! No error repeats a part of the value, because the value may contain a password that is in the wrong place.

use std::path::PathBuf;

use elb_common::env::values::{self, pem};
use elb_common::tls::{self, Identity};
use elb_log::batch::Compression;
use elb_log::event::Schema;
use ipnet::IpNet;
use reqwest::Url;
use rustls::pki_types::CertificateDer;

use super::{DeadLetterConfig, Program, StoreConfig};
use crate::sink::{Endpoint, ResponseCheck};

/// The default gzip level. Compression is most of the CPU time, but the transfer of more bytes costs more than the CPU time.
const DEFAULT_GZIP_LEVEL: u32 = 6;

/// Returns an empty list for standard output.
pub(super) fn endpoints(program: Program, text: &str) -> Result<Vec<Endpoint>, String> {
    if text == "-" && program == Program::CommandLine {
        return Ok(Vec::new());
    }
    text.split(',').map(|url| Endpoint::parse(url.trim()).map_err(|error| error.to_string())).collect()
}

pub(super) fn registry_url(text: &str) -> Result<Url, String> {
    Endpoint::parse(text).map(|endpoint| endpoint.url().clone()).map_err(|error| error.to_string())
}

pub(super) fn url(text: &str) -> Result<Url, String> {
    values::url(text).map_err(|error| error.to_string())
}

/// The URL of a queue is shown in log lines, so anything that could be a token is rejected.
pub(super) fn queue_url(text: &str) -> Result<String, String> {
    let url = url(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("does not begin with http:// or https://".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment".to_owned());
    }
    Ok(url.into())
}

pub(super) fn ranges(text: &str) -> Result<Vec<IpNet>, String> {
    let range = |(index, part): (usize, &str)| {
        part.trim().parse().map_err(|_| format!("has no address range at position {} of the list", index + 1))
    };
    text.split(',').enumerate().map(range).collect()
}

pub(super) fn secret_arn(text: &str) -> Result<String, String> {
    let is_secret = text.starts_with("arn:") && text.split(':').nth(2) == Some("secretsmanager");
    if is_secret { Ok(text.to_owned()) } else { Err("is not the ARN of a secret".to_owned()) }
}

pub(super) fn authorities(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    tls::certificates(&pem(text)?)
}

pub(super) fn identity(text: &str) -> Result<Identity, String> {
    Identity::from_pem(&pem(text)?)
}

/// A prefix is required: without one, every object of the bucket would count as a dead letter.
pub(super) fn dead_letter(text: &str, path_style: bool) -> Result<DeadLetterConfig, String> {
    if let Some(path) = text.strip_prefix("dir:").filter(|path| !path.is_empty()) {
        return Ok(DeadLetterConfig::Dir(PathBuf::from(path)));
    }
    let rest = text.strip_prefix("s3://").ok_or("is neither an S3 location nor a directory")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if bucket.is_empty() || prefix.is_empty() {
        return Err("has no bucket or no prefix".to_owned());
    }
    if bucket.contains(['@', ':']) {
        return Err("has a bucket whose name contains @ or a colon".to_owned());
    }
    Ok(DeadLetterConfig::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned(), path_style })
}

pub(super) fn store(text: &str, path_style: bool) -> Result<StoreConfig, String> {
    match text.strip_prefix("dir:") {
        None if text == "s3" => Ok(StoreConfig::S3 { path_style }),
        Some(path) if !path.is_empty() => Ok(StoreConfig::Dir(PathBuf::from(path))),
        _ => Err("is not a store".to_owned()),
    }
}

pub(super) fn schema(text: &str) -> Result<Schema, String> {
    match text {
        "native" => Ok(Schema::Native),
        "ecs" => Ok(Schema::Ecs),
        _ => Err("is not a schema".to_owned()),
    }
}

pub(super) fn compression(text: &str) -> Result<Compression, String> {
    match text.split_once(':') {
        None if text == "gzip" => Ok(Compression::Gzip(DEFAULT_GZIP_LEVEL)),
        None if text == "none" => Ok(Compression::None),
        Some(("gzip", level)) => match level.parse() {
            Ok(level @ 1..=9) => Ok(Compression::Gzip(level)),
            _ => Err("has a level that is not from 1 to 9".to_owned()),
        },
        _ => Err("is not a compression".to_owned()),
    }
}

pub(super) fn response_check(text: &str) -> Result<ResponseCheck, String> {
    match text {
        "logstash" => Ok(ResponseCheck::Logstash),
        "status" => Ok(ResponseCheck::Status),
        _ => Err("is neither logstash nor status".to_owned()),
    }
}

pub(super) fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut labels: Vec<(String, String)> = Vec::new();
    for (index, pair) in text.split(',').enumerate() {
        let problem = |problem: &str| format!("{problem} in pair {} of the list", index + 1);
        let (name, value) = pair.split_once('=').ok_or_else(|| problem("has no ="))?;
        if name.is_empty() {
            return Err(problem("has no name"));
        }
        if labels.iter().any(|(known, _)| known == name) {
            return Err(problem("has the name of an earlier pair"));
        }
        labels.push((name.to_owned(), value.to_owned()));
    }
    Ok(labels)
}

/// Returns whether the bucket's name has to be part of the path: an IP address has no sub-domains, and localhost rarely has.
pub(super) fn needs_path_style(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => true,
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}
