//! The command line: input, output and exit status.

use std::path::Path;

use elb_log::event::IdPrefix;
use elb_log::origin::ObjectName;
use serde_json::{Value, json};

use crate::support::{
    Receiver, alb_key, alb_line, as_text, assert_status, closed_port, elbship, gzip, id_of, json_lines, lines, put, read_json,
    run, run_with_input, s3_event, stderr, stdout,
};

/// Returns the part of the event IDs that the lines of an object share.
fn id_prefix(bucket: &str, key: &str) -> String {
    IdPrefix::of(&ObjectName { bucket: bucket.to_owned(), key: key.to_owned() }).as_str().to_owned()
}

#[tokio::test]
async fn writes_only_events_to_stdout() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", &alb_key("one"), &gzip(lines(5).as_bytes())));
    let output = run(&mut elbship(&["replay", &file])).await;
    assert_status(&output, 0);
    let events = json_lines(&stdout(&output));
    assert_eq!(events.len(), 5);
    assert_eq!(events[0]["log"]["file"]["path"], file);
    assert_eq!(id_of(&events[0]), format!("{}-000000000000", id_prefix("", &file)));
    assert_eq!(events[0]["cloud"]["region"], "eu-west-1");
    assert!(stderr(&output).ends_with("1 object: 5 of 5 lines delivered\n"), "{}", stderr(&output));
}

#[tokio::test]
async fn gives_copies_the_ids_of_the_originals() {
    let root = tempfile::tempdir().expect("a directory");
    let key = alb_key("one");
    let file = as_text(&put(root.path(), "logs", &format!("team/{key}"), lines(1).as_bytes()));
    put(root.path(), "flat", "renamed.log", lines(1).as_bytes());
    let directory = as_text(&root.path().join("logs"));
    let renamed = as_text(&root.path().join("flat/renamed.log"));
    for (path, taken_as, expected) in [
        (&directory, "s3://logs", format!("team/{key}")),
        (&directory, "s3://logs/copy/", format!("copy/team/{key}")),
        (&file, "s3://logs", key.clone()),
        (&file, "s3://logs/team", format!("team/{key}")),
        (&renamed, "s3://logs/x", "x/renamed.log".to_owned()),
    ] {
        let output = run(&mut elbship(&["replay", path, "--as", taken_as])).await;
        assert_status(&output, 0);
        let event = &json_lines(&stdout(&output))[0];
        assert_eq!(
            event["aws"]["s3"],
            json!({"bucket": {"name": "logs"}, "object": {"key": expected}}),
            "{path} --as {taken_as}"
        );
        assert_eq!(id_of(event), format!("{}-000000000000", id_prefix("logs", &expected)));
        assert_eq!(event["log"].get("file"), None);
    }
}

#[tokio::test]
async fn flags_take_precedence_over_variables() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(1).as_bytes()));
    let mut command =
        elbship(&["replay", &file, "--to", "-", "--label", "env=flag", "--label", "team=web", "--include-original"]);
    command.env("LOGSTASH_URL", "http://127.0.0.1:1/").env("LABELS", "env=variable").env("INCLUDE_ORIGINAL", "false");
    let output = run(&mut command).await;
    assert_status(&output, 0);
    let event = &json_lines(&stdout(&output))[0];
    assert_eq!(event["labels"], json!({"env": "flag", "team": "web"}));
    assert_eq!(event["event"]["original"], alb_line(0));
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(5).as_bytes()));
    let receiver = Receiver::start().await;
    let report = as_text(&root.path().join("report.json"));
    let output = run(&mut elbship(&["replay", &file, "--to", &receiver.url, "--dry-run", "--report", &report])).await;
    assert_status(&output, 0);
    let totals = &read_json(Path::new(&report))["totals"];
    assert_eq!(
        (&totals["lines"], &totals["filtered"], &totals["delivered"], &totals["requests"]),
        (&json!(5), &json!(5), &json!(0), &json!(0))
    );
    assert_eq!((receiver.ids().len(), stdout(&output)), (0, String::new()));
}

