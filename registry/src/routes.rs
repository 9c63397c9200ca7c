//! The HTTP routes, for the server and for the function.
//!
//! Missing and forbidden resources both return the same 404, so that a client cannot find out what exists. Responses and the log repeat
//! a value of a request only after it was found in the configuration.

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
use crate::registry::{JoinOutcome, LeaveOutcome, Lookup, RefreshError, Registry, Warning};

/// Response header with the cause of the list's last change.
pub const SOURCE_HEADER: &str = "registry-source";

/// Response header with the list's generation.
pub const GENERATION_HEADER: &str = "registry-generation";

/// Query parameter of an update: the instance to remove; see [`Registry::remove_instance`].
pub const LEAVES: &str = "leaves";

/// Query parameter of an update: the instance to add; see [`Registry::add_instance`].
pub const COMES: &str = "comes";

/// Status of an update: the instance that leaves is the last one and is still listed.
pub const LAST_SERVER: &str = "last_server";

/// Status of an update: AWS does not report the new instance in service yet.
pub const NOT_IN_SERVICE: &str = "not_in_service";

/// Maximum length of a query, in bytes. Valid queries have up to about 400.
const MAX_QUERY_BYTES: usize = 1_024;

/// Value of `Retry-After` after a failure, in seconds.
const RETRY_AFTER_S: &str = "10";

/// Error of every 404.
const NOT_FOUND: &str = "the list does not exist, or access is denied; check region, dcid, as_name and the token";

/// Marks a request whose signature AWS IAM has verified in front of the function.
#[derive(Clone, Copy, Debug)]
pub struct SignedByIam;

/// How the update route authorizes its clients.
#[derive(Debug)]
pub enum UpdateAuth {
    /// By this bearer token.
    Token(SecretString),
    /// By AWS IAM in front of the function's URL.
    Iam,
    /// Every client is allowed, because the server listens on its own machine only.
    Anyone,
}

impl UpdateAuth {
    fn allows(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        match self {
            UpdateAuth::Anyone => true,
            UpdateAuth::Iam => extensions.get::<SignedByIam>().is_some(),
            UpdateAuth::Token(token) => {
                let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
                shown.is_some_and(|shown| shown.ct_eq(token.expose_secret().as_bytes()).into())
            }
        }
    }
}

/// State of the routes.
#[derive(Debug)]
struct RouteState<F> {
    registry: Arc<Registry<F>>,
    auth: UpdateAuth,
}

/// A request in the access log.
struct AccessLogEntry<'a> {
    route: &'static str,
    group: Option<&'a Group>,
    began: Instant,
}

/// Returns all routes.
pub fn router<F: Fleet>(registry: Arc<Registry<F>>, auth: UpdateAuth) -> Router {
    Router::new()
        .route("/logstash-ip", get(lookup::<F>))
        .route("/update-ip-list", post(update::<F>))
        .route("/healthz", get(health::<F>))
        .route("/metrics", get(metrics::<F>))
        .fallback(unknown::<F>)
        .method_not_allowed_fallback(unknown::<F>)
        .with_state(Arc::new(RouteState { registry, auth }))
}

/// Returns a router without any route: every request gets a 404.
pub fn no_routes<F: Fleet>(registry: Arc<Registry<F>>) -> Router {
    Router::new().fallback(unknown::<F>).with_state(Arc::new(RouteState { registry, auth: UpdateAuth::Iam }))
}

async fn lookup<F: Fleet>(State(service): State<Arc<RouteState<F>>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let mut entry = AccessLogEntry::new("lookup");
    let registry = &service.registry;
    let found = query.as_deref().and_then(|query| parameters(query, ["region", "dcid"], []));
    let Some(group) = found.and_then(|([region, dcid], [])| registry.groups().select(&region, &dcid)) else {
        return entry.end(registry, not_found());
    };
    entry.group = Some(group);
    let response = match registry.lookup(group).await {
        Ok(lookup) => list(&lookup, lookup.list.age_s(registry.clock().now()), &headers),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &error),
    };
    entry.end(registry, response)
}

