//! Decides which request of a batch comes next, from the outcomes so far: a retry, a part of the batch, or giving up.
//!
//! The decision is pure. Its inputs are values; the caller has the connections, the clock and the randomness.
//!
//! A refused batch is halved, and refused halves are halved again, until each refused part is a single event. The other events
//! are delivered, and the refused ones are rejected events. A wrong address also refuses everything, so an event counts as
//! rejected only if there is a witness. **Witness**: proof that the endpoint accepts other bodies of the same object. Without a
//! witness, both halves of a refused part are sent, but only the first refused half is split further. The other refused parts
//! are deferred until there is a witness. Without one, a batch of n events fails after at most 2·⌈log₂ n⌉ + 2 requests, and none
//! of its events is rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use elb_common::backoff::Backoff;

use super::outcome::{Outcome, Verdict};
use super::pool::EndpointId;

/// The wait before a retry. It is drawn with full jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// After this number of failures on the same body, the body may be the reason that an endpoint fails.
const FAILURES_TO_SPLIT: u32 = 2;

/// What the endpoints have shown about the bodies of one object. All batches of the object share it.
#[derive(Debug)]
pub struct Evidence {
    accepted_by: BTreeSet<EndpointId>,
    rejected: usize,
    poison_limit: usize,
}

/// The state of one batch between its requests.
#[derive(Debug)]
pub(super) struct RetryPlan {
    compressed: bool,
    /// Number of bodies that any endpoint had accepted when the batch was first sent.
    accepted_before: u64,
    /// The parts to send, the next one last.
    to_send: Vec<Part>,
    /// Refused parts that wait for a witness.
    deferred: Vec<DeferredPart>,
    /// Number of parts that were deferred before the halves which are being sent now.
    deferred_before: usize,
    delivered: usize,
    rejections: Vec<Rejection>,
    credentials_renewed: bool,
}

/// Events of a batch that are sent as one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The positions of the events in the batch.
    pub events: Range<usize>,
    /// How the body is made.
    pub form: Form,
    retries: u32,
    failures: BTreeMap<EndpointId, u32>,
}

/// How the body of a part is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The whole batch as it was built.
    Whole,
    /// The whole batch without compression, tried once: a proxy may not pass compressed bodies on.
    Uncompressed,
    /// A part of the batch.
    Piece,
}

/// A rejected event of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// The event's position in the batch.
    pub event: usize,
    /// The endpoint that rejected it.
    pub endpoint: EndpointId,
    /// How the endpoint rejected it.
    pub outcome: Outcome,
}

/// What the decision needs to know beside the outcome of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryContext {
    /// The endpoint that got the request.
    pub endpoint: EndpointId,
    /// Number of bodies that any endpoint has accepted so far, in the whole process.
    pub accepted_bodies: u64,
    /// Whether another endpoint is up.
    pub alternative: bool,
    /// The rest of `RETRY_BUDGET`.
    pub budget_left: Duration,
    /// A random number, drawn evenly from 0 to 1.
    pub jitter: f64,
}

/// What the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send the next part.
    Send,
    /// Wait, then send the next part.
    Wait(Duration),
    /// Read the credentials again. Send the next part if they have changed, and give up otherwise.
    RenewCredentials,
    /// Nothing: every event is delivered or rejected.
    Done,
}

/// Why a batch is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No body will be accepted with this configuration.
    Misconfigured(Outcome),
    /// The batch was refused down to a single event, and there is no witness.
    NoWitness(Outcome),
    /// The object has more rejected events than `POISON_LIMIT`.
    PoisonLimit(Outcome),
    /// `RETRY_BUDGET` leaves no time for another request.
    BudgetSpent(Outcome),
}

/// A refused part that waits for a witness.
#[derive(Clone, Debug)]
struct DeferredPart {
    part: Part,
    endpoint: EndpointId,
    outcome: Outcome,
}

impl Evidence {
    /// Creates the evidence of an object of which nothing has been sent. More than `poison_limit` rejected events fail the object.
    pub fn new(poison_limit: usize) -> Self {
        Evidence { accepted_by: BTreeSet::new(), rejected: 0, poison_limit }
    }

    /// Returns whether `endpoint` has accepted a body of the object.
    fn has_witness(&self, endpoint: EndpointId) -> bool {
        self.accepted_by.contains(&endpoint)
    }
}

