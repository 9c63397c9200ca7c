//! Simulated endpoints: a transport whose outcomes depend on the present behavior of the endpoint.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use elb_log::batch::{Body, Compression};
use elb_log_shipper::receive::{Decoded, MAX_CONTENT_BYTES, decode};
use elb_log_shipper::sink::{Endpoint, Fault, Outcome, Response, Transport};
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::sleep;

use crate::simulation::object::Version;
use crate::simulation::requests::Event;
use crate::simulation::schedule::{BadEvents, Behavior};
use crate::simulation::world::Shared;

/// Sends the requests of one process to the simulated endpoints. An endpoint's port is its number, from 1.
#[derive(Debug)]
pub(crate) struct SimulatedTransport {
    pub(crate) shared: Arc<Shared>,
    pub(crate) process: usize,
}

/// The content of a body.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) events: Vec<Event>,
    /// The version that an event of each object was made from, if the events show it.
    versions: BTreeMap<usize, Version>,
    /// The events that show from which version they were made.
    shown: Vec<(Event, Version)>,
    /// The length without compression, in bytes.
    length: usize,
}

/// The members of an event that the simulation reads.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, rename = "@metadata", default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    event: Original<'a>,
    #[serde(borrow, default)]
    tags: Vec<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, rename = "_id")]
    id: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Original<'a> {
    #[serde(borrow)]
    original: Option<Cow<'a, str>>,
}

/// How an endpoint reacts to a request.
struct Reaction {
    outcome: Outcome,
    accepts: bool,
    /// Whether the outcome comes only after the timeout.
    hangs: bool,
}

/// A request with events in flight. Dropping it before its end aborts the request.
struct InFlight<'a> {
    transport: &'a SimulatedTransport,
    endpoint: usize,
    content: &'a Content,
    sent: Duration,
    /// Whether the endpoint will accept the body.
    accepts: bool,
    ended: bool,
}

impl Transport for SimulatedTransport {
    async fn post(&self, endpoint: &Endpoint, body: &Body, authorization: Option<&HeaderValue>, limit: Duration) -> Outcome {
        let shared = &self.shared;
        let endpoint = usize::from(endpoint.url().port().expect("a port")) - 1;
        if &body.bytes[..] == b"[]" {
            return self.check_health(endpoint, authorization, limit).await;
        }
        let content = shared.content_of(body);
        let mut request = InFlight::begin(self, endpoint, &content);
        shared.step(self.process).await;
        let latency = Duration::from_millis(shared.with(|state| state.rng.u64(..60)));
        let behavior = shared.behavior(endpoint);
        let Reaction { outcome, accepts, hangs } = shared.react(behavior, body, &content, authorization, latency >= limit);
        request.accepts = accepts;
        let elapsed = latency.min(limit);
        sleep(elapsed).await;
        shared.step(self.process).await;
        if accepts {
            request.accept();
        }
        if hangs {
            sleep(limit - elapsed).await;
        }
        shared.step(self.process).await;
        request.end(&outcome);
        shared.trace(|| format!("endpoint {} {behavior:?}: {} events: {outcome}", endpoint + 1, content.events.len()));
        outcome
    }

    async fn get(&self, _: &Url, _: Duration) -> Result<Bytes, String> {
        Err("the simulation has no registry".to_owned())
    }
}

impl SimulatedTransport {
    /// Responds to an empty batch.
    async fn check_health(&self, endpoint: usize, authorization: Option<&HeaderValue>, limit: Duration) -> Outcome {
        let shared = &self.shared;
        shared.requests(self.process, |requests| requests.begin_empty(&shared.schedule, endpoint, shared.elapsed()));
        let latency = Duration::from_millis(shared.with(|state| state.rng.u64(..60)));
        let (behavior, empty) = (shared.behavior(endpoint), Body { bytes: Bytes::new(), compression: Compression::None });
        let Reaction { outcome, hangs, .. } =
            shared.react(behavior, &empty, &Content::default(), authorization, latency >= limit);
        sleep(if hangs { limit } else { latency.min(limit) }).await;
        shared.requests(self.process, |requests| requests.end_empty(&shared.schedule, endpoint, &outcome, shared.elapsed()));
        shared.trace(|| format!("endpoint {} {behavior:?}: health check: {outcome}", endpoint + 1));
        outcome
    }
}

impl<'a> InFlight<'a> {
    fn begin(transport: &'a SimulatedTransport, endpoint: usize, content: &'a Content) -> Self {
        let (shared, now) = (&transport.shared, transport.shared.elapsed());
        shared.requests(transport.process, |requests| {
            requests.begin(&shared.schedule, endpoint, &content.events, now);
            for (&object, &version) in &content.versions {
                requests.see_version(object, version);
            }
        });
        InFlight { transport, endpoint, content, sent: now, accepts: false, ended: false }
    }

