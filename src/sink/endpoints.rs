//! The current endpoints: refreshes them from the registry, and runs their health checks. `pool` selects one for each request.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use elb_log::batch::{Body, Compression};
use tokio::time::Instant;

use super::credentials::Credentials;
use super::discovery::Discovery;
use super::endpoint::Endpoint;
use super::lock;
use super::outcome::{Fault, Outcome};
use super::pool::{Choice, ChosenEndpoint, EndpointId, Observation, Pool, Removal, StateChange};
use super::transport::Transport;
use crate::shutdown::Shutdown;

/// Age at which the registry's list is read again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// The same while an endpoint is out of service, because it may have left the list.
pub(super) const REFRESH_INTERVAL_WHEN_DOWN: Duration = Duration::from_secs(5);

/// Where endpoints come from.
#[derive(Debug)]
pub enum EndpointSource {
    /// `LOGSTASH_URL`, at least one.
    Fixed(Vec<Endpoint>),
    /// `REGISTRY_URL`
    Registry(Discovery),
}

/// The endpoints that batches are sent to now.
#[derive(Debug)]
pub(super) struct Endpoints<T> {
    transport: Arc<T>,
    credentials: Arc<Credentials>,
    timeouts: Timeouts,
    pool: Mutex<Pool>,
    registry: Option<Registry>,
}

/// How long requests and pauses may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// `REQUEST_TIMEOUT`
    pub request: Duration,
    /// The longest pause that an endpoint can ask for with `Retry-After`. Without a limit, one response could keep an endpoint out
    /// of service for days.
    pub pause: Duration,
}

/// The registry that lists the endpoints.
#[derive(Debug)]
struct Registry {
    discovery: Discovery,
    /// When the last refresh began.
    last_refresh: Mutex<Option<Instant>>,
    /// Held during a refresh.
    refreshing: tokio::sync::Mutex<()>,
}

/// The endpoint for a request, or why there is none now.
pub(super) enum Selection<'a> {
    /// The endpoint to use.
    Endpoint(OutstandingRequest<'a>),
    /// Every endpoint that could be selected asked for a pause. The first of these pauses ends at this time.
    AllPaused(Instant),
    /// No endpoint is available.
    NoEndpoint,
}

/// An endpoint that has a request outstanding. The request leaves the pool's count however it ends.
pub(super) struct OutstandingRequest<'a> {
    pool: &'a Mutex<Pool>,
    max_pause: Duration,
    chosen: ChosenEndpoint,
    /// How the request ended; none if it was given up.
    ended: Option<Outcome>,
}

impl<T: Transport> Endpoints<T> {
    /// Creates the endpoints of a source. A registry is first asked by [`Endpoints::wait_for_list`].
    pub(super) fn new(transport: Arc<T>, credentials: Arc<Credentials>, source: EndpointSource, timeouts: Timeouts) -> Self {
        let (endpoints, discovery) = match source {
            EndpointSource::Fixed(endpoints) => (endpoints, None),
            EndpointSource::Registry(discovery) => (Vec::new(), Some(discovery)),
        };
        let registry = discovery.map(|discovery| Registry {
            discovery,
            last_refresh: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
        });
        Endpoints { transport, credentials, timeouts, pool: Mutex::new(Pool::new(endpoints)), registry }
    }

    /// Waits until there are endpoints: reads the registry's first list.
    ///
    /// # Errors
    /// The registry gives no valid list.
    pub(super) async fn wait_for_list(&self, shutdown: &Shutdown) -> Result<(), String> {
        let Some(registry) = &self.registry else { return Ok(()) };
        if !lock(&self.pool).is_empty() {
            return Ok(());
        }
        let _refreshing = registry.refreshing.lock().await;
        if !lock(&self.pool).is_empty() {
            return Ok(());
        }
        self.refresh(registry, shutdown.cap(self.timeouts.request)).await
    }

    /// Starts what is due, in the background: the health check of an endpoint, a refresh from the registry.
    pub(super) fn start_maintenance(self: &Arc<Self>) {
        let due = lock(&self.pool).begin_health_check(Instant::now());
        if let Some(due) = due {
            tokio::spawn(Arc::clone(self).check_health(due));
        }
        let Some(registry) = &self.registry else { return };
        let interval = if lock(&self.pool).all_in_service() { REFRESH_INTERVAL } else { REFRESH_INTERVAL_WHEN_DOWN };
        if registry.is_older_than(interval) {
            tokio::spawn(Arc::clone(self).refresh_in_background());
        }
    }