impl RetryPlan {
    /// Creates the plan for a batch of `events` events. `accepted_before` is the number of bodies accepted so far.
    pub(super) fn new(events: usize, compressed: bool, accepted_before: u64) -> Self {
        RetryPlan {
            compressed,
            accepted_before,
            to_send: vec![Part::new(0..events, Form::Whole)],
            deferred: Vec::new(),
            deferred_before: 0,
            delivered: 0,
            rejections: Vec::new(),
            credentials_renewed: false,
        }
    }

    /// Returns the part to send next; none once the batch is done.
    pub(super) fn next_part(&self) -> Option<&Part> {
        self.to_send.last()
    }

    /// Returns the number of events that were accepted.
    pub(super) fn delivered(&self) -> usize {
        self.delivered
    }

    /// Returns the rejected events in the order of the batch.
    pub(super) fn into_rejections(mut self) -> Vec<Rejection> {
        self.rejections.sort_unstable_by_key(|rejection| rejection.event);
        self.rejections
    }

    /// Decides what comes after the request for [`RetryPlan::next_part`] ended with `outcome`.
    ///
    /// # Errors
    /// The batch is given up.
    pub(super) fn next_step(
        &mut self,
        outcome: &Outcome,
        context: &RetryContext,
        evidence: &mut Evidence,
    ) -> Result<Step, Failure> {
        let Some(mut part) = self.to_send.pop() else { return Ok(Step::Done) };
        match outcome.verdict() {
            Verdict::Accepted => {
                evidence.accepted_by.insert(context.endpoint);
                self.delivered += part.events.len();
                self.advance(evidence)
            }
            Verdict::Busy => {
                let wait = busy_wait(&part, outcome, context);
                self.retry(part, wait, outcome, context)
            }
            Verdict::Failing => self.split_or_retry(part, outcome, context, evidence),
            Verdict::Down if context.alternative => self.retry(part, Duration::ZERO, outcome, context),
            Verdict::Down => {
                let wait = BACKOFF.jittered(part.retries, context.jitter);
                self.retry(part, wait, outcome, context)
            }
            Verdict::Refused if part.form == Form::Whole && self.compressed => {
                part.form = Form::Uncompressed;
                self.to_send.push(part);
                Ok(Step::Send)
            }
            Verdict::Refused | Verdict::TooLarge => {
                self.deferred.push(DeferredPart { part, endpoint: context.endpoint, outcome: outcome.clone() });
                self.advance(evidence)
            }
            Verdict::Denied if !self.credentials_renewed => {
                self.credentials_renewed = true;
                self.to_send.push(part);
                Ok(Step::RenewCredentials)
            }
            Verdict::Denied | Verdict::Misconfigured => Err(Failure::Misconfigured(outcome.clone())),
        }
    }

    /// Sends a part again after `wait`, if the budget allows it.
    fn retry(&mut self, mut part: Part, wait: Duration, outcome: &Outcome, context: &RetryContext) -> Result<Step, Failure> {
        part.retries += 1;
        self.to_send.push(part);
        if wait < context.budget_left { Ok(Step::Wait(wait)) } else { Err(Failure::BudgetSpent(outcome.clone())) }
    }

    /// Splits or rejects a part on which the endpoint keeps failing while bodies are accepted: the part is the reason that it
    /// fails. Otherwise the part is sent again.
    fn split_or_retry(
        &mut self,
        mut part: Part,
        outcome: &Outcome,
        context: &RetryContext,
        evidence: &mut Evidence,
    ) -> Result<Step, Failure> {
        let failures = part.failures.entry(context.endpoint).or_default();
        *failures += 1;
        if *failures >= FAILURES_TO_SPLIT && context.accepted_bodies > self.accepted_before {
            if part.is_single() && evidence.has_witness(context.endpoint) {
                self.reject(&part, context.endpoint, outcome, evidence)?;
                return self.advance(evidence);
            }
            if !part.is_single() {
                self.split(&part);
                return Ok(Step::Send);
            }
        }
        let wait = busy_wait(&part, outcome, context);
        self.retry(part, wait, outcome, context)
    }

    /// Finds the next part to send, first among the parts to send, then among the deferred ones.
    fn advance(&mut self, evidence: &mut Evidence) -> Result<Step, Failure> {
        self.resolve_deferred(evidence)?;
        if !self.to_send.is_empty() {
            return Ok(Step::Send);
        }
        if self.deferred.is_empty() {
            return Ok(Step::Done);
        }
        // The first refused one of the halves that were sent last.
        let followed = self.deferred_before.min(self.deferred.len() - 1);
        let DeferredPart { part, outcome, .. } = self.deferred.remove(followed);
        self.deferred_before = self.deferred.len();
        if part.is_single() {
            return Err(Failure::NoWitness(outcome));
        }
        self.split(&part);
        Ok(Step::Send)
    }

