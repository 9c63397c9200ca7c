//! Simulated endpoints: a transport whose outcomes depend on the present behavior of the endpoint.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use elb_log::batch::{Body, Compression};
use elb_log_shipper::receive::{Decoded, MAX_CONTENT_BYTES, decode};
use elb_log_shipper::sink::{Endpoint, Fault, Outcome, Response, Transport};
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde_json::Value;
use tokio::time::sleep;

use crate::simulation::schedule::Behavior;
use crate::simulation::world::Shared;
use crate::support::id_of;

/// Sends requests to the simulated endpoints. An endpoint's port is its number, from 1.
#[derive(Debug)]
pub(crate) struct SimulatedTransport(pub(crate) Arc<Shared>);

/// The content of a body.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The ids of the events.
    ids: Vec<String>,
    /// The length without compression, in bytes.
    length: usize,
}

/// A request in flight. Dropping it ends the request.
struct InFlight<'a>(&'a Shared, bool);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.in_flight -= usize::from(self.1));
    }
}

impl Transport for SimulatedTransport {
    async fn post(&self, endpoint: &Endpoint, body: &Body, _: Option<&HeaderValue>, limit: Duration) -> Outcome {
        let shared = &self.0;
        let number = usize::from(endpoint.url().port().expect("a port")) - 1;
        let is_health_check = &body.bytes[..] == b"[]";
        let _in_flight = shared.begin(!is_health_check);
        let Content { ids, length } = &*shared.content_of(body);
        let behavior = shared.behavior(number);
        let latency = Duration::from_millis(shared.with(|state| state.rng.u64(1..60)));
        let (outcome, accepts) = shared.outcome(behavior, body, (ids, *length), latency, limit);
        let elapsed = latency.min(limit);
        sleep(elapsed).await;
        if accepts {
            shared.accept(ids);
        }
        match behavior {
            Behavior::RespondsTooLate | Behavior::NeverResponds | Behavior::Slow
                if outcome == Outcome::NoResponse(Fault::Timeout) =>
            {
                sleep(limit - elapsed).await;
            }
            _ => {}
        }
        shared.trace(|| format!("endpoint {} {behavior:?}: {} events: {outcome}", number + 1, ids.len()));
        outcome
    }

    async fn get(&self, _: &Url, _: Duration) -> Result<Bytes, String> {
        Err("the simulation has no registry".to_owned())
    }
}

impl Shared {
    fn begin(&self, counts: bool) -> InFlight<'_> {
        self.with(|state| {
            state.in_flight += usize::from(counts);
            if state.in_flight > self.schedule.ship.concurrency {
                let (found, allowed) = (state.in_flight, self.schedule.ship.concurrency);
                state.violations.push(format!("{found} requests in flight, {allowed} allowed"));
            }
        });
        InFlight(self, counts)
    }

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
        let ids = events.iter().map(|event| {
            let event: Value = serde_json::from_str(event).expect("the receiver gives JSON");
            if event["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == "_jsonparsefailure")) {
                self.violation(format!("a body is not a JSON array of events: {event}"));
                return String::new();
            }
            id_of(&event)
        });
        // A bracket before, and a comma or bracket after each event.
        let length = events.iter().map(|event| event.len() + 1).sum::<usize>() + 1;
        Content { ids: ids.collect(), length }
    }

    /// Returns how a request ends, and whether the endpoint accepts the events.
    fn outcome(
        &self,
        behavior: Behavior,
        body: &Body,
        (ids, length): (&[String], usize),
        latency: Duration,
        limit: Duration,
    ) -> (Outcome, bool) {
        let status = |status| Outcome::Response(Response { status, ..Response::default() });
        let broken = || Outcome::NoResponse(Fault::Broken("reset".to_owned()));
        let fault = |name, outcome| {
            self.fault(name);
            (outcome, false)
        };
        match behavior {
            Behavior::Down => return fault("endpoint down", Outcome::NoResponse(Fault::Connect("refused".to_owned()))),
            Behavior::Busy => return fault("endpoint busy (429)", status(429)),
            Behavior::BusyUntil => {
                let retry_after = Duration::from_secs(self.with(|state| state.rng.u64(0..40)));
                let outcome = Outcome::Response(Response { status: 429, retry_after, ..Response::default() });
                return fault("endpoint busy with Retry-After", outcome);
            }
            Behavior::Failing => return fault("endpoint failing (500)", status(500)),
            Behavior::Unavailable => return fault("endpoint unavailable (503)", status(503)),
            Behavior::ClosesAtTheHeader => return fault("endpoint closes at the header", broken()),
            Behavior::NeverResponds => return fault("endpoint never responds", Outcome::NoResponse(Fault::Timeout)),
            Behavior::RefusesEverything => return fault("endpoint refuses everything (400)", status(400)),
            Behavior::AcceptsNoBody => return fault("endpoint accepts no body (413)", status(413)),
            Behavior::RefusesCredentials => return fault("endpoint refuses the credentials (401)", status(401)),
            Behavior::NotFound => return fault("endpoint not found (404)", status(404)),
            Behavior::Redirects => return fault("endpoint redirects (302)", status(302)),
            Behavior::RefusesGzip if body.compression != Compression::None => {
                return fault("endpoint refuses gzip (400)", status(400));
            }
            Behavior::Healthy
            | Behavior::Slow
            | Behavior::RefusesGzip
            | Behavior::ResetsAfterAcceptance
            | Behavior::RespondsTooLate => {}
        }
        if length > self.schedule.largest_body {
            return fault("body too large (413)", status(413));
        }
        if ids.iter().any(|id| self.is_bad(id)) {
            let status_code = self.schedule.bad_event_status;
            let name = if status_code == 500 { "bad event makes the endpoint fail (500)" } else { "bad event refused (422)" };
            return fault(name, status(status_code));
        }
        match behavior {
            Behavior::ResetsAfterAcceptance => {
                self.fault("endpoint resets after acceptance");
                (broken(), true)
            }
            Behavior::RespondsTooLate => {
                self.fault("endpoint responds too late");
                (Outcome::NoResponse(Fault::Timeout), true)
            }
            Behavior::Slow => {
                self.fault("endpoint slow");
                (Outcome::NoResponse(Fault::Timeout), self.with(|state| state.rng.bool()))
            }
            // The invocation ends before the response.
            _ if latency >= limit => (Outcome::NoResponse(Fault::Timeout), true),
            _ => (status(200), true),
        }
    }

    fn is_bad(&self, id: &str) -> bool {
        self.schedule.objects.iter().any(|object| object.bad_ids.iter().any(|bad| bad == id))
    }
}
