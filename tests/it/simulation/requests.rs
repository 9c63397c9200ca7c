//! What the requests of one process show, and the rules that each of them has to keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use elb_log_shipper::sink::{Fault, Outcome};

use crate::simulation::object::Version;
use crate::simulation::schedule::Schedule;

/// Maximum time between a response and the next request that follows at once.
const AT_ONCE: Duration = Duration::from_millis(5);

/// The statuses of a response that may have another reason than the event.
const BLOCKED: [u16; 6] = [200, 401, 403, 406, 410, 451];

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
    /// Empty batches: probes and health checks.
    pub(crate) empty: u64,
    /// The rules that were broken.
    violations: Vec<String>,
}

/// What happened to one event.
#[derive(Debug, Default)]
struct EventHistory {
    /// When a body with the event was first sent.
    first_sent: Option<Duration>,
    /// When each endpoint first blocked a body with the event.
    first_blocked: BTreeMap<usize, Duration>,
    /// The time before which no body with the event may be sent, because the only endpoint asked to wait.
    not_before: Duration,
    /// When the event was to be sent again at once, because another endpoint is in service.
    due: Option<Duration>,
    accepted: u32,
    /// Acceptances of which the shipper has learned.
    confirmed: u32,
    /// Whether a retry would exceed `RETRY_BUDGET`.
    budget_spent: bool,
    /// How often an endpoint has refused a body with this event alone, by the status; 0 for a lost connection.
    refused_alone: BTreeMap<(usize, u16), u32>,
}

/// What happened to the bodies of one object.
#[derive(Debug, Default)]
struct ObjectHistory {
    requests: u64,
    not_accepted: u64,
    /// The endpoints that accepted a body.
    accepted_by: BTreeSet<usize>,
    versions: BTreeSet<Version>,
}

/// What one endpoint did.
#[derive(Debug, Default)]
struct EndpointHistory {
    /// Whether a request was not accepted in the whole process, so that the shipper may know that the endpoint is not in service.
    failed: bool,
    /// When the last accepted body was sent.
    accepted: Option<Duration>,
    /// When it last failed to take an empty batch.
    empty_failed: Option<Duration>,
    /// The end of the time for which the endpoint asked with `Retry-After`.
    paused_until: Duration,
    /// Whether it is misconfigured.
    misconfigured: bool,
}

impl Requests {
    /// Returns what is known at the beginning of the next invocation of the process.
    pub(crate) fn next(&self) -> Self {
        let failed = self.endpoints.iter().filter(|(_, history)| history.failed);
        let endpoints = failed.map(|(&endpoint, _)| (endpoint, EndpointHistory { failed: true, ..EndpointHistory::default() }));
        Requests { endpoints: endpoints.collect(), ..Requests::default() }
    }

    /// Records that a body is sent.
    pub(crate) fn begin(&mut self, schedule: &Schedule, endpoint: usize, events: &[Event], now: Duration) {
        self.in_flight += 1;
        let (found, allowed) = (self.in_flight, schedule.ship.concurrency);
        if found > allowed {
            self.violations.push(format!("{found} requests in flight, {allowed} allowed"));
        }
        for object in objects(events) {
            self.objects.entry(object).or_default().requests += 1;
        }
        self.check_endpoint(schedule, endpoint, now);
        let has_other = self.has_healthy_other(schedule, endpoint);
        let failed = self.endpoints.get(&endpoint).and_then(|history| history.empty_failed);
        let just_failed = has_other && failed.is_some_and(|failed| now <= failed + AT_ONCE);
        for event in events {
            let history = self.events.entry(*event).or_default();
            history.first_sent.get_or_insert(now);
            let broken = if history.budget_spent {
                "RETRY_BUDGET is spent"
            } else if now < history.not_before {
                "the only endpoint asked to wait"
            } else if history.due.take().is_some_and(|due| now > due + AT_ONCE) {
                "another endpoint could have had it long before"
            } else if just_failed && history.first_blocked.contains_key(&endpoint) {
                "the endpoint blocked it, and just now took no empty batch"
            } else {
                continue;
            };
            self.violations.push(format!("{event:?} is sent although {broken}"));
            break;
        }
    }

    /// Checks that an endpoint gets no request while it is paused, or after it was removed.
    fn check_endpoint(&mut self, schedule: &Schedule, endpoint: usize, now: Duration) {
        let has_other = self.has_healthy_other(schedule, endpoint);
        let history = self.endpoints.entry(endpoint).or_default();
        if has_other && history.misconfigured {
            self.violations.push(format!("endpoint {endpoint} gets events after it was misconfigured"));
        }
        if has_other && now < history.paused_until {
            self.violations.push(format!("endpoint {endpoint} gets events although it asked to wait"));
        }
    }

    /// Returns whether an endpoint other than this one is certainly in service: it has never failed.
    fn has_healthy_other(&self, schedule: &Schedule, endpoint: usize) -> bool {
        let failed = |other: usize| self.endpoints.get(&other).is_some_and(|history| history.failed);
        (0..schedule.endpoints.len()).any(|other| other != endpoint && !failed(other))
    }

    /// Records that an empty batch is sent.
    pub(crate) fn begin_empty(&mut self, schedule: &Schedule, endpoint: usize, now: Duration) {
        self.empty += 1;
        self.check_endpoint(schedule, endpoint, now);
    }

    /// Records how an empty batch ended.
    pub(crate) fn end_empty(&mut self, schedule: &Schedule, endpoint: usize, outcome: &Outcome, now: Duration) {
        let ending = Ending::of(outcome);
        let history = self.endpoints.entry(endpoint).or_default();
        history.failed |= !outcome.is_accepted();
        history.paused_until = history.paused_until.max(now + ending.retry_after.min(schedule.retry_budget));
        if ending.is_busy {
            history.empty_failed = Some(now);
        }
    }

