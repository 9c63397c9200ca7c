//! Logstash's http input as a sink: carries out what the course of a batch decides.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::credentials::{Authorization, Credentials};
use super::discovery::{Discovery, REFRESH_EVERY, REFRESH_WHEN_DOWN};
use super::endpoint::Endpoint;
use super::outcome::{Fault, Outcome, Verdict};
use super::pool::{ChosenEndpoint, EndpointId, Pool};
use super::retry_plan::{Evidence, Failure, Form, Part, RetryContext, RetryPlan, Step};
use super::transport::Transport;
use super::{Delivery, RejectedEvent, SendError};
use crate::shutdown::Shutdown;
use elb_log::batch::{Batch, Body, Compression, Unpacked};

/// Stands for the endpoint where there is none to choose.
const NO_ENDPOINT: EndpointId = EndpointId::new(0);

/// What a [`Logstash`] needs to know.
#[derive(Debug)]
pub struct LogstashSettings {
    /// Where to send.
    pub endpoints: EndpointSource,
    /// What to show.
    pub credentials: Credentials,
    /// See `REQUEST_TIMEOUT`.
    pub request_timeout: Duration,
    /// See `RETRY_BUDGET`.
    pub retry_budget: Duration,
    /// Where the randomness of the back-off begins.
    pub seed: u64,
}

/// Where endpoints come from.
#[derive(Debug)]
pub enum EndpointSource {
    /// `LOGSTASH_URL`, at least one.
    Fixed(Vec<Endpoint>),
    /// `REGISTRY_URL`
    Registry(Discovery),
}

/// Sends batches by `POST`, each until every event of it is accepted, refused for good, or the retry budget is spent.
#[derive(Debug)]
pub struct Logstash<T> {
    transport: T,
    pool: Mutex<Pool>,
    registry: Option<Refreshed>,
    credentials: Credentials,
    request_timeout: Duration,
    retry_budget: Duration,
    random: Mutex<fastrand::Rng>,
    /// Bodies accepted by any endpoint.
    accepted_bodies: AtomicU64,
}

/// A registry and when it was last asked.
#[derive(Debug)]
struct Refreshed {
    registry: Discovery,
    asked: Mutex<Option<Instant>>,
    /// Held by whoever is asking.
    asking: tokio::sync::Mutex<()>,
}

/// One batch on its way.
struct BatchDelivery<'a> {
    batch: &'a Batch,
    unpacked: Option<Unpacked>,
    /// The body of the part that is being sent, kept for its retries.
    body: Option<(Range<usize>, Form, Body)>,
    course: RetryPlan,
    budget_ends: Instant,
    requests: u64,
    /// What became of the last request.
    last: Option<String>,
    /// Who refused a part is asked about its halves, too.
    wanted: Option<EndpointId>,
    /// Who failed is not asked again at once.
    avoided: Option<EndpointId>,
}

/// One request, answered.
struct Attempt {
    chosen: Option<ChosenEndpoint>,
    answer: Outcome,
    authorization: Authorization,
}

impl<T: Transport> Logstash<T> {
    /// A sink that sends through `transport`. No connection is made yet.
    pub fn new(transport: T, settings: LogstashSettings) -> Self {
        let (endpoints, registry) = match settings.endpoints {
            EndpointSource::Fixed(endpoints) => (endpoints, None),
            EndpointSource::Registry(registry) => (Vec::new(), Some(registry)),
        };
        Logstash {
            transport,
            pool: Mutex::new(Pool::new(endpoints)),
            registry: registry.map(|registry| Refreshed { registry, asked: Mutex::default(), asking: Default::default() }),
            credentials: settings.credentials,
            request_timeout: settings.request_timeout,
            retry_budget: settings.retry_budget,
            random: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
            accepted_bodies: AtomicU64::new(0),
        }
    }

    /// Delivers one batch, or says what of it not and why. Ends soon after `stop` does: a request that is on its way is awaited,
    /// since it may be accepted, and nothing new is sent.
    pub async fn deliver(self: &Arc<Self>, batch: &Batch, evidence: &Mutex<Evidence>, stop: &Shutdown) -> Delivery {
        let compressed = batch.body.compression != Compression::None;
        let mut sending = BatchDelivery {
            batch,
            unpacked: None,
            body: None,
            course: RetryPlan::new(batch.event_count(), compressed, self.accepted_bodies.load(Ordering::Relaxed)),
            budget_ends: Instant::now() + self.retry_budget,
            requests: 0,
            last: None,
            wanted: None,
            avoided: None,
        };
        let result = self.follow(&mut sending, evidence, stop).await;
        let (delivered, requests) = (sending.course.delivered(), sending.requests);
        Delivery { delivered, filtered: 0, rejected: self.poison(sending), requests, error: result.err() }
    }

    /// Every endpoint there is now.
    ///
    /// # Errors
    /// The registry gives no list.
    pub async fn endpoints(&self) -> Result<Vec<Arc<Endpoint>>, String> {
        self.first_list(&Shutdown::at(None)).await?;
        Ok(lock(&self.pool).endpoints())
    }