async fn update<F: Fleet>(
    State(service): State<Arc<RouteState<F>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let mut entry = AccessLogEntry::new("update");
    let registry = &service.registry;
    let found = query.as_deref().and_then(|query| parameters(query, ["region", "dcid", "as_name"], [LEAVES, COMES]));
    let found = found.filter(|_| service.auth.allows(&headers, &extensions));
    let request = found.and_then(|([region, dcid, name], changes)| {
        let group = registry.groups().select(&region, &dcid).filter(|group| group.name == name)?;
        Some((group, Change::of(changes)?))
    });
    let Some((group, change)) = request else {
        return entry.end(registry, not_found());
    };
    entry.group = Some(group);
    let response = match change.apply(registry, group).await {
        Ok((status, list)) => {
            let (endpoints, generation) = list.map(|list| (list.endpoints, list.generation)).unwrap_or_default();
            json(StatusCode::OK, &serde_json::json!({"status": status, "endpoints": endpoints, "generation": generation}))
        }
        Err(error) => failure(StatusCode::BAD_GATEWAY, &error),
    };
    entry.end(registry, response)
}

/// What an update changes.
enum Change {
    /// The whole list, from AWS.
    All,
    Leaves(String),
    Comes(String),
}

impl Change {
    /// Returns `None` if a value is not an instance id, or if both parameters are given.
    fn of([leaves, comes]: [Option<String>; 2]) -> Option<Change> {
        match (leaves, comes) {
            (None, None) => Some(Change::All),
            (Some(instance), None) if is_instance_id(&instance) => Some(Change::Leaves(instance)),
            (None, Some(instance)) if is_instance_id(&instance) => Some(Change::Comes(instance)),
            _ => None,
        }
    }

    /// Applies the change. Returns the status, and the current list if there is one.
    async fn apply<F: Fleet>(
        &self,
        registry: &Arc<Registry<F>>,
        group: &Group,
    ) -> Result<(&'static str, Option<List>), RefreshError> {
        let status = match self {
            Change::All => return registry.update(group, Source::Update).await.map(|list| ("updated", Some(list))),
            Change::Leaves(instance) => match registry.remove_instance(group, instance).await? {
                LeaveOutcome::Removed => "updated",
                LeaveOutcome::LastServer => LAST_SERVER,
            },
            Change::Comes(instance) => match registry.add_instance(group, instance).await? {
                JoinOutcome::Listed => "updated",
                JoinOutcome::NotInService => NOT_IN_SERVICE,
            },
        };
        Ok((status, registry.lookup(group).await.ok().map(|lookup| lookup.list)))
    }
}

async fn health<F: Fleet>(State(service): State<Arc<RouteState<F>>>) -> Response {
    let response = respond(StatusCode::OK, "text/plain", "ok\n".to_owned());
    AccessLogEntry::new("healthz").end(&service.registry, response)
}

async fn metrics<F: Fleet>(State(service): State<Arc<RouteState<F>>>) -> Response {
    service.registry.update_gauges();
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let response = respond(StatusCode::OK, content_type, service.registry.metrics().text());
    AccessLogEntry::new("metrics").end(&service.registry, response)
}

async fn unknown<F: Fleet>(State(service): State<Arc<RouteState<F>>>) -> Response {
    AccessLogEntry::new("unknown").end(&service.registry, not_found())
}

/// Returns the list, or 304 if the client has this version.
fn list(lookup: &Lookup, age_s: u64, headers: &HeaderMap) -> Response {
    let Lookup { list, warning } = lookup;
    let etag = list.etag();
    let is_known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|tags| names(tags, &etag));
    let mut response = Response::builder()
        .status(if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK })
        .header(CONTENT_TYPE, "application/json")
        // A client may cache the list, but has to revalidate it each time: a server can leave at any moment.
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

/// Returns whether a list of ETags contains this one. A proxy that compresses responses makes an ETag weak.
fn names(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Returns the value of the `Warning` header; see RFC 7234, section 5.5.
fn warning_text(warning: Warning) -> &'static str {
    match warning {
        Warning::StoreFailed => "110 registry \"the store fails; this list is from memory\"",
        Warning::RefreshFailed => "111 registry \"neither the store nor AWS returns a list; this is the last good one\"",
        Warning::Overdue => "110 registry \"this list has not been refreshed for a long time\"",
    }
}

