//! Checks the invariants after every invocation.

use std::collections::BTreeSet;
use std::io::Read as _;

use elb_log_shipper::ledger::{ObjectReport, Report};
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::simulation::object::{Availability, Version};
use crate::simulation::requests::Event;
use crate::simulation::schedule::{BadEvents, Behavior, Source};
use crate::simulation::world::{Message, Shared};

/// An invocation that ended by itself.
pub(crate) struct Ended {
    pub(crate) process: usize,
    pub(crate) succeeded: bool,
    pub(crate) report: Report,
    /// The response; null if the invocation failed.
    pub(crate) reply: Value,
    /// Whether this was the last delivery.
    pub(crate) last: bool,
}

/// Checks an invocation for the messages `pending`. Returns those that are delivered again.
pub(crate) fn check(shared: &Shared, pending: &[Message], ended: &Ended) -> Vec<Message> {
    let in_flight = shared.requests(ended.process, |requests| requests.in_flight);
    if in_flight > 0 {
        shared.violation(format!("the invocation ended with {in_flight} requests in flight"));
    }
    let objects: Vec<usize> = pending.iter().flat_map(|message| message.objects.iter().copied()).collect();
    if ended.report.objects.len() != objects.len() {
        shared.violation(format!("a report of {} objects for {}", ended.report.objects.len(), objects.len()));
        return Vec::new();
    }
    let dead = shared.dead_events();
    check_dead_letters(shared, &dead);
    for (&object, report) in objects.iter().zip(&ended.report.objects) {
        shared.trace(|| format!("object {object}: {:?} complete {} error {:?}", report.counts, report.complete, report.error));
        check_object(shared, object, report, &dead, ended);
    }
    let report_of = |object: usize| {
        let found = objects.iter().position(|&other| other == object);
        found.and_then(|index| ended.report.objects.get(index)).expect("a report of each object")
    };
    let mut left = Vec::new();
    for message in pending {
        if let Some(message) = redelivered(shared, message, ended, &report_of) {
            left.push(message);
        } else {
            check_acknowledged(shared, message, &dead, &report_of);
        }
    }
    left
}

/// Returns what is delivered again of a message, according to the response.
fn redelivered<'a>(
    shared: &Shared,
    message: &Message,
    ended: &Ended,
    report_of: &impl Fn(usize) -> &'a ObjectReport,
) -> Option<Message> {
    let number = message.number.to_string();
    let with_member = |list: &Value, member: &str| {
        let found = list.as_array()?.iter().find(|one| one[member] == number.as_str())?;
        Some(found.clone())
    };
    match shared.schedule.source {
        Source::Event if ended.succeeded => None,
        Source::Event => {
            // A person sends the other objects again.
            let objects = message.objects.iter().copied().filter(|&object| !report_of(object).permanent);
            let left = Message { objects: objects.collect(), ..message.clone() };
            (!left.objects.is_empty()).then_some(left)
        }
        Source::Queue if !ended.succeeded => Some(message.clone()),
        Source::Queue => with_member(&ended.reply["batchItemFailures"], "itemIdentifier").map(|_| message.clone()),
        Source::Job => {
            let result = with_member(&ended.reply["results"], "taskId");
            let Some(result) = result else {
                shared.violation(format!("task {number} has no result: {}", ended.reply));
                return None;
            };
            (result["resultCode"] == "TemporaryFailure").then(|| message.clone())
        }
    }
}

/// Checks that nothing is lost with a message that is never delivered again.
fn check_acknowledged<'a>(
    shared: &Shared,
    message: &Message,
    dead: &BTreeSet<Event>,
    report_of: &impl Fn(usize) -> &'a ObjectReport,
) {
    for &object in &message.objects {
        let report = report_of(object);
        if is_given_up(shared, message, report) {
            continue;
        }
        let found = &shared.schedule.objects[object];
        let safe = |line: usize| dead.contains(&(object, line)) || shared.has_accepted((object, line), report);
        let is_readable = found.availability == Availability::Whole;
        if !report.is_success() || !is_readable || !(0..found.lines.len()).all(safe) {
            shared.violation(format!("message {} is done, but events of {} are missing: {report:?}", message.number, found.key));
        }
    }
}