    /// Sends a body once, for a person who wants to see the answer.
    ///
    /// # Errors
    /// There are no credentials.
    pub async fn try_once(&self, endpoint: &Endpoint, body: &Body) -> Result<Outcome, String> {
        let authorization = self.credentials.authorization().await?;
        Ok(self.transport.post(endpoint, body, authorization.header.as_ref(), self.request_timeout).await)
    }

    async fn follow(
        self: &Arc<Self>,
        sending: &mut BatchDelivery<'_>,
        evidence: &Mutex<Evidence>,
        stop: &Shutdown,
    ) -> Result<(), SendError> {
        while let Some(part) = sending.course.part().cloned() {
            if stop.is_stopped() {
                return Err(SendError::Stopped { why: stop.description(), last: sending.last.take() });
            }
            let body = sending.body_of(&part);
            let Attempt { chosen, answer, authorization } = self.attempt(&body, sending, stop).await?;
            let moment = self.moment(chosen.as_ref(), sending);
            let step = sending.course.answered(&answer, &moment, &mut lock(evidence));
            sending.note(&moment, &answer);
            match step {
                Step::Send => {}
                Step::Done => break,
                Step::Wait(wait) => self.wait(wait, chosen.as_ref(), &answer, stop).await,
                Step::Renew if unless_stopped(stop, sending, self.credentials.renew(&authorization)).await? => {}
                Step::Renew => return Err(self.error(Failure::Misconfigured(answer), chosen, sending)),
                Step::Fail(failure) => return Err(self.error(failure, chosen, sending)),
            }
        }
        Ok(())
    }

    /// Sends a body to the endpoint that is best for it now. Where no endpoint is known, that is what is answered.
    async fn attempt(
        self: &Arc<Self>,
        body: &Body,
        sending: &mut BatchDelivery<'_>,
        stop: &Shutdown,
    ) -> Result<Attempt, SendError> {
        let authorization = unless_stopped(stop, sending, self.credentials.authorization()).await?;
        let authorization = authorization.map_err(SendError::Credentials)?;
        self.look_after_endpoints();
        if let Err(error) = unless_stopped(stop, sending, self.first_list(stop)).await? {
            let answer = Outcome::NoResponse(Fault::Connect(error));
            return Ok(Attempt { chosen: None, answer, authorization });
        }
        let Some(chosen) = lock(&self.pool).choose(sending.wanted, sending.avoided) else {
            let answer = Outcome::NoResponse(Fault::Connect("there is no endpoint".to_owned()));
            return Ok(Attempt { chosen: None, answer, authorization });
        };
        sending.requests += 1;
        let outstanding = Outstanding { pool: &self.pool, id: chosen.id, verdict: None };
        let limit = stop.cap(self.request_timeout);
        let answer = self.transport.post(&chosen.endpoint, body, authorization.header.as_ref(), limit).await;
        outstanding.end(answer.verdict());
        if answer.verdict() == Verdict::Accepted {
            self.accepted_bodies.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Attempt { chosen: Some(chosen), answer, authorization })
    }

    fn moment(&self, chosen: Option<&ChosenEndpoint>, sending: &BatchDelivery<'_>) -> RetryContext {
        let endpoint = chosen.map_or(NO_ENDPOINT, |chosen| chosen.id);
        RetryContext {
            endpoint,
            accepted_bodies: self.accepted_bodies.load(Ordering::Relaxed),
            alternative: chosen.is_some() && lock(&self.pool).has_other_up(endpoint),
            budget_left: sending.budget_ends.saturating_duration_since(Instant::now()),
            jitter: lock(&self.random).f64(),
        }
    }

    async fn wait(&self, wait: Duration, chosen: Option<&ChosenEndpoint>, answer: &Outcome, stop: &Shutdown) {
        let endpoint = chosen.map(|chosen| chosen.endpoint.to_string());
        tracing::debug!(endpoint, wait_ms = wait.as_millis() as u64, %answer, "sending a body again");
        tokio::select! {
            biased;
            () = stop.stopped() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn error(&self, failure: Failure, chosen: Option<ChosenEndpoint>, sending: &BatchDelivery<'_>) -> SendError {
        let endpoint = match (chosen, &self.registry) {
            (Some(chosen), _) => chosen.endpoint.to_string(),
            (None, Some(refreshed)) => refreshed.registry.shown(),
            (None, None) => "no endpoint".to_owned(),
        };
        match failure {
            Failure::Misconfigured(answer) => SendError::Misconfigured { endpoint, outcome: answer },
            Failure::NoWitness(answer) => SendError::NoWitness { endpoint, outcome: answer },
            Failure::PoisonLimit(answer) => SendError::PoisonLimit { endpoint, outcome: answer },
            Failure::BudgetSpent(answer) => SendError::BudgetSpent {
                endpoint,
                requests: sending.requests,
                budget_s: self.retry_budget.as_secs(),
                last: answer,
            },
        }
    }

    fn poison(&self, mut sending: BatchDelivery<'_>) -> Vec<RejectedEvent> {
        let course = std::mem::replace(&mut sending.course, RetryPlan::new(0, false, 0));
        let poison = course.into_poison();
        if poison.is_empty() {
            return Vec::new();
        }
        let unpacked = sending.unpacked();
        let pool = lock(&self.pool);
        let rejected = poison.into_iter().map(|poison| RejectedEvent {
            event: unpacked.event(poison.event),
            endpoint: pool.name(poison.endpoint),
            outcome: poison.answer,
        });
        rejected.collect()
    }

    /// Starts what is due: a probe of an endpoint whose rest is over, a new list from the registry.
    fn look_after_endpoints(self: &Arc<Self>) {
        let rested = lock(&self.pool).due_probe(Instant::now());
        if let Some(rested) = rested {
            tokio::spawn(Arc::clone(self).probe(rested));
        }
        let Some(refreshed) = &self.registry else { return };
        let every = if lock(&self.pool).is_all_up() { REFRESH_EVERY } else { REFRESH_WHEN_DOWN };
        if refreshed.is_older_than(every) {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.refresh_unless_someone_does().await });
        }
    }

