//! Delivers batches to Logstash's http input: carries out what a [`RetryPlan`] decides.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use elb_log::batch::{Batch, Body, Compression, Unpacked};
use tokio::time::Instant;

use super::credentials::{Authorization, Credentials};
use super::endpoint::Endpoint;
use super::endpoints::{EndpointSource, Endpoints};
use super::outcome::{Fault, Outcome, Verdict};
use super::pool::{ChosenEndpoint, EndpointId};
use super::retry_plan::{Evidence, Failure, Form, Part, RetryContext, RetryPlan, Step};
use super::transport::Transport;
use super::{Delivery, RejectedEvent, SendError, lock};
use crate::shutdown::Shutdown;

/// Stands for the endpoint if none could be chosen.
const NO_ENDPOINT: EndpointId = EndpointId::new(0);

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
    /// Number of bodies that any endpoint has accepted.
    accepted_bodies: AtomicU64,
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
    last: Option<String>,
    /// The endpoint that gets the next request, if it is in service: the halves of a part go to the endpoint that refused it.
    preferred: Option<EndpointId>,
    /// The endpoint that does not get the next request, if another is in service: it failed just now.
    avoided: Option<EndpointId>,
}

/// One request and how it ended.
struct Attempt {
    chosen: Option<ChosenEndpoint>,
    outcome: Outcome,
    authorization: Authorization,
}

impl<T: Transport> Logstash<T> {
    /// Creates a sink that sends through `transport`. Connects to nothing yet.
    pub fn new(transport: T, settings: LogstashSettings) -> Self {
        let LogstashSettings { endpoints, credentials, request_timeout, retry_budget, seed } = settings;
        let (transport, credentials) = (Arc::new(transport), Arc::new(credentials));
        let endpoints = Endpoints::new(Arc::clone(&transport), Arc::clone(&credentials), endpoints, request_timeout);
        Logstash {
            transport,
            endpoints: Arc::new(endpoints),
            credentials,
            request_timeout,
            retry_budget,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            accepted_bodies: AtomicU64::new(0),
        }
    }

