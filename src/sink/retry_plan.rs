//! The course of one batch: which request comes next, decided from the answers so far.
//!
//! A pure decision. What it is fed with are values; whoever carries it out has the connections, the clock and the randomness.
//!
//! A batch that is refused is halved and halved again, until what is refused stands alone: the rest is delivered, and that is
//! poison. But a wrong address refuses everything too, so an event is poison only if there is a witness: the same endpoint has
//! accepted another body of the same object. As long as there is none, both halves of a refused part are sent and only the
//! first refused one is followed. What is left aside meanwhile is taken up once there is a witness. Without one, a batch of n
//! events ends after at most 2·⌈log₂ n⌉ + 2 requests, and nothing in it is called poison.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use elb_common::backoff::Backoff;

use super::outcome::{Outcome, Verdict};
use super::pool::EndpointId;

/// What the wait before a retry is drawn from.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// An endpoint that fails so often on the same body may fail because of it.
const FAILURES_TO_SPLIT: u32 = 2;

/// What the endpoints have shown about the bodies of one object. All of its batches share it.
#[derive(Debug)]
pub struct Evidence {
    accepted_by: BTreeSet<EndpointId>,
    poison: usize,
    poison_limit: usize,
}

/// How far a batch has come.
#[derive(Debug)]
pub struct RetryPlan {
    compressed: bool,
    /// Bodies that any endpoint had accepted when the batch was first tried.
    accepted_before: u64,
    /// What is to be sent, the next part last.
    to_send: Vec<Part>,
    /// What was refused without a witness and is not followed.
    aside: Vec<Aside>,
    /// So many of these were there before the halves that are being sent now.
    aside_before: usize,
    delivered: usize,
    poison: Vec<Rejection>,
    renewed: bool,
}

/// Some of a batch's events, to be sent as one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which ones.
    pub events: Range<usize>,
    /// As what kind of body.
    pub form: Form,
    retries: u32,
    failures: BTreeMap<EndpointId, u32>,
}

/// What kind of body a part is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The whole batch as it was built.
    Whole,
    /// The whole batch, once, without compression: something in between may not pass compressed bodies on.
    Uncompressed,
    /// A part of it.
    Piece,
}

/// An event that no endpoint will ever take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its place in the batch.
    pub event: usize,
    /// Who refused it.
    pub endpoint: EndpointId,
    /// With what answer.
    pub answer: Outcome,
}

/// What is known at the moment of an answer.
#[derive(Clone, Copy, Debug)]
pub struct RetryContext {
    /// Who answered.
    pub endpoint: EndpointId,
    /// Bodies that any endpoint has accepted so far, in the whole process.
    pub accepted_bodies: u64,
    /// Whether there is another endpoint to go to.
    pub alternative: bool,
    /// What is left of `RETRY_BUDGET`.
    pub budget_left: Duration,
    /// Drawn evenly from 0 to 1.
    pub jitter: f64,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the next part.
    Send,
    /// Send it after this wait.
    Wait(Duration),
    /// Get the credentials again; if they have changed, send it.
    Renew,
    /// Every event is delivered, or poison.
    Done,
    /// Give up.
    Fail(Failure),
}

/// Why a batch was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No body will be accepted as things are configured.
    Misconfigured(Outcome),
    /// It was refused down to a single event, and there is no witness that it is that event's fault.
    NoWitness(Outcome),
    /// The object has more poison than `POISON_LIMIT`.
    PoisonLimit(Outcome),
    /// No time is left in `RETRY_BUDGET` for another request.
    BudgetSpent(Outcome),
}

#[derive(Clone, Debug)]
struct Aside {
    part: Part,
    endpoint: EndpointId,
    answer: Outcome,
}

impl Evidence {
    /// Of an object of which nothing has been sent. More than `poison_limit` poison events fail it.
    pub fn new(poison_limit: usize) -> Self {
        Evidence { accepted_by: BTreeSet::new(), poison: 0, poison_limit }
    }

    /// Whether `endpoint` has accepted a body of the object.
    fn has_witness(&self, endpoint: EndpointId) -> bool {
        self.accepted_by.contains(&endpoint)
    }
}