    /// An empty batch makes no event, but tells whether one would be taken.
    async fn probe(self: Arc<Self>, rested: ChosenEndpoint) {
        let empty = Body { bytes: Bytes::from_static(b"[]"), compression: Compression::None };
        // Without credentials the answer still shows that somebody is there.
        let authorization = self.credentials.authorization().await.unwrap_or_default();
        let answer = self.transport.post(&rested.endpoint, &empty, authorization.header.as_ref(), self.request_timeout).await;
        tracing::debug!(endpoint = %rested.endpoint, %answer, "probed an endpoint that rested");
        lock(&self.pool).probed(rested.id, answer.verdict(), Instant::now());
    }

    /// Waits for the registry's first list, if it has given none yet.
    async fn first_list(&self, stop: &Shutdown) -> Result<(), String> {
        let Some(refreshed) = &self.registry else { return Ok(()) };
        if !lock(&self.pool).is_empty() {
            return Ok(());
        }
        let _asking = refreshed.asking.lock().await;
        if !lock(&self.pool).is_empty() {
            return Ok(());
        }
        self.refresh(refreshed, stop.cap(self.request_timeout)).await
    }

    async fn refresh_unless_someone_does(&self) {
        let Some(refreshed) = &self.registry else { return };
        let Ok(_asking) = refreshed.asking.try_lock() else { return };
        if let Err(error) = self.refresh(refreshed, self.request_timeout).await
            && !lock(&self.pool).is_empty()
        {
            tracing::warn!(error, "the registry gave no list; the last good one is kept");
        }
    }

    /// A list that cannot be used never replaces one that can.
    async fn refresh(&self, refreshed: &Refreshed, limit: Duration) -> Result<(), String> {
        *lock(&refreshed.asked) = Some(Instant::now());
        let registry = &refreshed.registry;
        let answer = self.transport.get(&registry.url, limit).await;
        let list = answer.and_then(|answer| registry.read(&answer));
        let list = list.map_err(|error| format!("no list of endpoints from the registry {}: {error}", registry.shown()))?;
        if !list.refused.is_empty() {
            let (registry, entries) = (registry.shown(), list.refused.join(", "));
            tracing::error!(
                registry,
                entries,
                "the registry names servers outside of REGISTRY_ALLOWED_CIDRS; nothing is sent there"
            );
        }
        lock(&self.pool).replace(list.endpoints);
        Ok(())
    }
}

impl Refreshed {
    fn is_older_than(&self, age: Duration) -> bool {
        lock(&self.asked).is_some_and(|asked| asked.elapsed() >= age)
    }
}

impl BatchDelivery<'_> {
    fn unpacked(&mut self) -> &Unpacked {
        self.unpacked.get_or_insert_with(|| self.batch.unpack())
    }

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

    fn note(&mut self, moment: &RetryContext, answer: &Outcome) {
        match answer.verdict() {
            Verdict::Busy | Verdict::Failing | Verdict::Down => (self.wanted, self.avoided) = (None, Some(moment.endpoint)),
            _ => (self.wanted, self.avoided) = (Some(moment.endpoint), None),
        }
        self.last = Some(answer.to_string());
    }
}

/// Waits for what a request needs first, but not beyond the end of the run: a secret or a list may take longer than there is time.
async fn unless_stopped<T>(
    stop: &Shutdown,
    sending: &mut BatchDelivery<'_>,
    needed: impl Future<Output = T>,
) -> Result<T, SendError> {
    tokio::select! {
        biased;
        found = needed => Ok(found),
        () = stop.stopped() => Err(SendError::Stopped { why: stop.description(), last: sending.last.take() }),
    }
}

/// A request on its way. It leaves the pool's count however it ends.
struct Outstanding<'a> {
    pool: &'a Mutex<Pool>,
    id: EndpointId,
    verdict: Option<Verdict>,
}

impl Outstanding<'_> {
    fn end(mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        lock(self.pool).ended(self.id, self.verdict, Instant::now());
    }
}

/// What a panic left behind is still the best that is known.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