    /// Delivers one batch. Returns soon after `shutdown` begins: an outstanding request is awaited, because it may be accepted,
    /// and no new request is sent.
    pub async fn deliver(&self, batch: &Batch, evidence: &Mutex<Evidence>, shutdown: &Shutdown) -> Delivery {
        let compressed = batch.body.compression != Compression::None;
        let mut delivery = BatchDelivery {
            logstash: self,
            batch,
            evidence,
            shutdown,
            plan: RetryPlan::new(batch.event_count(), compressed, self.accepted_bodies.load(Ordering::Relaxed)),
            unpacked: None,
            body: None,
            budget_ends: Instant::now() + self.retry_budget,
            requests: 0,
            last: None,
            preferred: None,
            avoided: None,
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
        let authorization = self.credentials.authorization().await?;
        Ok(self.transport.post(endpoint, body, authorization.header.as_ref(), self.request_timeout).await)
    }
}

impl<T: Transport> BatchDelivery<'_, T> {
    /// Sends requests until the plan ends.
    async fn run(&mut self) -> Result<(), SendError> {
        while let Some(part) = self.plan.next_part().cloned() {
            if self.shutdown.is_stopped() {
                return Err(self.stopped());
            }
            let body = self.body_of(&part);
            let attempt = self.attempt(&body).await?;
            let context = self.retry_context(attempt.chosen.as_ref());
            let step = self.plan.next_step(&attempt.outcome, &context, &mut lock(self.evidence));
            self.record(&attempt.outcome, context.endpoint);
            match step {
                Ok(Step::Send) => {}
                Ok(Step::Done) => break,
                Ok(Step::Wait(wait)) => self.wait(wait, &attempt).await,
                Ok(Step::RenewCredentials) => self.renew_credentials(attempt).await?,
                Err(failure) => return Err(self.error(failure, attempt.chosen.as_ref())),
            }
        }
        Ok(())
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

    /// Sends a body to the endpoint that is best for it now. Without an endpoint, the attempt fails like a connection.
    async fn attempt(&mut self, body: &Body) -> Result<Attempt, SendError> {
        let (logstash, shutdown) = (self.logstash, self.shutdown);
        let authorization = self.until_shutdown(logstash.credentials.authorization()).await?;
        let authorization = authorization.map_err(SendError::Credentials)?;
        logstash.endpoints.start_maintenance();
        if let Err(error) = self.until_shutdown(logstash.endpoints.wait_for_list(shutdown)).await? {
            return Ok(Attempt::without_endpoint(error, authorization));
        }
        let Some(request) = logstash.endpoints.choose(self.preferred, self.avoided) else {
            return Ok(Attempt::without_endpoint("there is no endpoint".to_owned(), authorization));
        };
        self.requests += 1;
        let timeout = shutdown.cap(logstash.request_timeout);
        let outcome = logstash.transport.post(request.endpoint(), body, authorization.header.as_ref(), timeout).await;
        let chosen = request.finish(outcome.verdict());
        if outcome.verdict() == Verdict::Accepted {
            logstash.accepted_bodies.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Attempt { chosen: Some(chosen), outcome, authorization })
    }

    /// Waits for what a request needs first, but not beyond the end of the run: a secret or a list may take longer than the run
    /// has time.
    async fn until_shutdown<F: Future>(&mut self, needed: F) -> Result<F::Output, SendError> {
        tokio::select! {
            biased;
            found = needed => Ok(found),
            () = self.shutdown.stopped() => Err(self.stopped()),
        }
    }

    fn retry_context(&self, chosen: Option<&ChosenEndpoint>) -> RetryContext {
        let endpoint = chosen.map_or(NO_ENDPOINT, |chosen| chosen.id);
        RetryContext {
            endpoint,
            accepted_bodies: self.logstash.accepted_bodies.load(Ordering::Relaxed),
            alternative: chosen.is_some() && self.logstash.endpoints.has_other_in_service(endpoint),
            budget_left: self.budget_ends.saturating_duration_since(Instant::now()),
            jitter: lock(&self.logstash.random).f64(),
        }
    }

    /// Remembers how the request ended, for the choice of the next endpoint and for the error.
    fn record(&mut self, outcome: &Outcome, endpoint: EndpointId) {
        match outcome.verdict() {
            Verdict::Busy | Verdict::Failing | Verdict::Down => (self.preferred, self.avoided) = (None, Some(endpoint)),
            _ => (self.preferred, self.avoided) = (Some(endpoint), None),
        }
        self.last = Some(outcome.to_string());
    }

    async fn wait(&self, wait: Duration, attempt: &Attempt) {
        let endpoint = attempt.chosen.as_ref().map(|chosen| chosen.endpoint.to_string());
        tracing::debug!(endpoint, wait_ms = wait.as_millis() as u64, outcome = %attempt.outcome, "retrying a request");
        tokio::select! {
            biased;
            () = self.shutdown.stopped() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Reads the credentials again. Fails if they are still those that were refused.
    async fn renew_credentials(&mut self, attempt: Attempt) -> Result<(), SendError> {
        let credentials = &self.logstash.credentials;
        if self.until_shutdown(credentials.renew(&attempt.authorization)).await? {
            return Ok(());
        }
        Err(self.error(Failure::Misconfigured(attempt.outcome), attempt.chosen.as_ref()))
    }

    fn error(&self, failure: Failure, chosen: Option<&ChosenEndpoint>) -> SendError {
        let endpoint = chosen.map_or_else(|| self.logstash.endpoints.source_name(), |chosen| chosen.endpoint.to_string());
        match failure {
            Failure::Misconfigured(outcome) => SendError::Misconfigured { endpoint, outcome },
            Failure::NoWitness(outcome) => SendError::NoWitness { endpoint, outcome },
            Failure::PoisonLimit(outcome) => SendError::PoisonLimit { endpoint, outcome },
            Failure::BudgetSpent(last) => {
                let budget_s = self.logstash.retry_budget.as_secs();
                SendError::BudgetSpent { endpoint, requests: self.requests, budget_s, last }
            }
        }
    }

    fn stopped(&mut self) -> SendError {
        SendError::Stopped { why: self.shutdown.description(), last: self.last.take() }
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
    fn without_endpoint(reason: String, authorization: Authorization) -> Self {
        Attempt { chosen: None, outcome: Outcome::NoResponse(Fault::Connect(reason)), authorization }
    }
}
