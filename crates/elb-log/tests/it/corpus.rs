//! Published log lines of other projects, compared with what is known about them.
//!
//! The corpus is expected next to the project, in `../shared/corpus`. If it is missing, each test prints a message and passes. The
//! corpus is not part of the project: this file refers to lines by file and number, and does not copy them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, EventWriter, Scratch};
use elb_log::format::{Kind, LineError, TokenBuffer, parse};
use elb_log::lines::{LineLimits, LineSplitter};
use elb_log::origin::{ObjectName, Origin};
use serde_json::Value;
use walkdir::WalkDir;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus");

/// A file with pairs of lines: a comment why a line is unusual, and the line.
const ODD_LINES: &str = "odd-lines.txt";

/// File, line number, what is unusual about the line, and why that is correct.
type Exception = (&'static str, usize, &'static str, &'static str);

/// Every tag of every event. Both a missing tag and an unlisted tag fail the test.
const TAGS: &[Exception] = &[
    ("nekrassov01+access-log-parser/classic-1.log", 3, "_elbshortline", "truncated by its author after the 11th field"),
    ("ozantunca+elb-log-analyzer/alb-1.log", 1, "_elbshortline", "a classic line with a type before it: 16 fields"),
    ("ozantunca+elb-log-analyzer/alb-1.log", 2, "_elbshortline", "a classic line with a type before it: 16 fields"),
    (
        "toshihirock+node-elb-log-parser/classic-1.log",
        5,
        "_elbfieldfailure",
        "a backend without a colon, which is not an ip:port",
    ),
    (ODD_LINES, 18, "_elbshortline", "a classic line with a type before it: 16 fields"),
    (ODD_LINES, 30, "_elbshortline", "truncated after the 11th field"),
    (ODD_LINES, 112, "_elbshortline", "truncated in the 15th field, outside quotes, although its comment says inside"),
    (ODD_LINES, 158, "_elbparsefailure", "the control line of a connection log, which is not a request"),
    (ODD_LINES, 162, "_elbparsefailure", "a header of a vended log, which is not a request"),
];

/// The kinds of the unusual lines, counted by hand from their comments. The JSON line of a vended log has the kind alb: it has a
/// type, but no listener port, target group or latency.
const ODD_KINDS: [(&str, usize); 6] =
    [("alb", 52), ("alb_connection", 2), ("alb_health_check", 5), ("classic", 15), ("nlb", 5), ("unparsed", 2)];

/// Expected values that are wrong, by AWS's names. The list is empty: one known mistake (jSherz/alb-logs-parser truncates processing
/// times to whole seconds) is already excluded from the expected values.
const DIFFERENCES: &[Exception] = &[];

#[test]
fn published_lines_have_the_kinds_of_the_manifest() {
    if corpus_is_missing() {
        return;
    }
    let manifest = manifest();
    assert_eq!(
        manifest.keys().cloned().collect::<BTreeSet<_>>(),
        log_files(),
        "MANIFEST.md (left) and the folders of the corpus (right) differ; add the missing file or row"
    );
    let files: BTreeMap<&str, Events> = manifest.keys().map(|file| (file.as_str(), events_of(file, &read(file)))).collect();
    let mut totals = Kinds::new();
    for (kind, count) in files.values().flat_map(kinds_of) {
        *totals.entry(kind).or_default() += count;
    }
    println!("{} log files: {}", files.len(), summary(&totals, files.values()));
    check_tags(&files);
    for (file, events) in &files {
        assert_eq!(
            kinds_of(events),
            manifest[*file],
            "the kinds in {file} (left) differ from MANIFEST.md (right); check how kinds are recognised"
        );
    }
}

#[test]
fn every_unusual_line_becomes_one_event() {
    if corpus_is_missing() {
        return;
    }
    let text = read(ODD_LINES);
    let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    let (pairs, rest) = lines.as_chunks::<2>();
    assert!(
        rest.is_empty() && pairs.iter().all(|[why, _]| why.starts_with(b"# ")),
        "{ODD_LINES} must have pairs of lines: a comment that starts with `# `, and an unusual line"
    );
    // Replace the comments by blank lines, which make no events, so that the unusual lines keep their numbers.
    let odd_lines: Vec<u8> = pairs.iter().flat_map(|[_, line]| [b"\n", *line].concat()).collect();
    let events = events_of(ODD_LINES, &odd_lines);
    assert_eq!(events.len(), pairs.len(), "an unusual line made no event; check how lines are split");
    let files = BTreeMap::from([(ODD_LINES, events)]);
    let kinds = kinds_of(&files[ODD_LINES]);
    println!("unusual lines: {}", summary(&kinds, files.values()));
    check_tags(&files);
    assert_eq!(
        kinds,
        ODD_KINDS.map(|(kind, count)| (kind.to_owned(), count)).into(),
        "the kinds in {ODD_LINES} (left) differ from ODD_KINDS (right); check how kinds are recognised, or count again"
    );
}

#[test]
fn events_have_the_values_that_other_parsers_expect() {
    if corpus_is_missing() {
        return;
    }
    let mut files = BTreeMap::new();
    let mut differences = BTreeMap::new();
    let mut matching = 0;
    let expectations = String::from_utf8(read("expect.jsonl")).expect("expect.jsonl is UTF-8");
    for expectation in expectations.lines() {
        let expectation: Value = serde_json::from_str(expectation).expect("expect.jsonl is JSON");
        let file = expectation["file"].as_str().expect("an expectation names its file").to_owned();
        let number = expectation["line_no"].as_u64().and_then(|number| usize::try_from(number).ok()).expect("a line number");
        let events = files.entry(file.clone()).or_insert_with(|| events_of(&file, &read(&file)));
        let event = events.get(&number).unwrap_or_else(|| panic!("{file} has no line {number}; correct expect.jsonl"));
        assert_eq!(event["elb"]["kind"], expectation["kind"], "the kind of {file} line {number}; check how kinds are recognised");
        for (name, expected) in expectation["fields"].as_object().expect("expected values by name") {
            let found = value_of(event, name);
            if matches(name, expected, &found) {
                matching += 1;
            } else {
                differences.insert((file.clone(), number, name.clone()), format!("expected {expected}, the event has {found}"));
            }
        }
    }
    check_exceptions("DIFFERENCES", DIFFERENCES.iter(), &differences);
    println!("expected values: {matching} match, {} differ for a listed reason", differences.len());
}

/// The events of a file by line number.
type Events = BTreeMap<usize, Value>;

/// Number of lines of each kind, with `unparsed` as a kind.
type Kinds = BTreeMap<String, usize>;

/// Unusual lines that were found: file, line number, what is unusual, and details.
type Found = BTreeMap<(String, usize, String), String>;

fn corpus_is_missing() -> bool {
    let missing = !Path::new(CORPUS).is_dir();
    if missing {
        println!("skipped: no corpus");
    }
    missing
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(CORPUS).join(file)).unwrap_or_else(|error| panic!("cannot read {file} of the corpus: {error}"))
}

