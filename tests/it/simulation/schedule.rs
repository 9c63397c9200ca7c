//! What a seed decides in advance.

use std::time::Duration;

use elb_log::batch::{BatchSettings, Compression, Framing};
use elb_log::event::{EventSettings, Schema};
use elb_log_shipper::ship::ShipSettings;
use fastrand::Rng;

use crate::simulation::object::{Object, ObjectSettings};

/// The bucket of all objects and of the dead letters.
pub(crate) const BUCKET: &str = "logs";

/// The prefix of the dead letters.
pub(crate) const DEAD_LETTERS: &str = "dead";

/// `MAX_LINE_BYTES`.
pub(crate) const MAX_LINE_BYTES: usize = 4_096;

/// The names of all faults. Each has to happen in a run of all seeds.
pub(crate) const FAULTS: &[&str] = &[
    "invocation killed",
    "invocation killed before a step",
    "invocation killed while an endpoint accepts",
    "invocation out of time",
    "new process",
    "delivered twice at the same time",
    "endpoint down",
    "endpoint responds 302",
    "endpoint responds 400",
    "endpoint responds 401",
    "endpoint responds 403",
    "endpoint responds 404",
    "endpoint responds 406",
    "endpoint responds 410",
    "endpoint responds 413",
    "endpoint responds 429",
    "endpoint responds 451",
    "endpoint responds 200 with a page",
    "endpoint responds 429 with Retry-After",
    "endpoint responds 500",
    "endpoint responds 502",
    "endpoint responds 503",
    "endpoint responds 503 with Retry-After",
    "endpoint responds 504",
    "endpoint accepts with 201",
    "endpoint accepts with 202",
    "endpoint accepts with 204",
    "endpoint accepts, then responds 500",
    "endpoint accepts, then responds 502",
    "endpoint accepts, then responds 504",
    "endpoint closes at the header",
    "endpoint resets after acceptance",
    "endpoint responds too late",
    "endpoint never responds",
    "endpoint slow",
    "endpoint refuses gzip (400)",
    "body too large (413)",
    "bad event refused (422)",
    "bad event blocked (403)",
    "bad event blocked (406)",
    "bad event blocked with a page (200)",
    "bad event resets the connection",
    "bad event makes the endpoint fail (500)",
    "password refused after a rotation",
    "secret cannot be read",
    "object missing",
    "object denied",
    "object truncated",
    "object corrupt",
    "object without an ETag",
    "object replaced",
    "object replaced while it is read (412)",
    "several gzip members",
    "lines that end with CRLF",
    "blank lines",
    "only blank lines",
    "last line without a line feed",
    "overlong line",
    "line of any bytes",
    "store busy (503)",
    "store's body breaks",
    "store's body ends early",
    "store's body is slow",
    "store's body stalls",
    "store never responds",
    "store ignores the range",
    "store sends another range",
    "store ignores If-Match",
    "dead letter store busy (503)",
    "dead letter stored, response lost",
    "dead letter store never responds",
    "checkpoint written",
    "checkpoint read",
    "checkpoint of another message",
    "object continued at a checkpoint",
    "checkpoint cannot be deleted (503)",
    "message moved to the dead-letter queue",
    "queue busy (500)",
];

/// How an endpoint behaves for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    Healthy,
    /// Accepts, and responds with this status. Those that are not of success reach the client after the acceptance.
    Accepts(u16),
    Down,
    /// Responds with this status to every body.
    Responds(u16),
    /// Responds with 200 and an HTML page, and accepts nothing.
    RespondsWithAPage,
    /// Responds with this status and `Retry-After`.
    AsksToRetryAfter(u16),
    ClosesAtTheHeader,
    ResetsAfterAcceptance,
    RespondsTooLate,
    NeverResponds,
    Slow,
    RefusesGzip,
}

