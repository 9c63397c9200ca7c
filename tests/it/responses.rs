//! Which responses are deliveries, and what a refusal is about: the events, the credentials, or the endpoint.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::Response;
use serde_json::Value;

use crate::support::{
    Object, Receiver, Scripted, Seen, alb_line, as_text, assert_books, gunzip, gzip, page, put, read_json, run, status, stderr,
};

/// What an attacker writes into a user agent, and what firewalls block.
const ATTACK: &str = "${jndi:ldap://x}";

/// One batch at a time, of two events.
const TWO_BY_TWO: [(&str, &str); 2] = [("BATCH_EVENTS", "2"), ("SEND_CONCURRENCY", "1")];

/// Returns ten lines. The sixth has an attack in its user agent.
fn lines_with_an_attack() -> String {
    let line = |number| if number == 5 { alb_line(number).replace("Mozilla/5.0", ATTACK) } else { alb_line(number) };
    (0..10).map(|number| line(number) + "\n").collect()
}

fn is_attack(request: &Seen) -> bool {
    request.events().iter().any(|event| event.to_string().contains(ATTACK))
}

/// Ships every object below `root` to `url`, with dead letters in `dead`, and returns the exit status, the report and the errors.
async fn replay(root: &Path, dead: &Path, url: &str, variables: &[(&str, &str)]) -> (i32, Value, String) {
    let report = as_text(&root.join("report.json"));
    let logs = as_text(&root.join("logs"));
    let mut command = crate::support::elbship(&["replay", &logs, "--to", url, "--report", &report]);
    command.env("DEAD_LETTER_URL", format!("dir:{}", dead.display())).envs(variables.iter().copied());
    let output = run(&mut command).await;
    (output.status.code().expect("a status"), read_json(Path::new(&report)), stderr(&output))
}