#[tokio::test]
async fn the_report_is_complete_and_replaces_an_older_one() {
    let root = tempfile::tempdir().expect("a directory");
    put(root.path(), "b", "1.log", lines(2).as_bytes());
    put(root.path(), "b", "2.log", b"no log\n");
    let report = root.path().join("report.json");
    std::fs::write(&report, "an older report").expect("writing");
    let directory = as_text(&root.path().join("b"));
    let output = run(&mut elbship(&["replay", &directory, "--report", &as_text(&report)])).await;
    assert_status(&output, 0);
    let report = read_json(&report);
    let members: Vec<&String> = report["objects"][0].as_object().expect("an object").keys().collect();
    let mut expected: Vec<&str> =
        "bucket key etag kind bytes_compressed bytes lines unparsed short_lines longer_lines invalid_fields extra_fields filtered \
        delivered dead_lettered undelivered batches requests retries complete skipped duration_ms reason error resumed_at continued_at"
            .split_whitespace()
            .collect();
    expected.sort_unstable();
    assert_eq!(members, expected);
    assert_eq!((&report["objects"][0]["kind"], &report["objects"][1]["kind"]), (&json!("alb"), &Value::Null));
    assert_eq!((&report["totals"]["lines"], &report["totals"]["unparsed"]), (&json!(3), &json!(1)));
}

#[tokio::test]
async fn a_hyphen_writes_the_report_to_stdout() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", &alb_key("one"), lines(3).as_bytes()));
    let receiver = Receiver::start().await;
    for flags in [&["--dry-run"][..], &["--to", &receiver.url]] {
        let output = run(elbship(&["replay", &file, "--report", "-"]).args(flags)).await;
        assert_status(&output, 0);
        assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).expect("only the report")["totals"]["lines"], 3);
    }
    // The response of the handler leaves standard output to the report.
    let event = s3_event("b", &alb_key("one")).to_string();
    let invoke = ["invoke", "-", "--objects", &as_text(root.path()), "--to", &receiver.url, "--report", "-"];
    let output = run_with_input(&mut elbship(&invoke), &event).await;
    assert_status(&output, 0);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).expect("only the report")["totals"]["lines"], 3);
    assert!(stderr(&output).contains("\"delivered\": 3"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_report_between_the_events_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", &alb_key("one"), lines(3).as_bytes()));
    let event = s3_event("b", &alb_key("one")).to_string();
    let objects = as_text(root.path());
    for report in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        for arguments in
            [vec!["replay", &file, "--report", report], vec!["invoke", "-", "--objects", &objects, "--report", report]]
        {
            let output = run_with_input(&mut elbship(&arguments), &event).await;
            assert_status(&output, 2);
            let expected = format!("cannot write the report to {report}: the events go to standard output");
            assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
            assert_eq!(stdout(&output), "", "events were written all the same");
        }
    }
    let output = run(&mut elbship(&["replay", &file, "--report", "/dev/stderr"])).await;
    assert_status(&output, 0);
    assert_eq!(json_lines(&stdout(&output)).len(), 3);
    assert!(stderr(&output).contains("{\"objects\":["), "{}", stderr(&output));
}

