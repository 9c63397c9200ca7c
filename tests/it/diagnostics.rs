//! `elbship receive`, `explain` and `check`.

use elb_log::format::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{
    Receiver, Scripted, alb_line, as_text, assert_status, closed_port, elbship, gunzip, lines, page, put, run, run_with_input,
    s3, status, stderr, stdout,
};

#[tokio::test]
async fn receive_writes_what_replay_sends() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(20).as_bytes()));
    let mut receive =
        elbship(&["receive", "--listen", "127.0.0.1:0", "--user", "u", "--password", "p"]).spawn().expect("starting elbship");
    let mut log = BufReader::new(receive.stderr.take().expect("piped")).lines();
    let line = log.next_line().await.expect("reading").expect("a line");
    let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line} does not contain the URL")).to_owned();

    assert_status(&run(&mut elbship(&["replay", &file, "--to", &url])).await, 1);
    let mut command = elbship(&["replay", &file, "--to", &url]);
    assert_status(&run(command.env("LOGSTASH_USER", "u").env("LOGSTASH_PASSWORD", "p")).await, 0);
    let mut events = BufReader::new(receive.stdout.take().expect("piped")).lines();
    for number in 0..20 {
        let event: Value = serde_json::from_str(&events.next_line().await.expect("reading").expect("a line")).expect("JSON");
        assert_eq!(event["elb"]["request"]["query"], format!("id={number}"));
    }
    receive.kill().await.expect("stopping elbship");
}

#[tokio::test]
async fn explains_each_field_of_a_line() {
    let line = alb_line(7);
    let output = run(&mut elbship(&["explain", &line])).await;
    assert_status(&output, 0);
    let page = stdout(&output);
    for shown in [
        "alb: a type and a time come first",
        " 20 chosen_cert_arn",
        "elb.target_processing_time = 0.012",
        "http.response.status_code = 200",
    ] {
        assert!(page.contains(shown), "{shown:?} is missing in\n{page}");
    }
    assert!(!page.contains('\x1b'), "colour outside a terminal");

    let output = run_with_input(&mut elbship(&["explain", "--json"]), &format!("{line} - - new\r\n")).await;
    assert_status(&output, 0);
    let explanation: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(
        (&explanation["kind"], &explanation["known_fields"], &explanation["extra"], &explanation["unknown_fields"]),
        (&json!("alb"), &json!(Kind::Alb.format().fields.len()), &json!(["new"]), &json!(1))
    );
    let client = &explanation["fields"][3];
    assert_eq!(client["native"], json!({"elb.client_ip": "198.51.100.7", "elb.client_port": 1031}));
    assert_eq!(client["ecs"], json!({"source.address": "198.51.100.7", "source.ip": "198.51.100.7", "source.port": 1031}));
}

#[tokio::test]
async fn marks_the_byte_where_parsing_stopped() {
    let output = run(&mut elbship(&["explain", "https 2026-03-02T10:15:04Z app/x/1 192.0.2.1:80 \"GET"])).await;
    assert_status(&output, 1);
    let page = stdout(&output);
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(lines[0], "not understood: alb: the quote at byte 48 never closes");
    assert_eq!((lines[1].find('"'), lines[2].find('^')), (Some(lines[2].len() - 1), Some(lines[2].len() - 1)));
}

#[tokio::test]
async fn check_creates_no_events() {
    let receiver = Receiver::start().await;
    let output = run(&mut elbship(&["check", "--to", &receiver.url])).await;
    assert_status(&output, 0);
    let page = stdout(&output);
    let (_, page) = page.split_once(&format!("\n{}\n", receiver.url)).expect("the tests of the endpoint");
    let address = receiver.url.trim_start_matches("http://").trim_end_matches('/');
    let expected = [
        format!("        addresses: {address}"),
        format!("        connected to {address} in "),
        "  ok    an empty batch (".to_owned(),
        "  ok    a batch of BATCH_BYTES (4194304 bytes, ".to_owned(),
    ];
    let shown: Vec<&str> = page.lines().collect();
    assert_eq!(shown.len(), expected.len(), "{page}");
    for (line, start) in shown.iter().zip(&expected) {
        assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
    }
    assert!(shown[1..].iter().all(|line| line.contains(" ms")), "a step has no duration:\n{page}");
    assert_eq!(receiver.events(), [] as [Value; 0]);

    let output = run(&mut elbship(&["check", "--to", &receiver.url, "--canary"])).await;
    assert_status(&output, 0);
    let events = receiver.events();
    assert_eq!((events.len(), &events[0]["tags"]), (1, &json!(["elbship-canary"])));
}

