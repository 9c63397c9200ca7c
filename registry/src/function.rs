//! The Lambda function: one invocation handles an HTTP request to the routes, or a lifecycle event.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use lambda_http::Adapter;
use lambda_http::request::LambdaRequest;
use lambda_runtime::{Context, LambdaEvent};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::{Service as _, ServiceExt as _, service_fn};
use url::Url;

use crate::alert::Problem;
use crate::fleet::{Fleet, FleetError, Hook};
use crate::group::Group;
use crate::lifecycle::{Event, EventError, Transition, parse};
use crate::registry::{JoinOutcome, LeaveOutcome, RefreshError, Registry};
use crate::routes::{COMES, LAST_SERVER, LEAVES, NOT_IN_SERVICE, SignedByIam, no_routes};

/// Time limit of a call to the server, which may have to wait for the end of a pause before it calls AWS.
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum time that an HTTP response waits for background work. The work continues in the next invocation.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A list that expires within this time is refreshed now, because the intervals of a schedule vary a little.
const REFRESH_MARGIN: Duration = Duration::from_mins(1);

/// The owner of the lists that the function's events change.
#[derive(Debug)]
pub enum ListOwner {
    /// The function itself. The lists are in a shared store.
    Function,
    /// A server, which the function calls for every event. The server polls by itself, and only the server answers look-ups.
    Server(UpdateRoute),
}

/// The update route of a server.
#[derive(Debug)]
pub struct UpdateRoute {
    client: reqwest::Client,
    url: Url,
    token: SecretString,
}

impl UpdateRoute {
    /// Creates a client for the route at `url`, with `token` as credentials.
    pub fn new(client: reqwest::Client, url: Url, token: SecretString) -> Self {
        UpdateRoute { client, url, token }
    }

    /// Sends a change: `change` is the name of the query parameter, `instance` its value. Returns the status of the response's body.
    async fn call(&self, group: &Group, change: &str, instance: &str) -> Result<String, FunctionError> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("region", &group.key.region)
            .append_pair("dcid", &group.key.dcid)
            .append_pair("as_name", &group.name)
            .append_pair(change, instance);
        let request = self.client.post(url).timeout(SERVER_TIMEOUT).bearer_auth(self.token.expose_secret());
        let problem = match request.send().await {
            Ok(response) if response.status().is_success() => {
                let updated = response.bytes().await.ok().and_then(|body| serde_json::from_slice::<Updated>(&body).ok());
                match updated {
                    Some(Updated { status }) => return Ok(status),
                    None => "returned an invalid response".to_owned(),
                }
            }
            Ok(response) => format!("returned {}", response.status()),
            Err(error) => format!("did not respond ({})", error.without_url()),
        };
        Err(FunctionError::Server { list: group.key.to_string(), problem })
    }
}

#[derive(Deserialize)]
struct Updated {
    status: String,
}

/// Why an invocation fails. Lambda then retries it.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// The event is rejected.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The event is about a group that is not configured.
    #[error("the Auto Scaling group {group:?} in {region} is not in REGISTRY_GROUPS; add it, or disconnect it from the function")]
    UnknownGroup {
        /// Name of the group.
        group: String,
        /// Region of the group.
        region: String,
    },
    /// A list was not changed; the instance keeps waiting.
    #[error("cannot change the list: {0}")]
    List(#[from] RefreshError),
    /// The server did not change a list; the instance keeps waiting.
    #[error("cannot change the list {list}: the server at REGISTRY_UPDATE_URL {problem}; check its log and REGISTRY_TOKEN")]
    Server {
        /// Key of the list.
        list: String,
        /// The rest of the sentence: what happened.
        problem: String,
    },
    /// AWS failed; the instance keeps waiting.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The HTTP request is invalid.
    #[error("cannot parse the HTTP request: {0}")]
    Request(String),
    /// At least one of several events failed.
    #[error("{failed} of {events} events failed; the first: {first}")]
    Several {
        /// Number of failed events.
        failed: usize,
        /// Number of events.
        events: usize,
        /// First error.
        first: Box<FunctionError>,
    },
}

/// The function.
#[derive(Debug)]
pub struct Function<F> {
    registry: Arc<Registry<F>>,
    router: Router,
    owner: ListOwner,
    topics: Vec<String>,
}