#[tokio::test]
async fn a_redirected_output_is_never_truncated() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(3).as_bytes()));
    let (log, link) = (root.path().join("log"), root.path().join("link"));
    std::os::unix::fs::symlink("log", &link).expect("a link");
    let append = || std::fs::OpenOptions::new().append(true).create(true).open(&log).expect("a file");
    for report in ["/dev/stdout", "/proc/self/fd/1", &as_text(&log), &as_text(&link)] {
        std::fs::write(&log, "kept\n").expect("a file");
        let mut replay = elbship(&["replay", &file, "--dry-run", "--report", report]);
        let status = replay.stdout(append()).status().await.expect("running elbship");
        let text = std::fs::read_to_string(&log).expect("the file");
        assert!(status.success() && text.starts_with("kept\n{\"objects\":["), "--report {report}: {text}");
    }
    for report in ["/dev/stderr", &as_text(&log)] {
        std::fs::write(&log, "kept\n").expect("a file");
        let mut replay = elbship(&["replay", &file, "--dry-run", "--report", report]);
        let status = replay.stderr(append()).status().await.expect("running elbship");
        let text = std::fs::read_to_string(&log).expect("the file");
        assert!(status.success() && text.starts_with("kept\n") && text.contains("{\"objects\":["), "--report {report}: {text}");
    }
    std::fs::write(&log, "kept\n").expect("a file");
    let mut receive = elbship(&["receive", "--listen", "127.0.0.1:0", "--out", "/dev/stdout"]);
    let mut child = receive.stdout(append()).spawn().expect("starting elbship");
    let mut errors = tokio::io::BufReader::new(child.stderr.take().expect("a piped standard error"));
    tokio::io::AsyncBufReadExt::read_line(&mut errors, &mut String::new()).await.expect("the first line");
    child.kill().await.expect("stopping elbship");
    assert_eq!(std::fs::read_to_string(&log).expect("the file"), "kept\n");
}

#[tokio::test]
async fn names_missing_paths_and_ships_the_rest() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(5).as_bytes()));
    let missing = as_text(&root.path().join("missing.log"));
    let empty = as_text(&root.path().join("empty"));
    std::fs::create_dir(&empty).expect("a directory");
    let output = run(&mut elbship(&["replay", &missing, &empty, &file])).await;
    assert_status(&output, 1);
    assert_eq!(json_lines(&stdout(&output)).len(), 5);
    let errors = stderr(&output);
    assert!(errors.contains(&format!("cannot read {missing}: no such file")), "{errors}");
    assert!(errors.contains("nothing to ship: no object matches") && errors.contains(&empty), "{errors}");
    assert!(errors.contains("2 objects FAILED"), "{errors}");
}

#[tokio::test]
async fn writes_a_report_after_a_failure() {
    let root = tempfile::tempdir().expect("a directory");
    let report = root.path().join("report.json");
    let event = s3_event("logs", "missing.log").to_string();
    let mut invoke = elbship(&["invoke", "-", "--objects", &as_text(root.path()), "--report", &as_text(&report)]);
    let output = run_with_input(&mut invoke, &event).await;
    assert_status(&output, 1);
    let report = read_json(&report);
    assert!(report["objects"][0]["error"].as_str().is_some_and(|error| error.contains("s3://logs/missing.log")), "{report}");
}

#[tokio::test]
async fn never_skips_a_file_named_on_the_command_line() {
    let root = tempfile::tempdir().expect("a directory");
    let test_file =
        as_text(&put(root.path(), "b", "ELBAccessLogTestFile", b"Enable AccessLog for ELB: app/web/1 at 2026-03-02T10:00:00Z"));
    let output = run(&mut elbship(&["replay", &test_file])).await;
    assert_status(&output, 0);
    assert_eq!(json_lines(&stdout(&output)).len(), 1);
    let output = run(&mut elbship(&["replay", &as_text(&root.path().join("b"))])).await;
    assert_status(&output, 0);
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).contains("1 object skipped"), "{}", stderr(&output));
}

#[tokio::test]
async fn ships_text_that_is_not_a_log() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "poem.txt", b"Roses are red,\n\xff\xfe are not.\n"));
    let output = run(&mut elbship(&["replay", &file])).await;
    assert_status(&output, 0);
    let events = json_lines(&stdout(&output));
    assert_eq!(events[1]["event"]["original"], "\\xFF\\xFE are not.");
    assert!(stderr(&output).contains("2 unparsed"), "{}", stderr(&output));
}

