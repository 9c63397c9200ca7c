//! The routes, for the server and for the function alike.
//!
//! Whoever asks for what there is not, or for what is not theirs, is told one and the same: what exists is nobody's business but
//! the operator's. Nothing of a request is repeated in an answer or in the log before it has been found in the configuration.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, WARNING};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::fleet::Fleet;
use crate::group::Group;
use crate::lifecycle::is_instance_id;
use crate::list::{List, Source};
use crate::registry::{Answer, Came, Left, RefreshError, Registry, Warning};

/// The header that says what made a list.
pub const SOURCE_HEADER: &str = "registry-source";

/// The header with a list's generation.
pub const GENERATION_HEADER: &str = "registry-generation";

/// The parameter of an update that names an instance which leaves; see [`Registry::leave`].
pub const LEAVES: &str = "leaves";

/// The parameter of an update that names an instance which comes; see [`Registry::come`].
pub const COMES: &str = "comes";

/// The status of an update after which the instance that leaves is still listed.
pub const LAST_SERVER: &str = "last_server";

/// The status of an update after which the instance that comes is not listed yet.
pub const NOT_IN_SERVICE: &str = "not_in_service";

/// Longest query that is read, in bytes. The longest proper one has some 400.
const LONGEST_QUERY: usize = 1_024;

/// A client that is told of a failure may come again after so many seconds.
const COME_AGAIN_S: &str = "10";

/// What everybody is told who asks for what there is not, or may not ask.
const REFUSED: &str = "there is no such list, or it is not yours to change; check region, dcid, as_name and the token";

/// What a request has been found to be by somebody in front, who is trusted.
#[derive(Clone, Copy, Debug)]
pub struct SignedByIam;

/// Who may ask for an update.
#[derive(Debug)]
pub enum Updaters {
    /// Whoever has the token.
    Token(SecretString),
    /// Whoever AWS IAM lets pass in front of the function.
    Iam,
    /// Whoever reaches the server, which listens to its own machine only.
    Anybody,
}

impl Updaters {
    fn include(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        match self {
            Updaters::Anybody => true,
            Updaters::Iam => extensions.get::<SignedByIam>().is_some(),
            Updaters::Token(token) => {
                let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
                shown.is_some_and(|shown| shown.ct_eq(token.expose_secret().as_bytes()).into())
            }
        }
    }
}

/// What the routes need.
#[derive(Debug)]
struct Service<F> {
    registry: Arc<Registry<F>>,
    updaters: Updaters,
}

/// A request of which the access log tells.
struct Asked<'a> {
    route: &'static str,
    group: Option<&'a Group>,
    began: Instant,
}

/// All routes.
pub fn router<F: Fleet>(registry: Arc<Registry<F>>, updaters: Updaters) -> Router {
    Router::new()
        .route("/logstash-ip", get(lookup::<F>))
        .route("/update-ip-list", post(update::<F>))
        .route("/healthz", get(health::<F>))
        .route("/metrics", get(metrics::<F>))
        .fallback(unknown::<F>)
        .method_not_allowed_fallback(unknown::<F>)
        .with_state(Arc::new(Service { registry, updaters }))
}

/// No route at all: whatever is asked for, there is not.
pub fn closed<F: Fleet>(registry: Arc<Registry<F>>) -> Router {
    Router::new().fallback(unknown::<F>).with_state(Arc::new(Service { registry, updaters: Updaters::Iam }))
}

async fn lookup<F: Fleet>(State(service): State<Arc<Service<F>>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let mut asked = Asked::new("lookup");
    let registry = &service.registry;
    let found = query.as_deref().and_then(|query| parameters(query, ["region", "dcid"], []));
    let Some(group) = found.and_then(|([region, dcid], [])| registry.groups().select(&region, &dcid)) else {
        return asked.end(registry, refused());
    };
    asked.group = Some(group);
    let response = match registry.lookup(group).await {
        Ok(answer) => list(&answer, answer.list.age_s(registry.clock().now()), &headers),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &error),
    };
    asked.end(registry, response)
}

