//! The shipper at a real registry: its events go to the servers of the list, and nowhere else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use elb_common::tls::{SystemRoots, client_config};
use elb_log::batch::{self, Batch, BatchBuilder, BatchSettings, Compression, Framing};
use elb_log_shipper::shutdown::Shutdown;
use elb_log_shipper::sink::{
    Credentials, Discovery, Endpoint, EndpointSource, EndpointTemplate, Evidence, HttpSettings, HttpTransport, Logstash,
    LogstashSettings, Outcome, Response, ResponseCheck, Transport,
};
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::support::peers::{Moto, Server};

/// Asks the registry as the shipper does. Its servers are addresses of a network that is not here, so what they would be sent is
/// written down instead.
struct Recorder {
    http: HttpTransport,
    sent_to: Arc<Mutex<Vec<String>>>,
}

impl Transport for Recorder {
    async fn post(&self, endpoint: &Endpoint, _: &batch::Body, _: Option<&HeaderValue>, _: Duration) -> Outcome {
        self.sent_to.lock().expect("nobody panics while holding it").push(endpoint.to_string());
        Outcome::Response(Response { status: 200, ..Default::default() })
    }

    async fn get(&self, url: &Url, limit: Duration) -> Result<Bytes, String> {
        self.http.get(url, limit).await
    }
}

/// Ships ten batches, and says where to, and what went wrong.
async fn shipped(lookup: &str, allowed: &str) -> (Vec<String>, Option<String>) {
    let tls = client_config(&SystemRoots::new(), Vec::new(), None).expect("a configuration of TLS");
    let (concurrency, connect_timeout) = (2, Duration::from_secs(20));
    let http = HttpTransport::new(HttpSettings {
        tls,
        concurrency,
        connect_timeout,
        response_check: ResponseCheck::default(),
        now: jiff::Timestamp::now,
    });
    let sent_to = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder { http: http.expect("a client"), sent_to: Arc::clone(&sent_to) };
    let registry = Discovery {
        url: lookup.parse().expect("a URL"),
        template: EndpointTemplate::parse("http://{ip}:{port}/").expect("a template"),
        allowed: vec![allowed.parse().expect("a range")],
    };
    let settings = LogstashSettings {
        endpoints: EndpointSource::Registry(registry),
        credentials: Credentials::None,
        request_timeout: Duration::from_secs(20),
        retry_budget: Duration::from_secs(1),
        seed: 1,
    };
    let logstash = Arc::new(Logstash::new(recorder, settings));
    let mut error = None;
    for _ in 0..10 {
        let delivery = logstash.deliver(&one_event(), &Mutex::new(Evidence::new(0)), &Shutdown::at(None)).await;
        error = error.or(delivery.error.map(|error| error.to_string()));
    }
    let sent_to = sent_to.lock().expect("nobody panics while holding it").clone();
    (sent_to, error)
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

#[tokio::test]
async fn events_go_to_the_servers_that_aws_shows_and_never_outside_of_the_shippers_own_ranges() {
    let moto = Moto::start().await;
    moto.make_group(3).await;
    let server = Server::start(&moto.url, &[]).await;
    let list = reqwest::get(server.lookup()).await.expect("an answer").bytes().await.expect("a body");
    let list: Vec<String> = serde_json::from_slice(&list).expect("a list");
    let (mut sent_to, error) = shipped(&server.lookup(), "10.0.0.0/8").await;
    sent_to.sort_unstable();
    sent_to.dedup();
    let mut expected: Vec<String> = list.iter().map(|endpoint| format!("http://{endpoint}/")).collect();
    expected.sort_unstable();
    assert_eq!((sent_to, error), (expected, None));

    let (sent_to, error) = shipped(&server.lookup(), "192.168.0.0/16").await;
    assert_eq!(sent_to, Vec::<String>::new());
    assert!(error.as_ref().is_some_and(|error| error.contains("REGISTRY_ALLOWED_CIDRS")), "{error:?}");
}