    /// Records that an endpoint has accepted a body, whether the shipper learns of it or not.
    pub(crate) fn accept(&mut self, endpoint: usize, events: &[Event], sent: Duration) {
        for event in events {
            let history = self.events.entry(*event).or_default();
            history.accepted += 1;
            if history.confirmed > 0 {
                self.violations.push(format!("{event:?} is accepted again by endpoint {endpoint}, and no fault explains it"));
            }
        }
        for object in objects(events) {
            self.objects.entry(object).or_default().accepted_by.insert(endpoint);
        }
        let accepted = &mut self.endpoints.entry(endpoint).or_default().accepted;
        *accepted = Some(sent).max(*accepted);
    }

    /// Records how a request ended.
    pub(crate) fn end(&mut self, schedule: &Schedule, endpoint: usize, events: &[Event], outcome: &Outcome, now: Duration) {
        self.in_flight -= 1;
        if outcome.is_accepted() {
            for event in events {
                self.events.entry(*event).or_default().confirmed += 1;
            }
            return;
        }
        for object in objects(events) {
            self.objects.entry(object).or_default().not_accepted += 1;
        }
        let ending = Ending::of(outcome);
        let has_other = self.has_healthy_other(schedule, endpoint);
        for event in events {
            let history = self.events.entry(*event).or_default();
            let first_sent = history.first_sent.unwrap_or(now);
            history.budget_spent |= ending.is_busy && now >= first_sent + schedule.retry_budget;
            // A request can wait for the secret first.
            history.due = (ending.is_busy && has_other && schedule.rotation.is_none()).then_some(now);
            if schedule.endpoints.len() == 1 {
                history.not_before = now + ending.retry_after;
            }
            if ending.is_blocked {
                history.first_blocked.entry(endpoint).or_insert(now);
            }
            if let (Some(status), 1) = (ending.status, events.len()) {
                *history.refused_alone.entry((endpoint, status)).or_default() += 1;
            }
        }
        let history = self.endpoints.entry(endpoint).or_default();
        history.failed = true;
        history.misconfigured |= ending.is_misconfigured;
        history.paused_until = history.paused_until.max(now + ending.retry_after.min(schedule.retry_budget));
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

    /// Checks that an event may be rejected: the endpoint refused it alone, and accepted another body of the object. If a response
    /// may have another reason than the event, there are two of them, and the endpoint accepted another body since the first.
    pub(crate) fn check_rejection(&mut self, event: Event, endpoint: usize, status: u16) {
        let Some(history) = self.events.get(&event) else {
            self.violations.push(format!("{event:?} is rejected and was never sent"));
            return;
        };
        let is_of_body = matches!(status, 400 | 413 | 415 | 422 | 500);
        let refusals = if is_of_body { history.refused_alone(endpoint, status) } else { history.blocked_alone(endpoint) };
        let expected = if is_of_body && status != 500 { 1 } else { 2 };
        if refusals < expected {
            self.violations.push(format!("{event:?} is rejected after {refusals} responses {status} of endpoint {endpoint}"));
        }
        let has_witness = if is_of_body {
            self.objects.get(&event.0).is_some_and(|object| object.accepted_by.contains(&endpoint))
        } else {
            let accepted = self.endpoints.get(&endpoint).and_then(|history| history.accepted);
            history.first_blocked.get(&endpoint).is_some_and(|blocked| accepted.is_some_and(|accepted| accepted >= *blocked))
        };
        if !has_witness {
            self.violations.push(format!("{event:?} is rejected after {status} of endpoint {endpoint} without a witness"));
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

impl EventHistory {
    /// Returns how often an endpoint refused the event alone with a status.
    fn refused_alone(&self, endpoint: usize, status: u16) -> u32 {
        self.refused_alone.get(&(endpoint, status)).copied().unwrap_or_default()
    }

    /// Returns how often an endpoint blocked the event alone. Three lost connections count once.
    fn blocked_alone(&self, endpoint: usize) -> u32 {
        BLOCKED.iter().map(|&status| self.refused_alone(endpoint, status)).sum::<u32>() + self.refused_alone(endpoint, 0) / 3
    }
}

/// Returns the objects of some events. Events of one object are consecutive.
fn objects(events: &[Event]) -> impl Iterator<Item = usize> {
    events.chunk_by(|one, next| one.0 == next.0).filter_map(|chunk| chunk.first()).map(|event| event.0)
}

/// What follows from the end of a request that was not accepted.
struct Ending {
    /// The status; 0 for a lost connection, and none for another fault.
    status: Option<u16>,
    /// Whether only a retry can follow, which the budget limits. A failure or a lost connection can also be due to the body.
    is_busy: bool,
    /// Whether the event, the credentials or the sender can be the reason.
    is_blocked: bool,
    is_misconfigured: bool,
    retry_after: Duration,
}

impl Ending {
    fn of(outcome: &Outcome) -> Self {
        let status = match outcome {
            Outcome::Response(response) => Some(response.status),
            Outcome::NoResponse(Fault::Broken(_)) => Some(0),
            Outcome::NoResponse(_) => None,
        };
        let retry_after = match outcome {
            Outcome::Response(response) => response.retry_after,
            Outcome::NoResponse(_) => Duration::ZERO,
        };
        Ending {
            status,
            is_busy: matches!(status, None | Some(408 | 429 | 502..=504)),
            is_blocked: status.is_some_and(|status| status == 0 || BLOCKED.contains(&status)),
            is_misconfigured: matches!(status, Some(302 | 404)),
            retry_after,
        }
    }
}