/// Returns whether the object can never be read, and a person can see that.
fn is_given_up(shared: &Shared, message: &Message, report: &ObjectReport) -> bool {
    let is_seen = match shared.schedule.source {
        Source::Event | Source::Job => true,
        Source::Queue => shared.with(|state| state.moved.contains(&message.number)),
    };
    report.permanent && is_seen
}

fn check_object(shared: &Shared, object: usize, report: &ObjectReport, dead: &BTreeSet<Event>, ended: &Ended) {
    let found = &shared.schedule.objects[object];
    if report.resumed_at.is_some() {
        shared.fault("object continued at a checkpoint");
    }
    let violation = |what: &str| shared.violation(format!("object {object}: {what}: {report:?}"));
    let counts = &report.counts;
    if counts.lines != counts.delivered + counts.filtered + counts.dead_lettered + counts.undelivered {
        violation("the counts do not add up");
    }
    if report.reason.is_some() == report.is_success() {
        violation("exactly the objects that are not shipped have a reason");
    }
    let (confirmed, requests, bound, empty) = shared.requests(ended.process, |requests| {
        (
            requests.confirmed(object),
            requests.of_object(object),
            requests.bound(object, counts.batches - report.resumed_counts.batches),
            requests.empty,
        )
    });
    let resumed = &report.resumed_counts;
    if counts.delivered != confirmed + resumed.delivered {
        violation(&format!("{confirmed} events were accepted"));
    }
    // Probes count, and health checks do not.
    if !(requests..=requests + empty).contains(&(counts.requests - resumed.requests)) {
        violation(&format!("{requests} requests were sent"));
    }
    if requests > bound {
        violation(&format!("{requests} requests were sent, and the responses explain {bound}"));
    }
    if counts.dead_lettered > dead.range((object, 0)..(object + 1, 0)).count() as u64 {
        violation("more events are reported as dead-lettered than were written");
    }
    if counts.dead_lettered as usize > shared.schedule.ship.poison_limit {
        violation("more events are dead-lettered than POISON_LIMIT allows");
    }
    let is_readable = found.availability == Availability::Whole;
    if report.complete && (!is_readable || counts.lines != found.lines.len() as u64) {
        violation("complete, but not read to the end");
    }
    if report.is_success() {
        if counts.undelivered > 0 || !report.complete {
            violation("success is reported, but events are missing");
        }
    } else if report.permanent && is_readable && found.replaced_ms.is_none() {
        violation("a readable object is given up");
    } else if report.error.is_none() && !report.is_continued() {
        violation("a failure without a reason");
    } else if ended.last && should_have_succeeded(shared, object, report) {
        violation("the object fails long after all faults have ended");
    }
}

/// Returns whether only the object itself can still be the reason for a failure. A bad event that makes the only endpoint fail
/// looks like a failing endpoint, as long as no other body is accepted; then the budget ends the run with all of its objects.
fn should_have_succeeded(shared: &Shared, object: usize, report: &ObjectReport) -> bool {
    let (schedule, object) = (&shared.schedule, &shared.schedule.objects[object]);
    let error = report.error.as_deref().unwrap_or_default();
    let has_bad_lines = schedule.objects.iter().any(|object| object.bad_lines() > 0);
    let fails = matches!(schedule.bad_events, BadEvents::Respond(500) | BadEvents::Reset) && has_bad_lines;
    let can_dead_letter = schedule.dead_letter && object.bad_lines() <= schedule.ship.poison_limit;
    let without_witness = error.contains("down to a single event") || error.contains("has accepted no other event since");
    let can_deliver = object.bad_lines() == 0 || (can_dead_letter && !without_witness);
    object.availability == Availability::Whole && can_deliver && !(fails && error.contains("RETRY_BUDGET"))
}

