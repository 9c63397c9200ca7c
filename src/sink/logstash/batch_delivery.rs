//! The delivery of one batch: sends requests, and does after each what a [`RetryPlan`] decides.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use elb_log::batch::{Batch, Body, Compression, Unpacked};
use tokio::time::Instant;

use super::{Logstash, empty_batch};
use crate::shutdown::Shutdown;
use crate::sink::acceptances::Moment;
use crate::sink::credentials::{Authorization, Renewal};
use crate::sink::endpoint::Endpoint;
use crate::sink::endpoints::{OutstandingRequest, REFRESH_INTERVAL_WHEN_DOWN, Selection};
use crate::sink::evidence::Evidence;
use crate::sink::outcome::{Fault, Outcome, Verdict};
use crate::sink::part::{Form, Part};
use crate::sink::pool::{ChosenEndpoint, EndpointId};
use crate::sink::retry_plan::{Action, Failure, RetryContext, RetryPlan, Step};
use crate::sink::retrying::RetryEntry;
use crate::sink::transport::Transport;
use crate::sink::{Delivery, RejectedEvent, SendError, lock};

/// Stands for the endpoint if none could be chosen.
const NO_ENDPOINT: EndpointId = EndpointId::new(0);

/// The delivery of one batch.
pub(super) struct BatchDelivery<'a, T> {
    logstash: &'a Logstash<T>,
    batch: &'a Batch,
    evidence: &'a Mutex<Evidence>,
    shutdown: &'a Shutdown,
    plan: RetryPlan,
    /// The batch without compression, made when a part of it is first needed.
    unpacked: Option<Unpacked>,
    /// The body of the part that is being sent, kept for its retries.
    body: Option<(Range<usize>, Form, Body)>,
    budget_ends: Instant,
    requests: u64,
    /// How the last request ended.
    last: Option<Outcome>,
    /// The endpoint that gets the next request, if it is in service: the halves of a part go to the endpoint that refused it.
    preferred: Option<EndpointId>,
    /// The endpoint that does not get the next request, if another is in service: it failed just now.
    avoided: Option<EndpointId>,
    /// The batch's place in the list of batches that are being retried.
    retrying: Option<RetryEntry>,
}

/// One request and how it ended.
struct Attempt {
    /// The endpoint that got the request, if there was one.
    chosen: Option<ChosenEndpoint>,
    outcome: Outcome,
    authorization: Authorization,
    /// When the request ended.
    ended: Moment,
}

impl<'a, T: Transport> BatchDelivery<'a, T> {
    /// Begins the delivery of a batch. Nothing is sent yet.
    pub(super) fn new(
        logstash: &'a Logstash<T>,
        batch: &'a Batch,
        evidence: &'a Mutex<Evidence>,
        shutdown: &'a Shutdown,
    ) -> Self {
        let compressed = batch.body.compression != Compression::None;
        BatchDelivery {
            logstash,
            batch,
            evidence,
            shutdown,
            plan: RetryPlan::new(batch.event_count(), compressed, lock(&logstash.acceptances).bodies()),
            unpacked: None,
            body: None,
            budget_ends: Instant::now() + logstash.retry_budget,
            requests: 0,
            last: None,
            preferred: None,
            avoided: None,
            retrying: None,
        }
    }

    /// Delivers the batch.
    pub(super) async fn deliver(mut self) -> Delivery {
        let result = self.run().await;
        self.finish(result)
    }

    /// Sends requests until the plan ends.
    async fn run(&mut self) -> Result<(), SendError> {
        loop {
            let action = self.plan.next_action();
            if action == Action::Done {
                return Ok(());
            }
            if self.shutdown.is_stopped() {
                return Err(self.stopped());
            }
            match action {
                Action::Send(part) => self.send_part(&part).await?,
                Action::Probe(endpoint) => self.probe(endpoint).await?,
                Action::Done => {}
            }
        }
    }