/// The behaviors to draw from, each with its weight. Those that refuse no events are frequent, and the others are rare.
const BEHAVIORS: &[(Behavior, u8)] = &[
    (Behavior::Healthy, 5),
    (Behavior::Accepts(201), 1),
    (Behavior::Accepts(202), 1),
    (Behavior::Accepts(204), 1),
    (Behavior::Accepts(500), 1),
    (Behavior::Accepts(502), 1),
    (Behavior::Accepts(504), 1),
    (Behavior::Down, 3),
    (Behavior::Responds(429), 3),
    (Behavior::Responds(502), 1),
    (Behavior::Responds(503), 2),
    (Behavior::Responds(504), 1),
    (Behavior::AsksToRetryAfter(429), 2),
    (Behavior::AsksToRetryAfter(503), 1),
    (Behavior::ClosesAtTheHeader, 3),
    (Behavior::ResetsAfterAcceptance, 3),
    (Behavior::RespondsTooLate, 2),
    (Behavior::NeverResponds, 2),
    (Behavior::Slow, 2),
    (Behavior::Responds(500), 1),
    (Behavior::Responds(400), 1),
    (Behavior::Responds(413), 1),
    (Behavior::Responds(401), 1),
    (Behavior::Responds(403), 1),
    (Behavior::Responds(404), 1),
    (Behavior::Responds(406), 1),
    (Behavior::Responds(410), 1),
    (Behavior::Responds(451), 1),
    (Behavior::RespondsWithAPage, 1),
    (Behavior::Responds(302), 1),
    (Behavior::RefusesGzip, 1),
];

/// What endpoints do with a body that contains a bad event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadEvents {
    /// Every endpoint responds with this status.
    Respond(u16),
    /// A firewall responds with 200 and an HTML page.
    RespondWithAPage,
    /// A firewall closes the connection.
    Reset,
}

impl BadEvents {
    /// Returns whether a firewall in front of the endpoints refuses bad events.
    pub(crate) fn are_blocked(self) -> bool {
        matches!(self, BadEvents::Respond(403 | 406) | BadEvents::RespondWithAPage | BadEvents::Reset)
    }
}

/// The reactions to draw from.
const BAD_EVENTS: [BadEvents; 8] = [
    BadEvents::Respond(422),
    BadEvents::Respond(422),
    BadEvents::Respond(500),
    BadEvents::Respond(500),
    BadEvents::Respond(403),
    BadEvents::Respond(406),
    BadEvents::RespondWithAPage,
    BadEvents::Reset,
];

/// How the function learns of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// One S3 event names all objects.
    Event,
    /// Messages of an SQS queue.
    Queue,
    /// Tasks of an S3 Batch Operations job.
    Job,
}

/// A change of the password, which the secret and the endpoints do not take over at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    /// When the secret has the new password, in milliseconds.
    pub(crate) secret_ms: u64,
    /// When the endpoints require the new password, in milliseconds.
    pub(crate) endpoints_ms: u64,
    /// The status of responses to another password.
    pub(crate) status: u16,
}

/// Everything that a seed decides in advance. Later decisions use the same random numbers.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) objects: Vec<Object>,
    /// The objects of each message.
    pub(crate) messages: Vec<Vec<usize>>,
    pub(crate) source: Source,
    /// For each endpoint, its behaviors and the time until which each lasts, in milliseconds. After the last one, the endpoint is
    /// healthy.
    pub(crate) endpoints: Vec<Vec<(u64, Behavior)>>,
    pub(crate) bad_events: BadEvents,
    /// Maximum length of a body, in bytes. Larger ones get 413.
    pub(crate) largest_body: usize,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) ship: ShipSettings,
    pub(crate) dead_letter: bool,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_budget: Duration,
    /// One of this number of requests to AWS has a fault.
    pub(crate) store_faults: u32,
    /// Until this time, in milliseconds, AWS has faults and invocations are killed.
    pub(crate) faults_end_ms: u64,
}