    fn accept(&mut self) {
        self.accepts = false;
        let shared = &self.transport.shared;
        shared.requests(self.transport.process, |requests| requests.accept(self.endpoint, &self.content.events, self.sent));
        shared.with(|state| {
            state.accepted.extend(&self.content.events);
            for (event, version) in &self.content.shown {
                state.shown.entry(*event).or_default().insert(*version);
            }
        });
    }

    fn end(&mut self, outcome: &Outcome) {
        self.ended = true;
        let (shared, now) = (&self.transport.shared, self.transport.shared.elapsed());
        let events = &self.content.events;
        shared.requests(self.transport.process, |requests| {
            requests.end(&shared.schedule, self.endpoint, events, outcome, now);
        });
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (shared, process) = (&self.transport.shared, self.transport.process);
        let killed = shared.requests(process, |requests| {
            requests.abort(&self.content.events);
            requests.killed
        });
        if killed && self.accepts && shared.with(|state| state.rng.bool()) {
            shared.fault("invocation killed while an endpoint accepts");
            self.accept();
        }
    }
}

impl Shared {
    /// Decodes a body as Logstash does, and checks that it is valid. A retried body is decoded once.
    fn content_of(&self, body: &Body) -> Arc<Content> {
        if let Some(known) = self.with(|state| state.contents.get(&body.bytes).cloned()) {
            return known;
        }
        let content = Arc::new(self.read(body));
        self.with(|state| state.contents.insert(body.bytes.clone(), Arc::clone(&content)));
        content
    }

    fn read(&self, body: &Body) -> Content {
        let encoding = if body.compression == Compression::None { "" } else { "gzip" };
        let Decoded::Events(events) = decode("application/json", encoding, &body.bytes, MAX_CONTENT_BYTES) else {
            self.violation("a body's compression differs from its header".to_owned());
            return Content::default();
        };
        // A bracket before, and a comma or bracket after each event.
        let length = events.iter().map(|event| event.len() + 1).sum::<usize>() + 1;
        let mut content = Content { length, ..Content::default() };
        for text in events {
            let event: Members<'_> = serde_json::from_str(&text).expect("the receiver gives JSON");
            if event.tags.iter().any(|tag| tag == "_jsonparsefailure") {
                self.violation(format!("a body is not a JSON array of events: {text}"));
                return content;
            }
            self.read_event(&event, &mut content);
        }
        content
    }

    fn read_event(&self, event: &Members<'_>, content: &mut Content) {
        let id = &*event.metadata.id;
        let Some(&(object, line)) = self.ids.get(id) else {
            self.violation(format!("the id {id} belongs to no line"));
            return;
        };
        content.events.push((object, line));
        let (Some(original), Some((first, second))) =
            (event.event.original.as_deref(), &self.schedule.objects[object].lines[line].text)
        else {
            return;
        };
        if original != first && original != second {
            self.violation(format!("the event of line {line} of object {object} has another text: {original}"));
        } else if first != second {
            let version = if original == first { Version::First } else { Version::Second };
            content.shown.push(((object, line), version));
            if *content.versions.entry(object).or_insert(version) != version {
                self.violation(format!("object {object}: a body of two versions"));
            }
        }
    }

    /// Decides how an endpoint reacts. A request that is cut off gets no response before the timeout.
    fn react(
        &self,
        behavior: Behavior,
        body: &Body,
        content: &Content,
        authorization: Option<&HeaderValue>,
        cut_off: bool,
    ) -> Reaction {
        let refusal = self
            .blocks_content(content)
            .or_else(|| self.refuses_everything(behavior, body))
            .or_else(|| self.refuses_password(authorization))
            .or_else(|| self.refuses_content(content));
        if let Some((fault, outcome)) = refusal {
            self.fault(fault);
            let hangs = outcome == Outcome::NoResponse(Fault::Timeout);
            return Reaction { outcome, accepts: false, hangs };
        }
        let timeout = |accepts| Reaction { outcome: Outcome::NoResponse(Fault::Timeout), accepts, hangs: true };
        let accepts = |outcome| Reaction { outcome, accepts: true, hangs: false };
        match behavior {
            Behavior::ResetsAfterAcceptance => {
                self.fault("endpoint resets after acceptance");
                accepts(broken())
            }
            Behavior::RespondsTooLate => {
                self.fault("endpoint responds too late");
                timeout(true)
            }
            Behavior::Slow => {
                self.fault("endpoint slow");
                timeout(self.with(|state| state.rng.bool()))
            }
            _ if cut_off => timeout(true),
            Behavior::Accepts(status) => {
                self.fault(acceptance(status));
                accepts(responds(status, if status == 204 || status >= 500 { "" } else { "ok" }))
            }
            _ => accepts(responds(200, "ok")),
        }
    }

