//! Delivers batches to Logstash's http input.

mod batch_delivery;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use elb_log::batch::{Batch, Body, Compression};

use self::batch_delivery::BatchDelivery;
use super::acceptances::Acceptances;
use super::connection::Connection;
use super::credentials::{Authorization, Credentials};
use super::endpoint::Endpoint;
use super::endpoints::{EndpointSource, Endpoints, Timeouts};
use super::evidence::Evidence;
use super::outcome::{Fault, Outcome};
use super::retrying::{RetryList, Retrying};
use super::transport::{HttpTransport, Transport};
use super::{Delivery, lock};
use crate::reason::Reason;
use crate::shutdown::Shutdown;

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
        BatchDelivery::new(self, batch, evidence, shutdown).deliver().await
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
