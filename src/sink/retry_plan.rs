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
//!
//! A blocked batch (403, an HTML page) may be blocked because of an event in it, of the credentials, or of the sender. So the
//! endpoint gets a **probe** first, an empty batch, and is misconfigured if it blocks that, too. Then the batch is halved as above,
//! but with a **fresh witness**: the endpoint accepted events that were sent after it blocked the batch. Before a single event is
//! rejected, the endpoint accepts something else and then blocks the event again, and then accepts something else once more. So
//! neither a password that was rotated meanwhile nor an endpoint that blocks now and then makes an event rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use elb_common::backoff::Backoff;

use super::acceptances::{Acceptances, Moment};
use super::credentials::Renewal;
use super::evidence::Evidence;
use super::outcome::{Outcome, Verdict};
use super::part::{Form, Part, Refusal, RefusedPart};
use super::pool::EndpointId;

/// The wait before a retry. It is drawn with full jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// After this number of failures on the same body, the body may be the reason that an endpoint fails.
const FAILURES_TO_SPLIT: u32 = 2;

/// The state of one batch between its requests.
#[derive(Debug)]
pub(super) struct RetryPlan {
    compressed: bool,
    /// Number of bodies that any endpoint had accepted when the batch was first sent.
    accepted_before: u64,
    /// The parts to send, the next one last.
    to_send: Vec<Part>,
    /// Refused parts that wait for a witness.
    deferred: Vec<RefusedPart>,
    /// Number of parts that were deferred before the halves which are being sent now.
    deferred_before: usize,
    /// A blocked part that waits for the probe of its endpoint.
    suspect: Option<RefusedPart>,
    /// Blocked single events that have a witness. They wait until their endpoint has accepted something else. Then they are sent
    /// once more, and rejected if that was done before.
    unconfirmed: Vec<RefusedPart>,
    /// When each endpoint first blocked the batch or a part of it.
    first_blocked: BTreeMap<EndpointId, Moment>,
    /// The endpoints that accepted an empty batch after they had blocked the batch.
    probed: BTreeSet<EndpointId>,
    delivered: usize,
    rejections: Vec<Rejection>,
    credentials_renewed: bool,
    /// Whether the credentials were read so recently that they could not be read again when they were first in doubt.
    renewal_postponed: bool,
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
pub(super) struct RetryContext<'a> {
    /// The endpoint that got the request.
    pub endpoint: EndpointId,
    /// When the request ended.
    pub now: Moment,
    /// The bodies that endpoints have accepted so far, in the whole process.
    pub acceptances: &'a Acceptances,
    /// Whether another endpoint is up.
    pub alternative: bool,
    /// Whether this is the only endpoint.
    pub only_endpoint: bool,
    /// The rest of `RETRY_BUDGET`.
    pub budget_left: Duration,
    /// A random number, drawn evenly from 0 to 1.
    pub jitter: f64,
    /// The endpoints of [`RetryPlan::awaited_endpoints`] that get no more requests.
    pub gone: &'a [EndpointId],
}

/// The next request of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send this part.
    Send(Part),
    /// Send an empty batch to this endpoint.
    Probe(EndpointId),
    /// None: every event is delivered or rejected.
    Done,
}

/// What the caller does before the next action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Continue,
    /// Wait.
    Wait(Duration),
    /// Read the credentials again, and tell the plan the result.
    RenewCredentials {
        /// Whether to wait until they may be read again, if they were read recently.
        patient: bool,
    },
}

/// Why a batch is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The endpoint will accept no body with this configuration. Another endpoint may, see [`RetryPlan::leave_endpoint`].
    Misconfigured(Outcome),
    /// The batch was refused down to a single event, without a witness.
    NoWitness(Outcome),
    /// The batch was blocked down to a single event, the endpoint accepts an empty batch, and there is no fresh witness.
    NoFreshWitness(Outcome),
    /// The object has more rejected events than `POISON_LIMIT`.
    PoisonLimit(Outcome),
    /// `RETRY_BUDGET` leaves no time for another request.
    BudgetSpent(Outcome),
}

impl RetryPlan {
    /// Creates the plan for a batch of `events` events. `accepted_before` is the number of bodies accepted so far.
    pub(super) fn new(events: usize, compressed: bool, accepted_before: u64) -> Self {
        RetryPlan {
            compressed,
            accepted_before,
            to_send: if events == 0 { Vec::new() } else { vec![Part::new(0..events, Form::Whole)] },
            deferred: Vec::new(),
            deferred_before: 0,
            suspect: None,
            unconfirmed: Vec::new(),
            first_blocked: BTreeMap::new(),
            probed: BTreeSet::new(),
            delivered: 0,
            rejections: Vec::new(),
            credentials_renewed: false,
            renewal_postponed: false,
        }
    }

