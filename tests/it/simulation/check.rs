//! Checks the invariants after every invocation.

use std::collections::BTreeSet;
use std::io::Read as _;

use elb_log_shipper::ledger::{ObjectReport, Report};
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::simulation::schedule::{Availability, Behavior, Object};
use crate::simulation::world::Shared;

/// An invocation that ended by itself.
pub(crate) struct Ended {
    pub(crate) succeeded: bool,
    pub(crate) report: Report,
    /// The response; null if the invocation failed.
    pub(crate) reply: Value,
}

/// Checks an invocation for the objects `pending`. Returns those that are delivered again.
pub(crate) fn check(shared: &Shared, pending: &[usize], ended: Ended, last: bool) -> Vec<usize> {
    let dead: BTreeSet<String> = shared.with(|state| state.dead_letters.values().flatten().cloned().collect());
    check_ids(shared, &dead);
    if ended.report.objects.len() != pending.len() {
        shared.violation(format!("a report of {} objects for {}", ended.report.objects.len(), pending.len()));
        return Vec::new();
    }
    let (mut failed, mut permanent) = (Vec::new(), Vec::new());
    for (&index, report) in pending.iter().zip(&ended.report.objects) {
        let object = &shared.schedule.objects[index];
        shared.trace(|| format!("object {index}: {:?} complete {} error {:?}", report.counts, report.complete, report.error));
        check_object(shared, object, report, &dead, last);
        if !report.is_success() {
            failed.push(index);
            if report.permanent {
                permanent.push(index);
            }
        }
    }
    let redelivered: Vec<usize> = match (&ended.reply["batchItemFailures"], ended.succeeded) {
        (Value::Array(failures), true) => {
            failures.iter().filter_map(|one| one["itemIdentifier"].as_str()?.parse().ok()).collect()
        }
        (_, true) => Vec::new(),
        (_, false) => pending.to_vec(),
    };
    let missing: Vec<_> = failed.iter().filter(|index| !redelivered.contains(index)).collect();
    if !missing.is_empty() {
        shared.violation(format!("the objects {missing:?} failed, and the response does not say so"));
    }
    redelivered.into_iter().filter(|index| !permanent.contains(index)).collect()
}

fn check_object(shared: &Shared, object: &Object, report: &ObjectReport, dead: &BTreeSet<String>, last: bool) {
    let violation = |what: &str| shared.violation(format!("{}: {what}: {report:?}", object.key));
    let counts = &report.counts;
    if counts.lines != counts.delivered + counts.filtered + counts.dead_lettered + counts.undelivered {
        violation("the counts do not add up");
    }
    let known = |ids: &BTreeSet<String>| object.ids.iter().filter(|id| ids.contains(*id)).count() as u64;
    if counts.delivered > shared.with(|state| known(&state.accepted_now)) {
        violation("more events are reported as delivered than were accepted");
    }
    if counts.dead_lettered > known(dead) {
        violation("more events are reported as dead-lettered than were written");
    }
    if counts.dead_lettered as usize > shared.schedule.ship.poison_limit {
        violation("more events are dead-lettered than POISON_LIMIT allows");
    }
    if report.complete && (object.availability != Availability::Whole || counts.lines != object.ids.len() as u64) {
        violation("complete, but not read to the end");
    }
    if report.is_success() {
        let safe = |id: &&String| dead.contains(*id) || shared.with(|state| state.accepted.contains(*id));
        if counts.undelivered > 0 || !report.complete || !object.ids.iter().all(|id| safe(&id)) {
            violation("success is reported, but events are missing");
        }
    } else if report.permanent && object.availability == Availability::Whole {
        violation("a readable object is given up");
    } else if report.error.is_none() {
        violation("a failure without a reason");
    } else if last && should_have_succeeded(shared, object, report) {
        violation("the object fails long after all faults have ended");
    }
}

/// Returns whether only the object itself can still be the reason for a failure. A bad event that makes the only endpoint fail
/// looks like a failing endpoint, as long as no other body is accepted; then the budget ends the run with all of its objects.
fn should_have_succeeded(shared: &Shared, object: &Object, report: &ObjectReport) -> bool {
    let schedule = &shared.schedule;
    let error = report.error.as_deref().unwrap_or_default();
    let fails = schedule.bad_event_status == 500 && schedule.objects.iter().any(|object| !object.bad_ids.is_empty());
    let can_dead_letter = schedule.dead_letter && object.bad_ids.len() <= schedule.ship.poison_limit;
    let can_deliver = object.bad_ids.is_empty() || (can_dead_letter && !error.contains("down to a single event"));
    object.availability == Availability::Whole && can_deliver && !(fails && error.contains("RETRY_BUDGET"))
}

/// Checks that every id belongs to a line, and that every dead letter is a bad event, unless an endpoint refused good events.
fn check_ids(shared: &Shared, dead: &BTreeSet<String>) {
    let schedule = &shared.schedule;
    let expected: BTreeSet<&String> = schedule.objects.iter().flat_map(|object| &object.ids).collect();
    let unknown = shared.with(|state| state.accepted.iter().find(|id| !expected.contains(id)).cloned());
    if let Some(id) = unknown {
        shared.violation(format!("the id {id} belongs to no line"));
    }
    let refuses_good_events = |behavior: &Behavior| {
        matches!(behavior, Behavior::Failing | Behavior::RefusesEverything | Behavior::AcceptsNoBody | Behavior::RefusesGzip)
    };
    if schedule.endpoints.iter().flatten().any(|(_, behavior)| refuses_good_events(behavior)) {
        return;
    }
    let bad_ids: BTreeSet<&String> = schedule.objects.iter().flat_map(|object| &object.bad_ids).collect();
    if let Some(id) = dead.iter().find(|id| !bad_ids.contains(id)) {
        shared.violation(format!("the good event {id} is dead-lettered"));
    }
}

impl Shared {
    /// Checks that no event is rejected of an object of which no endpoint has accepted anything: a wrong address also refuses
    /// everything.
    pub(crate) fn check_witness(&self, rejected: &[String]) {
        for object in self.schedule.objects.iter().filter(|object| object.ids.iter().any(|id| rejected.contains(id))) {
            if !self.with(|state| object.ids.iter().any(|id| state.accepted_now.contains(id))) {
                self.violation(format!("{}: {} events are rejected without a witness", object.key, rejected.len()));
            }
        }
    }

    /// Returns the ids in a dead-letter object.
    pub(crate) fn dead_letter_ids(&self, body: &[u8]) -> Vec<String> {
        let mut text = String::new();
        GzDecoder::new(body).read_to_string(&mut text).expect("a dead letter is gzip");
        let id = |line: &str| {
            let dead_letter: Value = serde_json::from_str(line).expect("a dead letter's line is JSON");
            let id = dead_letter["id"].as_str().expect("an id").to_owned();
            if dead_letter["event"]["@metadata"]["_id"] != id {
                self.violation(format!("a dead letter has another id than its event: {dead_letter}"));
            }
            id
        };
        text.lines().map(id).collect()
    }
}
