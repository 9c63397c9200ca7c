//! The event writer writes valid JSON with the right envelope and fields for any line.

use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, EventWriter, IdPrefix, Schema, Scratch, Written};
use elb_log::format::Kind;
use elb_log::lines::Line;
use elb_log::origin::{ObjectName, Origin};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

use crate::support::{alb_key, alb_line};

fn bucket_origin() -> Origin {
    Origin::Bucket(ObjectName { bucket: "logs".to_owned(), key: alb_key("a") })
}

fn write_with(settings: &EventSettings, origin: &Origin, line: &Line<'_>) -> (Value, Written) {
    let modified = "2026-05-06T07:08:09Z".parse().expect("a time");
    let writer = EventWriter::new(settings, origin, modified);
    let mut out = Buffer::default();
    let written = writer.write(&mut out, line, &mut Scratch::default());
    let text = str::from_utf8(&out).unwrap_or_else(|error| panic!("{error} in {}", out.escape_ascii()));
    (serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}")), written)
}

fn event_of(text: &str) -> Value {
    write_with(&EventSettings::default(), &bucket_origin(), &Line { text: text.as_bytes(), offset: 7, truncated: false }).0
}

/// Returns the sample line with the text of one field replaced. The field has AWS's name.
fn with_field(name: &str, text: &str) -> String {
    let index = Kind::Alb.format().fields.iter().position(|field| field.aws == name).expect("a field of ALB access logs");
    let mut fields = Vec::new();
    let mut quoted = false;
    for word in alb_line(7).split(' ') {
        if quoted {
            let last: &mut String = fields.last_mut().expect("a quoted field has begun");
            last.push(' ');
            last.push_str(word);
        } else {
            fields.push(word.to_owned());
        }
        quoted ^= word.matches('"').count() % 2 == 1;
    }
    fields[index] = text.to_owned();
    fields.join(" ")
}

#[test]
fn the_envelope_has_the_location_of_the_line() {
    let event = event_of(&alb_line(7));
    let id = format!("{}-000000000007", IdPrefix::of(bucket_origin().name()).as_str());
    assert_eq!(event["@timestamp"], "2026-03-02T10:15:00.000007Z");
    assert_eq!(event["@metadata"], json!({"_id": id, "_ingest_document": {"id": id}}));
    assert_eq!(event["aws"], json!({"s3": {"bucket": {"name": "logs"}, "object": {"key": alb_key("a")}}}));
    assert_eq!(event["log"], json!({"offset": 7}));
    assert_eq!(event["cloud"], json!({"provider": "aws", "account": {"id": "123456789012"}, "region": "eu-west-1"}));
    let members: Vec<&String> = event.as_object().expect("an object").keys().collect();
    assert_eq!(members.len(), 6, "six members, elb included: {members:?}");
}

