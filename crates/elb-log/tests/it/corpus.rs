//! Log lines that others have published, held against what is known of them.
//!
//! The corpus is looked for beside the project, in `../shared/corpus`; where it is not, each test says so and passes. It is no part
//! of the project: lines are named here by file and number, and none is copied.

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

/// A file of pairs of lines: why a line is odd, and that line.
const ODD_LINES: &str = "odd-lines.txt";

/// File, line number, what is exceptional about the line, and why that is right.
type Exception = (&'static str, usize, &'static str, &'static str);

/// Every tag of every line's event. A line without its tag fails the test just as a tag without its line does.
const TAGS: &[Exception] = &[
    ("nekrassov01+access-log-parser/classic-1.log", 3, "_elbshortline", "cut off by its author behind the 11th field"),
    ("ozantunca+elb-log-analyzer/alb-1.log", 1, "_elbshortline", "a classic line with a type before it: 16 fields"),
    ("ozantunca+elb-log-analyzer/alb-1.log", 2, "_elbshortline", "a classic line with a type before it: 16 fields"),
    ("toshihirock+node-elb-log-parser/classic-1.log", 5, "_elbfieldfailure", "a backend without a colon, which is no ip:port"),
    (ODD_LINES, 18, "_elbshortline", "a classic line with a type before it: 16 fields"),
    (ODD_LINES, 30, "_elbshortline", "cut off behind the 11th field"),
    (ODD_LINES, 112, "_elbshortline", "cut off in the 15th field, outside quotes, though the line above it says inside"),
    (ODD_LINES, 158, "_elbparsefailure", "the control line of a connection log, which is no request"),
    (ODD_LINES, 162, "_elbparsefailure", "a header of a vended log, which is no request"),
];

/// The kinds of the odd lines, counted by hand from the line above each. The JSON line of a vended log is of the kind alb: it has a
/// type, and no listener port, target group or latency.
const ODD_KINDS: [(&str, usize); 6] =
    [("alb", 52), ("alb_connection", 2), ("alb_health_check", 5), ("classic", 15), ("nlb", 5), ("unparsed", 2)];

/// Expected values from which events rightly differ, by AWS's names. There are none: the known fault of a peer, that
/// jSherz/alb-logs-parser cuts processing times down to whole seconds, is left out of the expected values already.
const DIFFERENCES: &[Exception] = &[];

#[test]
fn published_lines_are_of_the_kinds_that_the_manifest_counts() {
    if corpus_is_missing() {
        return;
    }
    let manifest = manifest();
    assert_eq!(
        manifest.keys().cloned().collect::<BTreeSet<_>>(),
        log_files(),
        "MANIFEST.md (left) and the corpus's folders (right) differ: add the missing file or its row"
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
            "{file} (left) is not as MANIFEST.md counts it (right): look for what recognises kinds"
        );
    }
}

#[test]
fn every_odd_line_becomes_one_event() {
    if corpus_is_missing() {
        return;
    }
    let text = read(ODD_LINES);
    let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    let (pairs, rest) = lines.as_chunks::<2>();
    assert!(
        rest.is_empty() && pairs.iter().all(|[why, _]| why.starts_with(b"# ")),
        "{ODD_LINES} is no longer made of pairs, a line that begins with `# ` and an odd line: mend it"
    );
    // Blank lines instead of the reasons: they make no events, and the odd lines keep their numbers.
    let odd_lines: Vec<u8> = pairs.iter().flat_map(|[_, line]| [b"\n", *line].concat()).collect();
    let events = events_of(ODD_LINES, &odd_lines);
    assert_eq!(events.len(), pairs.len(), "an odd line left no event: look for what splits lines");
    let files = BTreeMap::from([(ODD_LINES, events)]);
    let kinds = kinds_of(&files[ODD_LINES]);
    println!("odd lines: {}", summary(&kinds, files.values()));
    check_tags(&files);
    assert_eq!(
        kinds,
        ODD_KINDS.map(|(kind, count)| (kind.to_owned(), count)).into(),
        "{ODD_LINES} (left) is not as ODD_KINDS counts it (right): look for what recognises kinds, or count anew"
    );
}

