//! What the requests of one process show, and the rules that each of them has to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use elb_log_shipper::sink::{Fault, Outcome};

use crate::simulation::object::Version;
use crate::simulation::schedule::Schedule;

/// An event: the index of its object, and of its line in the object.
pub(crate) type Event = (usize, usize);

/// The requests with events that the present invocation of a process has sent.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Requests without a response.
    pub(crate) in_flight: usize,
    /// Whether the invocation was killed. Its requests never get a response.
    pub(crate) killed: bool,
    events: BTreeMap<Event, EventHistory>,
    objects: BTreeMap<usize, ObjectHistory>,
    endpoints: BTreeMap<usize, EndpointHistory>,
    /// The rules that were broken.
    violations: Vec<String>,
}

/// What happened to one event.
#[derive(Debug, Default)]
struct EventHistory {
    /// When a body with the event was first sent.
    first_sent: Option<Duration>,
    /// When a body with the event was first refused.
    first_refused: Option<Duration>,
    accepted: u32,
    /// Acceptances of which the shipper has learned.
    confirmed: u32,
    /// Whether a retry would exceed `RETRY_BUDGET`.
    budget_spent: bool,
    /// How often an endpoint has refused a body with this event alone, by the status.
    refused_alone: BTreeMap<(usize, u16), u32>,
}

/// What happened to the bodies of one object.
#[derive(Debug, Default)]
struct ObjectHistory {
    requests: u64,
    not_accepted: u64,
    /// When each endpoint last accepted a body.
    accepted_by: BTreeMap<usize, Duration>,
    versions: BTreeSet<Version>,
}

/// What one endpoint did in this invocation.
#[derive(Debug, Default)]
struct EndpointHistory {
    /// Whether a request was not accepted, so that the shipper may know that the endpoint is not in service.
    failed: bool,
    /// The end of the time for which the endpoint asked with `Retry-After`.
    rests_until: Duration,
}

impl Requests {
    /// Records that a body is sent.
    pub(crate) fn begin(&mut self, schedule: &Schedule, events: &[Event], now: Duration) {
        self.in_flight += 1;
        let (found, allowed) = (self.in_flight, schedule.ship.concurrency);
        if found > allowed {
            self.violations.push(format!("{found} requests in flight, {allowed} allowed"));
        }
        for object in objects(events) {
            self.objects.entry(object).or_default().requests += 1;
        }
        for event in events {
            let history = self.events.entry(*event).or_default();
            history.first_sent.get_or_insert(now);
            if history.budget_spent {
                self.violations.push(format!("{event:?} is sent although RETRY_BUDGET is spent"));
                break;
            }
        }
    }

    /// Records that an endpoint has accepted a body, whether the shipper learns of it or not.
    pub(crate) fn accept(&mut self, endpoint: usize, events: &[Event], now: Duration) {
        for event in events {
            let history = self.events.entry(*event).or_default();
            history.accepted += 1;
            if history.confirmed > 0 {
                self.violations.push(format!("{event:?} is accepted again by endpoint {endpoint}, and no fault explains it"));
            }
        }
        for object in objects(events) {
            self.objects.entry(object).or_default().accepted_by.insert(endpoint, now);
        }
    }

    /// Records how a request ended.
    pub(crate) fn end(&mut self, schedule: &Schedule, endpoint: usize, events: &[Event], outcome: &Outcome, now: Duration) {
        self.in_flight -= 1;
        if is_success(outcome) {
            for event in events {
                self.events.entry(*event).or_default().confirmed += 1;
            }
            return;
        }
        for object in objects(events) {
            self.objects.entry(object).or_default().not_accepted += 1;
        }
        for event in events {
            let history = self.events.entry(*event).or_default();
            let first_sent = history.first_sent.unwrap_or(now);
            history.budget_spent |= is_busy(outcome) && now >= first_sent + schedule.retry_budget;
            if let Outcome::Response(response) = outcome {
                history.first_refused.get_or_insert(now);
                if events.len() == 1 {
                    *history.refused_alone.entry((endpoint, response.status)).or_default() += 1;
                }
            }
        }
        let history = self.endpoints.entry(endpoint).or_default();
        history.failed = true;
        if let Outcome::Response(response) = outcome {
            history.rests_until = history.rests_until.max(now + response.retry_after);
        }
    }

    /// Records that a request was dropped before it ended.
    pub(crate) fn abort(&mut self, events: &[Event]) {
        self.in_flight -= 1;
        if !self.killed {
            self.violations.push(format!("a request with {} events was dropped before its response", events.len()));
        }
    }

    /// Records which version of an object an event was made from.
    pub(crate) fn see_version(&mut self, object: usize, version: Version) {
        let versions = &mut self.objects.entry(object).or_default().versions;
        versions.insert(version);
        if versions.len() > 1 {
            self.violations.push(format!("object {object}: events of two versions"));
        }
    }

    /// Checks that an event may be rejected: the endpoint refused it alone, and accepted another body of the object.
    pub(crate) fn check_rejection(&mut self, event: Event, endpoint: usize, status: u16) {
        let Some(history) = self.events.get(&event) else {
            self.violations.push(format!("{event:?} is rejected and was never sent"));
            return;
        };
        let refusals = history.refused_alone.get(&(endpoint, status)).copied().unwrap_or_default();
        if refusals < if status == 500 { 2 } else { 1 } {
            self.violations.push(format!("{event:?} is rejected after {refusals} responses {status} of endpoint {endpoint}"));
        }
        let accepted = self.objects.get(&event.0).and_then(|object| object.accepted_by.get(&endpoint));
        if accepted.is_none() {
            self.violations.push(format!("{event:?} is rejected without a witness: endpoint {endpoint} accepted nothing"));
        }
    }

    /// Returns the number of an object's events of whose acceptance the shipper has learned.
    pub(crate) fn confirmed(&self, object: usize) -> u64 {
        self.events.range((object, 0)..(object + 1, 0)).filter(|(_, history)| history.confirmed > 0).count() as u64
    }

    /// Returns the number of requests with events of an object.
    pub(crate) fn of_object(&self, object: usize) -> u64 {
        self.objects.get(&object).map_or(0, |history| history.requests)
    }

    /// Returns how many requests an object may have at most if it became `batches` batches: one for each, and two after each
    /// request that was not accepted, because a body is sent again once or in two halves.
    pub(crate) fn bound(&self, object: usize, batches: u64) -> u64 {
        batches + 2 * self.objects.get(&object).map_or(0, |history| history.not_accepted)
    }

    pub(crate) fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.violations)
    }
}

/// Returns the objects of some events. Events of one object are consecutive.
fn objects(events: &[Event]) -> impl Iterator<Item = usize> {
    events.chunk_by(|one, next| one.0 == next.0).filter_map(|chunk| chunk.first()).map(|event| event.0)
}

/// Returns whether the shipper learns from the outcome that the body was accepted.
fn is_success(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Response(response) if matches!(response.status, 200 | 201 | 202 | 204))
}

/// Returns whether only a retry can follow, which the budget limits. A failure or a reset can also be due to the body.
fn is_busy(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Response(response) => matches!(response.status, 408 | 429 | 502..=504),
        Outcome::NoResponse(fault) => !matches!(fault, Fault::Broken(_)),
    }
}
