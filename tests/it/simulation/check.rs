//! What must be true after every invocation.

use std::collections::BTreeSet;
use std::io::Read as _;

use elb_log_shipper::ledger::{ObjectReport, Report};
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::simulation::schedule::{Kept, Mood, Object};
use crate::simulation::world::Shared;

/// An invocation that ended by itself.
pub struct Ended {
    pub succeeded: bool,
    pub report: Report,
    /// Null if it failed.
    pub reply: Value,
}

/// Checks an invocation for the objects `open`, and gives those that are to come again.
pub fn check(shared: &Shared, open: &[usize], ended: Ended, last: bool) -> Vec<usize> {
    let dead: BTreeSet<String> = shared.with(|state| state.dead_letters.values().flatten().cloned().collect());
    check_ids(shared, &dead);
    if ended.report.objects.len() != open.len() {
        shared.wrong(format!("a report of {} objects for {}", ended.report.objects.len(), open.len()));
        return Vec::new();
    }
    let (mut failed, mut hopeless) = (Vec::new(), Vec::new());
    for (&index, report) in open.iter().zip(&ended.report.objects) {
        let object = &shared.schedule.objects[index];
        shared.note(|| format!("object {index}: {:?} complete {} error {:?}", report.counts, report.complete, report.error));
        check_object(shared, object, report, &dead, last);
        if !report.is_success() {
            failed.push(index);
            if report.permanent {
                hopeless.push(index);
            }
        }
    }
    let told: Vec<usize> = match (&ended.reply["batchItemFailures"], ended.succeeded) {
        (Value::Array(failures), true) => {
            failures.iter().filter_map(|one| one["itemIdentifier"].as_str()?.parse().ok()).collect()
        }
        (_, true) => Vec::new(),
        (_, false) => open.to_vec(),
    };
    let missing: Vec<_> = failed.iter().filter(|index| !told.contains(index)).collect();
    if !missing.is_empty() {
        shared.wrong(format!("the objects {missing:?} failed, and nobody is told"));
    }
    told.into_iter().filter(|index| !hopeless.contains(index)).collect()
}

fn check_object(shared: &Shared, object: &Object, report: &ObjectReport, dead: &BTreeSet<String>, last: bool) {
    let wrong = |what: &str| shared.wrong(format!("{}: {what}: {report:?}", object.key));
    let counts = &report.counts;
    if counts.lines != counts.delivered + counts.filtered + counts.dead_lettered + counts.undelivered {
        wrong("the books do not balance");
    }
    let known = |ids: &BTreeSet<String>| object.ids.iter().filter(|id| ids.contains(*id)).count() as u64;
    if counts.delivered > shared.with(|state| known(&state.accepted_now)) {
        wrong("more is reported as delivered than was accepted");
    }
    if counts.dead_lettered > known(dead) {
        wrong("more is reported as dead-lettered than is there");
    }
    if counts.dead_lettered as usize > shared.schedule.ship.poison_limit {
        wrong("more is dead-lettered than POISON_LIMIT allows");
    }
    if report.complete && (object.kept != Kept::Whole || counts.lines != object.ids.len() as u64) {
        wrong("complete, and not read to its end");
    }
    if report.is_success() {
        let safe = |id: &&String| dead.contains(*id) || shared.with(|state| state.accepted.contains(*id));
        if counts.undelivered > 0 || !report.complete || !object.ids.iter().all(|id| safe(&id)) {
            wrong("a success that is none");
        }
    } else if report.permanent && object.kept == Kept::Whole {
        wrong("an object that can be read is given up");
    } else if report.error.is_none() {
        wrong("a failure without a reason");
    } else if last && should_have_succeeded(shared, object, report) {
        wrong("everything has long been well, and it still fails");
    }
}

/// Whether nothing but the object itself can still be in the way. An event that makes the only endpoint fail looks like an
/// endpoint that fails, as long as nothing else is accepted meanwhile; then the budget ends the run, with all of its objects.
fn should_have_succeeded(shared: &Shared, object: &Object, report: &ObjectReport) -> bool {
    let schedule = &shared.schedule;
    let error = report.error.as_deref().unwrap_or_default();
    let fails = schedule.poison_status == 500 && schedule.objects.iter().any(|object| !object.poison.is_empty());
    let has_place = schedule.dead_letter && object.poison.len() <= schedule.ship.poison_limit;
    let poison_is_no_hindrance = object.poison.is_empty() || (has_place && !error.contains("down to a single event"));
    object.kept == Kept::Whole && poison_is_no_hindrance && !(fails && error.contains("RETRY_BUDGET"))
}

/// No id that no line has; and only poison in the dead letter, unless an endpoint took healthy events for such.
fn check_ids(shared: &Shared, dead: &BTreeSet<String>) {
    let schedule = &shared.schedule;
    let expected: BTreeSet<&String> = schedule.objects.iter().flat_map(|object| &object.ids).collect();
    let unknown = shared.with(|state| state.accepted.iter().find(|id| !expected.contains(id)).cloned());
    if let Some(id) = unknown {
        shared.wrong(format!("the id {id} is of no line"));
    }
    let misjudges = |mood: &Mood| matches!(mood, Mood::Failing | Mood::RefusesAll | Mood::TakesNothing | Mood::PassesNoGzip);
    if schedule.endpoints.iter().flatten().any(|(_, mood)| misjudges(mood)) {
        return;
    }
    let poison: BTreeSet<&String> = schedule.objects.iter().flat_map(|object| &object.poison).collect();
    if let Some(id) = dead.iter().find(|id| !poison.contains(id)) {
        shared.wrong(format!("{id} is healthy, and dead-lettered"));
    }
}

impl Shared {
    /// Nothing is given up of an object of which no endpoint has accepted anything: a wrong address refuses everything, too.
    pub fn check_witness(&self, given_up: &[String]) {
        for object in self.schedule.objects.iter().filter(|object| object.ids.iter().any(|id| given_up.contains(id))) {
            if !self.with(|state| object.ids.iter().any(|id| state.accepted_now.contains(id))) {
                self.wrong(format!("{}: {} events are given up without a witness", object.key, given_up.len()));
            }
        }
    }

    /// The ids in a dead letter.
    pub fn ids_of_letters(&self, body: &[u8]) -> Vec<String> {
        let mut text = String::new();
        GzDecoder::new(body).read_to_string(&mut text).expect("a dead letter is gzip");
        let id = |line: &str| {
            let letter: Value = serde_json::from_str(line).expect("a dead letter's line is JSON");
            let id = letter["id"].as_str().expect("an id").to_owned();
            if letter["event"]["@metadata"]["_id"] != id {
                self.wrong(format!("a dead letter with another id than its event's: {letter}"));
            }
            id
        };
        text.lines().map(id).collect()
    }
}