/// Returns the log files in the folders of the corpus, with their names in the manifest.
fn log_files() -> BTreeSet<String> {
    let entries = WalkDir::new(CORPUS).into_iter().map(|entry| entry.expect("a readable folder").into_path());
    let logs = entries.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| path.strip_prefix(CORPUS).expect("a path in the corpus").to_string_lossy().into_owned()).collect()
}

/// Reads the manifest: the number of lines of each kind in each file.
fn manifest() -> BTreeMap<String, Kinds> {
    let text = String::from_utf8(read("MANIFEST.md")).expect("MANIFEST.md is UTF-8");
    // The row of dashes below the header has no space after its first bar.
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("| ")).map(|row| row.split('|').map(str::trim).collect());
    let header: Vec<&str> = rows.next().expect("MANIFEST.md has a table");
    let column = |name: &str| {
        let found = header.iter().position(|cell| *cell == name);
        found.unwrap_or_else(|| panic!("MANIFEST.md has no column {name:?}; update this test"))
    };
    let (file, kinds) = (column("file"), column("kinds of lines"));
    rows.map(|row| (row[file].to_owned(), row[kinds].split(", ").map(kind_and_count).collect())).collect()
}

/// Reads `classic 4`.
fn kind_and_count(text: &str) -> (String, usize) {
    let read = text.split_once(' ').and_then(|(kind, count)| Some((kind.to_owned(), count.parse().ok()?)));
    read.unwrap_or_else(|| panic!("MANIFEST.md has the count {text:?}, expected the form `classic 4`"))
}