    /// Splits or rejects every deferred part for which there is a witness by now.
    fn resolve_deferred(&mut self, evidence: &mut Evidence) -> Result<(), Failure> {
        let deferred = std::mem::take(&mut self.deferred);
        let (mut proven, deferred): (Vec<_>, Vec<_>) =
            deferred.into_iter().partition(|deferred| evidence.has_witness(deferred.endpoint));
        self.deferred = deferred;
        if proven.is_empty() {
            return Ok(());
        }
        self.deferred_before = self.deferred.len();
        // The next part to send is the last one.
        proven.sort_unstable_by_key(|deferred| std::cmp::Reverse(deferred.part.events.start));
        for DeferredPart { part, endpoint, outcome } in proven {
            if part.is_single() {
                self.reject(&part, endpoint, &outcome, evidence)?;
            } else {
                self.split(&part);
            }
        }
        Ok(())
    }

    /// Counts the only event of a part as rejected.
    fn reject(&mut self, part: &Part, endpoint: EndpointId, outcome: &Outcome, evidence: &mut Evidence) -> Result<(), Failure> {
        if evidence.rejected >= evidence.poison_limit {
            return Err(Failure::PoisonLimit(outcome.clone()));
        }
        evidence.rejected += 1;
        self.rejections.push(Rejection { event: part.events.start, endpoint, outcome: outcome.clone() });
        Ok(())
    }

    fn split(&mut self, part: &Part) {
        let Range { start, end } = part.events;
        let middle = start + (end - start).div_ceil(2);
        self.to_send.push(Part::new(middle..end, Form::Piece));
        self.to_send.push(Part::new(start..middle, Form::Piece));
    }
}

impl Part {
    fn new(events: Range<usize>, form: Form) -> Self {
        Part { events, form, retries: 0, failures: BTreeMap::new() }
    }

    fn is_single(&self) -> bool {
        self.events.len() <= 1
    }
}