impl RetryPlan {
    /// The course of a batch of `events`. `accepted_before` is the number of bodies accepted so far.
    pub fn new(events: usize, compressed: bool, accepted_before: u64) -> Self {
        RetryPlan {
            compressed,
            accepted_before,
            to_send: vec![Part::new(0..events, Form::Whole)],
            aside: Vec::new(),
            aside_before: 0,
            delivered: 0,
            poison: Vec::new(),
            renewed: false,
        }
    }

    /// What to send next; none once all is done.
    pub fn part(&self) -> Option<&Part> {
        self.to_send.last()
    }

    /// How many events were accepted.
    pub fn delivered(&self) -> usize {
        self.delivered
    }

    /// The events found to be poison, in order.
    pub fn into_poison(mut self) -> Vec<Rejection> {
        self.poison.sort_unstable_by_key(|poison| poison.event);
        self.poison
    }

    /// Decides by the answer to the part that was to be sent.
    pub fn answered(&mut self, answer: &Outcome, moment: &RetryContext, evidence: &mut Evidence) -> Step {
        let Some(mut part) = self.to_send.pop() else { return Step::Done };
        match answer.verdict() {
            Verdict::Accepted => {
                evidence.accepted_by.insert(moment.endpoint);
                self.delivered += part.events.len();
                self.advance(evidence)
            }
            Verdict::Busy => {
                let wait = backoff(part.retries, moment.jitter).max(answer.retry_after());
                self.again(part, wait, answer, moment)
            }
            Verdict::Failing => self.failed(part, answer, moment, evidence),
            Verdict::Down => {
                let wait = if moment.alternative { Duration::ZERO } else { backoff(part.retries, moment.jitter) };
                self.again(part, wait, answer, moment)
            }
            Verdict::Refused if part.form == Form::Whole && self.compressed => {
                part.form = Form::Uncompressed;
                self.to_send.push(part);
                Step::Send
            }
            Verdict::Refused | Verdict::TooLarge => self.refused(part, answer, moment, evidence),
            Verdict::Denied if !self.renewed => {
                self.renewed = true;
                self.to_send.push(part);
                Step::Renew
            }
            Verdict::Denied | Verdict::Misconfigured => Step::Fail(Failure::Misconfigured(answer.clone())),
        }
    }

    fn again(&mut self, mut part: Part, wait: Duration, answer: &Outcome, moment: &RetryContext) -> Step {
        part.retries += 1;
        self.to_send.push(part);
        if wait < moment.budget_left { Step::Wait(wait) } else { Step::Fail(Failure::BudgetSpent(answer.clone())) }
    }

    /// An endpoint that goes on failing on a body while others are accepted fails because of that body.
    fn failed(&mut self, mut part: Part, answer: &Outcome, moment: &RetryContext, evidence: &mut Evidence) -> Step {
        let failures = part.failures.entry(moment.endpoint).or_default();
        *failures += 1;
        if *failures >= FAILURES_TO_SPLIT && moment.accepted_bodies > self.accepted_before {
            if part.is_single() && evidence.has_witness(moment.endpoint) {
                return self.poisonous(&part, moment.endpoint, answer, evidence).unwrap_or_else(|| self.advance(evidence));
            }
            if !part.is_single() {
                self.split(&part);
                return Step::Send;
            }
        }
        let wait = backoff(part.retries, moment.jitter).max(answer.retry_after());
        self.again(part, wait, answer, moment)
    }

    fn refused(&mut self, part: Part, answer: &Outcome, moment: &RetryContext, evidence: &mut Evidence) -> Step {
        self.aside.push(Aside { part, endpoint: moment.endpoint, answer: answer.clone() });
        self.advance(evidence)
    }

