//! Checks that hold for any input at each stage from bytes to events.
//!
//! There is one function for each stage. The fuzz targets call it with inputs from libFuzzer, and
//! `crates/elb-log/tests/it/regressions.rs` with the inputs that are kept. This file is compiled into both packages and uses only
//! crates that both depend on.

use std::collections::HashMap;
use std::io::Write as _;
use std::iter::from_fn;
use std::net::IpAddr;
use std::sync::LazyLock;

use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, EventWriter, IdPrefix, Schema, Scratch, Shape, Written, names};
use elb_log::format::{self, Kind, LineError, Reading, Record, TokenBuffer, Value as FieldValue, decode, is_time};
use elb_log::inflate::{Inflate, InflateError, InflateProgress};
use elb_log::lines::{Block, Line, LineLimits, LineSplitter};
use elb_log::origin::{ObjectName, Origin};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

/// Checks that an object becomes the lines of a naive split, for any chunks and in bounded memory.
///
/// A mutated gzip stream is rarely valid. The bytes are therefore also used as text, which this function compresses.
pub fn lines(object: &[u8]) {
    if let Some((text, end)) = inflate_at_once(object) {
        if !object.starts_with(&GZIP_MAGIC) {
            assert_eq!((&*text, &end), (object, &Ok(())), "anything but gzip passes unchanged");
        }
        check_lines(object, &text, &end);
    }
    let (first, second) = object.split_at(object.len() / 2);
    let compressed = [gzip(first), gzip(second)].concat();
    // Text that begins like gzip is compressed gzip.
    if !object.starts_with(&GZIP_MAGIC) {
        check_lines(&compressed, object, &Ok(()));
        check_lines(&gzip(&compressed), object, &Ok(()));
    }
}

/// Checks that a line is split into all of its fields, and that each field can be read.
pub fn parse(line: &[u8]) {
    let mut tokens = TokenBuffer::default();
    let outcome = format::parse(line, &mut tokens);
    match &outcome {
        Ok(record) => check_record(line, record),
        Err(error) => check_error(line, error),
    }
    let mut used = TokenBuffer::default();
    let _ = format::parse(br#"tls 2.0 2026-03-02T10:15:04 "a line" of 7 \ before"#, &mut used);
    let again = format::parse(line, &mut used).map(|record| (record.kind, record.tokens));
    assert_eq!(again, outcome.map(|record| (record.kind, record.tokens)), "the result does not depend on the line before");
}

/// Checks that a line becomes an event: one JSON object on one line, with the right envelope, counts, tags and types.
pub fn event(line: &[u8]) {
    let key = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/\
               123456789012_elasticloadbalancing_eu-west-1_app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_3x8q0pzt.log.gz";
    let stored = Origin::Bucket(ObjectName { bucket: "logs".to_owned(), key: key.to_owned() });
    let local = Origin::LocalFile(ObjectName { bucket: String::new(), key: "a \"log\"\\\n.log".to_owned() });
    for schema in SCHEMAS {
        let plain = EventSettings { schema, ..EventSettings::default() };
        check_event(&plain, &stored, &Line { text: line, offset: 7, truncated: false });
        let labels = vec![("env".to_owned(), "a\"b".to_owned()), ("team".to_owned(), String::new())];
        let full = EventSettings { schema, include_original: true, labels, resend: false };
        check_event(&full, &local, &Line { text: line, offset: u64::MAX, truncated: false });
    }
    check_event(&EventSettings::default(), &stored, &Line { text: line, offset: 7, truncated: true });
}

/// All schemas. A new schema also needs its own part in [`check_parsed_part`].
const SCHEMAS: [Schema; 2] = [Schema::Native, Schema::Ecs];

/// Limits that almost every input exceeds, and limits that a usual line does not exceed.
const LIMITS: [LineLimits; 2] = [
    LineLimits { line_bytes: 8, block_lines: 3, block_bytes: 16 },
    LineLimits { line_bytes: 400, block_lines: 5, block_bytes: 1_000 },
];

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Sizes of chunks and of inflate steps.
const STEPS: [Steps; 3] =
    [Steps { chunk: 1, max_bytes: 1 }, Steps { chunk: 7, max_bytes: 100 }, Steps { chunk: 300, max_bytes: 3 }];

/// Maximum number of bytes of text. Longer texts take time and find nothing new.
const MAX_TEXT_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
struct Steps {
    /// Number of compressed bytes in a chunk.
    chunk: usize,
    /// Maximum number of bytes of text that one step makes.
    max_bytes: usize,
}

/// A line that the splitter returned.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    offset: u64,
    text: Vec<u8>,
    truncated: bool,
}