/// Makes the events of a file as the program does. Each non-empty line must become one event of valid JSON.
fn events_of(file: &str, text: &[u8]) -> Events {
    let origin = Origin::LocalFile(ObjectName { bucket: String::new(), key: file.to_owned() });
    let writer = EventWriter::new(&EventSettings::default(), &origin, jiff::Timestamp::UNIX_EPOCH);
    // One block holds the whole file; the maximum line length is the default.
    let mut lines = LineSplitter::new(LineLimits { line_bytes: 1 << 20, block_lines: usize::MAX, block_bytes: usize::MAX });
    lines.buffer().put(text);
    assert!(lines.next_block().is_none(), "{file} does not fit into one block; raise the limits");
    let block = lines.finish().unwrap_or_default();

    // Line numbers come from the text, not from counting events, so that a lost line is reported with its own number.
    let (mut number, mut numbered) = (1, 0);
    let (mut scratch, mut tokens) = (Scratch::default(), TokenBuffer::default());
    let mut events = Events::new();
    for line in block.lines() {
        let offset = usize::try_from(line.offset).expect("a file in memory");
        number += text[numbered..offset].iter().filter(|&&byte| byte == b'\n').count();
        numbered = offset;
        let mut out = Buffer::default();
        let written = writer.write(&mut out, &line, &mut scratch);
        let event: Value = serde_json::from_slice(&out)
            .unwrap_or_else(|error| panic!("{file} line {number}: the event is not one JSON value: {error}"));
        let parsed = parse(line.text, &mut tokens).map(|record| record.kind);
        // The parser rejects JSON lines, but the event writer may read them.
        if parsed != Err(LineError::Json) {
            assert_eq!(
                written.kind,
                parsed.ok(),
                "{file} line {number}: the kinds of the event (left) and of the record (right) differ"
            );
        }
        assert_eq!(
            event["elb"]["kind"].as_str(),
            written.kind.map(Kind::name),
            "{file} line {number}: elb.kind (left) and the returned kind (right) differ"
        );
        assert!(events.insert(number, event).is_none(), "{file} line {number} became two events; check how lines are split");
    }
    let non_empty = text
        .split(|&byte| byte == b'\n')
        .zip(1..)
        .filter(|(line, _)| !line.strip_suffix(b"\r").unwrap_or(line).iter().all(|&byte| byte == b' '));
    let lost: Vec<usize> = non_empty.map(|(_, number)| number).filter(|number| !events.contains_key(number)).collect();
    assert!(lost.is_empty(), "{file}: lines {lost:?} made no event; check how lines are split");
    events
}

fn kinds_of(events: &Events) -> Kinds {
    let mut kinds = Kinds::new();
    for event in events.values() {
        *kinds.entry(event["elb"]["kind"].as_str().unwrap_or("unparsed").to_owned()).or_default() += 1;
    }
    kinds
}

/// Shows the number of lines: in total, of each kind, and with each tag.
fn summary<'e>(kinds: &Kinds, files: impl Iterator<Item = &'e Events>) -> String {
    let mut counts =
        BTreeMap::from([("_elbextrafields", 0), ("_elbfieldfailure", 0), ("_elbparsefailure", 0), ("_elbshortline", 0)]);
    for tag in files.flat_map(Events::values).flat_map(tags) {
        *counts.get_mut(tag).unwrap_or_else(|| panic!("the tag {tag} is new; count it here")) += 1;
    }
    let lines: usize = kinds.values().sum();
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    format!(
        "{lines} lines: {}; {} unparsed, {} short, {} with an invalid field",
        kinds.join(", "),
        counts["_elbparsefailure"],
        counts["_elbshortline"],
        counts["_elbfieldfailure"]
    )
}

fn tags(event: &Value) -> impl Iterator<Item = &str> {
    event["tags"].as_array().into_iter().flatten().map(|tag| tag.as_str().expect("a tag is a string"))
}

