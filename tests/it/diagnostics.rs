//! `elbship receive`, `explain` and `check`.

use elb_log::format::Kind;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{
    Receiver, Scripted, alb_line, as_text, assert_status, closed_port, elbship, gunzip, lines, put, run, run_with_input, status,
    stdout,
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
    assert_eq!(
        stdout(&output),
        format!("{}\n  ok    an empty batch\n  ok    a batch of BATCH_BYTES (4194304 bytes)\n", receiver.url)
    );
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
        assert!(page.contains(&format!("FAIL  an empty batch: HTTP {code}")) && page.contains(advice), "{page}");
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
