//! `elbship check`: tests the connection to Logstash before a deployment.
//!
//! The check creates no events, because the http input makes no event of an empty JSON array. Only `--canary` sends one event,
//! which is tagged.

use elb_common::text::counted;
use elb_log::batch::{BatchBuilder, BatchSettings, Body, Framing};
use elb_log_shipper::config::{Config, Target};
use elb_log_shipper::sink::{Endpoint, Fault, HttpTransport, Logstash, Outcome, Response};
use elb_log_shipper::wiring::build_logstash;
use serde_json::json;

use crate::cli::{CheckArgs, ShipArgs};
use crate::error::CommandError;
use crate::setup::{self, Input, Use};
use crate::terminal::print;

/// Runs the command.
pub(crate) async fn run(args: CheckArgs) -> Result<(), CommandError> {
    let Config { target, ship, .. } = setup::read_config(&ShipArgs { to: args.to, ..ShipArgs::default() }, None)?;
    let Target::Http(target) = target else {
        return Err(CommandError::Usage("cannot check without a URL; set --to or LOGSTASH_URL".to_owned()));
    };
    // The bodies have the form in which the shipper sends them.
    let batch = BatchSettings { framing: Framing::JsonArray, ..ship.batch };
    let platform = setup::platform(Use { input: Input::LocalFiles, shown: true, dry_run: false });
    let sink = build_logstash(*target, ship.concurrency, &platform).map_err(CommandError::Failed)?;
    let endpoints = sink.endpoints().await.map_err(CommandError::Failed)?;
    let mut failed = 0;
    for endpoint in &endpoints {
        print(&endpoint.to_string())?;
        failed += usize::from(!check_endpoint(&sink, endpoint, batch, args.canary).await.map_err(CommandError::Failed)?);
    }
    match failed {
        0 => Ok(()),
        failed => Err(CommandError::Failed(format!(
            "{failed} of {} would not receive everything",
            counted(endpoints.len() as u64, "endpoint")
        ))),
    }
}

/// Tests one endpoint, and returns whether it would receive everything. The first failed test is the last one.
async fn check_endpoint(
    sink: &Logstash<HttpTransport>,
    endpoint: &Endpoint,
    settings: BatchSettings,
    canary: bool,
) -> Result<bool, String> {
    let outcome = sink.try_once(endpoint, &body(settings, b"")).await?;
    if !print_result("an empty batch", &outcome, advice(&outcome)) {
        return Ok(false);
    }
    let large = body(settings, &vec![b' '; settings.max_bytes.saturating_sub(2)]);
    let outcome = sink.try_once(endpoint, &large).await?;
    let test = format!("a batch of BATCH_BYTES ({} bytes)", settings.max_bytes);
    let passed = print_result(&test, &outcome, advice_for_large_batch(&outcome));
    if !passed || !canary {
        return Ok(passed);
    }
    let outcome = sink.try_once(endpoint, &body(settings, canary_event().as_bytes())).await?;
    Ok(print_result("one event, tagged elbship-canary: look for it in Elasticsearch", &outcome, advice(&outcome)))
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