/// Compares the tags of the events with [`TAGS`].
#[track_caller]
fn check_tags(files: &BTreeMap<&str, Events>) {
    let mut found = Found::new();
    for (file, events) in files {
        for (number, event) in events {
            for tag in tags(event) {
                let what = format!("error {}, invalid {}", event["error"]["message"], event["elb"]["invalid"]);
                found.insert(((*file).to_owned(), *number, tag.to_owned()), what);
            }
        }
    }
    check_exceptions("TAGS", TAGS.iter().filter(|(file, ..)| (*file == ODD_LINES) == files.contains_key(ODD_LINES)), &found);
}

/// Fails if an unusual line is found but not listed, or listed but not found.
#[track_caller]
fn check_exceptions<'e>(table: &str, listed: impl Iterator<Item = &'e Exception>, found: &Found) {
    let listed: BTreeMap<_, _> =
        listed.map(|&(file, number, what, reason)| ((file.to_owned(), number, what.to_owned()), reason)).collect();
    let unlisted = found.iter().filter(|(key, _)| !listed.contains_key(key)).map(|((file, number, what), details)| {
        format!(
            "{file} line {number}: {what} ({details}); fix the program or, if this is correct, list it in {table} with the reason"
        )
    });
    let stale = listed.iter().filter(|(key, _)| !found.contains_key(key)).map(|((file, number, what), reason)| {
        format!("{file} line {number}: {what} is listed but not found ({reason}); if that is correct, remove it from {table}")
    });
    let problems: Vec<String> = unlisted.chain(stale).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Returns an event's value of the field that AWS calls `name`; null if the event has none.
fn value_of(event: &Value, name: &str) -> Value {
    let elb = &event["elb"];
    match name {
        "time" => event["@timestamp"].clone(),
        "elb" => elb["id"].clone(),
        "request" => request_line(&elb["request"]),
        "request_method" => elb["request"]["method"].clone(),
        "request_url" => elb["request"]["url"].clone(),
        "request_protocol" => elb["request"]["protocol"].clone(),
        _ => elb[name].clone(),
    }
}

/// Returns the request as logged, with `-` for each missing part.
fn request_line(request: &Value) -> Value {
    if request.is_null() || request["line"].is_string() {
        return request["line"].clone();
    }
    ["method", "url", "protocol"].map(|part| request[part].as_str().unwrap_or("-")).join(" ").into()
}

/// Returns whether `found` is the value of the field that AWS calls `name` if its logged text is `expected` (null if absent).
fn matches(name: &str, expected: &Value, found: &Value) -> bool {
    let Some(expected) = expected.as_str() else { return expected.is_null() && found.is_null() };
    match name {
        "time" | "request_creation_time" | "tls_connection_creation_time" => {
            found.as_str() == Some(&format!("{}Z", expected.trim_end_matches('Z')))
        }
        "actions_executed" | "alpn_client_preference_list" => is_list(expected, ',', found, is_text),
        "target_port_list" => is_list(expected, ' ', found, is_text),
        "target_status_code_list" => is_list(expected, ' ', found, is_number),
        _ if name.ends_with("_processing_time") && found.is_null() => is_number(expected, &Value::from(-1)),
        "connection_time" | "tls_handshake_time" | "matched_rule_priority" => is_number(expected, found),
        _ if ["_port", "_status_code", "_bytes", "_processing_time"].iter().any(|end| name.ends_with(end)) => {
            is_number(expected, found)
        }
        _ => is_text(expected, found),
    }
}

fn is_text(expected: &str, found: &Value) -> bool {
    found == expected
}

/// Both sides are parsed by serde_json, so equal numbers are equal to the last bit.
fn is_number(expected: &str, found: &Value) -> bool {
    found.is_number() && serde_json::from_str(expected).ok() == found.as_f64()
}

fn is_list(expected: &str, separator: char, found: &Value, is_item: impl Fn(&str, &Value) -> bool) -> bool {
    let expected: Vec<&str> = expected.split(separator).collect();
    let is_item = |(expected, found): (&&str, &Value)| if *expected == "-" { found.is_null() } else { is_item(expected, found) };
    found.as_array().is_some_and(|found| found.len() == expected.len() && expected.iter().zip(found).all(is_item))
}