impl<F: Fleet> Function<F> {
    /// Creates a function with these routes, which accepts events from these SNS topics.
    pub fn new(registry: Arc<Registry<F>>, router: Router, owner: ListOwner, topics: Vec<String>) -> Self {
        let router = match owner {
            ListOwner::Function => router,
            ListOwner::Server(_) => no_routes(Arc::clone(&registry)),
        };
        Function { registry, router, owner, topics }
    }

    /// Handles one event of any kind. Lambda stops the process after the response, so background work is completed before. An HTTP
    /// response waits only a short time for it.
    ///
    /// # Errors
    /// The event is rejected, or has to be retried.
    pub async fn invoke(&self, event: Value, context: Context) -> Result<Value, FunctionError> {
        if is_http(&event) {
            let response = self.respond(event, context).await;
            let _ = timeout(SETTLE_TIMEOUT, self.registry.settle()).await;
            return response;
        }
        let result = self.handle(&event).await;
        self.registry.settle().await;
        result
    }

    async fn respond(&self, event: Value, context: Context) -> Result<Value, FunctionError> {
        // Lambda adds this member after it has checked the signature; a request cannot.
        let is_signed = event.pointer("/requestContext/authorizer/iam").is_some_and(Value::is_object);
        let request = LambdaRequest::deserialize(event).map_err(|error| FunctionError::Request(error.to_string()))?;
        let router = self.router.clone();
        let mut adapter = Adapter::from(service_fn(move |request: lambda_http::Request| {
            let mut request = request.map(Body::new);
            if is_signed {
                request.extensions_mut().insert(SignedByIam);
            }
            router.clone().oneshot(request)
        }));
        let response: Result<_, Infallible> = adapter.call(LambdaEvent::new(request, context)).await;
        match response {
            Ok(response) => serde_json::to_value(response).map_err(|error| FunctionError::Request(error.to_string())),
            Err(never) => match never {},
        }
    }

    async fn handle(&self, event: &Value) -> Result<Value, FunctionError> {
        let events = parse(event, &self.topics).inspect_err(|error| self.log("refused", &Err(error.to_string())))?;
        let (mut done, mut errors) = (Vec::new(), Vec::new());
        for event in &events {
            let result = match event {
                Ok(event) => self.handle_one(event).await,
                Err(error) => Err(error.clone().into()),
            };
            let kind = event.as_ref().map_or("refused", kind);
            self.log(kind, &result.as_ref().copied().map_err(ToString::to_string));
            match result {
                Ok(what) => done.push(what),
                Err(error) => errors.push(error),
            }
        }
        match errors.len() {
            0 => Ok(json!({ "done": done })),
            1 if events.len() == 1 => Err(errors.remove(0)),
            failed => Err(FunctionError::Several { failed, events: events.len(), first: Box::new(errors.remove(0)) }),
        }
    }