async fn update<F: Fleet>(
    State(service): State<Arc<Service<F>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let mut asked = Asked::new("update");
    let registry = &service.registry;
    let found = query.as_deref().and_then(|query| parameters(query, ["region", "dcid", "as_name"], [LEAVES, COMES]));
    let found = found.filter(|_| service.updaters.include(&headers, &extensions));
    let asked_for = found.and_then(|([region, dcid, name], changes)| {
        let group = registry.groups().select(&region, &dcid).filter(|group| group.name == name)?;
        Some((group, Change::of(changes)?))
    });
    let Some((group, change)) = asked_for else {
        return asked.end(registry, refused());
    };
    asked.group = Some(group);
    let response = match change.make(registry, group).await {
        Ok((status, list)) => {
            let (endpoints, generation) = list.map(|list| (list.endpoints, list.generation)).unwrap_or_default();
            json(StatusCode::OK, &serde_json::json!({"status": status, "endpoints": endpoints, "generation": generation}))
        }
        Err(error) => failure(StatusCode::BAD_GATEWAY, &error),
    };
    asked.end(registry, response)
}

/// What an update is to change.
enum Change {
    /// Whatever AWS says.
    All,
    Leaves(String),
    Comes(String),
}

impl Change {
    /// None if it names no instance, or two.
    fn of([leaves, comes]: [Option<String>; 2]) -> Option<Change> {
        match (leaves, comes) {
            (None, None) => Some(Change::All),
            (Some(instance), None) if is_instance_id(&instance) => Some(Change::Leaves(instance)),
            (None, Some(instance)) if is_instance_id(&instance) => Some(Change::Comes(instance)),
            _ => None,
        }
    }

    /// What became of it, and the list as it is now. There may be none of which the last server could leave.
    async fn make<F: Fleet>(
        &self,
        registry: &Arc<Registry<F>>,
        group: &Group,
    ) -> Result<(&'static str, Option<List>), RefreshError> {
        let status = match self {
            Change::All => return registry.update(group, Source::Update).await.map(|list| ("updated", Some(list))),
            Change::Leaves(instance) => match registry.leave(group, instance).await? {
                Left::Gone => "updated",
                Left::LastServer => LAST_SERVER,
            },
            Change::Comes(instance) => match registry.come(group, instance).await? {
                Came::Listed => "updated",
                Came::NotYet => NOT_IN_SERVICE,
            },
        };
        Ok((status, registry.lookup(group).await.ok().map(|answer| answer.list)))
    }
}

async fn health<F: Fleet>(State(service): State<Arc<Service<F>>>) -> Response {
    let response = respond(StatusCode::OK, "text/plain", "ok\n".to_owned());
    Asked::new("healthz").end(&service.registry, response)
}

async fn metrics<F: Fleet>(State(service): State<Arc<Service<F>>>) -> Response {
    service.registry.measure();
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let response = respond(StatusCode::OK, content_type, service.registry.metrics().text());
    Asked::new("metrics").end(&service.registry, response)
}

async fn unknown<F: Fleet>(State(service): State<Arc<Service<F>>>) -> Response {
    Asked::new("unknown").end(&service.registry, refused())
}

/// The list, or that it is still the one that the client has.
fn list(answer: &Answer, age_s: u64, headers: &HeaderMap) -> Response {
    let Answer { list, warning } = answer;
    let etag = list.etag();
    let is_known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|tags| names(tags, &etag));
    let mut response = Response::builder()
        .status(if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK })
        .header(CONTENT_TYPE, "application/json")
        // A list may be kept, and has to be asked for again each time: a server can leave at any moment.
        .header(CACHE_CONTROL, "no-cache")
        .header(AGE, age_s)
        .header(ETAG, etag)
        .header(SOURCE_HEADER, list.source.name())
        .header(GENERATION_HEADER, list.generation);
    if let Some(warning) = warning {
        response = response.header(WARNING, warning_text(*warning));
    }
    let body = if is_known { Body::empty() } else { Body::from(list.body()) };
    response.body(body).unwrap_or_else(|_| Response::new(Body::empty()))
}

/// Whether a list of tags has this one in it. A tag that went through a compressing proxy is a weak one.
fn names(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// See RFC 7234, section 5.5.
fn warning_text(warning: Warning) -> &'static str {
    match warning {
        Warning::StoreFailed => "110 registry \"the store fails; this list is from memory\"",
        Warning::RefreshFailed => "111 registry \"neither the store nor AWS gives a list; this is the last good one\"",
        Warning::Overdue => "110 registry \"this list has not been made anew for long\"",
    }
}

