//! The registry's list: which entries are used, and that an invalid list never replaces a valid one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use bytes::Bytes;
use elb_log::batch::{self, Batch, BatchBuilder, BatchSettings, Compression, Framing};
use elb_log_shipper::shutdown::Shutdown;
use elb_log_shipper::sink::{
    Credentials, Discovery, Endpoint, EndpointSource, EndpointTemplate, Evidence, Fault, Logstash, LogstashSettings, Outcome,
    Transport,
};
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::support::faulty::{Faulty, address_of, read_head, wait_for_close, write};
use crate::support::tls::Authority;
use crate::support::{self, Object, Receiver, Scripted, assert_books, status};

const LOOPBACK: (&str, &str) = ("REGISTRY_ALLOWED_CIDRS", "127.0.0.0/8");

/// Starts a registry that lists these addresses.
async fn registry(addresses: &[&str]) -> Scripted {
    let list = serde_json::to_string(addresses).expect("a list");
    Scripted::start(move |_, _| text(&list)).await
}

fn text(body: &str) -> Response<Body> {
    Response::builder().body(Body::from(body.to_owned())).expect("a response")
}

fn lookup(registry: &str) -> String {
    format!("{registry}logstash-ip?dcid=eu1&region=eu-west-1")
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_events_to_the_servers_in_the_list() {
    let receivers = [Receiver::start().await, Receiver::start().await];
    let registry = registry(&[&address_of(&receivers[0].url), &address_of(&receivers[1].url)]).await;
    let variables = [("REGISTRY_URL", &*lookup(&registry.url)), LOOPBACK, ("BATCH_EVENTS", "50")];
    let (exit, report, stderr) = Object::of_lines(1_000).ship_by(&[], &variables).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "1000 delivered, 0 undelivered, complete true");
    let counts = receivers.each_ref().map(|receiver| receiver.ids().len());
    assert!(counts.iter().all(|&count| count > 0) && counts.iter().sum::<usize>() == 1_000, "{counts:?}");
    let seen = registry.seen();
    assert_eq!(
        (seen.len(), seen[0].method.as_str(), seen[0].path.as_str()),
        (1, "GET", "/logstash-ip?dcid=eu1&region=eu-west-1")
    );
    assert!(seen[0].body.is_empty() && !seen[0].headers.contains_key("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_ranges_refuse_loopback() {
    let receiver = Receiver::start().await;
    let registry = registry(&[&address_of(&receiver.url)]).await;
    let variables = [
        ("REGISTRY_URL", &*lookup(&registry.url)),
        ("RETRY_BUDGET", "300ms"),
        ("LOGSTASH_USER", "u"),
        ("LOGSTASH_PASSWORD", "p"),
    ];
    let (exit, report, _) = Object::of_lines(10).ship_by(&[], &variables).await;
    assert_eq!((exit, receiver.connections.load(std::sync::atomic::Ordering::Relaxed)), (1, 0), "{report}");
    assert!(!registry.seen().is_empty(), "the registry got no request");
    assert!(!registry.seen()[0].headers.contains_key("authorization"), "the registry gets Logstash's password");
    assert_books(&report, "0 delivered, 10 undelivered, complete false");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("REGISTRY_ALLOWED_CIDRS") && error.contains(&address_of(&receiver.url)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn skips_and_names_entries_outside_the_ranges() {
    let receiver = Receiver::start().await;
    let registry = registry(&["169.254.169.254:80", &address_of(&receiver.url)]).await;
    let (exit, _, stderr) = Object::of_lines(100).ship_by(&[], &[("REGISTRY_URL", &*lookup(&registry.url)), LOOPBACK]).await;
    assert_eq!((exit, receiver.ids().len()), (0, 100), "{stderr}");
    let named = stderr.lines().any(|line| line.contains("\"ERROR\"") && line.contains("169.254.169.254:80"));
    assert!(named, "the entry is not named: {stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_a_registry_with_invalid_responses() {
    let receiver = Receiver::start().await;
    let address = address_of(&receiver.url);
    let registry = Scripted::start(move |number, _| match number {
        0 => status(500),
        1 => text("<html>"),
        2 => text("[]"),
        3 => text(&"[".repeat(100_000)),
        4 => text(&format!("{{\"list\":[\"{address}\"]}}")),
        _ => text(&format!("[\"{address}\"]")),
    })
    .await;
    let variables = [("REGISTRY_URL", &*lookup(&registry.url)), LOOPBACK, ("SEND_CONCURRENCY", "1"), ("RETRY_BUDGET", "30s")];
    let (exit, report, stderr) = Object::of_lines(100).ship_by(&[], &variables).await;
    assert_eq!((exit, receiver.ids().len(), registry.seen().len()), (0, 100, 6), "{stderr}");
    assert_books(&report, "100 delivered, 0 undelivered, complete true");
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up_on_a_silent_registry_and_names_it() {
    let registry = Faulty::always(|mut stream| async move {
        read_head(&mut stream).await;
        wait_for_close(&mut stream).await;
    })
    .await;
    let endless = Faulty::always(|mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n[").await;
        wait_for_close(&mut stream).await;
    })
    .await;
    for server in [registry, endless] {
        let url = lookup(&server.url);
        let variables = [("REGISTRY_URL", url.as_str()), LOOPBACK, ("REQUEST_TIMEOUT", "200ms"), ("RETRY_BUDGET", "400ms")];
        let (exit, report, _) = Object::of_lines(10).ship_by(&[], &variables).await;
        assert!(server.faults() > 0, "the registry got no request");
        assert_eq!(exit, 1);
        assert_books(&report, "0 delivered, 10 undelivered, complete false");
        let error = report["error"].as_str().expect("an error");
        assert!(error.contains("the registry") && error.contains(&server.url) && !error.contains("dcid"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verifies_certificates_for_the_name_in_registry_endpoint() {
    let authority = Authority::new("trusted");
    for (name, exit_status) in [("logstash.internal", 0), ("localhost", 1)] {
        let (url, kept) = support::tls::start(&authority.sign(name, false), None).await;
        let port = url.trim_end_matches('/').rsplit(':').next().expect("a port").to_owned();
        let registry = registry(&[&format!("127.0.0.1:{port}")]).await;
        let ca = authority.certificate.pem();
        let variables = [
            ("REGISTRY_URL", &*lookup(&registry.url)),
            ("REGISTRY_ENDPOINT", "https://logstash.internal:{port}/"),
            LOOPBACK,
            ("LOGSTASH_CA", &ca),
            ("RETRY_BUDGET", "300ms"),
        ];
        let (exit, report, stderr) = Object::of_lines(20).ship_by(&[], &variables).await;
        assert_eq!((exit, kept.drain().len()), (exit_status, if exit_status == 0 { 20 } else { 0 }), "{stderr}");
        if exit_status == 1 {
            assert!(report["error"].as_str().is_some_and(|error| error.contains("not valid for name")), "{report}");
        }
    }
}

/// Accepts every body, except at the endpoints that are down, and returns the given lists in order.
#[derive(Clone, Default)]
struct ScriptedTransport(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    lists: VecDeque<Result<&'static str, Hang>>,
    /// Number of requests to the registry.
    lookups: usize,
    sent_to: Vec<String>,
    down: Vec<&'static str>,
}

/// No response within the timeout.
struct Hang;

impl ScriptedTransport {
    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.0.lock().expect("no panic while holding")
    }
}

impl Transport for ScriptedTransport {
    async fn post(&self, endpoint: &Endpoint, _: &batch::Body, _: Option<&HeaderValue>, _: Duration) -> Outcome {
        let url = endpoint.to_string();
        let mut record = self.record();
        if record.down.iter().any(|down| url.contains(down)) {
            return Outcome::NoResponse(Fault::Connect("down for the test".to_owned()));
        }
        record.sent_to.push(url);
        Outcome::Response(elb_log_shipper::sink::Response { status: 200, ..Default::default() })
    }

    async fn get(&self, _: &Url, limit: Duration) -> Result<Bytes, String> {
        let list = {
            let mut record = self.record();
            record.lookups += 1;
            record.lists.pop_front().expect("the registry gets more requests than expected")
        };
        match list {
            Ok("500") => Err("HTTP 500".to_owned()),
            Ok(list) => Ok(Bytes::from_static(list.as_bytes())),
            Err(Hang) => {
                tokio::time::sleep(limit).await;
                Err("no response".to_owned())
            }
        }
    }
}

fn one_event() -> Batch {
    let settings = BatchSettings {
        max_events: 10,
        max_bytes: 1 << 20,
        framing: Framing::JsonArray,
        compression: Compression::None,
        bodies: true,
    };
    let mut builder = BatchBuilder::new(settings);
    builder.add(|out| out.put(b"{}"));
    builder.finish().expect("a batch")
}

fn logstash(transport: &ScriptedTransport) -> Arc<Logstash<ScriptedTransport>> {
    let registry = Discovery {
        url: Url::parse("http://registry.internal/").expect("a URL"),
        template: EndpointTemplate::parse("http://{ip}:{port}/").expect("a template"),
        allowed: vec!["10.0.0.0/8".parse().expect("a range")],
    };
    Arc::new(Logstash::new(
        transport.clone(),
        LogstashSettings {
            endpoints: EndpointSource::Registry(registry),
            credentials: Credentials::None,
            request_timeout: Duration::from_secs(30),
            retry_budget: Duration::from_secs(60),
            seed: 1,
        },
    ))
}

/// Sends one batch, and lets its background tasks run.
async fn send_one(logstash: &Arc<Logstash<ScriptedTransport>>) {
    let delivery = logstash.deliver(&one_event(), &Mutex::new(Evidence::new(0)), &Shutdown::at(None)).await;
    assert_eq!((delivery.delivered, delivery.error), (1, None));
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_valid_list_replaces_the_last_one() {
    let transport = ScriptedTransport::default();
    let logstash = logstash(&transport);
    let good = r#"["10.0.0.1:8080"]"#;
    let bad = [Ok("500"), Ok("<html>"), Ok("[]"), Ok(r#"["logstash:8080"]"#), Ok(r#"["203.0.113.1:8080"]"#), Err(Hang)];
    let bad_count = bad.len();
    transport.record().lists = std::iter::once(Ok(good)).chain(bad).chain([Ok(r#"["10.0.0.2:8080"]"#)]).collect();
    for _ in 0..=bad_count {
        send_one(&logstash).await;
        send_one(&logstash).await;
        tokio::time::sleep(Duration::from_secs(31)).await;
    }
    // The first batch starts the refresh, and does not wait for it.
    send_one(&logstash).await;
    send_one(&logstash).await;
    let record = transport.record();
    assert_eq!(record.lookups, bad_count + 2, "the list is not read exactly every 30 s");
    let (last, before) = record.sent_to.split_last().expect("batches");
    assert_eq!(last, "http://10.0.0.2:8080/", "a valid list does not replace the last one");
    let kept = before.iter().take_while(|url| *url == "http://10.0.0.1:8080/").count();
    assert!(kept >= 2 * (bad_count + 1), "an invalid list replaced a valid one: {before:?}");
}

#[tokio::test(start_paused = true)]
async fn refreshes_the_list_sooner_while_an_endpoint_is_down() {
    let transport = ScriptedTransport::default();
    let logstash = logstash(&transport);
    let both = r#"["10.0.0.1:8080","10.0.0.2:8080"]"#;
    transport.record().lists = [Ok(both), Ok(r#"["10.0.0.2:8080","10.0.0.3:8080"]"#)].into();
    transport.record().down.push("10.0.0.1");
    send_one(&logstash).await;
    send_one(&logstash).await;
    assert_eq!(transport.record().lookups, 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    for _ in 0..4 {
        send_one(&logstash).await;
    }
    let record = transport.record();
    assert_eq!(record.lookups, 2, "the list was not read again while an endpoint is down");
    assert!(record.sent_to.iter().any(|url| url == "http://10.0.0.3:8080/"), "{:?}", record.sent_to);
}

#[tokio::test(start_paused = true)]
async fn a_silent_registry_does_not_delay_the_end_of_a_run() {
    let transport = ScriptedTransport::default();
    let logstash = logstash(&transport);
    transport.record().lists = [Err(Hang), Err(Hang)].into();
    // Another batch, which has more time, waits for the list already: a request for a list can outlast its invocation.
    let patient = tokio::spawn({
        let logstash = Arc::clone(&logstash);
        async move { logstash.deliver(&one_event(), &Mutex::new(Evidence::new(0)), &Shutdown::at(None)).await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(transport.record().lookups, 1, "no request has started yet");
    let started = tokio::time::Instant::now();
    let ends_soon = Shutdown::at(Some(started + Duration::from_secs(2)));
    let delivery = logstash.deliver(&one_event(), &Mutex::new(Evidence::new(0)), &ends_soon).await;
    assert!(delivery.error.is_some(), "there is no list");
    assert!(started.elapsed() <= Duration::from_secs(3), "the run went on for {:?}", started.elapsed());
    patient.abort();
}