    /// An instance that leaves is removed from the list before its lifecycle action is completed: until then, it still receives events.
    /// For an instance that arrives, the action is completed at once, because AWS cannot report it in service while it waits.
    async fn handle_one(&self, event: &Event) -> Result<&'static str, FunctionError> {
        match event {
            Event::Nothing(why) => Ok(why),
            Event::Scheduled => self.poll().await,
            Event::Waiting { transition: Transition::Terminate, hook } => {
                let groups = self.groups(&hook.region, &hook.group)?;
                let left = self.remove(&groups, &hook.instance).await?;
                self.complete(&groups, hook).await?;
                Ok(match left {
                    LeaveOutcome::Removed => "left the list and goes on",
                    LeaveOutcome::LastServer => "stays listed as the last server and goes on",
                })
            }
            Event::Waiting { transition: Transition::Launch | Transition::Warm, hook } => {
                let groups = self.groups(&hook.region, &hook.group)?;
                self.complete(&groups, hook).await?;
                Ok("goes on")
            }
            Event::Happened { transition, region, group, instance } => {
                let groups = self.groups(region, group)?;
                match transition {
                    Transition::Launch => self.add(&groups, instance).await.map(|came| match came {
                        JoinOutcome::Listed => "refreshed",
                        JoinOutcome::NotInService => "refreshed without the instance, which AWS does not report in service",
                    }),
                    Transition::Terminate => self.remove(&groups, instance).await.map(|left| match left {
                        LeaveOutcome::Removed => "left the list",
                        LeaveOutcome::LastServer => "stays listed as the last server",
                    }),
                    Transition::Warm => Ok("is not in service"),
                }
            }
        }
    }

    fn groups(&self, region: &str, group: &str) -> Result<Vec<&Group>, FunctionError> {
        let groups = self.registry.groups().named(region, group);
        let unknown = || FunctionError::UnknownGroup { group: group.to_owned(), region: region.to_owned() };
        if groups.is_empty() { Err(unknown()) } else { Ok(groups) }
    }

    async fn poll(&self) -> Result<&'static str, FunctionError> {
        if matches!(self.owner, ListOwner::Server(_)) {
            return Ok("the server polls by itself");
        }
        let mut polls = JoinSet::new();
        for group in self.registry.groups().iter() {
            let (registry, group) = (Arc::clone(&self.registry), group.clone());
            polls.spawn(async move { registry.poll(&group, REFRESH_MARGIN).await });
        }
        let failed: Vec<RefreshError> = polls.join_all().await.into_iter().filter_map(Result::err).collect();
        // Alerts report the other failures.
        failed.into_iter().next().map_or(Ok("polled"), |error| Err(error.into()))
    }

    async fn remove(&self, groups: &[&Group], instance: &str) -> Result<LeaveOutcome, FunctionError> {
        let mut all = LeaveOutcome::Removed;
        for group in groups {
            let left = match &self.owner {
                ListOwner::Function => self.registry.remove_instance(group, instance).await?,
                ListOwner::Server(server) => match server.call(group, LEAVES, instance).await?.as_str() {
                    LAST_SERVER => LeaveOutcome::LastServer,
                    _ => LeaveOutcome::Removed,
                },
            };
            all = if left == LeaveOutcome::LastServer { left } else { all };
        }
        Ok(all)
    }

    async fn add(&self, groups: &[&Group], instance: &str) -> Result<JoinOutcome, FunctionError> {
        let mut all = JoinOutcome::Listed;
        for group in groups {
            let came = match &self.owner {
                ListOwner::Function => self.registry.add_instance(group, instance).await?,
                ListOwner::Server(server) => match server.call(group, COMES, instance).await?.as_str() {
                    NOT_IN_SERVICE => JoinOutcome::NotInService,
                    _ => JoinOutcome::Listed,
                },
            };
            all = if came == JoinOutcome::NotInService { came } else { all };
        }
        Ok(all)
    }

    async fn complete(&self, groups: &[&Group], hook: &Hook) -> Result<(), FunctionError> {
        let result = self.registry.fleet().complete_lifecycle_action(hook).await;
        if let (Err(error), Some(group)) = (&result, groups.first()) {
            let description = format!("{} keeps waiting at the hook {}: {error}", hook.instance, hook.name);
            self.registry.alerts().raise(&group.key, Problem::AwsFailed, &description);
        }
        Ok(result?)
    }

    fn log(&self, kind: &'static str, result: &Result<&'static str, String>) {
        match result {
            Ok(what) => tracing::info!(kind, done = what, "event"),
            Err(error) => tracing::error!(kind, error, "event failed"),
        }
        self.registry.metrics().event(kind, if result.is_ok() { "done" } else { "failed" });
    }
}

/// Only events of function URLs and load balancers contain a request context.
fn is_http(event: &Value) -> bool {
    event.pointer("/requestContext/http").is_some() || event.pointer("/requestContext/elb").is_some()
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Waiting { transition: Transition::Launch, .. } => "launching",
        Event::Waiting { transition: Transition::Warm, .. } => "warming",
        Event::Waiting { transition: Transition::Terminate, .. } => "terminating",
        Event::Happened { transition: Transition::Launch, .. } => "launched",
        Event::Happened { transition: Transition::Warm, .. } => "warmed",
        Event::Happened { transition: Transition::Terminate, .. } => "terminated",
        Event::Scheduled => "scheduled",
        Event::Nothing(_) => "nothing",
    }
}