#[tokio::test]
async fn invalid_flags_and_variables_exit_with_2() {
    for arguments in [
        vec!["replay"],
        vec!["replay", "x", "--since", "yesterday"],
        vec!["replay", "x", "--since", "2026-03-02", "--until", "2026-03-01"],
        vec!["replay", "x", "--since", "1d", "--until", "7d"],
        vec!["replay", "x", "--grace", "soon"],
        vec!["replay", "-", "--as", "s3://logs"],
        vec!["replay", "-", "--resume", "state"],
        vec!["replay", "x", "--as", "logs"],
        vec!["replay", "s3://logs/", "--as", "s3://logs"],
        vec!["replay", "x", "--to", "ftp://h/"],
        vec!["replay", "x", "--concurrency", "many"],
        vec!["replay", "x", "--label", "env"],
        vec!["shipit"],
    ] {
        let output = run(&mut elbship(&arguments)).await;
        assert_status(&output, 2);
        assert!(!stderr(&output).is_empty(), "{arguments:?} prints no error");
    }
    let output = run(elbship(&["replay", "x"]).env("BATCH_EVENTS", "0")).await;
    assert_status(&output, 2);
    assert!(stderr(&output).contains("BATCH_EVENTS=\"0\" is out of range"), "{}", stderr(&output));
}

#[tokio::test]
async fn an_error_names_the_flag_or_the_variable_that_was_used() {
    for (flags, variable, expected) in [
        (&["--to", "logs:1"][..], None, "--to \"…\" does not begin with http://"),
        (&[][..], Some(("LOGSTASH_URL", "logs:1")), "LOGSTASH_URL=\"…\" does not begin with http://"),
        (&["--to", "-", "--label", "env"][..], Some(("LABELS", "team=web")), "--label \"env\" has no ="),
        (&[][..], Some(("LABELS", "env")), "LABELS=\"env\" has no ="),
        (&["--to", ""][..], None, "--to is empty; leave it out"),
        (&["--schema", "otel"][..], None, "invalid value 'otel' for '--schema <SCHEMA>'"),
        (&[][..], Some(("EVENT_SCHEMA", "otel")), "EVENT_SCHEMA=\"otel\" is not a schema"),
        (&["--concurrency", "257"][..], None, "invalid value '257' for '--concurrency <N>'"),
        (&[][..], Some(("SEND_CONCURRENCY", "257")), "SEND_CONCURRENCY=\"257\" is out of range"),
    ] {
        let mut replay = elbship(&["replay", "x"]);
        let output = run(replay.args(flags).envs(variable)).await;
        assert_status(&output, 2);
        let errors = stderr(&output);
        assert!(errors.contains(expected), "{flags:?} and {variable:?} lack {expected:?}:\n{errors}");
        let other = if flags.is_empty() { "--" } else { "LOGSTASH_URL=" };
        assert!(!errors.contains(other), "{flags:?} and {variable:?} name {other:?}:\n{errors}");
    }
}

