//! What a seed decides in advance.

use std::time::Duration;

use elb_log::batch::{BatchSettings, Compression, Framing};
use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, IdPrefix, Schema};
use elb_log::origin::ObjectName;
use elb_log_shipper::ship::ShipSettings;
use fastrand::Rng;

use crate::support::{alb_key, alb_line, gzip};

/// The bucket of all objects and of the dead letters.
pub(crate) const BUCKET: &str = "logs";

/// The prefix of the dead letters.
pub(crate) const DEAD_LETTERS: &str = "dead";

/// The names of all faults. Each has to happen in a run of all seeds.
pub(crate) const FAULTS: &[&str] = &[
    "invocation killed",
    "invocation out of time",
    "new process",
    "endpoint down",
    "endpoint busy (429)",
    "endpoint busy with Retry-After",
    "endpoint failing (500)",
    "endpoint unavailable (503)",
    "endpoint closes at the header",
    "endpoint resets after acceptance",
    "endpoint responds too late",
    "endpoint never responds",
    "endpoint slow",
    "endpoint refuses everything (400)",
    "endpoint accepts no body (413)",
    "endpoint refuses the credentials (401)",
    "endpoint not found (404)",
    "endpoint redirects (302)",
    "endpoint refuses gzip (400)",
    "body too large (413)",
    "bad event refused (422)",
    "bad event makes the endpoint fail (500)",
    "object missing",
    "object denied",
    "object truncated",
    "store busy (503)",
    "store's body breaks",
    "store's body ends early",
    "store's body is slow",
    "store never responds",
    "dead letter store busy (503)",
];

/// How an endpoint behaves for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    Healthy,
    Down,
    Busy,
    BusyUntil,
    Failing,
    Unavailable,
    ClosesAtTheHeader,
    ResetsAfterAcceptance,
    RespondsTooLate,
    NeverResponds,
    Slow,
    RefusesEverything,
    AcceptsNoBody,
    RefusesCredentials,
    NotFound,
    Redirects,
    RefusesGzip,
}

/// The behaviors to draw from. Those that refuse no events are frequent, and the others are rare.
const BEHAVIORS: [Behavior; 24] = [
    Behavior::Healthy,
    Behavior::Healthy,
    Behavior::Healthy,
    Behavior::Down,
    Behavior::Down,
    Behavior::Busy,
    Behavior::Busy,
    Behavior::BusyUntil,
    Behavior::Unavailable,
    Behavior::Unavailable,
    Behavior::ClosesAtTheHeader,
    Behavior::ClosesAtTheHeader,
    Behavior::ResetsAfterAcceptance,
    Behavior::ResetsAfterAcceptance,
    Behavior::RespondsTooLate,
    Behavior::NeverResponds,
    Behavior::Slow,
    Behavior::Failing,
    Behavior::RefusesEverything,
    Behavior::AcceptsNoBody,
    Behavior::RefusesCredentials,
    Behavior::NotFound,
    Behavior::Redirects,
    Behavior::RefusesGzip,
];

/// How an object is available in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    Whole,
    Missing,
    Denied,
    /// The end is missing, so that the gzip data is incomplete.
    Truncated,
}

/// One log object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) body: Vec<u8>,
    pub(crate) availability: Availability,
    /// The id of each line, in order.
    pub(crate) ids: Vec<String>,
    /// The ids of bad events, which no endpoint ever accepts.
    pub(crate) bad_ids: Vec<String>,
}

/// Everything that a seed decides in advance. Later decisions use the same random numbers.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) objects: Vec<Object>,
    /// For each endpoint, its behaviors and the time until which each lasts, in milliseconds. After the last one, the endpoint is
    /// healthy.
    pub(crate) endpoints: Vec<Vec<(u64, Behavior)>>,
    /// The status of responses to bad events.
    pub(crate) bad_event_status: u16,
    /// Maximum length of a body, in bytes. Larger ones get 413.
    pub(crate) largest_body: usize,
    pub(crate) ship: ShipSettings,
    pub(crate) dead_letter: bool,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_budget: Duration,
    /// Whether notifications come by SQS, with one message for each object. Otherwise one S3 event names all objects.
    pub(crate) by_queue: bool,
    /// One of this number of requests to the store has a fault.
    pub(crate) store_faults: u32,
    /// Until this time, in milliseconds, the store has faults and invocations are killed.
    pub(crate) faults_end_ms: u64,
}