#[test]
fn events_say_what_others_expect_of_their_lines() {
    if corpus_is_missing() {
        return;
    }
    let mut files = BTreeMap::new();
    let mut differences = BTreeMap::new();
    let mut agreeing = 0;
    let expectations = String::from_utf8(read("expect.jsonl")).expect("expect.jsonl is UTF-8");
    for expectation in expectations.lines() {
        let expectation: Value = serde_json::from_str(expectation).expect("expect.jsonl is JSON");
        let file = expectation["file"].as_str().expect("an expectation names its file").to_owned();
        let number = expectation["line_no"].as_u64().and_then(|number| usize::try_from(number).ok()).expect("a line number");
        let events = files.entry(file.clone()).or_insert_with(|| events_of(&file, &read(&file)));
        let event = events.get(&number).unwrap_or_else(|| panic!("{file} has no line {number}: mend expect.jsonl"));
        assert_eq!(event["elb"]["kind"], expectation["kind"], "the kind of {file} line {number}: look for what recognises kinds");
        for (name, expected) in expectation["fields"].as_object().expect("expected values by name") {
            let found = value_of(event, name);
            if agrees(name, expected, &found) {
                agreeing += 1;
            } else {
                differences.insert((file.clone(), number, name.clone()), format!("expected {expected}, the event says {found}"));
            }
        }
    }
    check_exceptions("DIFFERENCES", DIFFERENCES.iter(), &differences);
    println!("expected values: {agreeing} agree, {} differ for a listed reason", differences.len());
}

/// The events of a file by line number.
type Events = BTreeMap<usize, Value>;

/// How many lines there are of each kind; `unparsed` counts as one.
type Kinds = BTreeMap<String, usize>;

/// What was found to be exceptional: file, line number and what it is, with what is to be said of it.
type Found = BTreeMap<(String, usize, String), String>;

fn corpus_is_missing() -> bool {
    let missing = !Path::new(CORPUS).is_dir();
    if missing {
        println!("skipped: no corpus");
    }
    missing
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(CORPUS).join(file)).unwrap_or_else(|error| panic!("{file} of the corpus: {error}; restore it"))
}

/// The log files in the corpus's folders, as the manifest names them.
fn log_files() -> BTreeSet<String> {
    let entries = WalkDir::new(CORPUS).into_iter().map(|entry| entry.expect("a readable folder").into_path());
    let logs = entries.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| path.strip_prefix(CORPUS).expect("a path in the corpus").to_string_lossy().into_owned()).collect()
}

/// The rows of the manifest: for each file, how many lines there are of each kind.
fn manifest() -> BTreeMap<String, Kinds> {
    let text = String::from_utf8(read("MANIFEST.md")).expect("MANIFEST.md is UTF-8");
    // The row of dashes below the header has no space behind its first bar.
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("| ")).map(|row| row.split('|').map(str::trim).collect());
    let header: Vec<&str> = rows.next().expect("MANIFEST.md has a table");
    let column = |name: &str| {
        let found = header.iter().position(|cell| *cell == name);
        found.unwrap_or_else(|| panic!("MANIFEST.md has no column {name:?} any more: adapt this test"))
    };
    let (file, kinds) = (column("file"), column("kinds of lines"));
    rows.map(|row| (row[file].to_owned(), row[kinds].split(", ").map(kind_and_count).collect())).collect()
}

/// Reads `classic 4`.
fn kind_and_count(text: &str) -> (String, usize) {
    let read = text.split_once(' ').and_then(|(kind, count)| Some((kind.to_owned(), count.parse().ok()?)));
    read.unwrap_or_else(|| panic!("MANIFEST.md counts kinds as {text:?}, not as `classic 4`: mend it"))
}