/// Returns the text of an object and how it ends; none if the text is longer than [`MAX_TEXT_BYTES`].
fn inflate_at_once(object: &[u8]) -> Option<(Vec<u8>, Result<(), InflateError>)> {
    let (mut inflate, mut input, mut text) = (Inflate::default(), object, Buffer::default());
    let end = match inflate.step(&mut input, &mut text, MAX_TEXT_BYTES) {
        Ok(InflateProgress::OutputFull) => return None,
        Ok(InflateProgress::NeedInput) => inflate.finish(&mut text),
        Err(error) => Err(error),
    };
    Some((text.to_vec(), end))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("compressing into memory");
    encoder.finish().expect("compressing into memory")
}

/// Checks the lines of an object that inflates to `text` and ends with `end`.
fn check_lines(object: &[u8], text: &[u8], end: &Result<(), InflateError>) {
    for limits in LIMITS {
        let at_once = Steps { chunk: object.len().max(1), max_bytes: text.len() + 1 };
        let (blocks, found_end) = read(object, limits, at_once);
        assert_eq!(&found_end, end, "the end of the object");
        assert_eq!(blocks.concat(), naive_lines(text, limits, end.is_ok()), "each line is returned once, with its offset");
        for steps in STEPS {
            assert_eq!(read(object, limits, steps), (blocks.clone(), end.clone()), "{steps:?} of an object with {limits:?}");
        }
    }
}

/// Reads blocks of lines as the shipper's `ObjectReader` does, and returns them and how the object ended.
fn read(object: &[u8], limits: LineLimits, steps: Steps) -> (Vec<Vec<Found>>, Result<(), InflateError>) {
    let (mut inflate, mut lines, mut blocks) = (Inflate::default(), LineSplitter::new(limits), Vec::new());
    let (mut chunks, mut input) = (object.chunks(steps.chunk), [].as_slice());
    let end = loop {
        let before = lines.buffer().len();
        let progress = inflate.step(&mut input, lines.buffer(), steps.max_bytes);
        assert!(lines.buffer().len() <= before + steps.max_bytes, "no more text than the maximum");
        blocks.extend(from_fn(|| lines.next_block()).map(|block| found(&block)));
        check_memory(lines.buffer(), limits, steps);
        match progress {
            Ok(InflateProgress::OutputFull) => {}
            Ok(InflateProgress::NeedInput) => match chunks.next() {
                Some(chunk) => input = chunk,
                None => break inflate.finish(lines.buffer()),
            },
            Err(error) => break Err(error),
        }
    };
    blocks.extend(from_fn(|| lines.next_block()).map(|block| found(&block)));
    let last = if end.is_ok() { lines.finish() } else { lines.finish_broken() };
    blocks.extend(last.map(|block| found(&block)));
    (blocks, end)
}

/// The buffer holds a block, a started line, and the text of the last step. It grows by a quarter when it is full.
fn check_memory(buffer: &Buffer, limits: LineLimits, steps: Steps) {
    let bound = 4 * (limits.block_bytes + limits.line_bytes + steps.max_bytes);
    assert!(buffer.capacity() <= bound, "a buffer of {} bytes for {limits:?} and {steps:?}", buffer.capacity());
}

fn found(block: &Block) -> Vec<Found> {
    assert!(!block.is_empty(), "no block is empty");
    block.lines().map(|Line { text, offset, truncated }| Found { offset, text: text.to_vec(), truncated }).collect()
}

/// Returns the lines of a text. The bytes after the last line feed of a broken object are not a line.
fn naive_lines(text: &[u8], limits: LineLimits, whole: bool) -> Vec<Found> {
    let mut lines = Vec::new();
    let mut offset = 0;
    for line_with_end in text.split_inclusive(|&byte| byte == b'\n') {
        let ended = line_with_end.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut line = ended.unwrap_or(if whole { line_with_end } else { b"" });
        // A byte-order mark takes part in offsets, but is not in the first line.
        let mark = if offset == 0 && line_with_end.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        line = line.get(mark..).unwrap_or_default();
        if line.len() > limits.line_bytes || line.iter().any(|&byte| byte != b' ') {
            let kept = &line[..line.len().min(limits.line_bytes)];
            lines.push(Found { offset: offset + mark as u64, text: kept.to_vec(), truncated: kept.len() < line.len() });
        }
        offset += line_with_end.len() as u64;
    }
    lines
}