/// Returns the lines of all dead letters.
fn dead_letters(directory: &Path) -> Vec<Value> {
    let files = walkdir::WalkDir::new(directory).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    let texts = files.map(|file| gunzip(&std::fs::read(file.path()).expect("a dead letter")));
    texts.flat_map(|text| crate::support::json_lines(&String::from_utf8(text).expect("UTF-8"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_status_without_the_body_of_logstash_is_no_delivery() {
    for (content_type, body, content) in [
        ("text/html; charset=utf-8", "<html>Log in</html>", "text/html"),
        ("application/json", r#"{"message":"Forbidden"}"#, "application/json"),
        ("application/json", r#"{"errors":true}"#, "application/json"),
        ("text/plain", "", "an empty body"),
    ] {
        let server = Scripted::start(move |_, _| page(200, content_type, body)).await;
        let (exit, report, errors) = Object::of_lines(5).ship(&server.url, &[]).await;
        assert_eq!(exit, 1, "{body:?} counts as a delivery");
        assert_books(&report, "0 delivered, 5 undelivered, complete false");
        let expected = format!("HTTP 200 with {content}, not as a Logstash http input responds");
        assert!(errors.contains(&expected) && errors.contains("is this the URL of an http input?"), "{expected}: {errors}");
        assert_eq!(server.seen().len(), 2, "a batch and a probe show that this is not Logstash");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_check_status_accepts_other_receivers() {
    let server = Scripted::start(|_, _| page(200, "application/json", r#"{"code":0}"#)).await;
    let (exit, report, errors) = Object::of_lines(5).ship(&server.url, &[("RESPONSE_CHECK", "status")]).await;
    assert_eq!(exit, 0, "{errors}");
    assert_books(&report, "5 delivered, 0 undelivered, complete true");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_refuses_a_web_page_with_status_200() {
    let server = Scripted::start(|_, _| page(200, "text/html", "<html>Log in</html>")).await;
    let output = run(&mut crate::support::elbship(&["check", "--to", &server.url])).await;
    assert_eq!(output.status.code(), Some(1));
    let text = crate::support::stdout(&output) + &stderr(&output);
    assert!(text.contains("not as a Logstash http input responds"), "{text}");
}

/// Ships an object with an attack and an object without one through a firewall, and checks that only the attack is rejected.
async fn check_firewall(blocked: fn() -> Response<Body>, status: u16) {
    let (root, dead) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    put(root.path(), "logs", "1.log.gz", &gzip(lines_with_an_attack().as_bytes()));
    put(root.path(), "logs", "2.log.gz", &gzip(crate::support::lines(10).as_bytes()));
    let firewall =
        Scripted::start(move |_, request| if is_attack(request) { blocked() } else { crate::support::status(200) }).await;
    let (exit, report, errors) = replay(root.path(), dead.path(), &firewall.url, &TWO_BY_TWO).await;
    assert_eq!(exit, 0, "{errors}");
    let totals = &report["totals"];
    assert_eq!((&totals["delivered"], &totals["dead_lettered"]), (&Value::from(19), &Value::from(1)), "{report}");
    let letters = dead_letters(dead.path());
    assert_eq!((letters.len(), &letters[0]["status"]), (1, &Value::from(status)), "{letters:?}");
    assert!(letters[0]["event"].to_string().contains(ATTACK), "another event was rejected: {letters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_that_blocks_one_line_with_403_costs_one_event() {
    check_firewall(|| status(403), 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_that_blocks_one_line_with_a_page_and_200_costs_one_event() {
    check_firewall(|| page(200, "text/html", "<html>Request blocked</html>"), 200).await;
}

/// The firewall of one endpoint blocks a line, and the Logstash behind it is busy. The other endpoint takes everything.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_firewall_blocks_goes_to_another_endpoint_if_logstash_behind_it_is_busy() {
    for blocked in [403, 406] {
        let firewall = Scripted::start(move |_, request| match request.events() {
            _ if is_attack(request) => status(blocked),
            events if events.is_empty() => status(503),
            _ => status(200),
        })
        .await;
        let receiver = Receiver::start().await;
        let (root, dead) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        put(root.path(), "logs", "1.log.gz", &gzip(lines_with_an_attack().as_bytes()));
        let urls = format!("{},{}", firewall.url, receiver.url);
        let (exit, report, errors) = replay(root.path(), dead.path(), &urls, &TWO_BY_TWO).await;
        assert_eq!((exit, dead_letters(dead.path()).len()), (0, 0), "{errors}");
        assert_eq!(report["totals"]["delivered"], 10, "{report}");
        let requests = firewall.seen().len();
        assert!(requests <= 10, "the busy endpoint got {requests} requests");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_of_refused_content_cost_one_event() {
    check_firewall(|| status(406), 406).await;
    check_firewall(|| status(451), 451).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_rotated_in_the_middle_of_an_object_rejects_nothing() {
    for accepted in [0, 1, 3, 4] {
        let (root, dead) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        put(root.path(), "logs", "1.log.gz", &gzip(crate::support::lines(10).as_bytes()));
        let server = Scripted::start(move |number, _| status(if number < accepted { 200 } else { 401 })).await;
        let (exit, report, errors) = replay(root.path(), dead.path(), &server.url, &TWO_BY_TWO).await;
        assert_eq!((exit, dead_letters(dead.path()).len()), (1, 0), "{errors}");
        assert_eq!(report["totals"]["delivered"], 2 * accepted, "{report}");
        assert!(errors.contains("HTTP 401; check LOGSTASH_USER and LOGSTASH_PASSWORD"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_rotated_while_a_firewall_blocks_a_line_rejects_nothing_else() {
    for accepted in 2..7 {
        let (root, dead) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        put(root.path(), "logs", "1.log.gz", &gzip(lines_with_an_attack().as_bytes()));
        let (rotated, count) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
        let server = Scripted::start(move |_, request| {
            let blocks = rotated.load(Ordering::Relaxed) || is_attack(request);
            if !blocks && count.fetch_add(1, Ordering::Relaxed) + 1 == accepted {
                rotated.store(true, Ordering::Relaxed);
            }
            status(if blocks { 403 } else { 200 })
        })
        .await;
        let (exit, report, errors) = replay(root.path(), dead.path(), &server.url, &TWO_BY_TWO).await;
        let letters = dead_letters(dead.path());
        assert!(letters.iter().all(|letter| letter["event"].to_string().contains(ATTACK)), "{letters:?}");
        assert_eq!(exit, 1, "after {accepted} accepted requests: {report} {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_object_without_other_events_says_what_settles_it() {
    let server = Scripted::start(|_, request| status(if request.events().is_empty() { 200 } else { 403 })).await;
    let (exit, report, errors) = Object::of_lines(1).ship(&server.url, &[]).await;
    assert_eq!(exit, 1);
    assert_books(&report, "0 delivered, 1 undelivered, complete false");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("it accepts an empty batch, blocks these events") && error.contains("allow it there"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misconfigured_endpoint_of_two_is_removed_with_one_error() {
    let (wrong, receiver) = (Scripted::start(|_, _| status(404)).await, Receiver::start().await);
    let urls = format!("{},{}", wrong.url, receiver.url);
    let (exit, report, errors) = Object::of_lines(1_000).ship(&urls, &[("BATCH_EVENTS", "20"), ("LOG_LEVEL", "error")]).await;
    assert_eq!((exit, receiver.ids().len()), (0, 1_000), "{errors}");
    assert_books(&report, "1000 delivered, 0 undelivered, complete true");
    assert_eq!(errors.matches("an endpoint is misconfigured").count(), 1, "{errors}");
    assert!(errors.contains(&wrong.url) && errors.contains("HTTP 404"), "{errors}");
    assert!(wrong.seen().len() <= 4, "the endpoint got {} requests", wrong.seen().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_ends_when_the_last_endpoint_is_misconfigured() {
    let (one, two) = (Scripted::start(|_, _| status(404)).await, Scripted::start(|_, _| status(302)).await);
    let (exit, report, errors) = Object::of_lines(100).ship(&format!("{},{}", one.url, two.url), &[("BATCH_EVENTS", "10")]).await;
    assert_eq!(exit, 1, "{errors}");
    assert_eq!((&report["delivered"], &report["complete"]), (&Value::from(0), &Value::from(false)), "{report}");
    assert!(one.seen().len() <= 4 && two.seen().len() <= 4, "the endpoints get more than one request for each task");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_3600_of_one_endpoint_does_not_fail_the_batch() {
    let hour = || Response::builder().status(503).header("retry-after", "3600").body(Body::empty()).expect("a response");
    let (resting, receiver) = (Scripted::start(move |_, _| hour()).await, Receiver::start().await);
    let urls = format!("{},{}", resting.url, receiver.url);
    let (exit, report, errors) = Object::of_lines(1_000).ship(&urls, &[("BATCH_EVENTS", "20")]).await;
    assert_eq!((exit, receiver.ids().len()), (0, 1_000), "{errors}");
    assert_books(&report, "1000 delivered, 0 undelivered, complete true");
    let requests = resting.seen().len();
    assert!((1..=4).contains(&requests), "the resting endpoint got {requests} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_121_of_one_of_four_endpoints_does_not_fail_the_run() {
    let busy = || Response::builder().status(429).header("retry-after", "121").body(Body::empty()).expect("a response");
    let resting = Scripted::start(move |_, _| busy()).await;
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let urls = receivers.iter().fold(resting.url.clone(), |urls, receiver| urls + "," + &receiver.url);
    let (exit, report, errors) = Object::of_lines(1_000).ship(&urls, &[("BATCH_EVENTS", "20")]).await;
    assert_eq!(exit, 0, "{errors}");
    assert_books(&report, "1000 delivered, 0 undelivered, complete true");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_the_wait_if_all_endpoints_rest_beyond_the_budget() {
    let hour = || Response::builder().status(503).header("retry-after", "3600").body(Body::empty()).expect("a response");
    let (one, two) = (Scripted::start(move |_, _| hour()).await, Scripted::start(move |_, _| hour()).await);
    let urls = format!("{},{}", one.url, two.url);
    let started = std::time::Instant::now();
    let (exit, report, _) = Object::of_lines(5).ship(&urls, &[("RETRY_BUDGET", "90s")]).await;
    assert_eq!((exit, one.seen().len(), two.seen().len()), (1, 1, 1));
    assert!(started.elapsed().as_secs() < 20, "it waited for {:?}", started.elapsed());
    assert_books(&report, "0 delivered, 5 undelivered, complete false");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("every endpoint asked to wait (Retry-After)") && error.contains("asking to wait 3600 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_a_server_repeats_are_never_shown() {
    let (root, dead) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    put(root.path(), "logs", "1.log.gz", &gzip(lines_with_an_attack().as_bytes()));
    let echo = Scripted::start(|_, request| {
        let header = request.headers["authorization"].to_str().expect("text").to_owned();
        let body = format!("bad request by {header} (shipper:hunter2-of-the-test) to {}", request.path);
        if is_attack(request) { page(400, "text/plain", &body) } else { status(200) }
    })
    .await;
    let variables =
        [("LOGSTASH_USER", "shipper"), ("LOGSTASH_PASSWORD", "hunter2-of-the-test"), ("LOG_LEVEL", "trace"), TWO_BY_TWO[0]];
    let url = format!("{}in?token=secret-of-the-url", echo.url);
    let (exit, report, errors) = replay(root.path(), dead.path(), &url, &variables).await;
    let letters = dead_letters(dead.path());
    assert_eq!((exit, letters.len()), (0, 1), "{errors}");
    let everything = format!("{report} {errors} {letters:?}");
    assert!(letters[0]["answer"].as_str().is_some_and(|answer| answer.contains("bad request by …")), "{letters:?}");
    // `echo -n shipper:hunter2-of-the-test | base64`
    for secret in ["hunter2", "secret-of-the-url", "c2hpcHBlcjpodW50ZXIyLW9mLXRoZS10ZXN0"] {
        assert!(!everything.contains(secret), "{secret} is shown: {everything}");
    }
}

/// Replays ten lines with an attack, and returns the exit status and the last line on the screen.
async fn last_line(url: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let (root, dead) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    put(root.path(), "logs", "1.log.gz", &gzip(lines_with_an_attack().as_bytes()));
    let (exit, _, errors) = replay(root.path(), dead.path(), url, variables).await;
    (exit, errors.lines().last().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_line_of_a_replay_says_what_to_do() {
    let (exit, last) = last_line(&crate::support::closed_port(), &[("RETRY_BUDGET", "200ms")]).await;
    assert!(exit == 1 && last.contains("10 UNDELIVERED") && last.contains("no connection"), "{last}");

    let not_found = Scripted::start(|_, _| status(404)).await;
    let (exit, last) = last_line(&format!("{}wrong/path", not_found.url), &[]).await;
    assert!(exit == 1 && last.contains("HTTP 404; check that this is the URL of a Logstash http input"), "{last}");

    let authority = crate::support::tls::Authority::new("trusted");
    let (expired, _) = crate::support::tls::start(&authority.sign("localhost", true), None).await;
    let (exit, last) = last_line(&expired, &[("LOGSTASH_CA", &authority.certificate.pem())]).await;
    assert!(exit == 1 && last.contains("expired") && last.ends_with("renew the certificate"), "{last}");

    let firewall = Scripted::start(|_, request| status(if is_attack(request) { 403 } else { 200 })).await;
    let (exit, last) = last_line(&firewall.url, &TWO_BY_TWO).await;
    assert!(exit == 0 && last.contains("9 of 10 lines delivered, 1 dead-lettered"), "{last}");
    assert!(last.ends_with("the rejected events are in DEAD_LETTER_URL: repair the cause, then replay them"), "{last}");

    let hour = || Response::builder().status(503).header("retry-after", "3600").body(Body::empty()).expect("a response");
    let (resting, receiver) = (Scripted::start(move |_, _| hour()).await, Receiver::start().await);
    let (exit, last) = last_line(&format!("{},{}", resting.url, receiver.url), &TWO_BY_TWO).await;
    assert!(exit == 0 && last.ends_with("10 of 10 lines delivered"), "{last}");
}
