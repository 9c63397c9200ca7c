//! The registry's list: where it is believed, and that a bad answer never replaces a good one.

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

use crate::support::faulty::{Faulty, address_of, read_head, say, wait_for_the_end};
use crate::support::tls::Authority;
use crate::support::{self, Object, Receiver, Scripted, assert_books, status};

const LOOPBACK: (&str, &str) = ("REGISTRY_ALLOWED_CIDRS", "127.0.0.0/8");

/// A registry that names these addresses.
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
async fn events_go_to_the_servers_of_the_list() {
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
async fn the_default_ranges_refuse_loopback_and_nothing_is_sent() {
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
    assert!(!registry.seen().is_empty(), "the registry was not asked");
    assert!(!registry.seen()[0].headers.contains_key("authorization"), "the registry is shown Logstash's password");
    assert_books(&report, "0 delivered, 10 undelivered, complete false");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("REGISTRY_ALLOWED_CIDRS") && error.contains(&address_of(&receiver.url)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_outside_of_the_ranges_is_left_out_and_named() {
    let receiver = Receiver::start().await;
    let registry = registry(&["169.254.169.254:80", &address_of(&receiver.url)]).await;
    let (exit, _, stderr) = Object::of_lines(100).ship_by(&[], &[("REGISTRY_URL", &*lookup(&registry.url)), LOOPBACK]).await;
    assert_eq!((exit, receiver.ids().len()), (0, 100), "{stderr}");
    let named = stderr.lines().any(|line| line.contains("\"ERROR\"") && line.contains("169.254.169.254:80"));
    assert!(named, "the entry is not named: {stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_answers_badly_is_asked_again() {
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
async fn a_registry_that_hangs_is_given_up_and_named() {
    let registry = Faulty::always(|mut stream| async move {
        read_head(&mut stream).await;
        wait_for_the_end(&mut stream).await;
    })
    .await;
    let endless = Faulty::always(|mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n[").await;
        wait_for_the_end(&mut stream).await;
    })
    .await;
    for server in [registry, endless] {
        let url = lookup(&server.url);
        let variables = [("REGISTRY_URL", url.as_str()), LOOPBACK, ("REQUEST_TIMEOUT", "200ms"), ("RETRY_BUDGET", "400ms")];
        let (exit, report, _) = Object::of_lines(10).ship_by(&[], &variables).await;
        assert!(server.met() > 0, "the registry was not asked");
        assert_eq!(exit, 1);
        assert_books(&report, "0 delivered, 10 undelivered, complete false");
        let error = report["error"].as_str().expect("an error");
        assert!(error.contains("the registry") && error.contains(&server.url) && !error.contains("dcid"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_against_the_name_in_registry_endpoint() {
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

/// Accepts every body, and gives the registry's answers that it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    lists: VecDeque<Result<&'static str, Hang>>,
    asked: usize,
    sent_to: Vec<String>,
    down: Vec<&'static str>,
}

/// No answer until the time is up.
struct Hang;

impl Told {
    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.0.lock().expect("no panic while holding")
    }
}

impl Transport for Told {
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
            record.asked += 1;
            record.lists.pop_front().expect("the registry is asked more often than was thought of")
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

fn logstash(told: &Told) -> Arc<Logstash<Told>> {
    let registry = Discovery {
        url: Url::parse("http://registry.internal/").expect("a URL"),
        template: EndpointTemplate::parse("http://{ip}:{port}/").expect("a template"),
        allowed: vec!["10.0.0.0/8".parse().expect("a range")],
    };
    Arc::new(Logstash::new(
        told.clone(),
        LogstashSettings {
            endpoints: EndpointSource::Registry(registry),
            credentials: Credentials::None,
            request_timeout: Duration::from_secs(30),
            retry_budget: Duration::from_secs(60),
            seed: 1,
        },
    ))
}

/// Sends one batch and lets what it has started in the background go on.
async fn send_one(logstash: &Arc<Logstash<Told>>) {
    let delivery = logstash.deliver(&one_event(), &Mutex::new(Evidence::new(0)), &Shutdown::at(None)).await;
    assert_eq!((delivery.delivered, delivery.error), (1, None));
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_keeps_the_last_good_list_and_a_good_one_replaces_it() {
    let told = Told::default();
    let logstash = logstash(&told);
    let good = r#"["10.0.0.1:8080"]"#;
    let bad = [Ok("500"), Ok("<html>"), Ok("[]"), Ok(r#"["logstash:8080"]"#), Ok(r#"["203.0.113.1:8080"]"#), Err(Hang)];
    let bad_answers = bad.len();
    told.record().lists = std::iter::once(Ok(good)).chain(bad).chain([Ok(r#"["10.0.0.2:8080"]"#)]).collect();
    for _ in 0..=bad_answers {
        send_one(&logstash).await;
        send_one(&logstash).await;
        tokio::time::sleep(Duration::from_secs(31)).await;
    }
    // The first of these starts the asking, and does not wait for the answer.
    send_one(&logstash).await;
    send_one(&logstash).await;
    let record = told.record();
    assert_eq!(record.asked, bad_answers + 2, "a list is asked for again after half a minute, and not before");
    let (last, before) = record.sent_to.split_last().expect("batches");
    assert_eq!(last, "http://10.0.0.2:8080/", "a good list does not replace the one before");
    let kept = before.iter().take_while(|url| *url == "http://10.0.0.1:8080/").count();
    assert!(kept >= 2 * (bad_answers + 1), "a bad answer replaced a good list: {before:?}");
}

#[tokio::test(start_paused = true)]
async fn the_list_is_asked_for_sooner_while_an_endpoint_is_down() {
    let told = Told::default();
    let logstash = logstash(&told);
    let both = r#"["10.0.0.1:8080","10.0.0.2:8080"]"#;
    told.record().lists = [Ok(both), Ok(r#"["10.0.0.2:8080","10.0.0.3:8080"]"#)].into();
    told.record().down.push("10.0.0.1");
    send_one(&logstash).await;
    send_one(&logstash).await;
    assert_eq!(told.record().asked, 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    for _ in 0..4 {
        send_one(&logstash).await;
    }
    let record = told.record();
    assert_eq!(record.asked, 2, "the list was not asked for while an endpoint is down");
    assert!(record.sent_to.iter().any(|url| url == "http://10.0.0.3:8080/"), "{:?}", record.sent_to);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_does_not_hold_a_run_up_beyond_its_end() {
    let told = Told::default();
    let logstash = logstash(&told);
    told.record().lists = [Err(Hang), Err(Hang)].into();
    // Someone with more time asks already, as an invocation's request for a list can outlast it.
    let patient = tokio::spawn({
        let logstash = Arc::clone(&logstash);
        async move { logstash.deliver(&one_event(), &Mutex::new(Evidence::new(0)), &Shutdown::at(None)).await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(told.record().asked, 1, "nobody asks yet");
    let started = tokio::time::Instant::now();
    let ends_soon = Shutdown::at(Some(started + Duration::from_secs(2)));
    let delivery = logstash.deliver(&one_event(), &Mutex::new(Evidence::new(0)), &ends_soon).await;
    assert!(delivery.error.is_some(), "there is no list");
    assert!(started.elapsed() <= Duration::from_secs(3), "the run went on for {:?}", started.elapsed());
    patient.abort();
}