/// Makes the events of a file's lines as the program does. Each non-empty line must leave as one event of valid JSON.
fn events_of(file: &str, text: &[u8]) -> Events {
    let origin = Origin::LocalFile(ObjectName { bucket: String::new(), key: file.to_owned() });
    let writer = EventWriter::new(&EventSettings::default(), &origin, jiff::Timestamp::UNIX_EPOCH);
    // One block takes the whole file; the longest line is as by default.
    let mut lines = LineSplitter::new(LineLimits { line_bytes: 1 << 20, block_lines: usize::MAX, block_bytes: usize::MAX });
    lines.buffer().put(text);
    assert!(lines.next_block().is_none(), "{file} is more than one block: raise the limits");
    let block = lines.finish().unwrap_or_default();

    // Numbers come from the text, not from counting events, so that a lost line is missed at its own number.
    let (mut number, mut numbered) = (1, 0);
    let (mut scratch, mut tokens) = (Scratch::default(), TokenBuffer::default());
    let mut events = Events::new();
    for line in block.lines() {
        let offset = usize::try_from(line.offset).expect("a file in memory");
        number += text[numbered..offset].iter().filter(|&&byte| byte == b'\n').count();
        numbered = offset;
        let mut out = Buffer::default();
        let written = writer.write(&mut out, &line, &mut scratch);
        let event: Value = serde_json::from_slice(&out).unwrap_or_else(|error| {
            panic!("{file} line {number}: its event is not one JSON value ({error}): mend the event writer")
        });
        let parsed = parse(line.text, &mut tokens).map(|record| record.kind);
        // JSON is no text line to the parser; the event writer may read it all the same.
        if parsed != Err(LineError::Json) {
            assert_eq!(
                written.kind,
                parsed.ok(),
                "{file} line {number}: the event (left) and the record (right): mend the event writer"
            );
        }
        assert_eq!(
            event["elb"]["kind"].as_str(),
            written.kind.map(Kind::name),
            "{file} line {number}: elb.kind (left) and the kind that is counted (right): mend the event writer"
        );
        assert!(events.insert(number, event).is_none(), "{file} line {number} left as two events: look for what splits lines");
    }
    let non_empty = text.split(|&byte| byte == b'\n').zip(1..).filter(|(line, _)| !matches!(*line, b"" | b"\r"));
    let lost: Vec<usize> = non_empty.map(|(_, number)| number).filter(|number| !events.contains_key(number)).collect();
    assert!(lost.is_empty(), "{file}: lines {lost:?} left no event: look for what splits lines");
    events
}

fn kinds_of(events: &Events) -> Kinds {
    let mut kinds = Kinds::new();
    for event in events.values() {
        *kinds.entry(event["elb"]["kind"].as_str().unwrap_or("unparsed").to_owned()).or_default() += 1;
    }
    kinds
}

/// Shows lines in all, of each kind, and with each tag.
fn summary<'e>(kinds: &Kinds, files: impl Iterator<Item = &'e Events>) -> String {
    let mut counts = BTreeMap::from([("_elbfieldfailure", 0), ("_elbparsefailure", 0), ("_elbshortline", 0)]);
    for tag in files.flat_map(Events::values).flat_map(tags) {
        *counts.get_mut(tag).unwrap_or_else(|| panic!("the tag {tag} is new: count it here")) += 1;
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

/// Holds the tags of these files' events against [`TAGS`].
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

/// Fails on what is found and not listed, and on what is listed and not found.
#[track_caller]
fn check_exceptions<'e>(table: &str, listed: impl Iterator<Item = &'e Exception>, found: &Found) {
    let listed: BTreeMap<_, _> =
        listed.map(|&(file, number, what, reason)| ((file.to_owned(), number, what.to_owned()), reason)).collect();
    let unlisted = found.iter().filter(|(key, _)| !listed.contains_key(key)).map(|((file, number, what), details)| {
        format!(
            "{file} line {number}: {what} ({details}). Mend the program or, if this is right, list it in {table} with the reason."
        )
    });
    let stale = listed.iter().filter(|(key, _)| !found.contains_key(key)).map(|((file, number, what), reason)| {
        format!("{file} line {number}: no {what} any more ({reason}). If that is right, take it out of {table}.")
    });
    let problems: Vec<String> = unlisted.chain(stale).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What an event says of the field that AWS calls `name`; null if nothing.
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

/// The request as it stood in the line, `-` for each part that is missing.
fn request_line(request: &Value) -> Value {
    if request.is_null() || request["line"].is_string() {
        return request["line"].clone();
    }
    ["method", "url", "protocol"].map(|part| request[part].as_str().unwrap_or("-")).join(" ").into()
}

/// Whether `found` is what `expected`, a text as logged or null, means for the field that AWS calls `name`.
fn agrees(name: &str, expected: &Value, found: &Value) -> bool {
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

/// Both sides are read by the same reader, so equal numbers are equal to the last bit.
fn is_number(expected: &str, found: &Value) -> bool {
    found.is_number() && serde_json::from_str(expected).ok() == found.as_f64()
}

fn is_list(expected: &str, separator: char, found: &Value, is_item: impl Fn(&str, &Value) -> bool) -> bool {
    let expected: Vec<&str> = expected.split(separator).collect();
    let is_item = |(expected, found): (&&str, &Value)| if *expected == "-" { found.is_null() } else { is_item(expected, found) };
    found.as_array().is_some_and(|found| found.len() == expected.len() && expected.iter().zip(found).all(is_item))
}