impl Schedule {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let bad_one_in = if rng.u8(..4) == 0 { rng.usize(5..60) } else { usize::MAX };
        let objects = (0..rng.usize(1..=3)).map(|number| Object::draw(rng, number, bad_one_in)).collect();
        let faults_end_ms = rng.u64(0..120_000);
        let endpoints = (0..rng.usize(1..=3)).map(|_| behaviors(rng, faults_end_ms)).collect();
        Schedule {
            objects,
            endpoints,
            bad_event_status: if rng.bool() { 422 } else { 500 },
            largest_body: if rng.u8(..4) == 0 { rng.usize(4_096..20_000) } else { usize::MAX },
            ship: ship_settings(rng),
            dead_letter: rng.u8(..4) > 0,
            request_timeout: Duration::from_millis(rng.u64(200..5_000)),
            retry_budget: Duration::from_millis(rng.u64(0..20_000)),
            by_queue: rng.bool(),
            store_faults: *rng.choice(&[u32::MAX, 5, 2]).unwrap_or(&5),
            faults_end_ms,
        }
    }
}

impl Object {
    /// Bad events are sparse, so that a refused part has neighbours that are accepted.
    fn draw(rng: &mut Rng, number: usize, bad_one_in: usize) -> Self {
        let key = alb_key(&format!("{number}x{:08x}", rng.u32(..)));
        let prefix = IdPrefix::of(&ObjectName { bucket: BUCKET.to_owned(), key: key.clone() });
        let (mut text, mut ids, mut bad_ids) = (String::new(), Vec::new(), Vec::new());
        let lines = if rng.u8(..8) == 0 { 0 } else { rng.usize(1..90) };
        for line in 0..lines {
            let mut id = Buffer::default();
            prefix.write(&mut id, text.len() as u64);
            let id = String::from_utf8(id.to_vec()).expect("hex digits");
            if line % bad_one_in == bad_one_in / 2 {
                bad_ids.push(id.clone());
            }
            ids.push(id);
            if rng.u8(..4) == 0 {
                text += &alb_line(line)
            } else {
                text += &format!("line {line} is not an access log line")
            }
            text.push('\n');
        }
        let availability = match rng.u8(..20) {
            0 => Availability::Missing,
            1 => Availability::Denied,
            2 if lines > 0 => Availability::Truncated,
            _ => Availability::Whole,
        };
        let mut body =
            if availability == Availability::Truncated || rng.bool() { gzip(text.as_bytes()) } else { text.into_bytes() };
        if availability == Availability::Truncated {
            body.truncate(rng.usize(3..body.len()));
        } else if lines == 0 {
            body.clear();
        }
        Object { key, body, availability, ids, bad_ids }
    }
}

fn behaviors(rng: &mut Rng, faults_end_ms: u64) -> Vec<(u64, Behavior)> {
    let mut behaviors = Vec::new();
    let mut until = 0;
    while until < faults_end_ms {
        until = (until + rng.u64(50..30_000)).min(faults_end_ms);
        behaviors.push((until, *rng.choice(&BEHAVIORS).unwrap_or(&Behavior::Healthy)));
    }
    behaviors
}

fn ship_settings(rng: &mut Rng) -> ShipSettings {
    ShipSettings {
        events: EventSettings { schema: if rng.bool() { Schema::Native } else { Schema::Ecs }, ..EventSettings::default() },
        batch: BatchSettings {
            max_events: rng.usize(2..40),
            max_bytes: rng.usize(4_096..32_768),
            framing: Framing::JsonArray,
            compression: if rng.bool() { Compression::Gzip(1) } else { Compression::None },
            bodies: true,
        },
        concurrency: rng.usize(1..=4),
        max_line_bytes: 4_096,
        poison_limit: *rng.choice(&[0, 2, 100, 100, 100]).unwrap_or(&100),
        events_per_second: None,
    }
}