    /// Finds what to send next among what was refused.
    fn advance(&mut self, evidence: &mut Evidence) -> Step {
        if let Some(step) = self.take_up_proven(evidence) {
            return step;
        }
        if !self.to_send.is_empty() {
            return Step::Send;
        }
        // The first that was refused of the halves sent last.
        let followed = self.aside_before.min(self.aside.len().saturating_sub(1));
        if self.aside.is_empty() {
            return Step::Done;
        }
        let Aside { part, answer, .. } = self.aside.remove(followed);
        self.aside_before = self.aside.len();
        if part.is_single() {
            return Step::Fail(Failure::NoWitness(answer));
        }
        self.split(&part);
        Step::Send
    }

    /// Takes up what was refused by an endpoint that has accepted another body. Gives a step only if that is to fail.
    fn take_up_proven(&mut self, evidence: &mut Evidence) -> Option<Step> {
        let aside = std::mem::take(&mut self.aside);
        let (mut proven, aside): (Vec<_>, Vec<_>) = aside.into_iter().partition(|aside| evidence.has_witness(aside.endpoint));
        self.aside = aside;
        if proven.is_empty() {
            return None;
        }
        self.aside_before = self.aside.len();
        // The next part to send is the last one.
        proven.sort_unstable_by_key(|aside| std::cmp::Reverse(aside.part.events.start));
        for Aside { part, endpoint, answer } in proven {
            if part.is_single() {
                if let Some(step) = self.poisonous(&part, endpoint, &answer, evidence) {
                    return Some(step);
                }
            } else {
                self.split(&part);
            }
        }
        None
    }