    /// Sends a part to the endpoint that is best for it now, and does what the plan decides then.
    async fn send_part(&mut self, part: &Part) -> Result<(), SendError> {
        let body = self.body_of(part);
        let Some(attempt) = self.attempt(&body).await? else { return Ok(()) };
        let step = self.decide(&attempt, RetryPlan::after_part);
        self.record(&attempt);
        self.carry_out(step, attempt).await
    }

    /// Sends an empty batch to an endpoint that blocked a part, and does what the plan decides then.
    async fn probe(&mut self, id: EndpointId) -> Result<(), SendError> {
        let authorization = self.authorization().await?;
        let endpoints = &self.logstash.endpoints;
        let request = match endpoints.choose_only(id) {
            Selection::Endpoint(request) => request,
            Selection::AllPaused(until) if !endpoints.has_other_in_service(id) => return self.wait_for_pause(until).await,
            Selection::AllPaused(_) | Selection::NoEndpoint => {
                self.plan.leave_endpoint(id);
                return Ok(());
            }
        };
        let outcome = self.post(request.endpoint(), &empty_batch(), &authorization).await;
        let chosen = Some(request.finish(&outcome));
        let ended = lock(&self.logstash.acceptances).now();
        let attempt = Attempt { chosen, outcome, authorization, ended };
        let step = self.decide(&attempt, RetryPlan::after_probe);
        self.record(&attempt);
        self.carry_out(step, attempt).await
    }