/// Returns the values of the parameters `needed` and `others`. Returns `None` if a needed parameter is missing, a parameter is repeated, or
/// the query contains any other parameter.
fn parameters<const N: usize, const M: usize>(
    query: &str,
    needed: [&str; N],
    others: [&str; M],
) -> Option<([String; N], [Option<String>; M])> {
    if query.len() > MAX_QUERY_BYTES {
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

fn not_found() -> Response {
    json(StatusCode::NOT_FOUND, &serde_json::json!({"error": NOT_FOUND}))
}

fn failure(status: StatusCode, error: &RefreshError) -> Response {
    let mut response = json(status, &serde_json::json!({"error": error.to_string()}));
    response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static(RETRY_AFTER_S));
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

impl AccessLogEntry<'_> {
    fn new(route: &'static str) -> Self {
        AccessLogEntry { route, group: None, began: Instant::now() }
    }

    /// Writes the entry to the access log, and counts the request.
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
    fn rejects_missing_repeated_and_unknown_parameters() {
        let read = |query: &str| parameters(query, ["region", "dcid"], []).map(|(needed, [])| needed);
        assert_eq!(read("dcid=eu1&region=eu-west-1"), Some(["eu-west-1".to_owned(), "eu1".to_owned()]));
        assert_eq!(read("dcid=e%75%31&region=eu-west-1"), Some(["eu-west-1".to_owned(), "eu1".to_owned()]));
        for query in ["", "dcid=eu1", "dcid=eu1&dcid=eu1&region=a", "dcid=a&region=b&x=c", "DCID=a&region=b"] {
            assert_eq!(read(query), None, "{query}");
        }
        assert_eq!(read(&format!("region=a&dcid={}", "a".repeat(MAX_QUERY_BYTES))), None);
        let with = |query: &str| parameters(query, ["region"], ["leaves", "comes"]).map(|(_, others)| others);
        assert_eq!(with("region=a"), Some([None, None]));
        assert_eq!(with("comes=i-1&region=a"), Some([None, Some("i-1".to_owned())]));
        assert_eq!((with("comes=i-1"), with("region=a&leaves=i-1&leaves=i-1")), (None, None));
    }

    #[test]
    fn an_update_changes_one_instance_or_all() {
        let id = || Some("i-0123456789abcdef0".to_owned());
        assert!(matches!(Change::of([None, None]), Some(Change::All)));
        assert!(matches!(Change::of([id(), None]), Some(Change::Leaves(_))));
        assert!(matches!(Change::of([None, id()]), Some(Change::Comes(_))));
        for changes in [[id(), id()], [Some(String::new()), None], [None, Some("i-0123/../".to_owned())]] {
            assert!(Change::of(changes.clone()).is_none(), "{changes:?}");
        }
    }

    #[test]
    fn compares_etags_weakly() {
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(names(tags, "\"a\""), "{tags}");
        }
        for tags in ["", "a", "\"ab\"", "\"b\""] {
            assert!(!names(tags, "\"a\""), "{tags}");
        }
    }

    #[test]
    fn accepts_only_the_exact_token() {
        let auth = UpdateAuth::Token(SecretString::from("0123456789abcdef"));
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            auth.allows(&headers, &Extensions::new())
        };
        assert!(shown("Bearer 0123456789abcdef"));
        for value in
            ["Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"]
        {
            assert!(!shown(value), "{value}");
        }
        assert!(!auth.allows(&HeaderMap::new(), &Extensions::new()));
        let mut signed = Extensions::new();
        signed.insert(SignedByIam);
        assert!(UpdateAuth::Iam.allows(&HeaderMap::new(), &signed));
        assert!(!UpdateAuth::Iam.allows(&HeaderMap::new(), &Extensions::new()));
        assert!(!auth.allows(&HeaderMap::new(), &signed));
    }
}
