//! The routes: what is answered, and what everybody is told alike.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use elb_log_registry::fleet::FleetError;
use elb_log_registry::routes::{UpdateAuth, router};
use secrecy::SecretString;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{Double, body, instance, registry};

const LOOKUP: &str = "/logstash-ip?dcid=eu1&region=eu-west-1";
const UPDATE: &str = "/update-ip-list?region=eu-west-1&dcid=eu1&as_name=logstash-eu1";
const TOKEN: &str = "0123456789abcdef";

fn service(double: &Double) -> Router {
    router(registry(double), UpdateAuth::Token(SecretString::from(TOKEN)))
}

/// Status, headers as `name: value` lines, and body.
async fn ask(service: &Router, method: Method, uri: &str, headers: &[(&str, &str)]) -> (StatusCode, Vec<String>, String) {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
    let status = response.status();
    let shown = response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, shown, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

fn header<'a>(headers: &'a [String], name: &str) -> Option<&'a str> {
    headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

async fn get(service: &Router, uri: &str) -> (StatusCode, Vec<String>, String) {
    ask(service, Method::GET, uri, &[]).await
}

async fn update(service: &Router, uri: &str, authorization: &str) -> (StatusCode, Value) {
    let headers = [("authorization", authorization)];
    let headers = if authorization.is_empty() { &headers[..0] } else { &headers[..] };
    let (status, _, body) = ask(service, Method::POST, uri, headers).await;
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[tokio::test(start_paused = true)]
async fn a_lookup_returns_an_array_and_describing_headers() {
    let service = service(&Double::with(&[2, 10, 1]));
    let (status, headers, text) = get(&service, LOOKUP).await;
    assert_eq!((status, text), (StatusCode::OK, body(&[1, 2, 10])));
    assert_eq!(header(&headers, "content-type"), Some("application/json"));
    assert_eq!(header(&headers, "cache-control"), Some("no-cache"));
    assert_eq!(header(&headers, "registry-source"), Some("fallback"));
    assert_eq!(header(&headers, "registry-generation"), Some("1"));
    assert_eq!(header(&headers, "age"), Some("0"));
    assert_eq!(header(&headers, "warning"), None);
}

#[tokio::test(start_paused = true)]
async fn returns_304_to_a_client_that_has_the_list() {
    let double = Double::with(&[1]);
    let service = service(&double);
    let (_, headers, _) = get(&service, LOOKUP).await;
    let etag = header(&headers, "etag").expect("a tag").to_owned();
    let (status, headers, text) = ask(&service, Method::GET, LOOKUP, &[("if-none-match", &etag)]).await;
    assert_eq!((status, text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(header(&headers, "etag"), Some(etag.as_str()));
    double.start(2);
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    update(&service, UPDATE, &format!("Bearer {TOKEN}")).await;
    let (status, _, text) = ask(&service, Method::GET, LOOKUP, &[("if-none-match", &etag)]).await;
    assert_eq!((status, text), (StatusCode::OK, body(&[1, 2])));
}

#[tokio::test(start_paused = true)]
async fn an_update_calls_aws_and_returns_the_list() {
    let service = service(&Double::with(&[1]));
    let answer = update(&service, UPDATE, &format!("Bearer {TOKEN}")).await;
    assert_eq!(answer, (StatusCode::OK, json!({"status": "updated", "endpoints": ["10.0.0.1:8080"], "generation": 1})));
    let (_, headers, _) = get(&service, LOOKUP).await;
    assert_eq!(header(&headers, "registry-source"), Some("update"));
}

#[tokio::test(start_paused = true)]
async fn an_update_can_be_about_one_instance() {
    let double = Double::with(&[1, 2]);
    let service = service(&double);
    let bearer = format!("Bearer {TOKEN}");
    update(&service, UPDATE, &bearer).await;
    let about = async |change: &str, number: u8| {
        let (status, body) = update(&service, &format!("{UPDATE}&{change}={}", instance(number)), &bearer).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        (body["status"].clone(), body["endpoints"].clone())
    };
    assert_eq!(about("leaves", 2).await, (json!("updated"), json!(["10.0.0.1:8080"])));
    double.end(2);
    assert_eq!((about("leaves", 1).await, double.asked()), ((json!("last_server"), json!(["10.0.0.1:8080"])), 2));
    assert_eq!(about("comes", 2).await, (json!("not_in_service"), json!(["10.0.0.1:8080"])));
    double.start(2);
    assert_eq!(about("comes", 2).await, (json!("updated"), json!(["10.0.0.2:8080"])), "the last server has a successor");
}

#[tokio::test(start_paused = true)]
async fn failed_updates_return_502_and_failed_lookups_503() {
    let double = Double::with(&[1]);
    double.fail(Some(FleetError::Throttled { operation: "DescribeInstances", reason: "RequestLimitExceeded".to_owned() }));
    let service = service(&double);
    let (status, body) = update(&service, UPDATE, &format!("Bearer {TOKEN}")).await;
    assert_eq!(
        (status, &body["error"]),
        (StatusCode::BAD_GATEWAY, &json!("AWS throttled DescribeInstances: RequestLimitExceeded"))
    );
    let (status, headers, text) = get(&service, LOOKUP).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("RequestLimitExceeded") && header(&headers, "retry-after") == Some("10"), "{text}");
}

/// Missing, forbidden and hostile requests get the same response, and the response repeats nothing of the request.
#[tokio::test(start_paused = true)]
async fn all_rejected_requests_get_the_same_response() {
    let double = Double::with(&[1]);
    let service = service(&double);
    let overlong = format!("/logstash-ip?dcid={}&region=eu-west-1", "a".repeat(60_000));
    let lookups = [
        "/logstash-ip",
        "/logstash-ip?",
        "/logstash-ip?dcid=eu1",
        "/logstash-ip?dcid=eu2&region=eu-west-1",
        "/logstash-ip?dcid=eu1&region=us-east-1",
        "/logstash-ip?dcid=eu1&region=169.254.169.254",
        "/logstash-ip?dcid=eu1&region=eu-west-1.evil.example%2F",
        "/logstash-ip?dcid=eu1&region=http://127.0.0.1:6379/",
        "/logstash-ip?dcid=eu1%0d%0aSet-Cookie:%20a=b&region=eu-west-1",
        "/logstash-ip?dcid=eu1%00&region=eu-west-1",
        "/logstash-ip?dcid=../eu1&region=eu-west-1",
        "/logstash-ip?dcid=*&region=eu-west-1",
        "/logstash-ip?dcid=%ff%fe&region=eu-west-1",
        "/logstash-ip?dcid=eu1&region=eu-west-1&dcid=eu1",
        "/logstash-ip?dcid=eu1&region=eu-west-1&as_name=logstash-eu1",
        "/logstash-ip/?dcid=eu1&region=eu-west-1",
        "/logstash-ip/../update-ip-list?dcid=eu1&region=eu-west-1",
        "/%6cogstash-ip/x?dcid=eu1&region=eu-west-1",
        "/",
        "/admin",
        &overlong,
    ];
    let (status, expected_headers, expected) = get(&service, "/logstash-ip?dcid=nosuch&region=eu-west-1").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for uri in lookups {
        let (status, headers, text) = get(&service, uri).await;
        assert_eq!((status, &headers, &text), (StatusCode::NOT_FOUND, &expected_headers, &expected), "{uri}");
    }
    let own_group = UPDATE.replace("logstash-eu1", "attackers-group");
    let elsewhere = UPDATE.replace("eu-west-1", "us-east-1");
    let bearer = format!("Bearer {TOKEN}");
    let about = |change: &str| format!("{UPDATE}&{change}");
    let id = instance(1);
    let no_instance = about("leaves=i-0123%0d%0a4567");
    let two = about(&format!("leaves={id}&comes={id}"));
    let twice = about(&format!("comes={id}&comes={id}"));
    let leaves = about(&format!("leaves={id}"));
    for (uri, authorization) in [
        (UPDATE, ""),
        (&leaves, "Bearer wrong"),
        (&no_instance, &bearer),
        (&two, &bearer),
        (&twice, &bearer),
        (UPDATE, "Bearer wrong"),
        (UPDATE, "Basic MDEyMzQ1Njc4OWFiY2RlZg=="),
        (&own_group, &bearer),
        (&elsewhere, &bearer),
        ("/update-ip-list", &bearer),
        ("/update-ip-list?region=eu-west-1&dcid=eu1", &bearer),
    ] {
        let (status, body) = update(&service, uri, authorization).await;
        assert_eq!((status, body.to_string()), (StatusCode::NOT_FOUND, expected.clone()), "{uri} {authorization}");
    }
    for (method, uri) in [(Method::GET, UPDATE), (Method::PUT, UPDATE), (Method::DELETE, LOOKUP), (Method::POST, LOOKUP)] {
        let (status, _, text) = ask(&service, method.clone(), uri, &[("authorization", &bearer)]).await;
        assert_eq!((status, &text), (StatusCode::NOT_FOUND, &expected), "{method} {uri}");
    }
    assert_eq!(double.asked(), 0, "none of these requests causes an AWS call");
}

#[tokio::test(start_paused = true)]
async fn serves_health_and_metrics() {
    let service = service(&Double::with(&[1, 2]));
    let (status, _, text) = get(&service, "/healthz").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "ok\n"));
    get(&service, LOOKUP).await;
    get(&service, "/../../etc/passwd").await;
    let (_, headers, text) = get(&service, "/metrics").await;
    assert!(header(&headers, "content-type").is_some_and(|value| value.starts_with("application/openmetrics-text")));
    for line in [
        "registry_requests_total{route=\"lookup\",status=\"200\"} 1",
        "registry_requests_total{route=\"unknown\",status=\"404\"} 1",
        "registry_list_endpoints{region=\"eu-west-1\",dcid=\"eu1\"} 2",
        "registry_problem{problem=\"list_missing\",region=\"eu-west-1\",dcid=\"eu1\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