#[tokio::test]
async fn check_says_what_to_change() {
    for (code, advice) in [
        (401, "set LOGSTASH_USER and LOGSTASH_PASSWORD"),
        (404, "this is not a Logstash http input"),
        (429, "Logstash is busy"),
        (302, "the shipper does not follow redirects"),
        (400, "set COMPRESSION=none"),
    ] {
        let server = Scripted::start(move |_, _| status(code)).await;
        let output = run(&mut elbship(&["check", "--to", &server.url])).await;
        assert_status(&output, 1);
        let page = stdout(&output);
        assert!(
            page.contains("FAIL  an empty batch (") && page.contains(&format!(" ms): HTTP {code}")) && page.contains(advice),
            "{page}"
        );
        assert_eq!(server.seen().len(), 1);
    }
    let server = Scripted::start(|number, _| status(if number == 0 { 200 } else { 413 })).await;
    let output = run(&mut elbship(&["check", "--to", &server.url])).await;
    assert_status(&output, 1);
    assert!(stdout(&output).contains("lower BATCH_BYTES"), "{}", stdout(&output));
    assert_eq!(gunzip(&server.seen()[1].body).len(), 4 << 20);

    let output = run(&mut elbship(&["check", "--to", &closed_port()])).await;
    assert_status(&output, 1);
    assert!(stdout(&output).contains("no process listens there"), "{}", stdout(&output));
    assert_status(&run(&mut elbship(&["check"])).await, 2);
}

#[tokio::test]
async fn check_shows_the_configuration_without_secrets() {
    let receiver = Receiver::start().await;
    let mut command = elbship(&["check", "--to", &receiver.url]);
    let secrets = [("LOGSTASH_USER", "shipper"), ("LOGSTASH_PASSWORD", "hunter2"), ("BATCH_BYTES", "1KiB")];
    let unused = ("REGISTRY_URL", "http://10.0.0.5:8081/logstash-ip?dcid=eu1&region=eu-west-1");
    let output = run(command.envs(secrets).env(unused.0, unused.1)).await;
    assert_status(&output, 0);
    let page = stdout(&output);
    for line in [
        format!("  {:<24} {} (--to)", "LOGSTASH_URL", receiver.url),
        format!("  {:<24} shipper", "LOGSTASH_USER"),
        format!("  {:<24} …", "LOGSTASH_PASSWORD"),
        format!("  {:<24} 1KiB", "BATCH_BYTES"),
        format!("  {:<24} 2000 (default)", "BATCH_EVENTS"),
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line:?} is missing in\n{page}");
    }
    assert!(!page.contains("hunter2") && !page.contains("REGISTRY_URL "), "{page}");
}

#[tokio::test]
async fn check_shows_the_addresses_of_an_endpoint_that_refuses_connections() {
    let url = closed_port();
    let output = run(&mut elbship(&["check", "--to", &url])).await;
    assert_status(&output, 1);
    let page = stdout(&output);
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    assert!(page.contains(&format!("        addresses: {address}\n  FAIL  an empty batch (")), "{page}");
    assert!(!page.contains("connected to"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_lists_and_reads_objects() {
    let server = s3::Server::start().await;
    server.put("my-logs", "elb/x.log", (alb_line(0) + "\n").as_bytes());
    let output = run(&mut server.elbship(&["check", "--objects", "s3://my-logs/elb/"])).await;
    assert_status(&output, 0);
    let page = stdout(&output);
    assert!(page.contains("\ns3://my-logs/elb/\n  ok    list objects ("), "{page}");
    assert!(page.contains("\n  ok    read elb/x.log ("), "{page}");

    let output = run(&mut server.elbship(&["check", "--objects", "s3://my-logs/other/"])).await;
    assert_status(&output, 0);
    assert!(stdout(&output).contains("reading is not tested: no object below the prefix"), "{}", stdout(&output));

    let output = run(&mut server.elbship(&["check", "--objects", "s3://no-such-bucket/"])).await;
    assert_status(&output, 1);
    assert!(stdout(&output).contains("  FAIL  list objects: cannot list "), "{}", stdout(&output));
    assert_eq!(stderr(&output), "elbship: objects below s3://no-such-bucket/ cannot be read\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_why_an_object_cannot_be_read() {
    let denied = "<Error><Code>AccessDenied</Code><Message>not authorized to perform: kms:Decrypt</Message></Error>";
    let listed = "<ListBucketResult><Contents><Key>x.log</Key><Size>1</Size></Contents></ListBucketResult>";
    let server = Scripted::start(move |_, request| {
        if request.path.contains("list-type") {
            page(200, "application/xml", listed)
        } else {
            page(403, "application/xml", denied)
        }
    })
    .await;
    let mut command = elbship(&["check", "--objects", "s3://my-logs/"]);
    let variables = [
        ("AWS_ENDPOINT_URL_S3", server.url.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let output = run(command.envs(variables)).await;
    assert_status(&output, 1);
    let page = stdout(&output);
    assert!(page.contains("  ok    list objects (") && page.contains("  FAIL  read x.log: "), "{page}");
    assert!(page.contains("not authorized to perform: kms:Decrypt"), "{page}");
}