/// The parameters of these names, each of the needed ones given once, the others at most once, and none besides; none otherwise.
fn parameters<const N: usize, const M: usize>(
    query: &str,
    needed: [&str; N],
    others: [&str; M],
) -> Option<([String; N], [Option<String>; M])> {
    if query.len() > LONGEST_QUERY {
        return None;
    }
    let (mut values, mut more) = ([const { None }; N], [const { None }; M]);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let slot = match needed.iter().position(|known| *known == name) {
            Some(index) => &mut values[index],
            None => &mut more[others.iter().position(|known| *known == name)?],
        };
        if slot.replace(value.into_owned()).is_some() {
            return None;
        }
    }
    values.iter().all(Option::is_some).then(|| (values.map(Option::unwrap_or_default), more))
}

fn refused() -> Response {
    json(StatusCode::NOT_FOUND, &serde_json::json!({"error": REFUSED}))
}

fn failure(status: StatusCode, error: &RefreshError) -> Response {
    let mut response = json(status, &serde_json::json!({"error": error.to_string()}));
    response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static(COME_AGAIN_S));
    response
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    respond(status, "application/json", body.to_string())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(content_type));
    response
}

impl Asked<'_> {
    fn new(route: &'static str) -> Self {
        Asked { route, group: None, began: Instant::now() }
    }

    /// Writes the access log, and counts.
    fn end<F: Fleet>(&self, registry: &Registry<F>, response: Response) -> Response {
        let status = response.status().as_u16();
        registry.metrics().request(self.route, status);
        let (region, dcid) = self.group.map(|group| (group.key.region.as_str(), group.key.dcid.as_str())).unzip();
        let duration_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let is_stale = response.headers().contains_key(WARNING);
        tracing::info!(route = self.route, status, region, dcid, is_stale, duration_us, "request");
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_given_once_and_no_others_are() {
        let read = |query: &str| parameters(query, ["region", "dcid"], []).map(|(needed, [])| needed);
        assert_eq!(read("dcid=eu1&region=eu-west-1"), Some(["eu-west-1".to_owned(), "eu1".to_owned()]));
        assert_eq!(read("dcid=e%75%31&region=eu-west-1"), Some(["eu-west-1".to_owned(), "eu1".to_owned()]));
        for query in ["", "dcid=eu1", "dcid=eu1&dcid=eu1&region=a", "dcid=a&region=b&x=c", "DCID=a&region=b"] {
            assert_eq!(read(query), None, "{query}");
        }
        assert_eq!(read(&format!("region=a&dcid={}", "a".repeat(LONGEST_QUERY))), None);
        let with = |query: &str| parameters(query, ["region"], ["leaves", "comes"]).map(|(_, others)| others);
        assert_eq!(with("region=a"), Some([None, None]));
        assert_eq!(with("comes=i-1&region=a"), Some([None, Some("i-1".to_owned())]));
        assert_eq!((with("comes=i-1"), with("region=a&leaves=i-1&leaves=i-1")), (None, None));
    }

    #[test]
    fn an_update_is_about_one_instance_or_about_all() {
        let id = || Some("i-0123456789abcdef0".to_owned());
        assert!(matches!(Change::of([None, None]), Some(Change::All)));
        assert!(matches!(Change::of([id(), None]), Some(Change::Leaves(_))));
        assert!(matches!(Change::of([None, id()]), Some(Change::Comes(_))));
        for changes in [[id(), id()], [Some(String::new()), None], [None, Some("i-0123/../".to_owned())]] {
            assert!(Change::of(changes.clone()).is_none(), "{changes:?}");
        }
    }

    #[test]
    fn tags_are_compared_weakly() {
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(names(tags, "\"a\""), "{tags}");
        }
        for tags in ["", "a", "\"ab\"", "\"b\""] {
            assert!(!names(tags, "\"a\""), "{tags}");
        }
    }

    #[test]
    fn only_the_token_itself_opens() {
        let updaters = Updaters::Token(SecretString::from("0123456789abcdef"));
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            updaters.include(&headers, &Extensions::new())
        };
        assert!(shown("Bearer 0123456789abcdef"));
        for value in
            ["Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"]
        {
            assert!(!shown(value), "{value}");
        }
        assert!(!updaters.include(&HeaderMap::new(), &Extensions::new()));
        let mut signed = Extensions::new();
        signed.insert(SignedByIam);
        assert!(Updaters::Iam.include(&HeaderMap::new(), &signed));
        assert!(!Updaters::Iam.include(&HeaderMap::new(), &Extensions::new()));
        assert!(!updaters.include(&HeaderMap::new(), &signed));
    }
}