    /// Notes a poison event. Gives a step only if that is one too many.
    fn poisonous(&mut self, part: &Part, endpoint: EndpointId, answer: &Outcome, evidence: &mut Evidence) -> Option<Step> {
        if evidence.poison >= evidence.poison_limit {
            return Some(Step::Fail(Failure::PoisonLimit(answer.clone())));
        }
        evidence.poison += 1;
        self.poison.push(Rejection { event: part.events.start, endpoint, answer: answer.clone() });
        None
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

/// Full jitter: evenly from nothing to a bound that doubles, so that many senders do not come back at once.
pub(super) fn backoff(retries: u32, jitter: f64) -> Duration {
    BACKOFF.jittered(retries, jitter)
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

    fn moment(endpoint: EndpointId) -> RetryContext {
        RetryContext { endpoint, accepted_bodies: 0, alternative: false, budget_left: Duration::from_mins(2), jitter: 1.0 }
    }

    /// What a course came to.
    #[derive(Debug)]
    struct End {
        requests: Vec<(Range<usize>, Form)>,
        delivered: usize,
        poison: Vec<usize>,
        last: Step,
    }

    /// Follows a course with one endpoint whose statuses `answer` decides.
    fn follow(events: usize, evidence: &mut Evidence, mut answer: impl FnMut(&Part) -> u16) -> End {
        let mut course = RetryPlan::new(events, true, 0);
        let mut requests = Vec::new();
        let mut accepted_bodies = evidence.accepted_by.len() as u64;
        loop {
            let part = course.part().expect("a course that is not done has a part to send").clone();
            requests.push((part.events.clone(), part.form));
            let answer = status(answer(&part));
            accepted_bodies += u64::from(answer.verdict() == Verdict::Accepted);
            let step = course.answered(&answer, &RetryContext { accepted_bodies, ..moment(A) }, evidence);
            assert!(requests.len() < 100_000, "the course has no end");
            if matches!(step, Step::Done | Step::Fail(_) | Step::Renew) {
                let delivered = course.delivered();
                let poison = course.into_poison().iter().map(|poison| poison.event).collect();
                return End { requests, delivered, poison, last: step };
            }
        }
    }

    fn witnessed() -> Evidence {
        Evidence { accepted_by: BTreeSet::from([A]), ..Evidence::new(100) }
    }

    #[test]
    fn an_accepted_batch_is_done() {
        let end = follow(10, &mut Evidence::new(100), |_| 200);
        assert_eq!((end.delivered, end.last, end.requests.len()), (10, Step::Done, 1));
    }

    #[test]
    fn a_refused_batch_goes_once_more_without_compression_and_its_parts_do_not() {
        let end = follow(2, &mut Evidence::new(100), |part| if part.form == Form::Uncompressed { 200 } else { 400 });
        assert_eq!((end.delivered, end.requests), (2, vec![(0..2, Form::Whole), (0..2, Form::Uncompressed)]));
        let end = follow(2, &mut witnessed(), |part| if part.events == (0..1) { 200 } else { 400 });
        assert_eq!((end.delivered, end.poison), (1, vec![1]));
        let forms = [(0..2, Form::Whole), (0..2, Form::Uncompressed), (0..1, Form::Piece), (1..2, Form::Piece)];
        assert_eq!(end.requests, forms);
        let end = follow(2, &mut Evidence::new(100), |part| if part.events.len() == 2 { 413 } else { 200 });
        assert_eq!(end.requests, [(0..2, Form::Whole), (0..1, Form::Piece), (1..2, Form::Piece)], "413 is no matter of encoding");
    }

    #[test]
    fn a_wrong_address_ends_after_two_requests_a_level_and_nothing_is_poison() {
        for code in [400, 413, 415, 422] {
            for events in [1_usize, 2, 3, 5, 64, 1_000, 2_000] {
                let end = follow(events, &mut Evidence::new(100), |_| code);
                assert!(matches!(end.last, Step::Fail(Failure::NoWitness(_))), "{:?}", end.last);
                assert_eq!((end.delivered, end.poison.len()), (0, 0));
                let most = 2 * events.next_power_of_two().ilog2() as usize + 2;
                assert!(end.requests.len() <= most, "{} requests for {events} events, at most {most}", end.requests.len());
            }
        }
    }

    #[test]
    fn what_was_left_aside_is_taken_up_once_there_is_a_witness() {
        // Of eight events the first five are refused, so the first acceptance comes late.
        let end = follow(8, &mut Evidence::new(100), |part| if part.events.start >= 5 { 200 } else { 400 });
        assert_eq!((end.delivered, end.poison, end.last), (0, vec![], Step::Fail(Failure::NoWitness(status(400)))));
        let end = follow(8, &mut Evidence::new(100), |part| if part.events.start >= 4 { 200 } else { 400 });
        assert_eq!((end.delivered, end.poison, end.last), (4, vec![0, 1, 2, 3], Step::Done));
    }

    #[test]
    fn more_poison_than_the_limit_fails() {
        let mut evidence = Evidence { poison_limit: 2, ..witnessed() };
        let end = follow(8, &mut evidence, |part| if part.events.end <= 5 { 200 } else { 400 });
        assert_eq!((end.delivered, end.poison.len(), end.last), (5, 2, Step::Fail(Failure::PoisonLimit(status(400)))));
    }

    #[test]
    fn another_endpoints_acceptance_is_no_witness() {
        let mut evidence = Evidence { accepted_by: BTreeSet::from([B]), ..Evidence::new(100) };
        let end = follow(1, &mut evidence, |_| 400);
        assert_eq!((end.poison.len(), end.last), (0, Step::Fail(Failure::NoWitness(status(400)))));
    }

    #[test]
    fn a_body_that_makes_the_endpoint_fail_twice_is_taken_apart_if_others_are_accepted() {
        let poison = |part: &Part| if part.events.contains(&3) { 500 } else { 200 };
        let mut course = RetryPlan::new(4, true, 7);
        let mut evidence = witnessed();
        for accepted_bodies in [7, 7, 7] {
            let step = course.answered(&status(500), &RetryContext { accepted_bodies, ..moment(A) }, &mut evidence);
            assert!(matches!(step, Step::Wait(_)), "as long as nothing is accepted it is busy: {step:?}");
        }
        let end = follow(4, &mut witnessed(), poison);
        assert_eq!((end.delivered, end.poison, end.last), (3, vec![3], Step::Done));
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
        let mut course = RetryPlan::new(2, true, 0);
        let mut evidence = witnessed();
        for endpoint in [A, B] {
            let step = course.answered(&status(500), &RetryContext { accepted_bodies: 9, ..moment(endpoint) }, &mut evidence);
            assert!(matches!(step, Step::Wait(_)), "{step:?}");
        }
        let step = course.answered(&status(500), &RetryContext { accepted_bodies: 9, ..moment(B) }, &mut evidence);
        assert_eq!(step, Step::Send);
    }

    #[test]
    fn waits_double_up_to_a_limit_and_are_drawn_from_all_of_it() {
        assert_eq!([0, 1, 2, 5, 6, 1_000].map(|retries| backoff(retries, 1.0).as_millis()), [100, 200, 400, 3_200, 5_000, 5_000]);
        assert_eq!((backoff(2, 0.0).as_millis(), backoff(2, 0.25).as_millis()), (0, 100));
    }

    #[test]
    fn retry_after_is_a_lower_bound_and_the_budget_an_upper_one() {
        let busy = |seconds| {
            Outcome::Response(Response { status: 429, retry_after: Duration::from_secs(seconds), ..Response::default() })
        };
        let step = |answer: &Outcome, jitter| {
            RetryPlan::new(1, true, 0).answered(answer, &RetryContext { jitter, ..moment(A) }, &mut Evidence::new(0))
        };
        assert_eq!(step(&busy(7), 0.5), Step::Wait(Duration::from_secs(7)));
        assert_eq!(step(&busy(0), 0.5), Step::Wait(Duration::from_millis(50)));
        assert_eq!(step(&busy(120), 0.5), Step::Fail(Failure::BudgetSpent(busy(120))));
    }

    #[test]
    fn an_endpoint_that_is_down_costs_no_wait_where_there_is_another() {
        let down = Outcome::NoResponse(Fault::Connect("refused".to_owned()));
        let step = |alternative| {
            RetryPlan::new(1, true, 0).answered(&down, &RetryContext { alternative, ..moment(A) }, &mut Evidence::new(0))
        };
        assert_eq!((step(true), step(false)), (Step::Wait(Duration::ZERO), Step::Wait(Duration::from_millis(100))));
    }

    #[test]
    fn credentials_are_renewed_once_and_a_wrong_address_fails_at_once() {
        let mut course = RetryPlan::new(1, true, 0);
        let mut evidence = Evidence::new(0);
        assert_eq!(course.answered(&status(401), &moment(A), &mut evidence), Step::Renew);
        let failed = Step::Fail(Failure::Misconfigured(status(401)));
        assert_eq!(course.answered(&status(401), &moment(A), &mut evidence), failed);
        assert!(matches!(follow(9, &mut witnessed(), |_| 404).last, Step::Fail(Failure::Misconfigured(_))));
    }

    proptest! {
        #[test]
        fn with_a_witness_exactly_the_poison_is_left(
            events in 1_usize..300,
            poison in prop::collection::btree_set(0_usize..300, 0..20),
            codes in prop::collection::vec(prop::sample::select(vec![400_u16, 413, 422, 500]), 1..4),
        ) {
            let poison: Vec<usize> = poison.into_iter().filter(|&event| event < events).collect();
            let mut count = 0;
            let end = follow(events, &mut witnessed(), |part| {
                count += 1;
                if poison.iter().any(|event| part.events.contains(event)) { codes[count % codes.len()] } else { 200 }
            });
            prop_assert_eq!(end.last, Step::Done);
            prop_assert_eq!(end.delivered, events - poison.len());
            prop_assert_eq!(end.poison, poison);
        }

        #[test]
        fn without_one_nothing_is_poison_unless_a_part_was_accepted(
            events in 1_usize..300,
            refused in prop::collection::btree_set(0_usize..300, 0..300),
        ) {
            let mut accepted = false;
            let end = follow(events, &mut Evidence::new(usize::MAX), |part| {
                let refuse = refused.iter().any(|event| part.events.contains(event));
                accepted |= !refuse;
                if refuse { 400 } else { 200 }
            });
            if accepted {
                prop_assert_eq!(end.last, Step::Done);
                prop_assert_eq!(end.delivered + end.poison.len(), events);
            } else {
                prop_assert!(matches!(end.last, Step::Fail(Failure::NoWitness(_))), "{:?}", end.last);
                prop_assert_eq!((end.delivered, end.poison.len()), (0, 0));
            }
        }
    }
}