fn check_record(line: &[u8], record: &Record<'_, '_>) {
    let spaces = |from: usize, to: usize| line[from..to].iter().all(|&byte| byte == b' ');
    // The timestamp of an export is before the first token.
    let mut end = record.ingest_time.map_or(0, |time| {
        assert!(is_time(time), "{time:?} is not a time");
        let start = line.iter().take_while(|&&byte| byte == b' ').count();
        assert_eq!(&line[start..start + time.len()], time, "the timestamp of an export is before the line");
        start + time.len()
    });
    for (index, token) in record.tokens.iter().enumerate() {
        assert!(token.at >= end, "{token:?} follows the token before");
        let separator = &line[end..token.at];
        assert!(
            spaces(end, token.at) || index > 0 && matches!(separator, b"\t" | b","),
            "{token:?} follows the token before, separated by spaces, a tab or a comma"
        );
        let quote = usize::from(token.quoted);
        end = token.at + quote + token.raw.len() + quote;
        assert_eq!(&line[token.at + quote..end - quote], token.raw, "{token:?} has the right position");
        assert!(!token.quoted || (line[token.at] == b'"' && line[end - 1] == b'"'), "{token:?} has quotes around it");
    }
    assert!(spaces(end, line.len()), "the last field ends the line");

    for (field, token) in record.fields() {
        let reading = field.ty.read(token);
        assert!(!token.is_absent() || reading == Reading::Absent, "{field:?} is {token:?}, which must be absent");
        if let Reading::Value(FieldValue::Time(time)) = reading {
            assert!(is_time(time), "{field:?} is {token:?}, which is not a time");
        }
        assert!(decode(token.raw).len() <= 4 * token.raw.len(), "{token:?} is more than four times as long when decoded");
    }
    assert!(
        record.extras().len() <= record.tokens.len().saturating_sub(record.format.fields.len()),
        "no more extra fields than tokens after the known fields"
    );
}

fn check_error(line: &[u8], error: &LineError) {
    let at = match *error {
        LineError::NoKind { at, .. } => at,
        LineError::FieldDelimiter { at, .. } => {
            assert!(error.to_string().contains("fieldDelimiter"), "{error}");
            at
        }
        LineError::UnclosedQuote { at, .. } => {
            assert_eq!(line.get(at), Some(&b'"'), "{error}");
            at
        }
        LineError::ControlLine | LineError::HeaderLine | LineError::Json => 0,
        LineError::TooLong { .. } => panic!("the parser does not truncate lines"),
    };
    assert!(at <= line.len(), "{error}, in a line of {} bytes", line.len());
    assert!(error.to_string().contains(&format!("byte {at}")), "{error}");
}

fn check_event(settings: &EventSettings, origin: &Origin, line: &Line<'_>) {
    let writer = EventWriter::new(settings, origin, Default::default());
    let (mut out, mut scratch) = (Buffer::from(b"before".as_slice()), Scratch::default());
    let written = writer.write(&mut out, line, &mut scratch);
    let text = str::from_utf8(&out).unwrap_or_else(|error| panic!("{error} in {}", out.escape_ascii()));
    let text = text.strip_prefix("before").expect("the text written before is unchanged");
    assert!(!text.bytes().any(|byte| byte < b' '), "{text:?} is one line");
    let event: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert_eq!(members(&event), members_as_written(text), "no member occurs twice in {text}");
    check_envelope(&event, settings, origin, line, written);
    check_parsed_part(&event, settings.schema, written);

    let mut again = Buffer::default();
    assert_eq!(writer.write(&mut again, line, &mut scratch), written, "the result does not depend on the line before");
    assert!(again[..] == *text.as_bytes(), "{} was {text} before", again.escape_ascii());
}

/// Returns the number of members of all objects in a value.
fn members(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        Value::Array(items) => items.iter().map(members).sum(),
        _ => 0,
    }
}