    /// Returns the outcome of an endpoint that refuses every body.
    fn refuses_everything(&self, behavior: Behavior, body: &Body) -> Option<(&'static str, Outcome)> {
        Some(match behavior {
            Behavior::Down => ("endpoint down", Outcome::NoResponse(Fault::Connect("refused".to_owned()))),
            Behavior::Responds(status) => (refusal(status), responds(status, "no")),
            Behavior::RespondsWithAPage => ("endpoint responds 200 with a page", page()),
            Behavior::AsksToRetryAfter(status) => {
                let retry_after = Duration::from_secs(self.with(|state| state.rng.u64(..40)));
                let name = if status == 429 {
                    "endpoint responds 429 with Retry-After"
                } else {
                    "endpoint responds 503 with Retry-After"
                };
                (name, Outcome::Response(Response { status, retry_after, ..Response::default() }))
            }
            Behavior::ClosesAtTheHeader => ("endpoint closes at the header", broken()),
            Behavior::NeverResponds => ("endpoint never responds", Outcome::NoResponse(Fault::Timeout)),
            Behavior::RefusesGzip if body.compression != Compression::None => {
                ("endpoint refuses gzip (400)", responds(400, "no"))
            }
            Behavior::Healthy
            | Behavior::Accepts(_)
            | Behavior::Slow
            | Behavior::RefusesGzip
            | Behavior::ResetsAfterAcceptance
            | Behavior::RespondsTooLate => return None,
        })
    }

    fn refuses_password(&self, authorization: Option<&HeaderValue>) -> Option<(&'static str, Outcome)> {
        let rotation = self.schedule.rotation?;
        let expected = format!("Basic {}", STANDARD.encode(format!("shipper:{}", self.password(rotation.endpoints_ms))));
        let is_valid = authorization.is_some_and(|given| given.as_bytes() == expected.as_bytes());
        (!is_valid).then(|| ("password refused after a rotation", responds(rotation.status, "")))
    }

    fn refuses_content(&self, content: &Content) -> Option<(&'static str, Outcome)> {
        if content.length > self.schedule.largest_body {
            return Some(("body too large (413)", responds(413, "")));
        }
        self.bad_event_in(content).filter(|_| !self.schedule.bad_events.are_blocked())
    }

    /// Returns the outcome of a firewall in front of an endpoint. It does not depend on the endpoint.
    fn blocks_content(&self, content: &Content) -> Option<(&'static str, Outcome)> {
        self.bad_event_in(content).filter(|_| self.schedule.bad_events.are_blocked())
    }

    fn bad_event_in(&self, content: &Content) -> Option<(&'static str, Outcome)> {
        let is_bad = |&(object, line): &Event| self.schedule.objects[object].lines[line].is_bad;
        content.events.iter().any(is_bad).then(|| match self.schedule.bad_events {
            BadEvents::Respond(status) => (bad_event(status), responds(status, "no")),
            BadEvents::RespondWithAPage => ("bad event blocked with a page (200)", page()),
            BadEvents::Reset => ("bad event resets the connection", broken()),
        })
    }

    /// Returns the password of a system that changes it at this time, in milliseconds.
    pub(crate) fn password(&self, changed_ms: u64) -> &'static str {
        if self.now() < changed_ms { "first" } else { "second" }
    }
}

fn responds(status: u16, text: &str) -> Outcome {
    Outcome::Response(Response { status, text: text.to_owned(), ..Response::default() })
}

/// Returns the response of a firewall that does not tell programs that it blocks them.
fn page() -> Outcome {
    Outcome::Response(Response { status: 200, is_foreign: true, text: "<html>".to_owned(), ..Response::default() })
}

fn broken() -> Outcome {
    Outcome::NoResponse(Fault::Broken("reset".to_owned()))
}

/// Returns the name of a fault.
fn refusal(status: u16) -> &'static str {
    match status {
        302 => "endpoint responds 302",
        400 => "endpoint responds 400",
        401 => "endpoint responds 401",
        403 => "endpoint responds 403",
        404 => "endpoint responds 404",
        406 => "endpoint responds 406",
        410 => "endpoint responds 410",
        413 => "endpoint responds 413",
        429 => "endpoint responds 429",
        451 => "endpoint responds 451",
        500 => "endpoint responds 500",
        502 => "endpoint responds 502",
        503 => "endpoint responds 503",
        504 => "endpoint responds 504",
        other => panic!("the fault {other} has no name"),
    }
}

/// Returns the name of a fault.
fn acceptance(status: u16) -> &'static str {
    match status {
        201 => "endpoint accepts with 201",
        202 => "endpoint accepts with 202",
        204 => "endpoint accepts with 204",
        500 => "endpoint accepts, then responds 500",
        502 => "endpoint accepts, then responds 502",
        504 => "endpoint accepts, then responds 504",
        other => panic!("the fault {other} has no name"),
    }
}

/// Returns the name of a fault.
fn bad_event(status: u16) -> &'static str {
    match status {
        403 => "bad event blocked (403)",
        406 => "bad event blocked (406)",
        422 => "bad event refused (422)",
        500 => "bad event makes the endpoint fail (500)",
        other => panic!("the fault {other} has no name"),
    }
}