/// Returns the wait before a busy endpoint gets the part again: the back-off, but not less than `Retry-After`.
fn busy_wait(part: &Part, outcome: &Outcome, context: &RetryContext) -> Duration {
    BACKOFF.jittered(part.retries, context.jitter).max(outcome.retry_after())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::outcome::{Fault, Response};
    use super::*;

    const A: EndpointId = EndpointId::new(1);
    const B: EndpointId = EndpointId::new(2);

    fn status(status: u16) -> Outcome {
        Outcome::Response(Response { status, ..Response::default() })
    }

    fn context(endpoint: EndpointId) -> RetryContext {
        RetryContext { endpoint, accepted_bodies: 0, alternative: false, budget_left: Duration::from_mins(2), jitter: 1.0 }
    }

    /// The requests of a batch, and its end.
    #[derive(Debug)]
    struct End {
        requests: Vec<(Range<usize>, Form)>,
        delivered: usize,
        rejected: Vec<usize>,
        last: Result<Step, Failure>,
    }

    /// Sends a batch to one endpoint that responds to each part with the status that `respond` returns.
    fn send(events: usize, evidence: &mut Evidence, mut respond: impl FnMut(&Part) -> u16) -> End {
        let mut plan = RetryPlan::new(events, true, 0);
        let mut requests = Vec::new();
        let mut accepted_bodies = evidence.accepted_by.len() as u64;
        loop {
            let part = plan.next_part().expect("a batch that is not done has a part to send").clone();
            requests.push((part.events.clone(), part.form));
            let outcome = status(respond(&part));
            accepted_bodies += u64::from(outcome.verdict() == Verdict::Accepted);
            let last = plan.next_step(&outcome, &RetryContext { accepted_bodies, ..context(A) }, evidence);
            assert!(requests.len() < 100_000, "the batch never ends");
            if matches!(last, Ok(Step::Done | Step::RenewCredentials) | Err(_)) {
                let delivered = plan.delivered();
                let rejected = plan.into_rejections().iter().map(|rejection| rejection.event).collect();
                return End { requests, delivered, rejected, last };
            }
        }
    }

    fn witnessed() -> Evidence {
        Evidence { accepted_by: BTreeSet::from([A]), ..Evidence::new(100) }
    }

    #[test]
    fn an_accepted_batch_is_done() {
        let end = send(10, &mut Evidence::new(100), |_| 200);
        assert_eq!((end.delivered, end.last, end.requests.len()), (10, Ok(Step::Done), 1));
    }

    #[test]
    fn retries_a_refused_batch_once_without_compression() {
        let end = send(2, &mut Evidence::new(100), |part| if part.form == Form::Uncompressed { 200 } else { 400 });
        assert_eq!((end.delivered, end.requests), (2, vec![(0..2, Form::Whole), (0..2, Form::Uncompressed)]));
        let end = send(2, &mut witnessed(), |part| if part.events == (0..1) { 200 } else { 400 });
        assert_eq!((end.delivered, end.rejected), (1, vec![1]));
        let forms = [(0..2, Form::Whole), (0..2, Form::Uncompressed), (0..1, Form::Piece), (1..2, Form::Piece)];
        assert_eq!(end.requests, forms);
        let end = send(2, &mut Evidence::new(100), |part| if part.events.len() == 2 { 413 } else { 200 });
        assert_eq!(
            end.requests,
            [(0..2, Form::Whole), (0..1, Form::Piece), (1..2, Form::Piece)],
            "compression does not cause a 413"
        );
    }

    #[test]
    fn a_wrong_address_costs_two_requests_a_level_and_rejects_nothing() {
        for code in [400, 413, 415, 422] {
            for events in [1_usize, 2, 3, 5, 64, 1_000, 2_000] {
                let end = send(events, &mut Evidence::new(100), |_| code);
                assert!(matches!(end.last, Err(Failure::NoWitness(_))), "{:?}", end.last);
                assert_eq!((end.delivered, end.rejected.len()), (0, 0));
                let most = 2 * events.next_power_of_two().ilog2() as usize + 2;
                assert!(end.requests.len() <= most, "{} requests for {events} events, at most {most}", end.requests.len());
            }
        }
    }

    #[test]
    fn sends_deferred_parts_once_there_is_a_witness() {
        // Of eight events the first five are refused, so the first acceptance comes late.
        let end = send(8, &mut Evidence::new(100), |part| if part.events.start >= 5 { 200 } else { 400 });
        assert_eq!((end.delivered, end.rejected, end.last), (0, vec![], Err(Failure::NoWitness(status(400)))));
        let end = send(8, &mut Evidence::new(100), |part| if part.events.start >= 4 { 200 } else { 400 });
        assert_eq!((end.delivered, end.rejected, end.last), (4, vec![0, 1, 2, 3], Ok(Step::Done)));
    }

    #[test]
    fn more_rejected_events_than_the_limit_fail_the_batch() {
        let mut evidence = Evidence { poison_limit: 2, ..witnessed() };
        let end = send(8, &mut evidence, |part| if part.events.end <= 5 { 200 } else { 400 });
        assert_eq!((end.delivered, end.rejected.len(), end.last), (5, 2, Err(Failure::PoisonLimit(status(400)))));
    }

    #[test]
    fn another_endpoint_is_not_a_witness() {
        let mut evidence = Evidence { accepted_by: BTreeSet::from([B]), ..Evidence::new(100) };
        let end = send(1, &mut evidence, |_| 400);
        assert_eq!((end.rejected.len(), end.last), (0, Err(Failure::NoWitness(status(400)))));
    }

    #[test]
    fn splits_a_body_that_fails_twice_while_others_are_accepted() {
        let respond = |part: &Part| if part.events.contains(&3) { 500 } else { 200 };
        let mut plan = RetryPlan::new(4, true, 7);
        let mut evidence = witnessed();
        for accepted_bodies in [7, 7, 7] {
            let step = plan.next_step(&status(500), &RetryContext { accepted_bodies, ..context(A) }, &mut evidence);
            assert!(matches!(step, Ok(Step::Wait(_))), "an endpoint that accepts nothing is busy: {step:?}");
        }
        let end = send(4, &mut witnessed(), respond);
        assert_eq!((end.delivered, end.rejected, end.last), (3, vec![3], Ok(Step::Done)));
        let twice = |range: Range<usize>, form| [(range.clone(), form), (range, form)];
        let expected = [
            &twice(0..4, Form::Whole)[..],
            &[(0..2, Form::Piece)],
            &twice(2..4, Form::Piece),
            &[(2..3, Form::Piece)],
            &twice(3..4, Form::Piece),
        ];
        assert_eq!(end.requests, expected.concat());
    }

    #[test]
    fn failures_of_different_endpoints_do_not_add_up() {
        let mut plan = RetryPlan::new(2, true, 0);
        let mut evidence = witnessed();
        for endpoint in [A, B] {
            let step = plan.next_step(&status(500), &RetryContext { accepted_bodies: 9, ..context(endpoint) }, &mut evidence);
            assert!(matches!(step, Ok(Step::Wait(_))), "{step:?}");
        }
        let step = plan.next_step(&status(500), &RetryContext { accepted_bodies: 9, ..context(B) }, &mut evidence);
        assert_eq!(step, Ok(Step::Send));
    }

    #[test]
    fn waits_double_up_to_five_seconds_with_full_jitter() {
        let wait = |retries, jitter| {
            let part = Part { retries, ..Part::new(0..1, Form::Whole) };
            busy_wait(&part, &status(503), &RetryContext { jitter, ..context(A) }).as_millis()
        };
        assert_eq!([0, 1, 2, 5, 6, 1_000].map(|retries| wait(retries, 1.0)), [100, 200, 400, 3_200, 5_000, 5_000]);
        assert_eq!((wait(2, 0.0), wait(2, 0.25)), (0, 100));
    }

    #[test]
    fn waits_at_least_retry_after_and_less_than_the_budget() {
        let busy = |seconds| {
            Outcome::Response(Response { status: 429, retry_after: Duration::from_secs(seconds), ..Response::default() })
        };
        let step = |outcome: &Outcome, jitter| {
            RetryPlan::new(1, true, 0).next_step(outcome, &RetryContext { jitter, ..context(A) }, &mut Evidence::new(0))
        };
        assert_eq!(step(&busy(7), 0.5), Ok(Step::Wait(Duration::from_secs(7))));
        assert_eq!(step(&busy(0), 0.5), Ok(Step::Wait(Duration::from_millis(50))));
        assert_eq!(step(&busy(120), 0.5), Err(Failure::BudgetSpent(busy(120))));
    }

    #[test]
    fn does_not_wait_for_a_down_endpoint_if_another_is_up() {
        let down = Outcome::NoResponse(Fault::Connect("refused".to_owned()));
        let step = |alternative| {
            RetryPlan::new(1, true, 0).next_step(&down, &RetryContext { alternative, ..context(A) }, &mut Evidence::new(0))
        };
        assert_eq!((step(true), step(false)), (Ok(Step::Wait(Duration::ZERO)), Ok(Step::Wait(Duration::from_millis(100)))));
    }

    #[test]
    fn renews_credentials_once_and_fails_at_once_otherwise() {
        let mut plan = RetryPlan::new(1, true, 0);
        let mut evidence = Evidence::new(0);
        assert_eq!(plan.next_step(&status(401), &context(A), &mut evidence), Ok(Step::RenewCredentials));
        let failed = Err(Failure::Misconfigured(status(401)));
        assert_eq!(plan.next_step(&status(401), &context(A), &mut evidence), failed);
        assert!(matches!(send(9, &mut witnessed(), |_| 404).last, Err(Failure::Misconfigured(_))));
    }

    proptest! {
        #[test]
        fn with_a_witness_rejects_exactly_the_bad_events(
            events in 1_usize..300,
            bad in prop::collection::btree_set(0_usize..300, 0..20),
            codes in prop::collection::vec(prop::sample::select(vec![400_u16, 413, 422, 500]), 1..4),
        ) {
            let bad: Vec<usize> = bad.into_iter().filter(|&event| event < events).collect();
            let mut count = 0;
            let end = send(events, &mut witnessed(), |part| {
                count += 1;
                if bad.iter().any(|event| part.events.contains(event)) { codes[count % codes.len()] } else { 200 }
            });
            prop_assert_eq!(end.last, Ok(Step::Done));
            prop_assert_eq!(end.delivered, events - bad.len());
            prop_assert_eq!(end.rejected, bad);
        }

        #[test]
        fn rejects_nothing_unless_a_part_was_accepted(
            events in 1_usize..300,
            refused in prop::collection::btree_set(0_usize..300, 0..300),
        ) {
            let mut accepted = false;
            let end = send(events, &mut Evidence::new(usize::MAX), |part| {
                let refuse = refused.iter().any(|event| part.events.contains(event));
                accepted |= !refuse;
                if refuse { 400 } else { 200 }
            });
            if accepted {
                prop_assert_eq!(end.last, Ok(Step::Done));
                prop_assert_eq!(end.delivered + end.rejected.len(), events);
            } else {
                prop_assert!(matches!(end.last, Err(Failure::NoWitness(_))), "{:?}", end.last);
                prop_assert_eq!((end.delivered, end.rejected.len()), (0, 0));
            }
        }
    }
}