/// Returns the number of members in a JSON text, repeated members included. serde_json accepts repeated members, Elasticsearch
/// rejects them.
fn members_as_written(text: &str) -> usize {
    let (mut count, mut bytes, mut in_string) = (0, text.bytes(), false);
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => in_string = !in_string,
            b':' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

fn check_envelope(event: &Value, settings: &EventSettings, origin: &Origin, line: &Line<'_>, written: Written) {
    let id = format!("{}-{:012}", IdPrefix::of(origin.name()).as_str(), line.offset);
    assert_eq!(event["@metadata"], json!({"_id": id, "_ingest_document": {"id": id}}), "{event}");
    assert_eq!(event["log"]["offset"], line.offset, "{event}");
    let time = event["@timestamp"].as_str().unwrap_or_default();
    assert!(fits(&event["@timestamp"], Shape::Time), "the time {time} of {event}");
    assert_eq!(event.get("labels").is_some(), !settings.labels.is_empty(), "{event}");

    let parsed = written.kind.is_some();
    assert!(!(parsed && line.truncated), "a truncated line is not parsed");
    assert_eq!(event["event"]["original"].is_string(), !parsed || settings.include_original, "{event}");
    if let (Some(original), Ok(text)) = (event["event"]["original"].as_str(), str::from_utf8(line.text)) {
        assert_eq!(original, text);
    }
    assert_eq!(event["error"]["message"].is_string(), !parsed, "{event}");
    let tags = [
        (!parsed, "_elbparsefailure"),
        (line.truncated, "_elbtruncated"),
        (written.invalid_fields > 0, "_elbfieldfailure"),
        (written.short, "_elbshortline"),
        (written.joined, "_elbextrafields"),
    ];
    let tags: Vec<&str> = tags.into_iter().filter_map(|(applies, tag)| applies.then_some(tag)).collect();
    assert_eq!(event.get("tags"), (!tags.is_empty()).then(|| json!(tags)).as_ref(), "{event}");
}

fn check_parsed_part(event: &Value, schema: Schema, written: Written) {
    let elb = match schema {
        Schema::Native => &event["elb"],
        Schema::Ecs => &event["aws"]["elb"],
    };
    if schema == Schema::Native {
        assert_eq!(elb["kind"].as_str(), written.kind.map(|kind| kind.name()), "{event}");
    }
    assert_eq!(event["ecs"].is_object(), schema == Schema::Ecs && written.kind.is_some(), "{event}");
    assert!(elb.is_null() || written.kind.is_some(), "{event}");
    let invalid = elb["invalid"].as_object().map_or(0, |fields| fields.len());
    assert_eq!(invalid, written.invalid_fields as usize, "{event}");
    let extra = elb["extra"].as_array().map_or(0, |items| items.iter().filter(|item| !item.is_null()).count());
    assert_eq!(extra, written.extra_fields as usize, "{event}");
    assert!(written.extra_fields <= written.unknown_fields, "{written:?}");
    assert!(!written.joined || written.unknown_fields > 8, "{written:?}");

    let (.., shapes) = SHAPES
        .iter()
        .find(|(known, kind, _)| (*known, *kind) == (schema, written.kind))
        .expect("every schema and kind has shapes");
    for (name, value) in event.as_object().expect("an object") {
        check_shape(name, value, shapes);
    }
}

type Shapes = HashMap<String, Shape>;

/// The shapes of all members by schema and kind (none for unparsed lines), from which the index templates are generated.
static SHAPES: LazyLock<Vec<(Schema, Option<Kind>, Shapes)>> = LazyLock::new(|| {
    let kinds = || Kind::ALL.into_iter().map(Some).chain([None]);
    let pairs = SCHEMAS.into_iter().flat_map(|schema| kinds().map(move |kind| (schema, kind)));
    pairs.map(|(schema, kind)| (schema, kind, shapes(schema, kind))).collect()
});

fn shapes(schema: Schema, kind: Option<Kind>) -> Shapes {
    let envelope = [
        ("@timestamp", Shape::Time),
        ("@metadata", Shape::Object),
        ("aws.s3", Shape::Object),
        ("log", Shape::Object),
        ("cloud", Shape::Object),
        ("labels", Shape::Object),
        ("event.original", Shape::Text),
        ("tags", Shape::Text),
        ("error.message", Shape::Text),
    ];
    let names = kind.map(|kind| names(schema, kind.format())).unwrap_or_default();
    let envelope = envelope.into_iter().map(|(name, shape)| (name.to_owned(), shape));
    envelope.chain(names.into_iter().map(|name| (name.name, name.shape))).collect()
}

/// Checks a member and the members below it. Elasticsearch rejects an event if a value does not fit its mapping.
fn check_shape(name: &str, value: &Value, shapes: &Shapes) {
    match (shapes.get(name), value) {
        (Some(shape), value) => assert!(fits(value, *shape), "{name} is {value}, which is not {shape:?}"),
        (None, Value::Object(members)) => {
            members.iter().for_each(|(part, value)| check_shape(&format!("{name}.{part}"), value, shapes));
        }
        (None, value) => panic!("{name} with value {value} is not a name of the schema"),
    }
}

fn fits(value: &Value, shape: Shape) -> bool {
    match (shape, value) {
        (Shape::Text | Shape::Integer, Value::Array(items)) => items.iter().all(|item| item.is_null() || fits(item, shape)),
        (Shape::Text, value) => value.is_string(),
        // serde_json reads -0 as a float.
        (Shape::Integer, value) => value.is_i64() || value.as_f64() == Some(0.0),
        (Shape::Decimal, value) => value.is_number(),
        (Shape::Ip, value) => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        // Elasticsearch rejects more than nine digits of a second's fraction.
        (Shape::Time, value) => value.as_str().is_some_and(|text| {
            is_time(text.as_bytes()) && text.ends_with('Z') && text.len() <= "YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ".len()
        }),
        (Shape::Object, value) => value.is_object(),
    }
}
