//! One invocation of the Lambda function: an HTTP request to the routes, or an event of an instance's life.

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
use crate::registry::{Came, Left, RefreshError, Registry};
use crate::routes::{COMES, LAST_SERVER, LEAVES, NOT_IN_SERVICE, SignedByIam, closed};

/// A server may have to wait for the end of a pause before it asks AWS.
const SERVER_PATIENCE: Duration = Duration::from_secs(30);

/// Who asks by HTTP is not kept waiting longer for what goes on behind the answer. It goes on when the function is invoked again.
const SETTLING: Duration = Duration::from_secs(1);

/// A schedule comes a little sooner or later than the one before it: what is about to become old is made anew now.
const EARLY: Duration = Duration::from_mins(1);

/// Who keeps the lists that the function's events change.
#[derive(Debug)]
pub enum Keeper {
    /// The function itself, in the store that it shares with others.
    Function,
    /// A server, which is told what has happened. It polls by itself, and only it is looked up at.
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
    /// The route at `url`, opened by `token`.
    pub fn new(client: reqwest::Client, url: Url, token: SecretString) -> Self {
        UpdateRoute { client, url, token }
    }

    /// `change` is the name of a parameter, and `instance` its value. What became of it is one of the statuses of the route.
    async fn call(&self, group: &Group, change: &str, instance: &str) -> Result<String, FunctionError> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("region", &group.key.region)
            .append_pair("dcid", &group.key.dcid)
            .append_pair("as_name", &group.name)
            .append_pair(change, instance);
        let request = self.client.post(url).timeout(SERVER_PATIENCE).bearer_auth(self.token.expose_secret());
        let problem = match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                let updated = answer.bytes().await.ok().and_then(|body| serde_json::from_slice::<Updated>(&body).ok());
                match updated {
                    Some(Updated { status }) => return Ok(status),
                    None => "answered what is no answer of a registry".to_owned(),
                }
            }
            Ok(answer) => format!("answered {}", answer.status()),
            Err(error) => format!("could not be asked ({})", error.without_url()),
        };
        Err(FunctionError::Server { list: group.key.to_string(), problem })
    }
}

#[derive(Deserialize)]
struct Updated {
    status: String,
}

/// Why an invocation fails. Lambda then invokes again.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// The event is refused.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The event is about a group that nobody has configured.
    #[error("the autoscaling group {group:?} in {region} is not in REGISTRY_GROUPS; add it, or disconnect it from the function")]
    UnknownGroup {
        /// Its name.
        group: String,
        /// Where it is.
        region: String,
    },
    /// A list was not changed; the instance waits on.
    #[error("the list was not changed: {0}")]
    List(#[from] RefreshError),
    /// The server did not change a list; the instance waits on.
    #[error("the server of REGISTRY_UPDATE_URL {problem} for the list {list}; look at its log and at REGISTRY_TOKEN")]
    Server {
        /// The list.
        list: String,
        /// What happened.
        problem: String,
    },
    /// The instance waits on.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// An HTTP request that cannot be read.
    #[error("the HTTP request cannot be understood: {0}")]
    Request(String),
    /// Some of several events failed.
    #[error("{failed} of {events} events failed; the first: {first}")]
    Several {
        /// How many failed.
        failed: usize,
        /// How many there were.
        events: usize,
        /// The first error.
        first: Box<FunctionError>,
    },
}

/// The function.
#[derive(Debug)]
pub struct Function<F> {
    registry: Arc<Registry<F>>,
    router: Router,
    keeper: Keeper,
    topics: Vec<String>,
}

impl<F: Fleet> Function<F> {
    /// A function with these routes, which obeys these SNS topics.
    pub fn new(registry: Arc<Registry<F>>, router: Router, keeper: Keeper, topics: Vec<String>) -> Self {
        let router = match keeper {
            Keeper::Function => router,
            Keeper::Server(_) => closed(Arc::clone(&registry)),
        };
        Function { registry, router, keeper, topics }
    }

    /// Handles one event of whatever kind. Nothing runs afterwards until the next one, so what is under way ends before; but who asks
    /// by HTTP does not wait long for that.
    ///
    /// # Errors
    /// What is refused, and what has to be tried again.
    pub async fn invoke(&self, event: Value, context: Context) -> Result<Value, FunctionError> {
        if is_http(&event) {
            let answer = self.answer(event, context).await;
            let _ = timeout(SETTLING, self.registry.settle()).await;
            return answer;
        }
        let result = self.heed(&event).await;
        self.registry.settle().await;
        result
    }