    /// Selects the endpoint for a request, see [`Pool::choose`].
    pub(super) fn choose(&self, preferred: Option<EndpointId>, avoided: Option<EndpointId>) -> Selection<'_> {
        let choice = lock(&self.pool).choose(preferred, avoided, Instant::now());
        self.selection(choice)
    }

    /// Selects this endpoint for a request, see [`Pool::choose_only`].
    pub(super) fn choose_only(&self, id: EndpointId) -> Selection<'_> {
        let choice = lock(&self.pool).choose_only(id, Instant::now());
        self.selection(choice)
    }

    fn selection(&self, choice: Choice) -> Selection<'_> {
        match choice {
            Choice::Chosen(chosen) => {
                let max_pause = self.timeouts.pause;
                Selection::Endpoint(OutstandingRequest { pool: &self.pool, max_pause, chosen, ended: None })
            }
            Choice::AllPaused(until) => Selection::AllPaused(until),
            Choice::NoEndpoint => Selection::NoEndpoint,
        }
    }

    /// Returns the endpoint with this id, if it may still get requests.
    pub(super) fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        lock(&self.pool).endpoint(id)
    }

    /// Returns whether an endpoint other than `id` is in service.
    pub(super) fn has_other_in_service(&self, id: EndpointId) -> bool {
        lock(&self.pool).has_other_in_service(id, Instant::now())
    }

    /// Returns whether no endpoint other than `id` can get requests.
    pub(super) fn is_only(&self, id: EndpointId) -> bool {
        lock(&self.pool).is_only(id)
    }

    /// Removes a misconfigured endpoint for the rest of the run, and logs this once. Returns false if no other endpoint is left;
    /// then the endpoint stays.
    pub(super) fn remove(&self, id: EndpointId, outcome: &Outcome) -> bool {
        let (name, removal) = {
            let mut pool = lock(&self.pool);
            (pool.name(id), pool.remove(id))
        };
        if removal == Removal::Removed {
            tracing::error!(endpoint = name, error = %outcome, "an endpoint is misconfigured; no more events of this run are sent to it");
        }
        removal != Removal::IsOnly
    }

    /// Puts removed endpoints back into service, for a new run.
    pub(super) fn restore_removed(&self) {
        lock(&self.pool).restore_removed();
    }

    /// Returns every endpoint.
    pub(super) fn all(&self) -> Vec<Arc<Endpoint>> {
        lock(&self.pool).endpoints()
    }

    /// Returns an endpoint's URL without secrets.
    pub(super) fn name(&self, id: EndpointId) -> String {
        lock(&self.pool).name(id)
    }

    /// Returns what an error names if no endpoint was chosen.
    pub(super) fn source_name(&self) -> String {
        self.registry.as_ref().map_or_else(|| "no endpoint".to_owned(), |registry| registry.discovery.redacted_url())
    }

    /// Sends an empty batch. It creates no event, and the response shows whether an event would be accepted.
    async fn check_health(self: Arc<Self>, due: ChosenEndpoint) {
        let empty = Body { bytes: Bytes::from_static(b"[]"), compression: Compression::None };
        // Without credentials, the response still shows that the endpoint can be reached.
        let authorization = self.credentials.authorization().await.unwrap_or_default();
        let header = authorization.header.as_ref();
        let outcome = self.transport.post(&due.endpoint, &empty, header, self.timeouts.request).await;
        tracing::debug!(endpoint = %due.endpoint, %outcome, "checked the health of an endpoint");
        let observation = Observation::of(&outcome, self.timeouts.pause);
        let change = lock(&self.pool).record_health_check(due.id, observation, Instant::now());
        log_change(&due.endpoint, change, &outcome);
    }

    async fn refresh_in_background(self: Arc<Self>) {
        let Some(registry) = &self.registry else { return };
        let Ok(_refreshing) = registry.refreshing.try_lock() else { return };
        if let Err(error) = self.refresh(registry, self.timeouts.request).await
            && !lock(&self.pool).is_empty()
        {
            tracing::warn!(error, "cannot refresh the endpoints; the last valid list stays in use");
        }
    }

    /// Replaces the endpoints by the registry's list. An invalid list never replaces a valid one.
    async fn refresh(&self, registry: &Registry, timeout: Duration) -> Result<(), String> {
        *lock(&registry.last_refresh) = Some(Instant::now());
        let discovery = &registry.discovery;
        let response = self.transport.get(&discovery.url, timeout).await;
        let list = response.and_then(|response| discovery.read(&response).map_err(|error| error.to_string()));
        let url = discovery.redacted_url();
        let list = list.map_err(|error| format!("cannot get endpoints from the registry {url}: {error}"))?;
        if !list.refused.is_empty() {
            let entries = list.refused.join(", ");
            tracing::error!(
                registry = url,
                entries,
                "the registry lists servers outside REGISTRY_ALLOWED_CIDRS, or with reserved addresses; no events are sent to them"
            );
        }
        lock(&self.pool).replace(list.endpoints);
        Ok(())
    }
}

impl Registry {
    fn is_older_than(&self, age: Duration) -> bool {
        lock(&self.last_refresh).is_some_and(|began| began.elapsed() >= age)
    }
}

impl OutstandingRequest<'_> {
    /// Returns where to send the request.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.chosen.endpoint
    }

    /// Returns which endpoint this is.
    pub(super) fn id(&self) -> EndpointId {
        self.chosen.id
    }

    /// Records how the request ended.
    pub(super) fn finish(mut self, outcome: &Outcome) -> ChosenEndpoint {
        // A request that the program gave up says nothing about its endpoint.
        self.ended = (*outcome != Outcome::NoResponse(Fault::Abandoned)).then(|| outcome.clone());
        self.chosen.clone()
    }
}

impl Observation {
    fn of(outcome: &Outcome, max_pause: Duration) -> Self {
        Observation { verdict: outcome.verdict(), pause: outcome.retry_after().min(max_pause) }
    }
}

impl Drop for OutstandingRequest<'_> {
    fn drop(&mut self) {
        let observation = self.ended.as_ref().map(|outcome| Observation::of(outcome, self.max_pause));
        let change = lock(self.pool).record(self.chosen.id, observation, Instant::now());
        if let Some(outcome) = &self.ended {
            log_change(&self.chosen.endpoint, change, outcome);
        }
    }
}

/// Logs that an endpoint began, or ceased, to accept requests. The same state is logged once, however many requests show it.
fn log_change(endpoint: &Endpoint, change: Option<StateChange>, outcome: &Outcome) {
    match change {
        Some(StateChange::Down) => {
            tracing::warn!(%endpoint, error = %outcome, "an endpoint does not accept events; they are retried");
        }
        Some(StateChange::Up(after)) => {
            tracing::warn!(%endpoint, after_s = after.as_secs(), "an endpoint accepts events again");
        }
        None => {}
    }
}
