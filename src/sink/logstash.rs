//! Delivers batches to Logstash's http input: carries out what a [`RetryPlan`] decides.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use elb_log::batch::{Batch, Body, Compression, Unpacked};
use tokio::time::Instant;

use super::acceptances::{Acceptances, Moment};
use super::connection::Connection;
use super::credentials::{Authorization, Credentials, Renewal};
use super::endpoint::Endpoint;
use super::endpoints::{EndpointSource, Endpoints, OutstandingRequest, REFRESH_INTERVAL_WHEN_DOWN, Selection, Timeouts};
use super::outcome::{Fault, Outcome, Verdict};
use super::pool::{ChosenEndpoint, EndpointId};
use super::retry_plan::{Action, Evidence, Failure, Form, Part, RetryContext, RetryPlan, Step};
use super::retrying::{RetryEntry, RetryList, Retrying};
use super::transport::{HttpTransport, Transport};
use super::{Delivery, RejectedEvent, SendError, lock};
use crate::reason::Reason;
use crate::shutdown::Shutdown;

/// Stands for the endpoint if none could be chosen.
const NO_ENDPOINT: EndpointId = EndpointId::new(0);

/// Maximum number of empty batches that are sent to find out why a first https connection was lost.
const MAX_EXPLANATIONS: u64 = 4;

/// The settings of a [`Logstash`].
#[derive(Debug)]
pub struct LogstashSettings {
    /// Where to send batches.
    pub endpoints: EndpointSource,
    /// What to authenticate with.
    pub credentials: Credentials,
    /// See `REQUEST_TIMEOUT`.
    pub request_timeout: Duration,
    /// See `RETRY_BUDGET`.
    pub retry_budget: Duration,
    /// The seed of the back-off's jitter.
    pub seed: u64,
}

/// Sends batches by `POST`, each until every event of it is accepted or rejected, or until the retry budget is spent.
#[derive(Debug)]
pub struct Logstash<T> {
    transport: Arc<T>,
    endpoints: Arc<Endpoints<T>>,
    credentials: Arc<Credentials>,
    request_timeout: Duration,
    retry_budget: Duration,
    random: Mutex<fastrand::Rng>,
    acceptances: Mutex<Acceptances>,
    /// How the last request of any batch failed, if it failed because of an outage.
    outage: Mutex<Option<Reason>>,
    retries: Arc<RetryList>,
}

/// The delivery of one batch.
struct BatchDelivery<'a, T> {
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

/// An empty batch. It creates no event.
fn empty_batch() -> Body {
    Body { bytes: Bytes::from_static(b"[]"), compression: Compression::None }
}

impl<T: Transport> Logstash<T> {
    /// Creates a sink that sends through `transport`. Connects to nothing yet.
    pub fn new(transport: T, settings: LogstashSettings) -> Self {
        let LogstashSettings { endpoints, credentials, request_timeout, retry_budget, seed } = settings;
        let (transport, credentials) = (Arc::new(transport), Arc::new(credentials));
        let timeouts = Timeouts { request: request_timeout, pause: retry_budget };
        let endpoints = Endpoints::new(Arc::clone(&transport), Arc::clone(&credentials), endpoints, timeouts);
        Logstash {
            transport,
            endpoints: Arc::new(endpoints),
            credentials,
            request_timeout,
            retry_budget,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            acceptances: Mutex::default(),
            outage: Mutex::default(),
            retries: Arc::default(),
        }
    }

    /// Returns what is being retried now.
    pub(super) fn retrying(&self) -> Option<Retrying> {
        self.retries.summary()
    }

    /// Begins a run: endpoints that were removed during an earlier run get requests again.
    pub(super) fn begin_run(&self) {
        self.endpoints.restore_removed();
        *lock(&self.outage) = None;
    }

    /// Returns why batches are waiting: how the last request failed, if it failed because of an outage.
    pub(super) fn outage(&self) -> Option<Reason> {
        *lock(&self.outage)
    }

    /// Delivers one batch. Returns soon after `shutdown` begins: an outstanding request is awaited, because it may be accepted,
    /// unless the shutdown abandons it; and no new request is sent.
    pub async fn deliver(&self, batch: &Batch, evidence: &Mutex<Evidence>, shutdown: &Shutdown) -> Delivery {
        let compressed = batch.body.compression != Compression::None;
        let mut delivery = BatchDelivery {
            logstash: self,
            batch,
            evidence,
            shutdown,
            plan: RetryPlan::new(batch.event_count(), compressed, lock(&self.acceptances).bodies()),
            unpacked: None,
            body: None,
            budget_ends: Instant::now() + self.retry_budget,
            requests: 0,
            last: None,
            preferred: None,
            avoided: None,
            retrying: None,
        };
        let result = delivery.run().await;
        delivery.finish(result)
    }

    /// Returns every endpoint.
    ///
    /// # Errors
    /// The registry gives no valid list.
    pub async fn endpoints(&self) -> Result<Vec<Arc<Endpoint>>, String> {
        self.endpoints.wait_for_list(&Shutdown::at(None)).await?;
        Ok(self.endpoints.all())
    }

    /// Sends a body once, without retries, and returns how the request ended.
    ///
    /// # Errors
    /// There are no credentials.
    pub async fn try_once(&self, endpoint: &Endpoint, body: &Body) -> Result<Outcome, String> {
        let (authorization, shutdown) = (self.credentials.authorization().await?, Shutdown::at(None));
        let outcome = self.post(endpoint, body, &authorization, &shutdown).await;
        Ok(self.explain_lost_connection(endpoint, outcome, &authorization, &shutdown).await.0)
    }

    async fn post(&self, endpoint: &Endpoint, body: &Body, authorization: &Authorization, shutdown: &Shutdown) -> Outcome {
        let timeout = shutdown.cap(self.request_timeout);
        tokio::select! {
            biased;
            outcome = self.transport.post(endpoint, body, authorization.header.as_ref(), timeout) => outcome,
            () = shutdown.abandoned() => Outcome::NoResponse(Fault::Abandoned),
        }
    }

    /// Finds out whether an https connection was lost because the server refuses the client's certificate. With TLS 1.3, its alert
    /// arrives after the handshake, and is lost if the connection ends while the request is being written. Some empty batches show
    /// it. Returns the outcome and the number of these batches.
    async fn explain_lost_connection(
        &self,
        endpoint: &Endpoint,
        outcome: Outcome,
        authorization: &Authorization,
        shutdown: &Shutdown,
    ) -> (Outcome, u64) {
        let is_lost = matches!(outcome, Outcome::NoResponse(Fault::Broken(_)));
        if endpoint.url().scheme() != "https" || !is_lost || shutdown.is_stopped() {
            return (outcome, 0);
        }
        for probes in 1..=MAX_EXPLANATIONS {
            match self.post(endpoint, &empty_batch(), authorization, shutdown).await {
                refused @ Outcome::NoResponse(Fault::Tls(_)) => return (refused, probes),
                Outcome::NoResponse(Fault::Broken(_)) if !shutdown.is_stopped() => {}
                _ => return (outcome, probes),
            }
        }
        (outcome, MAX_EXPLANATIONS)
    }
}

impl Logstash<HttpTransport> {
    /// Connects to an endpoint once, without a request, and describes the connection.
    pub async fn describe_connection(&self, endpoint: &Endpoint) -> Connection {
        self.transport.describe_connection(endpoint).await
    }
}

impl<T: Transport> BatchDelivery<'_, T> {
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
