//! `elbship check`: tests the connection to Logstash and the access to log objects before a deployment.
//!
//! The check creates no events, because the http input makes no event of an empty JSON array. Only `--canary` sends one event,
//! which is tagged.

use std::time::{Duration, Instant};

use elb_common::terminal::escape;
use elb_common::text::counted;
use elb_log::batch::{BatchBuilder, BatchSettings, Body, Framing};
use elb_log::key::TimeRange;
use elb_log_shipper::backfill::S3Location;
use elb_log_shipper::config::{Config, StoreConfig, Target};
use elb_log_shipper::object::{ListedObject, Listing, Store};
use elb_log_shipper::sink::{Connection, Endpoint, Fault, HttpTransport, Logstash, Outcome, Response, TlsSession};
use elb_log_shipper::wiring::{Platform, build_logstash, build_store};
use jiff::Timestamp;
use serde_json::json;

use crate::cli::{CheckArgs, ShipArgs};
use crate::error::CommandError;
use crate::setup::{self, Input, Use};
use crate::terminal::print;

/// Number of listed objects among which the check looks for one that can be read without a restore.
const MAX_LISTED: usize = 1_000;

/// Number of days before the end of a certificate from which the check asks for a new one.
const DAYS_TO_RENEW: i64 = 30;

/// Runs the command.
pub(crate) async fn run(args: CheckArgs) -> Result<(), CommandError> {
    let config = setup::read_config(&ShipArgs { to: args.to.clone(), ..ShipArgs::default() }, None)?;
    if matches!(config.target, Target::Output) && args.objects.is_none() {
        return Err(CommandError::Usage("cannot check without a URL; set --to or LOGSTASH_URL".to_owned()));
    }
    print_configuration(args.to.as_deref())?;
    let platform = setup::platform(Use { input: Input::Store, shown: true, dry_run: false });
    let Config { target, ship, store, .. } = config;
    let mut problems = Vec::new();
    if let Target::Http(target) = target {
        // The bodies have the form in which the shipper sends them.
        let batch = BatchSettings { framing: Framing::JsonArray, ..ship.batch };
        let sink = build_logstash(*target, ship.concurrency, &platform).map_err(CommandError::Failed)?;
        problems.extend(check_endpoints(&sink, batch, args.canary).await?);
    }
    if let Some(location) = &args.objects {
        problems.extend(check_objects(store, location, &platform).await?);
    }
    if problems.is_empty() { Ok(()) } else { Err(CommandError::Failed(problems.join("; "))) }
}

/// Prints the values of the variables as the command uses them, without secrets.
fn print_configuration(to: Option<&str>) -> Result<(), CommandError> {
    print("configuration")?;
    let variable = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
    let values = Config::effective_values(|name| match (name, to) {
        ("LOGSTASH_URL", Some(to)) => Some(to.to_owned()),
        ("REGISTRY_URL", Some(_)) => None,
        _ => variable(name),
    });
    for value in values {
        let source = match value.name {
            _ if value.is_default => " (default)",
            "LOGSTASH_URL" if to.is_some() => " (--to)",
            _ => "",
        };
        print(&format!("  {:<24} {}{source}", value.name, escape(&value.shown)))?;
    }
    Ok(())
}

/// Tests every endpoint, and returns what is wrong, if anything is.
async fn check_endpoints(
    sink: &Logstash<HttpTransport>,
    batch: BatchSettings,
    canary: bool,
) -> Result<Option<String>, CommandError> {
    let endpoints = sink.endpoints().await.map_err(CommandError::Failed)?;
    let mut failed = 0;
    for endpoint in &endpoints {
        print(&endpoint.to_string())?;
        for line in connection_lines(&sink.describe_connection(endpoint).await, Timestamp::now()) {
            print(&format!("        {line}"))?;
        }
        failed += usize::from(!check_endpoint(sink, endpoint, batch, canary).await.map_err(CommandError::Failed)?);
    }
    let total = counted(endpoints.len() as u64, "endpoint");
    Ok((failed > 0).then(|| format!("{failed} of {total} would not receive everything")))
}

