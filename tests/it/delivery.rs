//! Delivers whole objects to receivers that accept, refuse, or are busy.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::Response;
use elb_log::event::IdPrefix;
use elb_log::origin::ObjectName;
use elb_log_shipper::receive::ReceiveSettings;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::support::{
    Object, Receiver, Scripted, alb_key, alb_line, assert_books, assert_status, closed_port, elbship, gzip, put, read_json, run,
    status,
};

#[tokio::test(flavor = "multi_thread")]
async fn delivers_25_000_lines_once_over_few_connections() {
    let object = Object::of_lines(25_000);
    let receiver = Receiver::start().await;
    let (exit, report, stderr) = object.ship(&receiver.url, &[]).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "25000 delivered, 0 undelivered, complete true");
    let ids = receiver.ids();
    assert_eq!((ids.len(), ids.values().sum::<usize>()), (25_000, 25_000), "a line arrives more than once");
    let prefix = IdPrefix::of(&ObjectName { bucket: "logs".to_owned(), key: object.key.clone() });
    let mut offset = 0;
    for number in 0..25_000 {
        assert!(ids.contains_key(&format!("{}-{offset:012}", prefix.as_str())), "line {number} at {offset} is missing");
        offset += alb_line(number).len() + 1;
    }
    let connections = receiver.connections.load(Ordering::Relaxed);
    assert!(connections <= 16, "{connections} connections: they are not reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_requests_that_the_http_input_accepts() {
    let object = Object::of_lines(3);
    let server = Scripted::start(|_, _| status(200)).await;
    let url = format!("{}in?x=1", server.url);
    let (exit, ..) = object.ship(&url, &[]).await;
    assert_eq!(exit, 0);
    let seen = server.seen();
    let request = &seen[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/in?x=1"));
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["content-encoding"], "gzip");
    for name in ["user-agent", "expect", "authorization"] {
        assert!(!request.headers.contains_key(name), "the header {name} is sent");
    }
    assert_eq!(request.events().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_batch_limits_and_the_line_order() {
    let object = Object::of_lines(1_000);
    let server = Scripted::start(|_, _| status(204)).await;
    let variables = [("BATCH_EVENTS", "300"), ("SEND_CONCURRENCY", "1"), ("COMPRESSION", "gzip:1")];
    let (exit, report, _) = object.ship(&server.url, &variables).await;
    assert_eq!((exit, &report["batches"], &report["requests"]), (0, &Value::from(4), &Value::from(4)));
    let batches: Vec<Vec<Value>> = server.seen().iter().map(crate::support::Seen::events).collect();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [300, 300, 300, 100]);
    let offsets: Vec<u64> = batches.concat().iter().map(|event| event["log"]["offset"].as_u64().expect("an offset")).collect();
    assert!(offsets.is_sorted(), "events are not sent in the order of their lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_every_accepting_status_as_delivered() {
    for code in [200, 201, 202, 204] {
        let server = Scripted::start(move |_, _| status(code)).await;
        let (exit, report, _) = Object::of_lines(5).ship(&server.url, &[]).await;
        assert_eq!(exit, 0, "status {code}");
        assert_books(&report, "5 delivered, 0 undelivered, complete true");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_the_same_batch_while_the_receiver_is_busy() {
    for code in [408, 429, 500, 502, 503, 504] {
        let server = Scripted::start(move |number, _| status(if number < 2 { code } else { 200 })).await;
        let (exit, report, stderr) = Object::of_lines(5).ship(&server.url, &[]).await;
        assert_eq!(exit, 0, "status {code}: {stderr}");
        assert_books(&report, "5 delivered, 0 undelivered, complete true");
        assert_eq!((&report["requests"], &report["retries"]), (&Value::from(3), &Value::from(2)));
        let seen = server.seen();
        assert_eq!(
            (&seen[0].body, &seen[1].body),
            (&seen[2].body, &seen[2].body),
            "a retry has another body, so maybe other ids"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_after_a_broken_connection() {
    let receiver = Receiver::start().await;
    let object = Object::of_lines(2_000);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/,{}", listener.local_addr().expect("an address"), receiver.url);
    let broken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&broken);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Closes the connection in the middle of the body, as Logstash does when its queue is blocked.
            let _ = stream.read(&mut [0; 1_000]).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (exit, report, stderr) = object.ship(&url, &[("BATCH_EVENTS", "500"), ("SEND_CONCURRENCY", "1")]).await;
    assert_eq!(exit, 0, "{stderr}");
    assert_books(&report, "2000 delivered, 0 undelivered, complete true");
    assert!(broken.load(Ordering::Relaxed) > 0, "no connection broke, so nothing was tested");
    assert_eq!(receiver.ids().len(), 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_fails_at_once_with_its_response() {
    for (code, hint, probes) in [
        (401, "check LOGSTASH_USER", 1),
        (403, "check LOGSTASH_USER", 1),
        (404, "check that this is the URL", 0),
        (501, "check that this is the URL", 0),
    ] {
        let server = Scripted::start(move |_, _| status(code)).await;
        let (exit, report, stderr) = Object::of_lines(20).ship(&server.url, &[]).await;
        assert_eq!(exit, 1);
        assert_books(&report, "0 delivered, 20 undelivered, complete false");
        let error = report["error"].as_str().expect("an error");
        assert!(error.contains(&format!("HTTP {code}")) && error.contains(hint) && error.contains(&server.url), "{error}");
        assert!(stderr.contains("20 of 20 lines read are undelivered"), "{stderr}");
        assert_eq!(server.seen().len(), 1 + probes, "a wrong address is retried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_redirects_and_does_not_follow_them() {
    let other = Receiver::start().await;
    let location = other.url.clone();
    let server = Scripted::start(move |_, _| {
        Response::builder().status(302).header("location", &location).body(Body::empty()).expect("a response")
    })
    .await;
    let (exit, report, _) = Object::of_lines(5).ship(&server.url, &[]).await;
    assert_eq!((exit, other.ids().len()), (1, 0));
    assert!(report["error"].as_str().is_some_and(|error| error.contains(&other.url)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_event_fails_its_object_after_the_rest() {
    let server = Scripted::start(|_, request| {
        let is_bad = request.events().iter().any(|event| event["elb"]["request"]["query"] == "id=70");
        if is_bad { Response::builder().status(400).body(Body::from("bad event")).expect("a response") } else { status(200) }
    })
    .await;
    let (exit, report, _) = Object::of_lines(100).ship(&server.url, &[("BATCH_EVENTS", "50"), ("SEND_CONCURRENCY", "1")]).await;
    assert_eq!(exit, 1);
    assert_books(&report, "99 delivered, 1 undelivered, complete true");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("HTTP 400, \"bad event\"") && error.contains("DEAD_LETTER_URL"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_refused_connections_until_the_budget_is_spent() {
    let object = Object::of_lines(20);
    let url = closed_port();
    let (exit, report, stderr) = object.ship(&url, &[("RETRY_BUDGET", "300ms")]).await;
    assert_eq!(exit, 1);
    assert_books(&report, "0 delivered, 20 undelivered, complete false");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("RETRY_BUDGET") && error.contains(&url) && error.contains("no connection"), "{error}");
    assert!(stderr.contains(error), "standard error lacks the reason: {stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_credentials_and_never_shows_them() {
    let settings = ReceiveSettings { credentials: Some(("shipper".to_owned(), "hunter2".to_owned())) };
    let receiver = Receiver::with_settings(settings).await;
    let object = Object::of_lines(5);
    let right = [("LOGSTASH_USER", "shipper"), ("LOGSTASH_PASSWORD", "hunter2"), ("LOG_LEVEL", "trace")];
    let (exit, report, stderr) = object.ship(&receiver.url, &right).await;
    assert_eq!((exit, receiver.ids().len()), (0, 5), "{stderr}");
    let base64 = "c2hpcHBlcjpodW50ZXIy";
    assert!(!stderr.contains("hunter2") && !stderr.contains(base64) && !report.to_string().contains("hunter2"), "{stderr}");

    let wrong = [("LOGSTASH_USER", "shipper"), ("LOGSTASH_PASSWORD", "hunter3"), ("LOG_LEVEL", "trace")];
    let (exit, report, stderr) = object.ship(&receiver.url, &wrong).await;
    assert_eq!(exit, 1);
    assert!(report["error"].as_str().is_some_and(|error| error.contains("HTTP 401")), "{report}");
    assert!(!stderr.contains("hunter3"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_object_fails_after_its_good_lines_arrive_once() {
    let text: String = (0..3_000).map(|number| alb_line(number) + "\n").collect();
    let whole = gzip(text.as_bytes());
    let mut corrupt = whole.clone();
    let end = corrupt.len();
    corrupt[end - 6] ^= 0xff;
    let garbage = [whole.as_slice(), b"garbage"].concat();
    for (body, message) in [
        (&whole[..end / 2], "truncated gzip: ends at compressed byte"),
        (&corrupt, "corrupt gzip at compressed byte"),
        (&garbage, "trailing garbage after the gzip data at compressed byte"),
    ] {
        let receiver = Receiver::start().await;
        let (exit, report, _) = Object::of(body).ship(&receiver.url, &[]).await;
        assert_eq!(exit, 1, "{message}");
        let error = report["error"].as_str().expect("an error");
        assert!(error.contains(message) && error.contains("s3://logs/AWSLogs/"), "{error}");
        let lines = report["lines"].as_u64().expect("lines");
        assert_books(&report, &format!("{lines} delivered, 0 undelivered, complete false"));
        let ids = receiver.ids();
        assert_eq!((ids.len() as u64, ids.values().sum::<usize>() as u64), (lines, lines));
        let expected = if body.len() < end { 100..3_000 } else { 3_000..3_001 };
        assert!(expected.contains(&lines), "{message}: {lines} lines");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn detects_gzip_members_and_plain_text() {
    let text: String = (0..100).map(|number| alb_line(number) + "\n").collect();
    let (first, second) = text.as_bytes().split_at(777);
    for body in [text.as_bytes(), &[gzip(first), gzip(second)].concat()] {
        let receiver = Receiver::start().await;
        let (exit, report, _) = Object::of(body).ship(&receiver.url, &[]).await;
        assert_eq!((exit, receiver.ids().len()), (0, 100));
        assert_eq!(report["bytes"], text.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_ends_the_run_for_all_objects() {
    let root = tempfile::tempdir().expect("a directory");
    for number in 0..6 {
        let text: String = (0..10).map(|line| alb_line(line) + "\n").collect();
        put(root.path(), "logs", &alb_key(&format!("part{number}")), text.as_bytes());
    }
    let server = Scripted::start(|_, _| status(404)).await;
    let report = root.path().join("report.json").display().to_string();
    let logs = root.path().join("logs").display().to_string();
    let output = run(&mut elbship(&["replay", &logs, "--to", &server.url, "--concurrency", "1", "--report", &report])).await;
    assert_status(&output, 1);
    assert_eq!(server.seen().len(), 1, "more was sent after a wrong address");
    let report = read_json(Path::new(&report));
    let errors: Vec<&str> =
        report["objects"].as_array().expect("objects").iter().filter_map(|object| object["error"].as_str()).collect();
    assert_eq!(errors.len(), 6);
    assert!(errors[1..].iter().all(|error| error.starts_with("not started: the run ended early: ")), "{errors:?}");
    assert_eq!(report["totals"]["complete"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_objects_in_unsupported_formats() {
    let w3c = b"#Version: 1.0\n#Fields: time elb\n2026-03-02T10:15:04Z x\n".to_vec();
    for (body, name, advice) in [
        (w3c.clone(), "a W3C log", "outputFormat"),
        (gzip(&w3c), "a W3C log", "outputFormat"),
        (b"#Fields: time\n".to_vec(), "a W3C log", "outputFormat"),
        (b"PAR1\x15\x04\x15".to_vec(), "parquet", "outputFormat"),
        (b"\x28\xB5\x2F\xFD\x04\x58\x41\0".to_vec(), "zstd data", "compress it with gzip"),
        (b"BZh91AY&SY\x4E\xEC".to_vec(), "bzip2 data", "compress it with gzip"),
        (b"PK\x03\x04\x14\0".to_vec(), "a zip archive", "compress it with gzip"),
        (gzip(b"\xFD7zXZ\0\0\x04"), "xz data", "compress it with gzip"),
        (gzip(&gzip(&gzip(b"a line\n"))), "compressed more than twice", "compress it with gzip"),
    ] {
        let receiver = Receiver::start().await;
        let (exit, report, _) = Object::of(&body).ship(&receiver.url, &[]).await;
        assert_eq!((exit, receiver.ids().len()), (1, 0));
        assert_books(&report, "0 delivered, 0 undelivered, complete false");
        let error = report["error"].as_str().expect("an error");
        assert!(error.contains(name) && error.contains(advice), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_gzip_inside_gzip() {
    let receiver = Receiver::start().await;
    let text: String = (0..5).map(|line| alb_line(line) + "\n").collect();
    let (exit, report, _) = Object::of(&gzip(&gzip(text.as_bytes()))).ship(&receiver.url, &[]).await;
    assert_eq!((exit, receiver.ids().len()), (0, 5), "{report}");
    assert_eq!((&report["lines"], &report["unparsed"], &report["bytes"]), (&json!(5), &json!(0), &json!(text.len())), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn skips_a_byte_order_mark_and_lines_of_spaces() {
    let receiver = Receiver::start().await;
    let text = format!("\u{FEFF}{}\n   \n{}\n", alb_line(0), alb_line(1));
    let (exit, report, _) = Object::of(text.as_bytes()).ship(&receiver.url, &[]).await;
    assert_eq!((exit, &report["lines"], &report["unparsed"]), (0, &json!(2), &json!(0)), "{report}");
    let events = receiver.events();
    assert_eq!(events[0]["log"]["offset"], 3, "the offset counts the bytes of the byte-order mark");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_text_that_resembles_an_unsupported_format() {
    for text in ["#Field\n", "#Versio", "PAR", "P\n", "#\n#Fields: x\n"] {
        let receiver = Receiver::start().await;
        let (exit, report, _) = Object::of(text.as_bytes()).ship(&receiver.url, &[("BATCH_EVENTS", "1")]).await;
        assert_eq!(exit, 0, "{text:?}: {report}");
        assert_eq!(report["lines"], text.lines().count(), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_every_sample_completely_in_both_schemas() {
    for schema in ["native", "ecs"] {
        let receiver = Receiver::start().await;
        let root = tempfile::tempdir().expect("a directory");
        let report = root.path().join("report.json").display().to_string();
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/buckets/example-elb-logs/AWSLogs");
        let mut replay = elbship(&["replay", samples, "--to", &receiver.url, "--schema", schema, "--report", &report]);
        assert_status(&run(&mut replay).await, 0);
        let report = read_json(Path::new(&report));
        let objects = report["objects"].as_array().expect("objects");
        let kinds: std::collections::BTreeSet<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["alb", "alb_connection", "alb_health_check", "classic", "nlb"]);
        for object in objects.iter().filter(|object| !object["key"].as_str().is_some_and(|key| key.contains("0ddl1nes"))) {
            assert_eq!((&object["unparsed"], &object["invalid_fields"]), (&Value::from(0), &Value::from(0)), "{object}");
        }
        assert_eq!(receiver.ids().len() as u64, report["totals"]["lines"].as_u64().expect("lines"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_response_ends_a_block_of_several_batches() {
    let many = [("BATCH_BYTES", "1KiB"), ("SEND_CONCURRENCY", "1")];
    let server = Scripted::start(|_, _| status(401)).await;
    let (exit, report, _) = Object::of_lines(20).ship(&server.url, &many).await;
    assert_eq!((exit, server.seen().len()), (1, 2), "wrong credentials are sent again after the probe");
    assert_books(&report, &format!("0 delivered, {} undelivered, complete false", report["lines"]));

    let server = Scripted::start(|number, _| status(if number == 0 { 400 } else { 401 })).await;
    let (exit, report, _) = Object::of_lines(20).ship(&server.url, &many).await;
    assert_eq!((exit, server.seen().len()), (1, 3), "a batch is split because of wrong credentials");
    assert!(report["error"].as_str().is_some_and(|error| error.contains("HTTP 401")), "the worse failure is not named: {report}");
    assert_eq!(report["complete"], false);

    let server = Scripted::start(|_, _| status(503)).await;
    let (exit, report, _) = Object::of_lines(20).ship(&server.url, &[many[0], many[1], ("RETRY_BUDGET", "0s")]).await;
    assert_eq!((exit, server.seen().len()), (1, 1), "a spent budget ends the object: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_up_at_once_if_the_wait_exceeds_the_budget() {
    for wait in ["86400", "18446744073709551615"] {
        let server = Scripted::start(move |_, _| {
            Response::builder().status(429).header("retry-after", wait).body(Body::empty()).expect("a response")
        })
        .await;
        let (exit, report, _) = Object::of_lines(5).ship(&server.url, &[]).await;
        assert_eq!((exit, server.seen().len()), (1, 1));
        assert_books(&report, "0 delivered, 5 undelivered, complete false");
        assert!(report["error"].as_str().is_some_and(|error| error.contains("RETRY_BUDGET")), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redacts_the_secret_in_a_redirect() {
    let server = Scripted::start(|_, request| {
        let location = format!("https://logs.example{}", request.path);
        Response::builder().status(301).header("location", location).body(Body::empty()).expect("a response")
    })
    .await;
    let (exit, report, stderr) =
        Object::of_lines(5).ship(&format!("{}in?token=hunter2", server.url), &[("LOG_LEVEL", "trace")]).await;
    assert_eq!(exit, 1);
    assert!(report["error"].as_str().is_some_and(|error| error.contains("redirecting to https://logs.example/in;")), "{report}");
    assert!(!report.to_string().contains("hunter2") && !stderr.contains("hunter2"), "{stderr}");
}