/// Checks that every dead letter is a bad event, unless an endpoint refused good events.
fn check_dead_letters(shared: &Shared, dead: &BTreeSet<Event>) {
    let refuses_good_events = |behavior: &Behavior| {
        matches!(behavior, Behavior::Responds(400 | 413 | 500) | Behavior::Accepts(500) | Behavior::RefusesGzip)
    };
    if shared.schedule.endpoints.iter().flatten().any(|(_, behavior)| refuses_good_events(behavior)) {
        return;
    }
    let is_good = |&&(object, line): &&Event| !shared.schedule.objects[object].lines[line].is_bad;
    if let Some(event) = dead.iter().find(is_good) {
        shared.violation(format!("the good event {event:?} is dead-lettered"));
    }
}

impl Shared {
    /// Returns whether an endpoint has accepted an event, and of the version that the report is about, if the event shows it.
    fn has_accepted(&self, event: Event, report: &ObjectReport) -> bool {
        let version = match report.etag.as_deref() {
            Some("1") => Some(Version::First),
            Some("2") => Some(Version::Second),
            _ => None,
        };
        self.with(|state| {
            let shown = state.shown.get(&event);
            let is_other = shown.is_some_and(|shown| version.is_some_and(|version| !shown.contains(&version)));
            state.accepted.contains(&event) && !is_other
        })
    }

    /// Checks that everything before a checkpoint is delivered or dead-lettered.
    pub(crate) fn check_checkpoint(&self, text: &[u8]) {
        let checkpoint: Value = serde_json::from_slice(text).expect("a checkpoint is JSON");
        let (key, offset) = (checkpoint["key"].as_str().expect("a key"), checkpoint["offset"].as_u64().expect("an offset"));
        let found = self.schedule.objects.iter().position(|object| object.key == key).expect("a checkpoint of an object");
        let dead = self.dead_events();
        for (line, _) in self.schedule.objects[found].lines.iter().enumerate().filter(|(_, line)| line.offset < offset) {
            let event = (found, line);
            if !dead.contains(&event) && !self.with(|state| state.accepted.contains(&event)) {
                self.violation(format!(
                    "a checkpoint at {offset} is after {event:?}, which is neither delivered nor dead-lettered"
                ));
            }
        }
    }

    /// Returns the events in all dead letters.
    fn dead_events(&self) -> BTreeSet<Event> {
        self.with(|state| state.dead_letters.values().flatten().copied().collect())
    }

    /// Returns the events in a dead-letter object that `process` writes, after checking that each may be rejected.
    pub(crate) fn dead_letter_events(&self, process: usize, body: &[u8]) -> Vec<Event> {
        let mut text = String::new();
        GzDecoder::new(body).read_to_string(&mut text).expect("a dead letter is gzip");
        text.lines().filter_map(|line| self.dead_letter_event(process, line)).collect()
    }

    fn dead_letter_event(&self, process: usize, line: &str) -> Option<Event> {
        let dead_letter: Value = serde_json::from_str(line).expect("a dead letter's line is JSON");
        let id = dead_letter["id"].as_str().expect("an id");
        if dead_letter["event"]["@metadata"]["_id"] != id {
            self.violation(format!("a dead letter has another id than its event: {dead_letter}"));
        }
        let endpoint = dead_letter["endpoint"].as_str().and_then(|url| url.strip_prefix("http://logstash:"));
        let endpoint = endpoint.and_then(|rest| rest.trim_end_matches('/').parse::<usize>().ok());
        let status = dead_letter["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let (Some(&event), Some(endpoint)) = (self.ids.get(id), endpoint) else {
            self.violation(format!("a dead letter names no event and endpoint: {dead_letter}"));
            return None;
        };
        self.requests(process, |requests| requests.check_rejection(event, endpoint - 1, status.unwrap_or_default()));
        Some(event)
    }
}