impl Schedule {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let faults_end_ms = rng.u64(0..120_000);
        let largest_body = if rng.u8(..4) == 0 { rng.usize(4_096..20_000) } else { usize::MAX };
        let settings = ObjectSettings {
            bad_one_in: if rng.u8(..4) == 0 { rng.usize(5..60) } else { usize::MAX },
            overlong: largest_body == usize::MAX,
            faults_end_ms,
        };
        let objects: Vec<Object> = (0..rng.usize(1..=3)).map(|number| Object::draw(rng, number, settings)).collect();
        let source = *rng.choice(&[Source::Event, Source::Queue, Source::Queue, Source::Job]).unwrap_or(&Source::Event);
        let endpoints = (0..rng.usize(1..=3)).map(|_| behaviors(rng, faults_end_ms)).collect();
        Schedule {
            messages: messages(rng, source, objects.len()),
            objects,
            source,
            endpoints,
            bad_events: *rng.choice(&BAD_EVENTS).unwrap_or(&BadEvents::Reset),
            largest_body,
            rotation: (rng.u8(..6) == 0).then(|| rotation(rng, faults_end_ms)),
            ship: ship_settings(rng),
            dead_letter: rng.u8(..4) > 0,
            request_timeout: Duration::from_millis(rng.u64(200..5_000)),
            retry_budget: Duration::from_millis(if rng.bool() { rng.u64(..1_000) } else { rng.u64(..20_000) }),
            store_faults: *rng.choice(&[u32::MAX, 5, 2]).unwrap_or(&5),
            faults_end_ms,
        }
    }
}

/// Distributes the objects among messages.
fn messages(rng: &mut Rng, source: Source, objects: usize) -> Vec<Vec<usize>> {
    match source {
        Source::Event => vec![(0..objects).collect()],
        Source::Job => (0..objects).map(|object| vec![object]).collect(),
        Source::Queue => {
            let mut messages: Vec<Vec<usize>> = Vec::new();
            for object in 0..objects {
                match messages.last_mut() {
                    Some(message) if rng.u8(..3) == 0 => message.push(object),
                    _ => messages.push(vec![object]),
                }
            }
            messages
        }
    }
}

fn behaviors(rng: &mut Rng, faults_end_ms: u64) -> Vec<(u64, Behavior)> {
    let mut behaviors = Vec::new();
    let mut until = 0;
    while until < faults_end_ms {
        until = (until + rng.u64(50..30_000)).min(faults_end_ms);
        behaviors.push((until, behavior(rng)));
    }
    behaviors
}

fn behavior(rng: &mut Rng) -> Behavior {
    let weights: u8 = BEHAVIORS.iter().map(|(_, weight)| weight).sum();
    let mut at = rng.u8(..weights);
    let drawn = BEHAVIORS.iter().find(|(_, weight)| {
        let found = at < *weight;
        at = at.saturating_sub(*weight);
        found
    });
    drawn.map_or(Behavior::Healthy, |(behavior, _)| *behavior)
}

fn rotation(rng: &mut Rng, faults_end_ms: u64) -> Rotation {
    let first = rng.u64(..faults_end_ms.max(1)) / 2;
    let (later, lag) = (first + rng.u64(..20_000), rng.bool());
    let (secret_ms, endpoints_ms) = if lag { (later, first) } else { (first, later) };
    Rotation { secret_ms, endpoints_ms, status: *rng.choice(&[401, 401, 403]).unwrap_or(&401) }
}

fn ship_settings(rng: &mut Rng) -> ShipSettings {
    ShipSettings {
        events: EventSettings {
            schema: if rng.bool() { Schema::Native } else { Schema::Ecs },
            include_original: rng.bool(),
            ..EventSettings::default()
        },
        batch: BatchSettings {
            max_events: rng.usize(2..40),
            max_bytes: rng.usize(4_096..32_768),
            framing: Framing::JsonArray,
            compression: if rng.bool() { Compression::Gzip(1) } else { Compression::None },
            bodies: true,
        },
        concurrency: rng.usize(1..=4),
        max_line_bytes: MAX_LINE_BYTES,
        poison_limit: *rng.choice(&[0, 2, 100, 100, 100]).unwrap_or(&100),
        events_per_second: None,
    }
}