    async fn answer(&self, event: Value, context: Context) -> Result<Value, FunctionError> {
        // Lambda itself writes this down after it has checked the signature; a request cannot.
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

    async fn heed(&self, event: &Value) -> Result<Value, FunctionError> {
        let events = parse(event, &self.topics).inspect_err(|error| self.log("refused", &Err(error.to_string())))?;
        let (mut done, mut errors) = (Vec::new(), Vec::new());
        for event in &events {
            let result = match event {
                Ok(event) => self.heed_one(event).await,
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

    /// An instance that leaves is out of the list before it may go on: until then it still takes what is sent to it. One that comes
    /// may go on at once: it is listed when AWS shows it in service, which it cannot while it waits.
    async fn heed_one(&self, event: &Event) -> Result<&'static str, FunctionError> {
        match event {
            Event::Nothing(why) => Ok(why),
            Event::Scheduled => self.poll().await,
            Event::Waiting { transition: Transition::Terminate, hook } => {
                let groups = self.groups(&hook.region, &hook.group)?;
                let left = self.leave(&groups, &hook.instance).await?;
                self.go_on(&groups, hook).await?;
                Ok(match left {
                    Left::Gone => "left the list and goes on",
                    Left::LastServer => "stays listed as the last server and goes on",
                })
            }
            Event::Waiting { transition: Transition::Launch | Transition::Warm, hook } => {
                let groups = self.groups(&hook.region, &hook.group)?;
                self.go_on(&groups, hook).await?;
                Ok("goes on")
            }
            Event::Happened { transition, region, group, instance } => {
                let groups = self.groups(region, group)?;
                match transition {
                    Transition::Launch => self.come(&groups, instance).await.map(|came| match came {
                        Came::Listed => "refreshed",
                        Came::NotYet => "refreshed without the instance, which AWS does not show in service",
                    }),
                    Transition::Terminate => self.leave(&groups, instance).await.map(|left| match left {
                        Left::Gone => "left the list",
                        Left::LastServer => "stays listed as the last server",
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
        if matches!(self.keeper, Keeper::Server(_)) {
            return Ok("the server polls by itself");
        }
        let mut polls = JoinSet::new();
        for group in self.registry.groups().iter() {
            let (registry, group) = (Arc::clone(&self.registry), group.clone());
            polls.spawn(async move { registry.poll(&group, EARLY).await });
        }
        let failed: Vec<RefreshError> = polls.join_all().await.into_iter().filter_map(Result::err).collect();
        // What is not told here has been told by an alert.
        failed.into_iter().next().map_or(Ok("polled"), |error| Err(error.into()))
    }

    async fn leave(&self, groups: &[&Group], instance: &str) -> Result<Left, FunctionError> {
        let mut all = Left::Gone;
        for group in groups {
            let left = match &self.keeper {
                Keeper::Function => self.registry.leave(group, instance).await?,
                Keeper::Server(server) => match server.call(group, LEAVES, instance).await?.as_str() {
                    LAST_SERVER => Left::LastServer,
                    _ => Left::Gone,
                },
            };
            all = if left == Left::LastServer { left } else { all };
        }
        Ok(all)
    }

    async fn come(&self, groups: &[&Group], instance: &str) -> Result<Came, FunctionError> {
        let mut all = Came::Listed;
        for group in groups {
            let came = match &self.keeper {
                Keeper::Function => self.registry.come(group, instance).await?,
                Keeper::Server(server) => match server.call(group, COMES, instance).await?.as_str() {
                    NOT_IN_SERVICE => Came::NotYet,
                    _ => Came::Listed,
                },
            };
            all = if came == Came::NotYet { came } else { all };
        }
        Ok(all)
    }

    async fn go_on(&self, groups: &[&Group], hook: &Hook) -> Result<(), FunctionError> {
        let result = self.registry.fleet().go_on(hook).await;
        if let (Err(error), Some(group)) = (&result, groups.first()) {
            let what = format!("{} waits at the hook {}: {error}", hook.instance, hook.name);
            self.registry.alerts().raise(&group.key, Problem::AwsFailed, &what);
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

/// Function URLs and load balancers both put a context of the request into the event, and nobody else does.
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