#[tokio::test]
async fn explain_says_what_to_do_with_a_file() {
    let root = tempfile::tempdir().expect("a directory");
    let plain = as_text(&put(root.path(), "b", "x.log", lines(1).as_bytes()));
    let zipped = as_text(&put(root.path(), "b", "x.log.gz", &gzip(lines(1).as_bytes())));
    let directory = as_text(root.path());
    for (path, advice) in [
        (&plain, format!("explain its lines with: elbship explain - < {plain}")),
        (&zipped, format!("explain its lines with: gzip -dc {zipped} | elbship explain -")),
        (&directory, "it is a directory, not a line".to_owned()),
    ] {
        let output = run(&mut elbship(&["explain", path])).await;
        assert_status(&output, 2);
        assert!(stderr(&output).contains(&advice), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn selects_the_last_days() {
    let root = tempfile::tempdir().expect("a directory");
    let now = jiff::Timestamp::now();
    for (name, days) in [("old", 10), ("new", 1)] {
        let time = now.checked_sub(jiff::SignedDuration::from_hours(24 * days)).expect("a time");
        let end = time.strftime("%Y%m%dT%H%MZ").to_string();
        put(root.path(), "b", &alb_key(name).replace("20260302T1020Z", &end).replace("2026/03/02", "x"), lines(1).as_bytes());
    }
    let directory = as_text(&root.path().join("b"));
    let output = run(&mut elbship(&["replay", &directory, "--since", "7d"])).await;
    assert_status(&output, 0);
    assert!(stderr(&output).ends_with("1 object: 1 of 1 line delivered\n"), "{}", stderr(&output));
    let output = run(&mut elbship(&["replay", &directory, "--since", "30d", "--until", "7d"])).await;
    assert_status(&output, 0);
    assert!(stdout(&output).contains("old"), "{}", stdout(&output));
}

#[tokio::test]
async fn a_profile_with_single_sign_on_names_the_command_that_exports_credentials() {
    let root = tempfile::tempdir().expect("a directory");
    let config = root.path().join("config");
    let sso = "[profile sso]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Reader\nregion = eu-west-1\n\
        [sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.awsapps.com/start\n";
    let login = "[profile login]\nlogin_session = arn:aws:iam::123456789012:user/Admin\nregion = eu-west-1\n";
    std::fs::write(&config, format!("{sso}{login}")).expect("a file");
    for profile in ["sso", "login"] {
        let mut replay = elbship(&["replay", "s3://logs/", "--dry-run"]);
        replay.env("AWS_CONFIG_FILE", &config).env("AWS_PROFILE", profile).env("HOME", root.path());
        let output = run(replay.env("AWS_EC2_METADATA_DISABLED", "true").env("LOG_LEVEL", "error")).await;
        assert_status(&output, 1);
        let errors = stderr(&output);
        let last = errors.lines().last().expect("a summary");
        assert!(last.contains("run eval \"$(aws configure export-credentials --format env)\" and repeat the command"), "{last}");
        assert!(!errors.contains("cargo feature"), "{errors}");
    }
}

#[tokio::test]
async fn shows_an_event_of_unknown_form() {
    let root = tempfile::tempdir().expect("a directory");
    for event in ["{\"hello\":1}", "not JSON", "[]"] {
        let output = run_with_input(&mut elbship(&["invoke", "-", "--objects", &as_text(root.path())]), event).await;
        assert_status(&output, 1);
    }
    let output = run_with_input(&mut elbship(&["invoke", "-"]), "{\"hello\":1}").await;
    assert!(stderr(&output).contains("not a notification of an S3 object: {\"hello\":1}"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_closed_pipe_ends_quietly_with_141() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(20_000).as_bytes()));
    let report = root.path().join("report.json");
    let mut child = elbship(&["replay", &file, "--report", &as_text(&report)]).spawn().expect("starting elbship");
    drop(child.stdout.take());
    let output = child.wait_with_output().await.expect("waiting for elbship");
    assert_status(&output, 141);
    assert_eq!(stderr(&output), "", "`cat` would say nothing");
    let report = read_json(&report);
    assert!(report["totals"]["undelivered"].as_u64().is_some_and(|lines| lines > 0), "{report}");
}

#[tokio::test]
async fn handles_every_sample_event() {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");
    let mut events: Vec<_> =
        std::fs::read_dir(format!("{samples}/events")).expect("the samples").map(|entry| entry.expect("a file").path()).collect();
    events.sort();
    // Events of Auto Scaling groups and look-ups belong to the registry.
    events.retain(|event| !["asg-", "registry-"].iter().any(|prefix| as_text(event).contains(&format!("/{prefix}"))));
    let mut ended = Vec::new();
    for event in events {
        let output = run(&mut elbship(&["invoke", &as_text(&event), "--objects", &format!("{samples}/buckets")])).await;
        let name = event.file_stem().expect("a name").to_string_lossy().into_owned();
        ended.push((name, output.status.code().expect("a status"), stdout(&output).lines().count()));
    }
    let ended: Vec<(&str, i32, usize)> = ended.iter().map(|(name, status, events)| (name.as_str(), *status, *events)).collect();
    assert_eq!(
        ended,
        [
            ("eventbridge", 0, 12),
            ("s3-batch-operations", 0, 19),
            ("s3-key-with-space-and-plus", 0, 2),
            ("s3-missing-object", 1, 0),
            ("s3-put", 0, 12),
            ("s3-test-event", 0, 0),
            ("s3-test-file", 0, 0),
            ("s3-two-records", 0, 11),
            ("sns", 0, 12),
            ("sqs", 0, 23),
        ]
    );
}

#[tokio::test]
async fn names_bad_directory_entries_and_ships_the_rest() {
    use std::os::unix::ffi::OsStrExt as _;
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("d");
    put(root.path(), "d", "good.log", lines(3).as_bytes());
    std::os::unix::fs::symlink("nowhere", directory.join("a.link")).expect("a link");
    nix::unistd::mkfifo(&directory.join("b.fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for byte in [0xfe, 0xff] {
        let name = std::ffi::OsStr::from_bytes(&[b'c', byte]).to_owned();
        std::fs::write(directory.join(name), lines(1)).expect("a file");
    }
    let output = run(&mut elbship(&["replay", &as_text(&directory)])).await;
    assert_status(&output, 1);
    assert_eq!(json_lines(&stdout(&output)).len(), 3);
    let errors = stderr(&output);
    for reason in [
        "a.link",
        "neither a file nor a directory",
        "the name is not UTF-8",
        "a link to nowhere, which does not exist; remove the link, or restore its target",
        "5 objects: 3 of 3 lines delivered, 4 objects FAILED",
    ] {
        assert!(errors.contains(reason), "{reason:?} is missing:\n{errors}");
    }
}

#[tokio::test]
async fn applies_the_time_range_to_named_files() {
    let root = tempfile::tempdir().expect("a directory");
    let early = as_text(&put(root.path(), "b", &alb_key("early"), lines(1).as_bytes()));
    let late = as_text(&put(root.path(), "b", &alb_key("late").replace("20260302T1020Z", "20260303T0000Z"), lines(2).as_bytes()));
    let output = run(&mut elbship(&["replay", &early, &late, "--since", "2026-03-03"])).await;
    assert_status(&output, 0);
    assert_eq!(json_lines(&stdout(&output)).len(), 2);
    let output = run(&mut elbship(&["replay", &early, &late, "--since", "2027-01-01"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("no object between --since and --until"), "{}", stderr(&output));
}

#[tokio::test]
async fn writes_a_report_through_links_and_devices() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(1).as_bytes()));
    let (real, link) = (root.path().join("real.json"), root.path().join("link.json"));
    std::fs::write(&real, "older").expect("a file");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    assert_status(&run(&mut elbship(&["replay", &file, "--dry-run", "--report", &as_text(&link)])).await, 0);
    assert_eq!(read_json(&real)["totals"]["lines"], 1);
    assert!(link.is_symlink(), "the link has become a file");

    let out = root.path().join("out.json");
    let device = root.path().join("stdout");
    std::os::unix::fs::symlink("/proc/self/fd/1", &device).expect("a link");
    let mut replay = elbship(&["replay", &file, "--dry-run", "--report", &as_text(&device)]);
    let status = replay.stdout(std::fs::File::create(&out).expect("a file")).status().await.expect("running elbship");
    assert!(status.success() && device.is_symlink());
    assert_eq!(read_json(&out)["totals"]["lines"], 1);
}

#[tokio::test]
async fn replaces_the_report_if_the_event_is_unreadable() {
    let root = tempfile::tempdir().expect("a directory");
    let report = root.path().join("report.json");
    std::fs::write(&report, "older").expect("a file");
    let output = run(&mut elbship(&["invoke", "no-such-event.json", "--report", &as_text(&report)])).await;
    assert_status(&output, 1);
    assert_eq!(read_json(&report)["totals"]["complete"], false);
}

#[tokio::test]
async fn every_command_ends_quietly_if_stdout_is_closed() {
    let root = tempfile::tempdir().expect("a directory");
    let line = alb_line(0);
    for arguments in [vec!["explain", &line], vec!["explain", "--json", &line]] {
        let mut child = elbship(&arguments).spawn().expect("starting elbship");
        drop(child.stdout.take());
        let output = child.wait_with_output().await.expect("waiting for elbship");
        assert_status(&output, 141);
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
    let mut invoke = elbship(&["invoke", "-", "--objects", &as_text(root.path()), "--dry-run"]);
    let mut child = invoke.stdin(std::process::Stdio::piped()).spawn().expect("starting elbship");
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("a piped input");
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"{\"Records\":[]}").await.expect("writing the event");
    drop(stdin);
    let output = child.wait_with_output().await.expect("waiting for elbship");
    assert_status(&output, 141);
    assert!(!stderr(&output).contains("standard output"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_piped_into_head_leave_its_lines_only() {
    let root = tempfile::tempdir().expect("a directory");
    for number in 0..10_000 {
        put(root.path(), "logs", &format!("{}/{number}.log", number % 100), (alb_line(number) + "\n").as_bytes());
    }
    let shell = format!(
        "{{ {} replay {}; echo status $? >&2; }} | head -n 2",
        env!("CARGO_BIN_EXE_elbship"),
        as_text(&root.path().join("logs"))
    );
    let output = run(&mut crate::support::program("sh", &["-c", &shell])).await;
    assert_eq!(json_lines(&stdout(&output)).len(), 2);
    let errors = stderr(&output);
    assert!(errors.ends_with("status 141\n"), "{errors}");
    let unexpected = errors.lines().find(|line| !line.contains("\"level\":\"INFO\"") && !line.starts_with("status"));
    assert_eq!(unexpected, None, "a reader that needs no more is not a failure");
}

#[tokio::test]
async fn objects_that_are_not_begun_are_one_line() {
    let root = tempfile::tempdir().expect("a directory");
    for number in 0..50 {
        put(root.path(), "logs", &alb_key(&format!("{number:02}")), lines(2).as_bytes());
    }
    let logs = as_text(&root.path().join("logs"));
    let mut replay = elbship(&["replay", &logs, "--to", &closed_port(), "--concurrency", "1"]);
    let output = run(replay.env("RETRY_BUDGET", "100ms")).await;
    assert_status(&output, 1);
    let errors = stderr(&output);
    let expected =
        "50 objects: 0 of 2 lines delivered, 2 UNDELIVERED, 1 object FAILED, 49 objects not begun; the run ended early: ";
    assert!(errors.contains(expected), "{errors}");
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "a warning, the failed object and a summary are enough:\n{errors}");
    assert!(lines[0].contains("\"level\":\"WARN\"") && lines[0].contains("an endpoint does not accept events"), "{errors}");
}

#[tokio::test]
async fn each_change_of_an_endpoint_is_one_warning() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(4).as_bytes()));
    let server = crate::support::Scripted::start(|number, _| crate::support::status(if number < 5 { 503 } else { 200 })).await;
    let mut replay = elbship(&["replay", &file, "--to", &server.url, "--concurrency", "1"]);
    let output = run(replay.env("BATCH_EVENTS", "1")).await;
    assert_status(&output, 0);
    let errors = stderr(&output);
    let warnings: Vec<&str> = errors.lines().filter(|line| line.contains("\"level\":\"WARN\"")).collect();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings[0].contains("an endpoint does not accept events") && warnings[0].contains("HTTP 503"), "{warnings:#?}");
    assert!(warnings[1].contains("an endpoint accepts events again"), "{warnings:#?}");
}

#[tokio::test]
async fn selects_days_of_local_copies_by_directory() {
    let root = tempfile::tempdir().expect("a directory");
    for (day, end) in [("01", "20260302T0000Z"), ("02", "20260302T1200Z"), ("05", "20260302T1200Z")] {
        let key = alb_key("x").replace("2026/03/02", &format!("2026/03/{day}")).replace("20260302T1020Z", end);
        put(root.path(), "b", &key, lines(1).as_bytes());
    }
    let directory = as_text(&root.path().join("b"));
    let output = run(&mut elbship(&["replay", &directory, "--since", "2026-03-02", "--until", "2026-03-03"])).await;
    assert_status(&output, 0);
    assert!(
        stderr(&output).contains("2 objects: 2 of 2 lines delivered"),
        "days outside the range are not listed: {}",
        stderr(&output)
    );
}

#[tokio::test]
async fn an_invalid_command_line_shows_no_password() {
    for url in [
        "admin:hunter2@host:8080",
        "https:/admin:hunter2@h",
        "https:admin:hunter2@h",
        r"https:\\admin:hunter2@h",
        "//admin:hunter2@h",
        "https://admin:1,hunter2@h",
        "https://admin:1/hunter2@h",
        "https://admin:1?hunter2@h",
        "https://admin:1#hunter2@h",
        "https://admin:1@hunter2@h",
    ] {
        let (misspelled, flag) = (format!("--frm={url}"), format!("--to={url}"));
        for arguments in [
            vec!["replay", "x", "--to", url],
            vec!["replay", "x", &flag, "--dry-run"],
            vec!["replay", "x", &misspelled],
            vec!["replay", "x", "--as", url],
            vec!["invoke", "x", url],
            vec!["check", "--to", url],
            vec!["check", url],
            vec!["receive", "--listen", url],
            vec!["backfill", url],
            vec![url],
        ] {
            let output = run(&mut elbship(&arguments)).await;
            assert_status(&output, 2);
            let shown = stdout(&output) + &stderr(&output);
            assert!(!shown.contains("hunter2"), "{arguments:?} shows the password:\n{shown}");
        }
    }
    let output = run(&mut elbship(&["replay", "https://admin:hunter2@h/"])).await;
    assert_status(&output, 2);
    let error = "elbship: cannot replay https://…: neither a path nor s3://BUCKET/PREFIX; name the URL of Logstash with --to\n";
    assert_eq!(stderr(&output), error);
}

#[tokio::test]
async fn only_the_owner_can_read_a_new_report() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(1).as_bytes()));
    let mode = |path: &Path| std::fs::metadata(path).expect("a report").permissions().mode() & 0o777;
    let report = root.path().join("report.json");
    let replay = || elbship(&["replay", &file, "--dry-run", "--report", &as_text(&report)]);
    assert_status(&run(&mut replay()).await, 0);
    assert_eq!(mode(&report), 0o600);
    std::fs::set_permissions(&report, std::fs::Permissions::from_mode(0o640)).expect("changing the permissions");
    assert_status(&run(&mut replay()).await, 0);
    assert_eq!(mode(&report), 0o640, "the permissions that a person has set are kept");
    let names: Vec<_> =
        std::fs::read_dir(root.path()).expect("a directory").map(|entry| entry.expect("a file").file_name()).collect();
    assert_eq!(names.len(), 2, "only b and report.json should remain: {names:?}");
}

#[tokio::test]
async fn a_report_that_cannot_be_written_fails_before_anything_is_sent() {
    let root = tempfile::tempdir().expect("a directory");
    let file = as_text(&put(root.path(), "b", "x.log", lines(1).as_bytes()));
    let receiver = Receiver::start().await;
    let report = as_text(&root.path().join("missing/report.json"));
    let output = run(&mut elbship(&["replay", &file, "--to", &receiver.url, "--report", &report])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains(&format!("cannot write the report to {report}: ")), "{}", stderr(&output));
    assert!(receiver.ids().is_empty(), "events were sent without a report");
}