    /// Returns the next request.
    pub(super) fn next_action(&self) -> Action {
        match (&self.suspect, self.to_send.last(), self.unconfirmed.first()) {
            (Some(refused), _, _) | (None, None, Some(refused)) => Action::Probe(refused.endpoint),
            (None, Some(part), _) => Action::Send(part.clone()),
            (None, None, None) => Action::Done,
        }
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

    /// Decides what comes after the part of [`Action::Send`] was sent, with this outcome.
    ///
    /// # Errors
    /// The batch is given up.
    pub(super) fn after_part(
        &mut self,
        outcome: &Outcome,
        context: &RetryContext<'_>,
        evidence: &mut Evidence,
    ) -> Result<Step, Failure> {
        let Some(mut part) = self.to_send.pop() else { return Ok(Step::Continue) };
        match outcome.verdict() {
            Verdict::Accepted => {
                evidence.accepted_by.insert(context.endpoint);
                self.delivered += part.events.len();
                self.advance(context, evidence)
            }
            Verdict::Busy => match part.blocked_since(outcome, context.endpoint, context.now, context.acceptances) {
                Some(since) => self.block(part, since, outcome, context, evidence),
                None => self.retry_busy(part, outcome, context),
            },
            Verdict::Failing => self.split_or_retry(part, outcome, context, evidence),
            Verdict::Down if context.alternative => self.retry(part, Duration::ZERO, outcome, context),
            Verdict::Down => {
                let wait = BACKOFF.jittered(part.retries, context.jitter);
                self.retry(part, wait, outcome, context)
            }
            Verdict::Refused if part.form == Form::Whole && self.compressed => {
                part.form = Form::Uncompressed;
                self.to_send.push(part);
                Ok(Step::Continue)
            }
            Verdict::Refused | Verdict::TooLarge => {
                self.deferred.push(RefusedPart::new(part, Refusal::OfBody, outcome, context.endpoint));
                self.advance(context, evidence)
            }
            Verdict::Blocked => self.block(part, context.now, outcome, context, evidence),
            Verdict::Misconfigured => {
                self.to_send.push(part);
                Err(Failure::Misconfigured(outcome.clone()))
            }
        }
    }

    /// Decides what comes after the endpoint of [`Action::Probe`] got an empty batch, with this outcome.
    ///
    /// # Errors
    /// The batch is given up.
    pub(super) fn after_probe(
        &mut self,
        outcome: &Outcome,
        context: &RetryContext<'_>,
        evidence: &mut Evidence,
    ) -> Result<Step, Failure> {
        match outcome.verdict() {
            Verdict::Accepted => {
                self.probed.insert(context.endpoint);
                match self.suspect.take() {
                    Some(suspect) => self.deferred.push(suspect),
                    None => self.settle_unconfirmed(|refused| refused.endpoint == context.endpoint, evidence)?,
                }
                self.advance(context, evidence)
            }
            // The endpoint refuses an empty batch for what it is. That proves nothing, so only other events can be a witness.
            Verdict::Refused | Verdict::TooLarge => {
                self.probed.insert(context.endpoint);
                let unconfirmed = self.unconfirmed.first().map(|refused| refused.outcome.clone());
                match (self.suspect.take(), unconfirmed) {
                    (Some(suspect), _) => self.deferred.push(suspect),
                    (None, Some(refusal)) => return Err(Failure::NoFreshWitness(refusal)),
                    (None, None) => {}
                }
                self.advance(context, evidence)
            }
            Verdict::Busy | Verdict::Failing | Verdict::Down => {
                let refused = self.suspect.take().or_else(|| (!self.unconfirmed.is_empty()).then(|| self.unconfirmed.remove(0)));
                let Some(RefusedPart { part, .. }) = refused else { return Ok(Step::Continue) };
                self.retry_busy(part, outcome, context)
            }
            Verdict::Blocked | Verdict::Misconfigured if self.renews_credentials_at_last(outcome) => {
                Ok(Step::RenewCredentials { patient: true })
            }
            Verdict::Blocked | Verdict::Misconfigured => Err(self.blocks_everything(outcome)),
        }
    }

    /// Continues after [`Step::RenewCredentials`], which followed this outcome. With other credentials, the blocked part is sent
    /// again.
    ///
    /// # Errors
    /// The credentials are the same, and the endpoint blocks an empty batch, too.
    pub(super) fn after_renewal(&mut self, renewal: Renewal, patient: bool, outcome: &Outcome) -> Result<(), Failure> {
        match renewal {
            Renewal::Changed => self.to_send.extend(self.suspect.take().map(|suspect| suspect.part)),
            Renewal::Unchanged | Renewal::TooEarly(_) if patient => return Err(self.blocks_everything(outcome)),
            Renewal::Unchanged => {}
            Renewal::TooEarly(_) => self.renewal_postponed = true,
        }
        Ok(())
    }

    /// Gives up an endpoint that responded to an empty batch with this outcome. The error shows its response to the events.
    fn blocks_everything(&mut self, outcome: &Outcome) -> Failure {
        let first = self.suspect.take().map(|suspect| {
            self.to_send.push(suspect.part);
            suspect.outcome
        });
        Failure::Misconfigured(first.unwrap_or_else(|| outcome.clone()))
    }

    /// Returns the endpoints that have refused a part that still lacks a witness.
    pub(super) fn awaited_endpoints(&self) -> impl Iterator<Item = EndpointId> {
        self.deferred.iter().chain(&self.unconfirmed).map(|refused| refused.endpoint)
    }

    /// Gives the parts that an endpoint refused to the other endpoints, because this one gets no more requests.
    pub(super) fn leave_endpoint(&mut self, endpoint: EndpointId) {
        let is_left = |refused: &mut RefusedPart| refused.endpoint == endpoint;
        let left = self.deferred.extract_if(.., is_left).chain(self.unconfirmed.extract_if(.., is_left));
        let left = left.chain(self.suspect.take_if(is_left));
        self.to_send.extend(left.map(|refused| refused.part.renewed()));
        self.deferred_before = self.deferred_before.min(self.deferred.len());
    }

    /// Sends a part again to an endpoint that is busy, or at once to another.
    fn retry_busy(&mut self, part: Part, outcome: &Outcome, context: &RetryContext<'_>) -> Result<Step, Failure> {
        let wait = busy_wait(&part, outcome, context);
        self.retry(part, wait, outcome, context)
    }

    /// Sends a part again after `wait`, if the budget allows it.
    fn retry(&mut self, mut part: Part, wait: Duration, outcome: &Outcome, context: &RetryContext<'_>) -> Result<Step, Failure> {
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
        context: &RetryContext<'_>,
        evidence: &mut Evidence,
    ) -> Result<Step, Failure> {
        let failures = part.failures.entry(context.endpoint).or_default();
        *failures += 1;
        if *failures >= FAILURES_TO_SPLIT && context.acceptances.bodies() > self.accepted_before {
            if part.is_single() && evidence.has_witness(context.endpoint) {
                self.reject(&RefusedPart::new(part, Refusal::OfBody, outcome, context.endpoint), evidence)?;
                return self.advance(context, evidence);
            }
            if !part.is_single() {
                self.split(&part);
                return Ok(Step::Continue);
            }
        }
        self.retry_busy(part, outcome, context)
    }

    /// Decides about a part that an endpoint blocked, for the first time at `since`. The endpoint gets a probe before the part is
    /// split.
    fn block(
        &mut self,
        part: Part,
        since: Moment,
        outcome: &Outcome,
        context: &RetryContext<'_>,
        evidence: &mut Evidence,
    ) -> Result<Step, Failure> {
        self.first_blocked.entry(context.endpoint).or_insert(since);
        let blocked = RefusedPart::new(part, Refusal::Blocked { at: context.now }, outcome, context.endpoint);
        if self.renews_credentials(outcome) {
            self.suspect = Some(blocked);
            return Ok(Step::RenewCredentials { patient: false });
        }
        if self.probed.contains(&context.endpoint) {
            self.deferred.push(blocked);
            return self.advance(context, evidence);
        }
        self.suspect = Some(blocked);
        Ok(Step::Continue)
    }

    /// Returns whether the credentials have to be read again after this outcome, which happens once for a batch.
    fn renews_credentials(&mut self, outcome: &Outcome) -> bool {
        outcome.doubts_credentials() && !std::mem::replace(&mut self.credentials_renewed, true)
    }

    /// Returns whether the credentials have to be read again after this outcome of a probe. If it was too early before, this is
    /// the time, because otherwise the endpoint counts as misconfigured.
    fn renews_credentials_at_last(&mut self, outcome: &Outcome) -> bool {
        self.renews_credentials(outcome) || (outcome.doubts_credentials() && std::mem::take(&mut self.renewal_postponed))
    }
}

/// The search for the events that an endpoint refuses.
impl RetryPlan {
    /// Finds the next part to send, first among the parts to send, then among the deferred ones.
    fn advance(&mut self, context: &RetryContext<'_>, evidence: &mut Evidence) -> Result<Step, Failure> {
        context.gone.iter().for_each(|endpoint| self.leave_endpoint(*endpoint));
        self.resolve_deferred(context, evidence)?;
        if !self.to_send.is_empty() || self.deferred.is_empty() {
            return Ok(Step::Continue);
        }
        // The first refused one of the halves that were sent last.
        let followed = self.deferred_before.min(self.deferred.len() - 1);
        let RefusedPart { part, outcome, refusal, .. } = self.deferred.remove(followed);
        self.deferred_before = self.deferred.len();
        match refusal {
            _ if !part.is_single() => self.split(&part),
            Refusal::OfBody => return Err(Failure::NoWitness(outcome)),
            Refusal::Blocked { .. } => return Err(Failure::NoFreshWitness(outcome)),
        }
        Ok(Step::Continue)
    }

