//! What a seed decides.

use std::time::Duration;

use elb_log::batch::{BatchSettings, Compression, Framing};
use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, IdPrefix, Schema};
use elb_log::origin::ObjectName;
use elb_log_shipper::ship::ShipSettings;
use fastrand::Rng;

use crate::support::{alb_key, alb_line, gzip};

/// The bucket of all objects, and of the dead letters.
pub const BUCKET: &str = "logs";

/// Below this are the dead letters.
pub const DEAD_LETTERS: &str = "dead";

/// The names of all faults.
pub const FAULTS: &[&str] = &[
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
    "endpoint answers too late",
    "endpoint never answers",
    "endpoint slow",
    "endpoint refuses everything (400)",
    "endpoint takes nothing (413)",
    "endpoint wants other credentials (401)",
    "endpoint is none (404)",
    "endpoint redirects (302)",
    "endpoint passes no gzip (400)",
    "body too large (413)",
    "poison event refused (422)",
    "poison event makes fail (500)",
    "object missing",
    "object denied",
    "object truncated",
    "store busy (503)",
    "store's body breaks",
    "store's body ends early",
    "store's body drips",
    "store never answers",
    "dead letter store busy (503)",
];

/// How an endpoint behaves for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    Down,
    Busy,
    BusyUntil,
    Failing,
    Unavailable,
    ClosesAtTheHeader,
    ResetsAfterAcceptance,
    AnswersTooLate,
    NeverAnswers,
    Slow,
    RefusesAll,
    TakesNothing,
    Denies,
    NotFound,
    Redirects,
    PassesNoGzip,
}

/// Moods that pass without a word against events, often; and those that are rare.
const MOODS: [Mood; 24] = [
    Mood::Well,
    Mood::Well,
    Mood::Well,
    Mood::Down,
    Mood::Down,
    Mood::Busy,
    Mood::Busy,
    Mood::BusyUntil,
    Mood::Unavailable,
    Mood::Unavailable,
    Mood::ClosesAtTheHeader,
    Mood::ClosesAtTheHeader,
    Mood::ResetsAfterAcceptance,
    Mood::ResetsAfterAcceptance,
    Mood::AnswersTooLate,
    Mood::NeverAnswers,
    Mood::Slow,
    Mood::Failing,
    Mood::RefusesAll,
    Mood::TakesNothing,
    Mood::Denies,
    Mood::NotFound,
    Mood::Redirects,
    Mood::PassesNoGzip,
];

/// What is in the store under a key, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Whole,
    Missing,
    Denied,
    /// Cut off, so that its gzip is not complete.
    Truncated,
}

/// One log object.
#[derive(Debug)]
pub struct Object {
    pub key: String,
    pub body: Vec<u8>,
    pub kept: Kept,
    /// The id of each line, in order.
    pub ids: Vec<String>,
    /// Ids that no endpoint ever takes.
    pub poison: Vec<String>,
}

/// Everything that a seed decides beforehand. What is decided on the way comes from the same randomness.
#[derive(Debug)]
pub struct Schedule {
    pub objects: Vec<Object>,
    /// For each endpoint, its moods and until when in milliseconds. After the last one it is well.
    pub endpoints: Vec<Vec<(u64, Mood)>>,
    /// With what poison is answered.
    pub poison_status: u16,
    /// Larger bodies are answered with 413.
    pub largest_body: usize,
    pub ship: ShipSettings,
    pub dead_letter: bool,
    pub request_timeout: Duration,
    pub retry_budget: Duration,
    /// By SQS, a message an object; otherwise by one event of S3.
    pub by_queue: bool,
    /// One in so many requests to the store meets a fault.
    pub store_faults: u32,
    /// Until then the store has faults and invocations are killed, in milliseconds.
    pub calm_after: u64,
}

impl Schedule {
    pub fn draw(rng: &mut Rng) -> Self {
        let poison_one_in = if rng.u8(..4) == 0 { rng.usize(5..60) } else { usize::MAX };
        let objects = (0..rng.usize(1..=3)).map(|number| Object::draw(rng, number, poison_one_in)).collect();
        let calm_after = rng.u64(0..120_000);
        let endpoints = (0..rng.usize(1..=3)).map(|_| moods(rng, calm_after)).collect();
        Schedule {
            objects,
            endpoints,
            poison_status: if rng.bool() { 422 } else { 500 },
            largest_body: if rng.u8(..4) == 0 { rng.usize(4_096..20_000) } else { usize::MAX },
            ship: ship_settings(rng),
            dead_letter: rng.u8(..4) > 0,
            request_timeout: Duration::from_millis(rng.u64(200..5_000)),
            retry_budget: Duration::from_millis(rng.u64(0..20_000)),
            by_queue: rng.bool(),
            store_faults: *rng.choice(&[u32::MAX, 5, 2]).unwrap_or(&5),
            calm_after,
        }
    }
}

impl Object {
    /// Poison is sparse, so that a refused part has neighbours that are accepted.
    fn draw(rng: &mut Rng, number: usize, poison_one_in: usize) -> Self {
        let key = alb_key(&format!("{number}x{:08x}", rng.u32(..)));
        let prefix = IdPrefix::of(&ObjectName { bucket: BUCKET.to_owned(), key: key.clone() });
        let (mut text, mut ids, mut poison) = (String::new(), Vec::new(), Vec::new());
        let lines = if rng.u8(..8) == 0 { 0 } else { rng.usize(1..90) };
        for line in 0..lines {
            let mut id = Buffer::default();
            prefix.write(&mut id, text.len() as u64);
            let id = String::from_utf8(id.to_vec()).expect("hex digits");
            if line % poison_one_in == poison_one_in / 2 {
                poison.push(id.clone());
            }
            ids.push(id);
            if rng.u8(..4) == 0 {
                text += &alb_line(line)
            } else {
                text += &format!("line {line} is none of a load balancer")
            }
            text.push('\n');
        }
        let kept = match rng.u8(..20) {
            0 => Kept::Missing,
            1 => Kept::Denied,
            2 if lines > 0 => Kept::Truncated,
            _ => Kept::Whole,
        };
        let mut body = if kept == Kept::Truncated || rng.bool() { gzip(text.as_bytes()) } else { text.into_bytes() };
        if kept == Kept::Truncated {
            body.truncate(rng.usize(3..body.len()));
        } else if lines == 0 {
            body.clear();
        }
        Object { key, body, kept, ids, poison }
    }
}

fn moods(rng: &mut Rng, calm_after: u64) -> Vec<(u64, Mood)> {
    let mut moods = Vec::new();
    let mut until = 0;
    while until < calm_after {
        until = (until + rng.u64(50..30_000)).min(calm_after);
        moods.push((until, *rng.choice(&MOODS).unwrap_or(&Mood::Well)));
    }
    moods
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
