//! The program as it is started: a server, a client, a function.

use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::peers::{Moto, Redis, Scripted, Server, TlsRedis, answer, program, sample, serve};
use crate::support::{GROUPS, body, until};

const TOKEN: &str = "0123456789abcdef";

async fn run(arguments: &[&str], vars: &[(&str, &str)]) -> Output {
    program(arguments, vars).output().await.expect("running the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn serves_its_list_and_raises_an_alert_when_redis_stops() {
    let (moto, mut redis) = (Moto::start().await, Redis::start().await);
    moto.make_group(3).await;
    let webhook = Scripted::start(|_, _| answer(200, "")).await;
    let vars = [("REGISTRY_STORE", redis.url.as_str()), ("REGISTRY_TOKEN", TOKEN), ("ALERT_WEBHOOK_URL", &webhook.url)];
    let mut server = Server::start(&moto.url, &vars).await;

    let shown = run(&["get", "--url", &server.lookup()], &[]).await;
    assert_eq!((text(&shown.stdout).lines().count(), shown.status.code()), (3, Some(0)), "{}", text(&shown.stderr));
    assert!(text(&shown.stderr).starts_with("generation 1, made by poll, "), "{}", text(&shown.stderr));
    assert!(webhook.seen().is_empty(), "a start raises no alert: {:?}", webhook.seen());

    moto.resize_group(2).await;
    let arguments = ["update", "--url", &server.lookup(), "--as-name", "logstash-eu1"];
    let refused = run(&arguments, &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("404 Not Found: the list does not exist, or access is denied"),
        "{}",
        text(&refused.stderr)
    );
    let updated = run(&arguments, &[("REGISTRY_TOKEN", TOKEN)]).await;
    assert_eq!((text(&updated.stdout).lines().count(), text(&updated.stderr)), (2, "generation 2\n".to_owned()));

    redis.stop().await;
    let shown = run(&["get", "--url", &server.lookup()], &[]).await;
    assert_eq!(shown.stdout, updated.stdout, "{}", server.log());
    assert!(
        text(&shown.stderr).contains("warning: 110 registry \"the store fails; this list is from memory\""),
        "{}",
        text(&shown.stderr)
    );
    let told: Value = serde_json::from_str(&webhook.saw(1).await[0].body).unwrap();
    let expected = ("raised", "store_failed", "critical", "eu-west-1", "eu1");
    let found = ["state", "problem", "severity", "region", "dcid"].map(|member| told[member].as_str().unwrap_or_default());
    assert_eq!((found[0], found[1], found[2], found[3], found[4]), expected, "{told}");

    let pid = nix::unistd::Pid::from_raw(i32::try_from(server.process.id().expect("running")).expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("stopping the server");
    assert!(server.process.wait().await.expect("its end").success(), "{}", server.log());
    assert!(
        server.log().contains("\"route\":\"lookup\",\"status\":200,\"region\":\"eu-west-1\",\"dcid\":\"eu1\""),
        "{}",
        server.log()
    );
    assert!(!server.log().contains(TOKEN));
}

/// Waits until a list comes from the store: on a busy machine the first connection can exceed the server's time limit.
async fn wait_until_stored(server: &Server) {
    let kept = async || {
        let shown = run(&["get", "--url", &server.lookup()], &[]).await;
        (shown.status.success() && !text(&shown.stderr).contains("warning")).then_some(())
    };
    until("the list comes from the store", kept).await;
}

/// Only the system's certificate authorities are trusted.
#[tokio::test]
async fn connects_to_redis_by_tls_as_a_user() {
    let (moto, redis) = (Moto::start().await, TlsRedis::start().await);
    moto.make_group(1).await;
    let authority = redis.authority.to_str().expect("UTF-8");
    let server = Server::start(&moto.url, &[("REGISTRY_STORE", &redis.url), ("SSL_CERT_FILE", authority)]).await;
    wait_until_stored(&server).await;

    let server = Server::start(&moto.url, &[("REGISTRY_STORE", &redis.url)]).await;
    let shown = run(&["get", "--url", &server.lookup()], &[]).await;
    assert!(shown.status.success() && text(&shown.stderr).contains("warning"), "{}{}", text(&shown.stderr), server.log());
    assert!(server.log().contains("store_failed") && !server.log().contains("secret"), "{}", server.log());
}

/// ElastiCache Serverless is used in this way.
#[tokio::test]
async fn connects_to_a_redis_cluster_by_tls_as_a_user() {
    let (moto, redis) = (Moto::start().await, TlsRedis::start_cluster().await);
    moto.make_group(2).await;
    let authority = redis.authority.to_str().expect("UTF-8");
    let server = Server::start(&moto.url, &[("REGISTRY_STORE", &redis.url), ("SSL_CERT_FILE", authority)]).await;
    wait_until_stored(&server).await;
    assert!(!server.log().contains("secret"), "{}", server.log());
    let kept = redis.command(&["get", "elb-registry:{eu-west-1:eu1}"]).await;
    assert!(kept.starts_with("{\"endpoints\":["), "{kept}");
}

#[tokio::test]
async fn watch_prints_every_change() {
    let lists = [json!(["10.0.0.1:8080", "10.0.0.2:8080"]), json!(["10.0.0.2:8080", "10.0.0.3:8080"])];
    let registry = Scripted::start(move |number, _| answer(200, &lists[number.min(1)].to_string())).await;
    let url = format!("{}/logstash-ip?dcid=eu1&region=eu-west-1", registry.url);
    let mut watch = program(&["watch", "--url", &url, "--every", "100ms"], &[]).stderr(Stdio::null()).spawn().expect("a watch");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    for expected in ["+ 10.0.0.1:8080", "+ 10.0.0.2:8080", "- 10.0.0.1:8080", "+ 10.0.0.3:8080"] {
        assert_eq!(lines.next_line().await.expect("a line").as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn watch_prints_warnings_about_an_unchanged_list() {
    let registry = Scripted::start(move |number, _| match number {
        0 => Response::builder().header("etag", "\"a\"").body(Body::from("[\"10.0.0.1:8080\"]")).expect("an answer"),
        1 | 2 => {
            Response::builder().status(304).header("warning", "110 registry \"old\"").body(Body::empty()).expect("an answer")
        }
        _ => Response::builder().status(304).body(Body::empty()).expect("an answer"),
    })
    .await;
    let url = format!("{}/logstash-ip?dcid=eu1&region=eu-west-1", registry.url);
    let mut watch = program(&["watch", "--url", &url, "--every", "100ms"], &[]).stdout(Stdio::null()).spawn().expect("a watch");
    let mut lines = BufReader::new(watch.stderr.take().expect("piped")).lines();
    for expected in ["", "warning: 110 registry \"old\"", "the warning is over"] {
        assert_eq!(lines.next_line().await.expect("a line").as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn get_rejects_a_response_that_is_not_a_list() {
    let page = Scripted::start(|_, _| answer(200, "<html>")).await;
    let shown = run(&["get", "--url", &page.url], &[]).await;
    assert_eq!((shown.status.code(), text(&shown.stdout)), (Some(1), String::new()));
    assert!(text(&shown.stderr).contains("cannot parse the response as a list"), "{}", text(&shown.stderr));
}

#[tokio::test]
async fn get_shows_escapes_of_responses_as_text() {
    let hostile = "\u{1b}[2J\u{9b}31m\u{202e}\r\n";
    let refusal = json!({"error": hostile}).to_string();
    let list = json!([hostile]).to_string();
    for (status, body) in [(500, refusal), (200, list)] {
        let registry = Scripted::start(move |_, _| answer(status, &body)).await;
        let shown = run(&["get", "--url", &registry.url], &[]).await;
        assert_eq!(shown.status.code(), Some(1));
        let shown = text(&shown.stderr);
        let unsafe_letter = shown.trim_end().chars().find(|letter| elb_common::terminal::is_unsafe(*letter));
        assert_eq!(unsafe_letter, None, "escape it in: {shown:?}");
    }
}

#[tokio::test]
async fn an_invalid_command_line_shows_no_password() {
    for url in
        ["//admin:hunter2@h", "https://admin:1,hunter2@h:port", r"https:\\admin:hunter2@h:port", "https://admin:1/hunter2@h"]
    {
        for arguments in [vec!["get", "--url", url], vec!["get", url], vec!["--listen", url], vec![url]] {
            let shown = run(&arguments, &[]).await;
            assert!(!shown.status.success());
            assert!(!text(&shown.stderr).contains("hunter2"), "{arguments:?} shows the password: {}", text(&shown.stderr));
        }
    }
}

#[tokio::test]
async fn reports_all_configuration_mistakes_at_start() {
    let shown = run(&["--listen", "0.0.0.0:0"], &[("REGISTRY_GROUPS", GROUPS), ("REGISTRY_POLL", "often")]).await;
    assert_eq!(shown.status.code(), Some(2));
    for part in ["REGISTRY_TOKEN is missing", "REGISTRY_POLL=\\\"often\\\" is not a duration"] {
        assert!(text(&shown.stderr).contains(part), "{part} is not in {}", text(&shown.stderr));
    }
}

/// The Runtime API of Lambda: hands out events one by one, and collects the responses.
struct Lambda {
    events: Mutex<Vec<Value>>,
    answers: Mutex<Vec<(String, Value)>>,
}

impl Lambda {
    async fn next(State(lambda): State<Arc<Lambda>>) -> Response {
        let event = {
            let mut events = lambda.events.lock().expect("no panic while holding");
            if events.is_empty() { None } else { Some(events.remove(0)) }
        };
        let Some(event) = event else { return std::future::pending().await };
        let headers = [
            ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
            ("lambda-runtime-deadline-ms", "4102444800000"),
            ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:123456789012:function:registry"),
            ("lambda-runtime-trace-id", "Root=1-69a56328-000000000000000000000001"),
        ];
        (headers, event.to_string()).into_response()
    }

    async fn end(State(lambda): State<Arc<Lambda>>, Path((_, how)): Path<(String, String)>, body: String) -> Response {
        let body = serde_json::from_str(&body).expect("JSON");
        lambda.answers.lock().expect("no panic while holding").push((how, body));
        answer(202, "")
    }

    /// Runs the program as a function on these events.
    async fn run(events: Vec<Value>, vars: &[(&str, &str)]) -> Vec<(String, Value)> {
        let count = events.len();
        let lambda = Arc::new(Lambda { events: Mutex::new(events), answers: Mutex::default() });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(Lambda::next))
            .route("/2018-06-01/runtime/invocation/{id}/{how}", post(Lambda::end))
            .with_state(Arc::clone(&lambda));
        let api = serve(routes).await.replace("http://", "");
        let names = [("NAME", "registry"), ("VERSION", "1"), ("MEMORY_SIZE", "128")];
        let names: Vec<(String, &str)> = names.map(|(name, value)| (format!("AWS_LAMBDA_FUNCTION_{name}"), value)).to_vec();
        let credentials = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "eu-west-1")];
        let fixed = [("AWS_LAMBDA_RUNTIME_API", api.as_str()), ("REGISTRY_GROUPS", GROUPS)];
        let mut all: Vec<(&str, &str)> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        all.extend(credentials.into_iter().chain(fixed).chain(vars.iter().copied()));
        let _function = program(&[], &all).stdout(Stdio::inherit()).stderr(Stdio::inherit()).spawn().expect("the function");
        let answers = async || Some(lambda.answers.lock().expect("no panic").clone()).filter(|answers| answers.len() == count);
        until("the function has answered every event", answers).await
    }
}

#[tokio::test]
async fn the_binary_runs_as_a_function_for_requests_and_events() {
    let redis = Redis::start().await;
    let list = json!({"endpoints": ["10.0.0.1:8080", "10.0.0.2:8080"], "generation": 4, "source": "poll",
        "updated_at": jiff::Timestamp::now(), "instances": {"i-00000000000000001": "10.0.0.1:8080", "i-00000000000000002": "10.0.0.2:8080"}});
    redis.command::<redis::Value>(&["SET", "elb-registry:{eu-west-1:eu1}", &list.to_string()]).await;
    let events = ["registry-alb-lookup.json", "asg-sns-terminate.json", "asg-sns-test.json", "registry-url-lookup.json"];
    let events = events.into_iter().map(sample).chain([json!({"hello": "world"})]).collect();
    let topics = "arn:aws:sns:eu-west-1:123456789012:logstash-lifecycle";
    // These events need no AWS calls.
    let vars = [("REGISTRY_STORE", redis.url.as_str()), ("REGISTRY_TOPICS", topics), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9")];
    let answers = Lambda::run(events, &vars).await;
    let (hows, answers): (Vec<&str>, Vec<&Value>) = answers.iter().map(|(how, answer)| (how.as_str(), answer)).unzip();
    assert_eq!(hows, ["response", "response", "response", "response", "error"]);
    assert_eq!(answers[0]["body"], body(&[1, 2]));
    assert_eq!(answers[1], &json!({"done": ["left the list"]}));
    assert_eq!(answers[2], &json!({"done": ["a test notification"]}));
    assert_eq!(answers[3]["body"], body(&[1]));
    assert_eq!(answers[4]["errorType"], "RegistryError");
}