    /// Splits or rejects every deferred part for which there is a witness by now.
    fn resolve_deferred(&mut self, context: &RetryContext<'_>, evidence: &mut Evidence) -> Result<(), Failure> {
        let deferred = std::mem::take(&mut self.deferred);
        let (mut proven, deferred): (Vec<_>, Vec<_>) =
            deferred.into_iter().partition(|refused| self.has_witness(refused, context, evidence));
        self.deferred = deferred;
        if !proven.is_empty() {
            self.deferred_before = self.deferred.len();
        }
        // The next part to send is the last one.
        proven.sort_unstable_by_key(|refused| std::cmp::Reverse(refused.part.events.start));
        for refused in proven {
            match refused.refusal {
                _ if !refused.part.is_single() => self.split(&refused.part),
                Refusal::OfBody => self.reject(&refused, evidence)?,
                Refusal::Blocked { .. } => self.unconfirmed.push(refused),
            }
        }
        self.settle_unconfirmed(|refused| refused.is_confirmed(context.acceptances), evidence)
    }

    fn has_witness(&self, refused: &RefusedPart, context: &RetryContext<'_>, evidence: &Evidence) -> bool {
        let endpoint = refused.endpoint;
        match refused.refusal {
            Refusal::OfBody => evidence.has_witness(endpoint),
            Refusal::Blocked { at } => {
                let since = self.first_blocked.get(&endpoint).copied().unwrap_or(at);
                context.acceptances.any_since(endpoint, since)
            }
        }
    }