/// Describes a connection. A step that failed has no line, because the test that follows explains it.
fn connection_lines(connection: &Connection, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if !connection.addresses.is_empty() {
        let addresses: Vec<String> = connection.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("addresses: {}", addresses.join(", ")));
    }
    if let Some((address, duration)) = connection.connected {
        lines.push(format!("connected to {address} in {}", milliseconds(duration)));
    }
    if let Some(TlsSession { version, handshake, expires }) = &connection.tls {
        let expires = expires.map(|end| format!("; the server's certificate {}", expiry(end, now))).unwrap_or_default();
        lines.push(format!("{version}, handshake in {}{expires}", milliseconds(*handshake)));
    }
    lines
}

fn expiry(end: Timestamp, now: Timestamp) -> String {
    let days = end.duration_since(now).as_hours() / 24;
    let advice = if days < DAYS_TO_RENEW { ": renew it" } else { "" };
    format!("expires at {end} (in {days} days){advice}")
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

/// Tests whether objects below a prefix can be listed and read, and returns what is wrong, if anything is.
async fn check_objects(config: StoreConfig, location: &S3Location, platform: &Platform) -> Result<Option<String>, CommandError> {
    let store = build_store(config, platform);
    print(&location.to_string())?;
    let started = Instant::now();
    let mut listing = store.list(&location.bucket, &location.key, TimeRange::default());
    let found = first_readable(&mut listing).await;
    let listed = match found {
        Err(error) => return failed_object_test("list objects", location, &error),
        Ok(listed) => listed,
    };
    print(&format!("  ok    list objects ({})", milliseconds(started.elapsed())))?;
    let Some(object) = listed else {
        print("        reading is not tested: no object below the prefix can be read without a restore")?;
        return Ok(None);
    };
    check_object(&store, location, &object).await
}

async fn check_object(store: &Store, location: &S3Location, object: &ListedObject) -> Result<Option<String>, CommandError> {
    let (test, started) = (format!("read {}", object.key), Instant::now());
    match store.try_read(&location.bucket, &object.key).await {
        Ok(()) => print(&format!("  ok    {test} ({})", milliseconds(started.elapsed()))).map(|()| None),
        Err(error) => failed_object_test(&test, location, &error),
    }
}

fn failed_object_test(test: &str, location: &S3Location, error: &str) -> Result<Option<String>, CommandError> {
    print(&format!("  FAIL  {test}: {error}"))?;
    Ok(Some(format!("objects below {location} cannot be read")))
}

/// Returns the first object that is not archived.
async fn first_readable(listing: &mut Listing) -> Result<Option<ListedObject>, String> {
    for _ in 0..MAX_LISTED {
        match listing.next().await.map_err(|error| error.to_string())? {
            Some(object) if object.archived => {}
            found => return Ok(found),
        }
    }
    Ok(None)
}

/// Tests one endpoint, and returns whether it would receive everything. The first failed test is the last one.
async fn check_endpoint(
    sink: &Logstash<HttpTransport>,
    endpoint: &Endpoint,
    settings: BatchSettings,
    canary: bool,
) -> Result<bool, String> {
    let (outcome, duration) = send(sink, endpoint, &body(settings, b"")).await?;
    if !print_result(&format!("an empty batch ({duration})"), &outcome, advice(&outcome)) {
        return Ok(false);
    }
    let large = body(settings, &vec![b' '; settings.max_bytes.saturating_sub(2)]);
    let (outcome, duration) = send(sink, endpoint, &large).await?;
    let test = format!("a batch of BATCH_BYTES ({} bytes, {duration})", settings.max_bytes);
    let passed = print_result(&test, &outcome, advice_for_large_batch(&outcome));
    if !passed || !canary {
        return Ok(passed);
    }
    let (outcome, duration) = send(sink, endpoint, &body(settings, canary_event().as_bytes())).await?;
    let test = format!("one event ({duration}), tagged elbship-canary: look for it in Elasticsearch");
    Ok(print_result(&test, &outcome, advice(&outcome)))
}

/// Sends a body once, and returns how the request ended and how long it took.
async fn send(sink: &Logstash<HttpTransport>, endpoint: &Endpoint, body: &Body) -> Result<(Outcome, String), String> {
    let started = Instant::now();
    let outcome = sink.try_once(endpoint, body).await?;
    Ok((outcome, milliseconds(started.elapsed())))
}

/// Returns a body with `text` between the brackets.
fn body(settings: BatchSettings, text: &[u8]) -> Body {
    let mut builder = BatchBuilder::new(BatchSettings { max_events: 2, max_bytes: usize::MAX, ..settings });
    builder.add(|out| out.put(text));
    // The builder makes a batch of every text, even of one that is not an event.
    let batch = builder.finish();
    batch.map_or_else(|| Body { bytes: Default::default(), compression: settings.compression }, |batch| batch.body)
}

fn canary_event() -> String {
    let now = jiff::Timestamp::now();
    let id = format!("elbship-canary-{}", now.as_nanosecond());
    json!({
        "@timestamp": now.to_string(),
        "@metadata": {"_id": id, "_ingest_document": {"id": id}},
        "tags": ["elbship-canary"],
    })
    .to_string()
}

/// Prints the result of a test, and returns whether it passed: a test with advice failed.
fn print_result(test: &str, outcome: &Outcome, advice: Option<String>) -> bool {
    let result = match &advice {
        None => format!("  ok    {test}"),
        Some(advice) => format!("  FAIL  {test}: {outcome}\n        {advice}"),
    };
    // If standard output is closed, the exit status still tells the result.
    let _ = print(&result);
    advice.is_none()
}

/// Returns what to do after a test with a small body, or none if the test passed.
fn advice(outcome: &Outcome) -> Option<String> {
    if outcome.is_accepted() {
        return None;
    }
    let advice = match outcome {
        Outcome::Response(Response { status: 401 | 403, .. }) => {
            "the credentials are wrong: set LOGSTASH_USER and LOGSTASH_PASSWORD, or the secret, to the user and the password of the input"
        }
        Outcome::Response(Response { status: 408 | 429 | 503, .. }) => {
            "Logstash is busy: its queue is full or its pipeline is blocked; find out what blocks the pipeline, then try again"
        }
        Outcome::Response(Response { status: 300..=399, .. }) => {
            "the URL redirects, and the shipper does not follow redirects: use the URL of the http input itself"
        }
        Outcome::Response(Response { status: 400 | 415 | 422, .. }) => {
            "the body was not accepted: leave additional_codecs of the input at its default, or set COMPRESSION=none if a proxy does not forward gzip"
        }
        Outcome::Response(Response { status: 501 | 505, .. }) => "this is not a Logstash http input: check host, port and path",
        Outcome::Response(Response { status: 500.., .. }) => "Logstash, or a proxy in front of it, fails: look at its log",
        Outcome::Response(_) => "this is not a Logstash http input: check host, port and path",
        Outcome::NoResponse(Fault::NoEndpoint(_)) => "check REGISTRY_URL, and whether the registry knows servers of this group",
        Outcome::NoResponse(Fault::Connect(detail)) => return Some(advice_for_connection(detail)),
        Outcome::NoResponse(Fault::Tls(_)) => "a replay fails at once with the same message, because no retry helps",
        Outcome::NoResponse(Fault::NotHttp(_)) => {
            "the server does not speak HTTP: use the port of an http input, not that of a beats or tcp input; or use https:// if the input uses TLS"
        }
        Outcome::NoResponse(Fault::Broken(_)) => {
            "the connection broke: check whether the input needs https://, whether this is the Beats port, and whether Logstash is blocked"
        }
        Outcome::NoResponse(Fault::Timeout | Fault::Abandoned) => {
            "no response in time: check firewalls, and whether the input is blocked; raise REQUEST_TIMEOUT only if the input is slow by design"
        }
    };
    Some(advice.to_owned())
}

/// Returns what to do after a test with a batch of the maximum size, or none if the test passed.
fn advice_for_large_batch(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Response(Response { status: 413, .. }) => Some(
            "batches are too large: lower BATCH_BYTES, or raise max_content_length of the input or the body limit of the proxy"
                .to_owned(),
        ),
        other => advice(other),
    }
}

fn advice_for_connection(detail: &str) -> String {
    let advice = if detail.contains("refused") {
        "no process listens there: check host and port, and whether Logstash is running"
    } else if detail.contains("dns") || detail.contains("lookup") {
        "the host name does not resolve: check the name and the DNS resolver of the network"
    } else {
        "no connection: check host, port, security groups and routes"
    };
    advice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_expires_soon_is_to_be_renewed() {
        let now = "2026-03-02T10:00:00Z".parse().unwrap();
        let shown = |end: &str| expiry(end.parse().unwrap(), now);
        assert_eq!(shown("2026-12-31T10:00:00Z"), "expires at 2026-12-31T10:00:00Z (in 304 days)");
        assert_eq!(shown("2026-03-12T09:00:00Z"), "expires at 2026-03-12T09:00:00Z (in 9 days): renew it");
    }
}
