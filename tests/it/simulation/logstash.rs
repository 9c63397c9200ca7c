//! Endpoints as a transport: each request meets the mood that its endpoint is in.

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

use crate::simulation::schedule::Mood;
use crate::simulation::world::Shared;
use crate::support::id_of;

/// The way to all endpoints. Their ports are their numbers, from 1.
#[derive(Debug)]
pub struct SimulatedTransport(pub Arc<Shared>);

/// What is in a body.
#[derive(Debug, Default)]
pub struct Content {
    /// The ids of its events.
    ids: Vec<String>,
    /// Its length, inflated.
    length: usize,
}

/// A request on its way, however it ends.
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
        let is_probe = &body.bytes[..] == b"[]";
        let _in_flight = shared.begin(!is_probe);
        let Content { ids, length } = &*shared.content_of(body);
        let mood = shared.mood(number);
        let latency = Duration::from_millis(shared.with(|state| state.rng.u64(1..60)));
        let (answer, takes) = shared.answer(mood, body, (ids, *length), latency, limit);
        let took = latency.min(limit);
        sleep(took).await;
        if takes {
            shared.accept(ids);
        }
        match mood {
            Mood::AnswersTooLate | Mood::NeverAnswers | Mood::Slow if answer == Outcome::NoResponse(Fault::Timeout) => {
                sleep(limit - took).await;
            }
            _ => {}
        }
        shared.note(|| format!("endpoint {} {mood:?}: {} events: {answer}", number + 1, ids.len()));
        answer
    }

    async fn get(&self, _: &Url, _: Duration) -> Result<Bytes, String> {
        Err("there is no registry in this world".to_owned())
    }
}

impl Shared {
    fn begin(&self, counts: bool) -> InFlight<'_> {
        self.with(|state| {
            state.in_flight += usize::from(counts);
            if state.in_flight > self.schedule.ship.concurrency {
                let (found, allowed) = (state.in_flight, self.schedule.ship.concurrency);
                state.wrong.push(format!("{found} requests in flight, {allowed} allowed"));
            }
        });
        InFlight(self, counts)
    }

    /// Reads a body as Logstash would, and checks that it can. The same body comes again and again, so it is read once.
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
            self.wrong("a body is not compressed as it says".to_owned());
            return Content::default();
        };
        let ids = events.iter().map(|event| {
            let event: Value = serde_json::from_str(event).expect("the receiver gives JSON");
            if event["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == "_jsonparsefailure")) {
                self.wrong(format!("a body is no JSON array of events: {event}"));
                return String::new();
            }
            id_of(&event)
        });
        // The brackets, and a comma or bracket behind each event.
        let length = events.iter().map(|event| event.len() + 1).sum::<usize>() + 1;
        Content { ids: ids.collect(), length }
    }

    /// What is answered, and whether the events are taken.
    fn answer(
        &self,
        mood: Mood,
        body: &Body,
        (ids, length): (&[String], usize),
        latency: Duration,
        limit: Duration,
    ) -> (Outcome, bool) {
        let status = |status| Outcome::Response(Response { status, ..Response::default() });
        let broken = || Outcome::NoResponse(Fault::Broken("reset".to_owned()));
        let fault = |name, answer| {
            self.fault(name);
            (answer, false)
        };
        match mood {
            Mood::Down => return fault("endpoint down", Outcome::NoResponse(Fault::Connect("refused".to_owned()))),
            Mood::Busy => return fault("endpoint busy (429)", status(429)),
            Mood::BusyUntil => {
                let retry_after = Duration::from_secs(self.with(|state| state.rng.u64(0..40)));
                let answer = Outcome::Response(Response { status: 429, retry_after, ..Response::default() });
                return fault("endpoint busy with Retry-After", answer);
            }
            Mood::Failing => return fault("endpoint failing (500)", status(500)),
            Mood::Unavailable => return fault("endpoint unavailable (503)", status(503)),
            Mood::ClosesAtTheHeader => return fault("endpoint closes at the header", broken()),
            Mood::NeverAnswers => return fault("endpoint never answers", Outcome::NoResponse(Fault::Timeout)),
            Mood::RefusesAll => return fault("endpoint refuses everything (400)", status(400)),
            Mood::TakesNothing => return fault("endpoint takes nothing (413)", status(413)),
            Mood::Denies => return fault("endpoint wants other credentials (401)", status(401)),
            Mood::NotFound => return fault("endpoint is none (404)", status(404)),
            Mood::Redirects => return fault("endpoint redirects (302)", status(302)),
            Mood::PassesNoGzip if body.compression != Compression::None => {
                return fault("endpoint passes no gzip (400)", status(400));
            }
            Mood::Well | Mood::Slow | Mood::PassesNoGzip | Mood::ResetsAfterAcceptance | Mood::AnswersTooLate => {}
        }
        if length > self.schedule.largest_body {
            return fault("body too large (413)", status(413));
        }
        if ids.iter().any(|id| self.is_poison(id)) {
            let status_code = self.schedule.poison_status;
            let name = if status_code == 500 { "poison event makes fail (500)" } else { "poison event refused (422)" };
            return fault(name, status(status_code));
        }
        match mood {
            Mood::ResetsAfterAcceptance => {
                self.fault("endpoint resets after acceptance");
                (broken(), true)
            }
            Mood::AnswersTooLate => {
                self.fault("endpoint answers too late");
                (Outcome::NoResponse(Fault::Timeout), true)
            }
            Mood::Slow => {
                self.fault("endpoint slow");
                (Outcome::NoResponse(Fault::Timeout), self.with(|state| state.rng.bool()))
            }
            // The end of the invocation is nearer than the answer.
            _ if latency >= limit => (Outcome::NoResponse(Fault::Timeout), true),
            _ => (status(200), true),
        }
    }

    fn is_poison(&self, id: &str) -> bool {
        self.schedule.objects.iter().any(|object| object.poison.iter().any(|poison| poison == id))
    }
}