    /// Rejects the blocked events for which `is_confirmed`, or sends them once more to see whether they are still blocked.
    fn settle_unconfirmed(
        &mut self,
        is_confirmed: impl Fn(&RefusedPart) -> bool,
        evidence: &mut Evidence,
    ) -> Result<(), Failure> {
        let confirmed: Vec<RefusedPart> = self.unconfirmed.extract_if(.., |refused| is_confirmed(refused)).collect();
        for refused in confirmed {
            if refused.part.blocked_by.contains(&refused.endpoint) {
                self.reject(&refused, evidence)?;
            } else {
                self.to_send.push(refused.part.blocked_once_by(refused.endpoint));
            }
        }
        Ok(())
    }

    /// Counts the only event of a part as rejected.
    fn reject(&mut self, refused: &RefusedPart, evidence: &mut Evidence) -> Result<(), Failure> {
        let RefusedPart { part, endpoint, outcome, .. } = refused;
        if evidence.rejected >= evidence.poison_limit {
            return Err(Failure::PoisonLimit(outcome.clone()));
        }
        evidence.rejected += 1;
        self.rejections.push(Rejection { event: part.events.start, endpoint: *endpoint, outcome: outcome.clone() });
        Ok(())
    }

    fn split(&mut self, part: &Part) {
        let Range { start, end } = part.events;
        let middle = start + (end - start).div_ceil(2);
        self.to_send.push(Part::new(middle..end, Form::Piece));
        self.to_send.push(Part::new(start..middle, Form::Piece));
    }
}

/// Returns the wait before a busy endpoint gets the part again: the back-off, but not less than `Retry-After`. Only the endpoint
/// that asked for it is left alone so long, so a part that another endpoint can take does not wait.
fn busy_wait(part: &Part, outcome: &Outcome, context: &RetryContext<'_>) -> Duration {
    if context.alternative {
        return Duration::ZERO;
    }
    let asked = if context.only_endpoint { outcome.retry_after() } else { Duration::ZERO };
    BACKOFF.jittered(part.retries, context.jitter).max(asked)
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

    fn context<'a>(endpoint: EndpointId, acceptances: &'a mut Acceptances) -> RetryContext<'a> {
        RetryContext {
            endpoint,
            now: acceptances.now(),
            acceptances,
            alternative: false,
            only_endpoint: true,
            budget_left: Duration::from_mins(2),
            jitter: 1.0,
            gone: &[],
        }
    }

    /// The requests of a batch, and its end.
    #[derive(Debug)]
    struct End {
        requests: Vec<(Range<usize>, Form)>,
        probes: usize,
        delivered: usize,
        rejected: Vec<usize>,
        last: Result<(), Failure>,
    }

    /// An endpoint that responds to each part, and to a probe (`None`), with a status.
    struct OneEndpoint<F> {
        respond: F,
        acceptances: Acceptances,
        /// What reading the secret again gives.
        renewal: Renewal,
        /// Whether the endpoint accepts another batch after each request.
        others_are_accepted: bool,
    }

    impl<F: FnMut(Option<&Part>) -> Outcome> OneEndpoint<F> {
        fn new(respond: F) -> Self {
            OneEndpoint { respond, acceptances: Acceptances::default(), renewal: Renewal::Unchanged, others_are_accepted: false }
        }

        fn send(&mut self, events: usize, evidence: &mut Evidence) -> End {
            let mut plan = RetryPlan::new(events, true, 0);
            let (mut requests, mut probes) = (Vec::new(), 0);
            let last = loop {
                assert!(requests.len() + probes < 100_000, "the batch never ends");
                let action = plan.next_action();
                let sent = self.acceptances.now();
                let outcome = match &action {
                    Action::Send(part) => {
                        requests.push((part.events.clone(), part.form));
                        (self.respond)(Some(part))
                    }
                    Action::Probe(_) => {
                        probes += 1;
                        (self.respond)(None)
                    }
                    Action::Done => break Ok(()),
                };
                let is_part = matches!(action, Action::Send(_));
                if is_part && outcome.is_accepted() {
                    self.acceptances.record(A, sent);
                }
                let context = context(A, &mut self.acceptances);
                let step = if is_part {
                    plan.after_part(&outcome, &context, evidence)
                } else {
                    plan.after_probe(&outcome, &context, evidence)
                };
                if self.others_are_accepted {
                    let sent = self.acceptances.now();
                    self.acceptances.record(A, sent);
                }
                match step {
                    Ok(Step::RenewCredentials { patient }) => {
                        if let Err(failure) = plan.after_renewal(self.renewal, patient, &outcome) {
                            break Err(failure);
                        }
                    }
                    Ok(Step::Continue | Step::Wait(_)) => {}
                    Err(failure) => break Err(failure),
                }
            };
            let delivered = plan.delivered();
            let rejected = plan.into_rejections().iter().map(|rejection| rejection.event).collect();
            End { requests, probes, delivered, rejected, last }
        }
    }

    /// Sends a batch to one endpoint that responds to each part with the status that `respond` returns, and accepts probes.
    fn send(events: usize, evidence: &mut Evidence, mut respond: impl FnMut(&Part) -> u16) -> End {
        let mut endpoint = OneEndpoint::new(|part: Option<&Part>| status(part.map_or(200, &mut respond)));
        if evidence.has_witness(A) {
            let sent = endpoint.acceptances.now();
            endpoint.acceptances.record(A, sent);
        }
        endpoint.send(events, evidence)
    }

    /// Decides after one outcome of a batch of one event.
    fn first_step(outcome: &Outcome, change: impl FnOnce(&mut RetryContext<'_>)) -> Result<Step, Failure> {
        let mut acceptances = Acceptances::default();
        let mut context = context(A, &mut acceptances);
        change(&mut context);
        RetryPlan::new(1, true, 0).after_part(outcome, &context, &mut Evidence::new(0))
    }

    fn witnessed() -> Evidence {
        Evidence { accepted_by: BTreeSet::from([A]), ..Evidence::new(100) }
    }

    #[test]
    fn an_accepted_batch_is_done() {
        let end = send(10, &mut Evidence::new(100), |_| 200);
        assert_eq!((end.delivered, end.last, end.requests.len()), (10, Ok(()), 1));
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
        assert_eq!((end.delivered, end.rejected, end.last), (4, vec![0, 1, 2, 3], Ok(())));
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
        let (mut plan, mut acceptances) = (RetryPlan::new(4, true, 0), Acceptances::default());
        for _ in 0..3 {
            let step = plan.after_part(&status(500), &context(A, &mut acceptances), &mut witnessed());
            assert!(matches!(step, Ok(Step::Wait(_))), "an endpoint that accepts nothing is busy: {step:?}");
        }
        let end = send(4, &mut witnessed(), respond);
        assert_eq!((end.delivered, end.rejected, end.last), (3, vec![3], Ok(())));
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
        let (mut plan, mut acceptances) = (RetryPlan::new(2, true, 0), Acceptances::default());
        let sent = acceptances.now();
        acceptances.record(A, sent);
        for endpoint in [A, B] {
            let step = plan.after_part(&status(500), &context(endpoint, &mut acceptances), &mut witnessed());
            assert!(matches!(step, Ok(Step::Wait(_))), "{step:?}");
        }
        let step = plan.after_part(&status(500), &context(B, &mut acceptances), &mut witnessed());
        assert_eq!((step, plan.to_send.len()), (Ok(Step::Continue), 2));
    }

    #[test]
    fn waits_double_up_to_five_seconds_with_full_jitter() {
        let mut acceptances = Acceptances::default();
        let mut wait = |retries, jitter| {
            let mut part = Part::new(0..1, Form::Whole);
            part.retries = retries;
            busy_wait(&part, &status(503), &RetryContext { jitter, ..context(A, &mut acceptances) }).as_millis()
        };
        assert_eq!([0, 1, 2, 5, 6, 1_000].map(|retries| wait(retries, 1.0)), [100, 200, 400, 3_200, 5_000, 5_000]);
        assert_eq!((wait(2, 0.0), wait(2, 0.25)), (0, 100));
    }

    fn busy(seconds: u64) -> Outcome {
        Outcome::Response(Response { status: 429, retry_after: Duration::from_secs(seconds), ..Response::default() })
    }

    #[test]
    fn waits_at_least_retry_after_and_less_than_the_budget() {
        let step = |outcome: &Outcome, jitter| first_step(outcome, |context| context.jitter = jitter);
        assert_eq!(step(&busy(7), 0.5), Ok(Step::Wait(Duration::from_secs(7))));
        assert_eq!(step(&busy(0), 0.5), Ok(Step::Wait(Duration::from_millis(50))));
        assert_eq!(step(&busy(120), 0.5), Err(Failure::BudgetSpent(busy(120))));
    }

    #[test]
    fn retry_after_of_one_endpoint_does_not_hold_the_batch() {
        let several =
            |alternative| first_step(&busy(3_600), |context| (context.alternative, context.only_endpoint) = (alternative, false));
        assert_eq!(several(true), Ok(Step::Wait(Duration::ZERO)), "another endpoint gets the batch at once");
        assert_eq!(several(false), Ok(Step::Wait(Duration::from_millis(100))), "another endpoint may recover before");
    }

    #[test]
    fn does_not_wait_for_a_down_endpoint_if_another_is_up() {
        let down = Outcome::NoResponse(Fault::Connect("refused".to_owned()));
        let step = |alternative| first_step(&down, |context| context.alternative = alternative);
        assert_eq!((step(true), step(false)), (Ok(Step::Wait(Duration::ZERO)), Ok(Step::Wait(Duration::from_millis(100)))));
    }

    #[test]
    fn a_wrong_path_fails_at_once() {
        let end = send(9, &mut witnessed(), |_| 404);
        assert_eq!((end.last, end.requests.len()), (Err(Failure::Misconfigured(status(404))), 1));
    }

    #[test]
    fn wrong_credentials_fail_after_one_renewal_and_one_probe() {
        let mut endpoint = OneEndpoint::new(|_| status(401));
        let end = endpoint.send(9, &mut witnessed());
        assert_eq!((end.last, end.requests.len(), end.probes), (Err(Failure::Misconfigured(status(401))), 1, 1));
        let mut renewed = false;
        let mut endpoint = OneEndpoint::new(|_| status(if std::mem::replace(&mut renewed, true) { 200 } else { 401 }));
        endpoint.renewal = Renewal::Changed;
        let end = endpoint.send(9, &mut witnessed());
        assert_eq!((end.delivered, end.probes, end.last), (9, 0, Ok(())));
    }

    #[test]
    fn a_blocked_event_is_found_and_the_rest_delivered() {
        for code in [401, 403, 406, 410, 451, 418] {
            let end = send(8, &mut Evidence::new(100), |part| if part.events.contains(&5) { code } else { 200 });
            assert_eq!((end.delivered, end.rejected, end.last), (7, vec![5], Ok(())), "status {code}");
            assert!(end.probes <= 2, "{} probes for status {code}", end.probes);
        }
    }

    #[test]
    fn a_foreign_page_about_one_event_is_bisected() {
        let page = || Outcome::Response(Response { status: 200, is_foreign: true, ..Response::default() });
        let respond = |part: Option<&Part>| if part.is_some_and(|part| part.events.contains(&2)) { page() } else { status(200) };
        let end = OneEndpoint::new(respond).send(4, &mut Evidence::new(100));
        assert_eq!((end.delivered, end.rejected, end.last), (3, vec![2], Ok(())));
        let end = OneEndpoint::new(|_| page()).send(4, &mut witnessed());
        assert_eq!((end.rejected, end.last), (vec![], Err(Failure::Misconfigured(page()))));
        assert_eq!((end.requests.len(), end.probes), (1, 1), "a probe shows that the endpoint is something else");
    }

    #[test]
    fn an_acceptance_from_before_the_refusal_proves_nothing() {
        let end = send(1, &mut witnessed(), |_| 403);
        assert_eq!((end.rejected, end.probes, end.last), (vec![], 1, Err(Failure::NoFreshWitness(status(403)))));
    }

    #[test]
    fn a_password_rotated_while_a_batch_is_split_rejects_nothing() {
        for accepted_parts in 0..12 {
            let mut accepted = 0;
            let respond = |part: Option<&Part>| {
                let blocks = part.is_some_and(|part| part.events.contains(&3)) || accepted > accepted_parts;
                accepted += usize::from(!blocks);
                status(if blocks { 403 } else { 200 })
            };
            let end = OneEndpoint::new(respond).send(64, &mut Evidence::new(100));
            assert!(end.rejected.iter().all(|&event| event == 3), "{:?} after {accepted_parts} accepted parts", end.rejected);
        }
    }

    #[test]
    fn three_resets_with_acceptances_between_split_the_part() {
        let lost = || Outcome::NoResponse(Fault::Broken("reset".to_owned()));
        let (mut plan, mut acceptances) = (RetryPlan::new(2, true, 0), Acceptances::default());
        let mut evidence = Evidence::new(100);
        let accept = |acceptances: &mut Acceptances| {
            let sent = acceptances.now();
            acceptances.record(A, sent);
        };
        for _ in 0..5 {
            let step = plan.after_part(&lost(), &context(A, &mut acceptances), &mut evidence);
            assert!(matches!(step, Ok(Step::Wait(_))), "resets in a row show a blocked endpoint: {step:?}");
        }
        accept(&mut acceptances);
        assert!(matches!(plan.after_part(&lost(), &context(A, &mut acceptances), &mut evidence), Ok(Step::Wait(_))));
        accept(&mut acceptances);
        assert_eq!(plan.after_part(&lost(), &context(A, &mut acceptances), &mut evidence), Ok(Step::Continue));
        assert_eq!(plan.next_action(), Action::Probe(A));
    }

    #[test]
    fn a_busy_probe_is_no_decision() {
        let mut responses = [403, 503, 403, 200].into_iter();
        let respond = |part: Option<&Part>| {
            let blocked = part.is_some_and(|part| part.events.contains(&0));
            status(responses.next().unwrap_or(if blocked { 403 } else { 200 }))
        };
        let end = OneEndpoint::new(respond).send(2, &mut Evidence::new(100));
        assert_eq!((end.delivered, end.rejected, end.last), (1, vec![0], Ok(())));
    }

    #[test]
    fn another_endpoint_gets_a_blocked_part_if_the_probe_finds_its_endpoint_busy() {
        let (mut plan, mut acceptances) = (RetryPlan::new(1, true, 0), Acceptances::default());
        let mut evidence = Evidence::new(100);
        let both = RetryContext { alternative: true, only_endpoint: false, ..context(A, &mut acceptances) };
        assert_eq!(plan.after_part(&status(403), &both, &mut evidence), Ok(Step::RenewCredentials { patient: false }));
        assert_eq!(plan.after_renewal(Renewal::Unchanged, false, &status(403)), Ok(()));
        assert_eq!(plan.next_action(), Action::Probe(A));
        assert_eq!(plan.after_probe(&status(503), &both, &mut evidence), Ok(Step::Wait(Duration::ZERO)));
        assert!(matches!(plan.next_action(), Action::Send(_)), "the part does not wait for the busy endpoint");
    }

    #[test]
    fn an_event_that_is_blocked_once_and_accepted_later_is_delivered() {
        let mut blocks = 2;
        let respond = |part: Option<&Part>| {
            let blocked = blocks > 0 && part.is_some_and(|part| part.events.contains(&0));
            blocks -= u8::from(blocked);
            status(if blocked { 403 } else { 200 })
        };
        let end = OneEndpoint::new(respond).send(2, &mut Evidence::new(100));
        assert_eq!((end.delivered, end.rejected, end.last), (2, vec![], Ok(())));
    }

    #[test]
    fn an_innocent_event_is_not_rejected_for_three_lost_connections() {
        let mut losses = 3;
        let respond = |part: Option<&Part>| {
            let lost = losses > 0 && part.is_some_and(|part| part.events == (0..1));
            losses -= u8::from(lost);
            if lost { Outcome::NoResponse(Fault::Broken("reset".to_owned())) } else { status(200) }
        };
        // Each loss is followed by another batch's acceptance.
        let mut endpoint = OneEndpoint::new(respond);
        endpoint.others_are_accepted = true;
        let end = endpoint.send(1, &mut Evidence::new(100));
        assert_eq!((end.delivered, end.rejected, end.last), (1, vec![], Ok(())));
    }

    #[test]
    fn credentials_that_were_read_just_now_are_read_again_before_the_endpoint_counts_as_misconfigured() {
        let (mut plan, mut acceptances) = (RetryPlan::new(1, true, 0), Acceptances::default());
        let (context, mut evidence) = (context(A, &mut acceptances), Evidence::new(100));
        assert_eq!(plan.after_part(&status(401), &context, &mut evidence), Ok(Step::RenewCredentials { patient: false }));
        let too_early = Renewal::TooEarly(Duration::from_secs(50));
        assert_eq!(plan.after_renewal(too_early, false, &status(401)), Ok(()));
        assert_eq!(plan.after_probe(&status(401), &context, &mut evidence), Ok(Step::RenewCredentials { patient: true }));
        assert_eq!(plan.after_renewal(Renewal::Changed, true, &status(401)), Ok(()));
        assert!(matches!(plan.next_action(), Action::Send(_)), "the part is sent with the other credentials");
        plan.after_part(&status(401), &context, &mut evidence).expect("a probe comes first");
        let end = plan.after_probe(&status(401), &context, &mut evidence);
        assert_eq!(end, Err(Failure::Misconfigured(status(401))));
    }

    #[test]
    fn credentials_that_stay_the_same_after_a_refused_probe_need_no_other_probe() {
        let (mut plan, mut acceptances) = (RetryPlan::new(1, true, 0), Acceptances::default());
        let (context, mut evidence) = (context(A, &mut acceptances), Evidence::new(100));
        plan.after_part(&status(406), &context, &mut evidence).expect("a probe comes next");
        assert_eq!(plan.after_probe(&status(401), &context, &mut evidence), Ok(Step::RenewCredentials { patient: true }));
        let end = plan.after_renewal(Renewal::Unchanged, true, &status(401));
        assert_eq!(end, Err(Failure::Misconfigured(status(406))));
    }

    #[test]
    fn an_endpoint_that_refuses_an_empty_batch_is_not_misconfigured() {
        let respond = |part: Option<&Part>| status(part.map_or(400, |part| if part.events.contains(&3) { 403 } else { 200 }));
        let end = OneEndpoint::new(respond).send(4, &mut Evidence::new(100));
        assert_eq!((end.delivered, end.rejected, end.last), (3, vec![], Err(Failure::NoFreshWitness(status(403)))));
    }

    #[test]
    fn another_endpoint_gets_what_a_misconfigured_one_refused() {
        let (mut plan, mut acceptances) = (RetryPlan::new(4, false, 0), Acceptances::default());
        let mut evidence = Evidence::new(100);
        for (code, failure) in [(400, None), (400, None), (404, Some(Failure::Misconfigured(status(404))))] {
            let step = plan.after_part(&status(code), &context(A, &mut acceptances), &mut evidence);
            assert_eq!(step.err(), failure);
        }
        plan.leave_endpoint(A);
        while let Action::Send(_) = plan.next_action() {
            let step = plan.after_part(&status(200), &context(B, &mut acceptances), &mut evidence);
            assert_eq!(step, Ok(Step::Continue));
        }
        assert_eq!((plan.next_action(), plan.delivered()), (Action::Done, 4));
    }

    #[test]
    fn another_endpoint_gets_what_one_refused_that_another_batch_found_misconfigured() {
        let (mut plan, mut acceptances) = (RetryPlan::new(2, false, 0), Acceptances::default());
        let mut evidence = Evidence::new(100);
        for _ in 0..2 {
            plan.after_part(&status(400), &context(A, &mut acceptances), &mut evidence).expect("half of the batch is left");
        }
        assert_eq!(plan.awaited_endpoints().collect::<Vec<_>>(), [A]);
        let context = RetryContext { gone: &[A], ..context(B, &mut acceptances) };
        for _ in 0..2 {
            assert_eq!(plan.after_part(&status(200), &context, &mut evidence), Ok(Step::Continue));
        }
        assert_eq!((plan.next_action(), plan.delivered()), (Action::Done, 2));
    }

    proptest! {
        #[test]
        fn with_a_witness_rejects_exactly_the_bad_events(
            events in 1_usize..300,
            bad in prop::collection::btree_set(0_usize..300, 0..20),
            codes in prop::collection::vec(prop::sample::select(vec![400_u16, 413, 422, 500, 403]), 1..4),
        ) {
            let bad: Vec<usize> = bad.into_iter().filter(|&event| event < events).collect();
            // Only an accepted event is a fresh witness.
            prop_assume!(bad.len() < events || !codes.contains(&403));
            let mut count = 0;
            let end = send(events, &mut witnessed(), |part| {
                count += 1;
                if bad.iter().any(|event| part.events.contains(event)) { codes[count % codes.len()] } else { 200 }
            });
            prop_assert_eq!(end.last, Ok(()));
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
                prop_assert_eq!(end.last, Ok(()));
                prop_assert_eq!(end.delivered + end.rejected.len(), events);
            } else {
                prop_assert!(matches!(end.last, Err(Failure::NoWitness(_))), "{:?}", end.last);
                prop_assert_eq!((end.delivered, end.rejected.len()), (0, 0));
            }
        }
    }
}