#[test]
fn numbers_keep_their_digits_and_absent_fields_are_omitted() {
    let writer = EventWriter::new(&EventSettings::default(), &bucket_origin(), jiff::Timestamp::UNIX_EPOCH);
    let mut out = Buffer::default();
    let line = alb_line(7);
    writer.write(&mut out, &Line { text: line.as_bytes(), offset: 0, truncated: false }, &mut Scratch::default());
    let text = String::from_utf8(out.to_vec()).expect("UTF-8");
    assert!(text.contains(r#""request_processing_time":0.000,"target_processing_time":0.012"#), "{text}");
    assert!(!text.contains("redirect_url") && !text.contains("classification"), "{text}");
}

#[test]
fn a_local_file_has_a_path_instead_of_a_bucket() {
    let origin = Origin::LocalFile(ObjectName { bucket: String::new(), key: "logs/a b.log".to_owned() });
    let line = alb_line(1);
    let line = Line { text: line.as_bytes(), offset: 3, truncated: false };
    let (event, _) = write_with(&EventSettings::default(), &origin, &line);
    assert_eq!(event["log"], json!({"offset": 3, "file": {"path": "logs/a b.log"}}));
    assert_eq!((event.get("aws"), &event["cloud"]), (None, &json!({"provider": "aws"})));
}

#[test]
fn labels_and_the_original_are_added_on_request() {
    let settings = EventSettings {
        schema: Schema::Native,
        include_original: true,
        labels: vec![("env".to_owned(), "pr\"od".to_owned())],
        ..EventSettings::default()
    };
    let text = alb_line(1);
    let (event, _) = write_with(&settings, &bucket_origin(), &Line { text: text.as_bytes(), offset: 0, truncated: false });
    assert_eq!(event["labels"], json!({"env": "pr\"od"}));
    assert_eq!(event["event"], json!({"original": text}));
}

#[test]
fn an_unparsed_line_keeps_its_text_and_the_reason() {
    let event = event_of("no log line");
    assert_eq!(event["@timestamp"], "2026-03-02T10:20:00Z");
    assert_eq!(event["event"]["original"], "no log line");
    assert_eq!(event["tags"], json!(["_elbparsefailure"]));
    assert_eq!(event["error"]["message"], "no known kind of log line: expected a time at byte 3");
    assert_eq!(event.get("elb"), None);
}

#[test]
fn an_unparsed_line_gets_the_time_of_its_object() {
    let origin = Origin::Bucket(ObjectName { bucket: "logs".to_owned(), key: "x".to_owned() });
    let (event, _) = write_with(&EventSettings::default(), &origin, &Line { text: b"x", offset: 0, truncated: false });
    assert_eq!(event["@timestamp"], "2026-05-06T07:08:09Z");
}

#[test]
fn a_truncated_line_is_not_parsed() {
    let text = alb_line(1);
    let (event, written) = write_with(
        &EventSettings::default(),
        &bucket_origin(),
        &Line { text: &text.as_bytes()[..300], offset: 0, truncated: true },
    );
    assert_eq!(event["tags"], json!(["_elbparsefailure", "_elbtruncated"]));
    assert_eq!(event["error"]["message"], "longer than MAX_LINE_BYTES: cut off at byte 300");
    assert_eq!((event.get("elb"), written.kind), (None, None));
}

#[test]
fn an_invalid_field_is_moved_to_invalid() {
    let event = event_of(&with_field("elb_status_code", "abc"));
    assert_eq!(event["elb"].get("elb_status_code"), None);
    assert_eq!(event["elb"]["invalid"], json!({"elb_status_code": "abc"}));
    assert_eq!(event["tags"], json!(["_elbfieldfailure"]));
    let event = event_of(&with_field("client:port", "198.51.100.9:http"));
    assert_eq!(event["elb"]["client_ip"], "198.51.100.9");
    assert_eq!(event["elb"]["invalid"], json!({"client_port": "http"}));
    let event = event_of(&with_field("target_status_code_list", "\"200 abc\""));
    assert_eq!(event["elb"]["invalid"], json!({"target_status_code_list": "200 abc"}));
}

#[test]
fn unknown_fields_are_kept_in_order() {
    let event = event_of(&format!("{} - \"zone a\" \"-\" 17", alb_line(1)));
    assert_eq!(event["elb"]["extra"], json!([null, "zone a", null, "17"]));
    assert_eq!(event_of(&format!("{} - \"-\"", alb_line(1)))["elb"].get("extra"), None);
}

#[test]
fn a_short_line_keeps_the_fields_that_it_has() {
    let text = alb_line(1).split(' ').take(12).collect::<Vec<_>>().join(" ");
    let event = event_of(&text);
    assert_eq!(event["tags"], json!(["_elbshortline"]));
    assert_eq!(event["elb"]["sent_bytes"], 15_342);
}

#[test]
fn the_node_address_comes_from_the_line_or_the_key() {
    assert_eq!(event_of(&with_field("ip_address", "192.0.2.99"))["elb"]["ip_address"], "192.0.2.99");
    assert_eq!(event_of(&with_field("ip_address", "-"))["elb"]["ip_address"], "203.0.113.7");
}

#[test]
fn targets_are_addresses_host_names_or_functions() {
    let target = |text: &str| event_of(&with_field("target:port", text))["elb"].clone();
    let port = json!(8080);
    assert_eq!(
        (&target("[2001:db8::1]:8080")["target_ip"], &target("[2001:db8::1]:8080")["target_port"]),
        (&json!("2001:db8::1"), &port)
    );
    assert_eq!(target("web.example:8080")["target_address"], "web.example");
    assert_eq!(
        target("arn:aws:lambda:eu-west-1:123456789012:function:f:7")["target_arn"],
        "arn:aws:lambda:eu-west-1:123456789012:function:f:7"
    );
    assert_eq!(target("web")["invalid"], json!({"target": "web"}));
    let absent = target("-");
    assert!(!absent.to_string().contains("target_ip") && !absent.to_string().contains("target_port\""), "{absent}");
}

#[test]
fn reads_every_number_of_fields_since_the_first_format() {
    let format = Kind::Alb.format();
    let priority = format.fields.iter().position(|field| field.aws == "matched_rule_priority").expect("a field");
    for width in format.shortest..=format.fields.len() {
        let mut text = alb_line(1);
        let mut quoted = false;
        let mut fields = 1;
        let cut = text.bytes().position(|byte| {
            quoted ^= byte == b'"';
            fields += usize::from(byte == b' ' && !quoted);
            fields > width
        });
        text.truncate(cut.unwrap_or(text.len()));
        let (event, written) =
            write_with(&EventSettings::default(), &bucket_origin(), &Line { text: text.as_bytes(), offset: 0, truncated: false });
        assert_eq!((written.short, written.invalid_fields, written.extra_fields), (false, 0, 0), "width {width}: {event}");
        assert_eq!(event["elb"]["trace_id"], "Root=1-69a56328-000000000000000000000001", "width {width}");
        assert_eq!(event["elb"].get("matched_rule_priority").is_some(), width > priority, "width {width}");
    }
}

/// Text like a field of a log line, often unusual.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let usual = prop::sample::select(vec![
        "-",
        "\"-\"",
        "\"\"",
        "200",
        "-1",
        "0.000",
        "https",
        "2026-03-02T10:15:04.123456Z",
        "10.0.0.1:80",
        "2001:db8::1:80",
        "\"GET http://h:80/p?q HTTP/1.1\"",
        "\"a \\\" b\"",
        "\"\\x22\\xFF\"",
        "abc",
        "\"",
        "\\",
        "arn:aws:x",
        ":",
        "\"1 2\"",
    ]);
    prop_oneof![
        3 => usual.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

/// Returns the object that only events of parsed lines have.
fn parsed_part(event: &Value, schema: Schema) -> Option<&Value> {
    match schema {
        Schema::Native => event.get("elb"),
        Schema::Ecs => event["aws"].get("elb"),
    }
}

fn schema() -> impl Strategy<Value = Schema> {
    prop::sample::select(vec![Schema::Native, Schema::Ecs])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn arbitrary_bytes_become_one_valid_event(text in prop::collection::vec(any::<u8>(), 1..400), truncated: bool, include_original: bool, schema in schema()) {
        let settings = EventSettings { schema, include_original, ..EventSettings::default() };
        let (event, written) = write_with(&settings, &bucket_origin(), &Line { text: &text, offset: 1, truncated });
        prop_assert_eq!(written.kind.is_some(), parsed_part(&event, schema).is_some());
        prop_assert_eq!(written.kind.is_none() || include_original, event["event"]["original"].is_string());
    }

    #[test]
    fn arbitrary_fields_become_one_valid_event(fields in prop::collection::vec(field(), 0..40), include_original: bool, schema in schema()) {
        let mut text = b"https 2026-03-02T10:15:04.123456Z app/web/1 198.51.100.9:41822 ".to_vec();
        text.extend(fields.join(&b' '));
        let settings = EventSettings { schema, include_original, ..EventSettings::default() };
        let (event, written) = write_with(&settings, &bucket_origin(), &Line { text: &text, offset: 1, truncated: false });
        if let Some(invalid) = parsed_part(&event, schema).and_then(|elb| elb.get("invalid")) {
            prop_assert_eq!(invalid.as_object().expect("an object").len() as u64, u64::from(written.invalid_fields));
        } else {
            prop_assert_eq!(written.invalid_fields, 0);
        }
        prop_assert_eq!(event["tags"].to_string().contains("_elbfieldfailure"), written.invalid_fields > 0);
    }

    #[test]
    fn the_original_of_a_utf8_line_is_the_line(text in "\\PC{1,200}") {
        let (event, _) = write_with(
            &EventSettings { include_original: true, ..EventSettings::default() },
            &bucket_origin(),
            &Line { text: text.as_bytes(), offset: 1, truncated: false },
        );
        prop_assert_eq!(&event["event"]["original"], &json!(text));
    }
}