    /// Asks the plan what comes after a request.
    fn decide(
        &mut self,
        attempt: &Attempt,
        decision: impl FnOnce(&mut RetryPlan, &Outcome, &RetryContext<'_>, &mut Evidence) -> Result<Step, Failure>,
    ) -> Result<Step, Failure> {
        let endpoints = &self.logstash.endpoints;
        let endpoint = attempt.endpoint_id();
        // Another batch may have found out that an endpoint is misconfigured, and the registry may have dropped it.
        let gone: Vec<_> = self.plan.awaited_endpoints().filter(|id| endpoints.endpoint(*id).is_none()).collect();
        let acceptances = lock(&self.logstash.acceptances);
        let context = RetryContext {
            endpoint,
            now: attempt.ended,
            acceptances: &acceptances,
            alternative: attempt.chosen.is_some() && endpoints.has_other_in_service(endpoint),
            only_endpoint: endpoints.is_only(endpoint),
            budget_left: self.budget_left(),
            jitter: lock(&self.logstash.random).f64(),
            gone: &gone,
        };
        decision(&mut self.plan, &attempt.outcome, &context, &mut lock(self.evidence))
    }

    async fn carry_out(&mut self, step: Result<Step, Failure>, attempt: Attempt) -> Result<(), SendError> {
        let failure = match step {
            Ok(Step::Continue) => return Ok(()),
            Ok(Step::Wait(wait)) => {
                self.wait(wait, &attempt).await;
                return Ok(());
            }
            Ok(Step::RenewCredentials { patient }) => {
                let renewal = self.renew_credentials(&attempt.authorization, patient).await?;
                match self.plan.after_renewal(renewal, patient, &attempt.outcome) {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                }
            }
            Err(failure) => failure,
        };
        if let Failure::Misconfigured(outcome) = &failure
            && self.logstash.endpoints.remove(attempt.endpoint_id(), outcome)
        {
            self.plan.leave_endpoint(attempt.endpoint_id());
            return Ok(());
        }
        Err(self.error(failure, attempt.chosen.as_ref()))
    }

    fn finish(mut self, result: Result<(), SendError>) -> Delivery {
        let (delivered, requests) = (self.plan.delivered(), self.requests);
        Delivery { delivered, filtered: 0, rejected: self.rejected_events(), requests, error: result.err() }
    }

    /// Returns the body of a part. A retry gets the same body.
    fn body_of(&mut self, part: &Part) -> Body {
        if let Some((events, form, body)) = &self.body
            && (events, form) == (&part.events, &part.form)
        {
            return body.clone();
        }
        let body = match part.form {
            Form::Whole => self.batch.body.clone(),
            Form::Uncompressed => self.unpacked().whole(),
            Form::Piece => self.unpacked().part(part.events.clone()),
        };
        self.body = Some((part.events.clone(), part.form, body.clone()));
        body
    }

    fn unpacked(&mut self) -> &Unpacked {
        self.unpacked.get_or_insert_with(|| self.batch.unpack())
    }

    /// Sends a body to the endpoint that is best for it now. Without an endpoint, the attempt fails like a connection. Returns none
    /// if every endpoint was paused; then the first pause has ended.
    async fn attempt(&mut self, body: &Body) -> Result<Option<Attempt>, SendError> {
        let (logstash, shutdown) = (self.logstash, self.shutdown);
        let authorization = self.authorization().await?;
        logstash.endpoints.start_maintenance();
        if let Err(error) = self.until_shutdown(logstash.endpoints.wait_for_list(shutdown)).await? {
            return Ok(Some(self.attempt_without_endpoint(error, authorization)));
        }
        match logstash.endpoints.choose(self.preferred, self.avoided) {
            Selection::Endpoint(request) => Ok(Some(self.send(request, body, authorization).await)),
            Selection::AllPaused(until) => self.wait_for_pause(until).await.map(|()| None),
            Selection::NoEndpoint => {
                Ok(Some(self.attempt_without_endpoint("no endpoint is available".to_owned(), authorization)))
            }
        }
    }

    async fn send(&mut self, request: OutstandingRequest<'_>, body: &Body, authorization: Authorization) -> Attempt {
        let sent = lock(&self.logstash.acceptances).now();
        let mut outcome = self.post(request.endpoint(), body, &authorization).await;
        if !lock(&self.logstash.acceptances).any(request.id()) {
            let (logstash, shutdown) = (self.logstash, self.shutdown);
            let (explained, probes) =
                logstash.explain_lost_connection(request.endpoint(), outcome, &authorization, shutdown).await;
            outcome = explained;
            self.requests += probes;
        }
        let chosen = request.finish(&outcome);
        let mut acceptances = lock(&self.logstash.acceptances);
        if outcome.is_accepted() {
            acceptances.record(chosen.id, sent);
        }
        Attempt { chosen: Some(chosen), outcome, authorization, ended: acceptances.now() }
    }

    async fn post(&mut self, endpoint: &Endpoint, body: &Body, authorization: &Authorization) -> Outcome {
        self.requests += 1;
        self.logstash.post(endpoint, body, authorization, self.shutdown).await
    }

    async fn authorization(&mut self) -> Result<Authorization, SendError> {
        let authorization = self.until_shutdown(self.logstash.credentials.authorization()).await?;
        authorization.map_err(SendError::Credentials)
    }

    /// Reads the credentials again. If they were read recently and `patient`, waits first, unless `RETRY_BUDGET` ends before.
    async fn renew_credentials(&self, used: &Authorization, patient: bool) -> Result<Renewal, SendError> {
        let credentials = &self.logstash.credentials;
        match self.until_shutdown(credentials.renew(used)).await? {
            Renewal::TooEarly(wait) if patient && wait < self.budget_left() => {
                self.sleep(wait).await;
                self.until_shutdown(credentials.renew(used)).await
            }
            renewal => Ok(renewal),
        }
    }

    fn attempt_without_endpoint(&self, reason: String, authorization: Authorization) -> Attempt {
        let outcome = Outcome::NoResponse(Fault::NoEndpoint(reason));
        Attempt { chosen: None, outcome, authorization, ended: lock(&self.logstash.acceptances).now() }
    }

    /// Waits for the end of the first pause, if `RETRY_BUDGET` allows it. Returns earlier if the pause is long, because the registry
    /// may list other servers meanwhile.
    async fn wait_for_pause(&mut self, until: Instant) -> Result<(), SendError> {
        let wait = until.saturating_duration_since(Instant::now());
        if wait >= self.budget_left() {
            let (budget, last) = (self.logstash.retry_budget, self.last.as_ref().map(ToString::to_string));
            return Err(SendError::AllPaused { wait_s: wait.as_secs(), budget_s: budget.as_secs(), last });
        }
        self.sleep(wait.min(REFRESH_INTERVAL_WHEN_DOWN)).await;
        Ok(())
    }

    /// Waits for what a request needs first, but not beyond the end of the run: a secret or a list may take longer than the run
    /// has time.
    async fn until_shutdown<F: Future>(&self, needed: F) -> Result<F::Output, SendError> {
        tokio::select! {
            biased;
            found = needed => Ok(found),
            () = self.shutdown.stopped() => Err(self.stopped()),
        }
    }

    fn budget_left(&self) -> Duration {
        self.budget_ends.saturating_duration_since(Instant::now())
    }

    /// Remembers how the request ended, for the choice of the next endpoint and for the error.
    fn record(&mut self, attempt: &Attempt) {
        let endpoint = attempt.endpoint_id();
        match attempt.outcome.verdict() {
            Verdict::Busy | Verdict::Failing | Verdict::Down => {
                (self.preferred, self.avoided) = (None, Some(endpoint));
                self.retrying = Some(self.logstash.retries.add(self.retrying.take(), &attempt.outcome));
            }
            _ => {
                (self.preferred, self.avoided) = (Some(endpoint), None);
                self.retrying = None;
            }
        }
        // The end of the run interrupts requests of a Logstash that is only slow.
        if !self.shutdown.is_stopped() {
            *lock(&self.logstash.outage) = attempt.outcome.is_outage().then(|| attempt.outcome.reason());
        }
        self.last = Some(attempt.outcome.clone());
    }

    async fn wait(&self, wait: Duration, attempt: &Attempt) {
        let endpoint = attempt.chosen.as_ref().map(|chosen| chosen.endpoint.to_string());
        tracing::debug!(endpoint, wait_ms = wait.as_millis() as u64, outcome = %attempt.outcome, "retrying a request");
        self.sleep(wait).await;
    }

    async fn sleep(&self, wait: Duration) {
        tokio::select! {
            biased;
            () = self.shutdown.stopped() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn error(&self, failure: Failure, chosen: Option<&ChosenEndpoint>) -> SendError {
        let endpoint = chosen.map_or_else(|| self.logstash.endpoints.source_name(), |chosen| chosen.endpoint.to_string());
        match failure {
            Failure::Misconfigured(outcome) => SendError::Misconfigured { endpoint, outcome },
            Failure::NoWitness(outcome) => SendError::NoWitness { endpoint, outcome },
            Failure::NoFreshWitness(outcome) => SendError::NoFreshWitness { endpoint, outcome },
            Failure::PoisonLimit(outcome) => SendError::PoisonLimit { endpoint, outcome },
            Failure::BudgetSpent(last) => {
                let budget_s = self.logstash.retry_budget.as_secs();
                SendError::BudgetSpent { endpoint, requests: self.requests, budget_s, last }
            }
        }
    }

    fn stopped(&self) -> SendError {
        SendError::Stopped { why: self.shutdown.description(), last: self.last.as_ref().map(ToString::to_string) }
    }

    fn rejected_events(&mut self) -> Vec<RejectedEvent> {
        let plan = std::mem::replace(&mut self.plan, RetryPlan::new(0, false, 0));
        let rejections = plan.into_rejections();
        if rejections.is_empty() {
            return Vec::new();
        }
        let endpoints = &self.logstash.endpoints;
        let unpacked = self.unpacked();
        let rejected = rejections.into_iter().map(|rejection| RejectedEvent {
            event: unpacked.event(rejection.event),
            endpoint: endpoints.name(rejection.endpoint),
            outcome: rejection.outcome,
        });
        rejected.collect()
    }
}

impl Attempt {
    fn endpoint_id(&self) -> EndpointId {
        self.chosen.as_ref().map_or(NO_ENDPOINT, |chosen| chosen.id)
    }
}
