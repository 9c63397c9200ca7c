//! `elbship check`: tries the configuration against the real Logstash, before anything is deployed.
//!
//! The probes make no events: the http input takes an empty JSON array for none. Only `--canary` sends one, and marks it.

use elb_log::batch::{BatchBuilder, BatchSettings, Body, Framing};
use elb_log_shipper::config::{Config, Target};
use elb_log_shipper::sink::{Endpoint, Fault, HttpTransport, Logstash, Outcome, Response};
use elb_log_shipper::wiring::build_logstash;
use serde_json::json;

use crate::cli::{CheckArgs, ShipArgs};
use crate::run::{Exit, configure, print, surroundings};

/// Runs the command.
pub(crate) async fn run(args: CheckArgs) -> Exit {
    match try_run(args).await {
        Ok(()) => Exit::Delivered,
        Err(exit) => exit,
    }
}

async fn try_run(args: CheckArgs) -> Result<(), Exit> {
    let Config { target, ship, .. } = configure(&ShipArgs { to: args.to, ..ShipArgs::default() }, None)?;
    let Target::Http(target) = target else {
        return Err(Exit::Usage("there is nothing to check without a URL: give --to or LOGSTASH_URL".to_owned()));
    };
    // Bodies are those that the shipper would send.
    let batch = BatchSettings { framing: Framing::JsonArray, ..ship.batch };
    let sink = build_logstash(*target, ship.concurrency, &surroundings(true, false)).map_err(Exit::Failed)?;
    let endpoints = sink.endpoints().await.map_err(Exit::Failed)?;
    let mut failed = 0;
    for endpoint in &endpoints {
        print(&endpoint.to_string())?;
        failed += usize::from(!check(&sink, endpoint, batch, args.canary).await.map_err(Exit::Failed)?);
    }
    match failed {
        0 => Ok(()),
        failed => Err(Exit::Failed(format!("{failed} of {} endpoints would not receive everything", endpoints.len()))),
    }
}

/// Tries one endpoint. What a failure makes meaningless is not tried any more.
async fn check(
    sink: &Logstash<HttpTransport>,
    endpoint: &Endpoint,
    settings: BatchSettings,
    canary: bool,
) -> Result<bool, String> {
    let reached = sink.try_once(endpoint, &body(settings, b"")).await?;
    if !tell("an empty batch", &reached, explain_empty(&reached)) {
        return Ok(false);
    }
    let large = body(settings, &vec![b' '; settings.max_bytes.saturating_sub(2)]);
    let answer = sink.try_once(endpoint, &large).await?;
    let mut good = tell(&format!("a batch of BATCH_BYTES ({} bytes)", settings.max_bytes), &answer, explain_large(&answer));
    if good && canary {
        let answer = sink.try_once(endpoint, &body(settings, canary_event().as_bytes())).await?;
        good = tell("one event, tagged elbship-canary: look for it in Elasticsearch", &answer, explain_empty(&answer));
    }
    Ok(good)
}

/// A body with `text` between the brackets.
fn body(settings: BatchSettings, text: &[u8]) -> Body {
    let mut builder = BatchBuilder::new(BatchSettings { max_events: 2, max_bytes: usize::MAX, ..settings });
    builder.add(|out| out.put(text));
    // What was added is a batch, even if it is no event.
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

/// Prints what was tried and how it ended; none of `problem` is good.
fn tell(tried: &str, answer: &Outcome, problem: Option<String>) -> bool {
    match &problem {
        None => print_line(&format!("  ok    {tried}")),
        Some(advice) => print_line(&format!("  FAIL  {tried}: {answer}\n        {advice}")),
    }
    problem.is_none()
}

/// The exit status says the same, should nobody read.
fn print_line(line: &str) {
    let _ = print(line);
}

fn explain_empty(answer: &Outcome) -> Option<String> {
    let advice = match answer {
        Outcome::Response(Response { status: 200 | 201 | 202 | 204, .. }) => return None,
        Outcome::Response(Response { status: 401 | 403, .. }) => {
            "the input wants other credentials: set LOGSTASH_USER and LOGSTASH_PASSWORD, or the secret, to its user and password"
        }
        Outcome::Response(Response { status: 408 | 429 | 503, .. }) => {
            "Logstash is reached, and busy: its queue is full or its pipeline blocked; look at what is behind it, then try again"
        }
        Outcome::Response(Response { status: 300..=399, .. }) => {
            "something in between redirects: give the http input's own URL, redirects are not followed"
        }
        Outcome::Response(Response { status: 400 | 415 | 422, .. }) => {
            "the body was not accepted: leave the input's additional_codecs at its default, or try COMPRESSION=none if a proxy does not pass gzip on"
        }
        Outcome::Response(Response { status: 500.., .. }) => "Logstash, or a proxy before it, fails: look at its log",
        Outcome::Response(_) => "this is no Logstash http input: check host, port and path",
        Outcome::NoResponse(Fault::Connect(detail)) => return Some(explain_connect(detail)),
        Outcome::NoResponse(Fault::NotHttp(_)) => {
            "what answers speaks no HTTP: give the port of an http input, not that of a beats or tcp input; or https is spoken where http was given"
        }
        Outcome::NoResponse(Fault::Broken(_)) => {
            "the connection broke: is https spoken where http was given, is this the Beats port, or is Logstash blocked?"
        }
        Outcome::NoResponse(Fault::Timeout) => {
            "nothing answers: a firewall, or an input that is blocked; raise REQUEST_TIMEOUT only if it is slow by design"
        }
    };
    Some(advice.to_owned())
}

fn explain_large(answer: &Outcome) -> Option<String> {
    match answer {
        Outcome::Response(Response { status: 413, .. }) => {
            Some("batches are too large for it: lower BATCH_BYTES, or raise max_content_length of the input or the body limit of a proxy".to_owned())
        }
        other => explain_empty(other),
    }
}

fn explain_connect(detail: &str) -> String {
    let advice = if detail.contains("UnknownIssuer") || detail.contains("BadSignature") {
        "its certificate is of an authority that is not trusted: set LOGSTASH_CA"
    } else if detail.contains("Expired") || detail.contains("expired") {
        "its certificate has expired: renew it"
    } else if detail.contains("NotValidForName") || detail.contains("not valid for name") {
        "its certificate is for another name: use a name that it holds in the URL"
    } else if detail.contains("certificate") {
        "TLS failed: check LOGSTASH_CA and LOGSTASH_CLIENT_IDENTITY"
    } else if detail.contains("refused") {
        "nobody listens there: check host and port, and that Logstash runs"
    } else if detail.contains("dns") || detail.contains("lookup") {
        "there is no such host: check the name, and the resolver of the network it is looked up from"
    } else {
        "no connection: check host, port, security groups and routes"
    };
    advice.to_owned()
}
