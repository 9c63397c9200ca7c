//! Generated files match the code. `UPDATE_GOLDEN=1 cargo test -p elb-log --test it golden` updates them.
//!
//! `tests/golden/` has the events of the samples, one file for each log type and schema. Review their changes by reading them.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, EventWriter, Schema, Scratch};
use elb_log::inflate::Inflate;
use elb_log::lines::{LineLimits, LineSplitter};
use elb_log::origin::{ObjectName, Origin};
use elb_log::reference::{fields_markdown, index_template};
use serde_json::Value;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[track_caller]
fn check(path: &str, expected: &str) {
    let file = project(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(file.parent().expect("a directory")).expect("creating it");
        fs::write(&file, expected).expect("writing a golden file");
        return;
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let outdated = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{path} is out of date from line {}; if the change is intended, run UPDATE_GOLDEN=1 cargo test -p elb-log --test it golden and review the difference",
        outdated.unwrap_or_else(|| found.lines().count().min(expected.lines().count())) + 1
    );
}

/// Returns the events of a sample object.
fn events(schema: Schema, key: &str) -> Vec<String> {
    let body = fs::read(project("samples/buckets/example-elb-logs").join(key)).unwrap_or_else(|error| panic!("{key}: {error}"));
    let mut lines = LineSplitter::new(LineLimits { line_bytes: 1 << 20, block_lines: usize::MAX, block_bytes: usize::MAX });
    let mut inflate = Inflate::default();
    inflate.step(&mut &body[..], lines.buffer(), 1 << 20).expect("a whole object");
    inflate.finish(lines.buffer()).expect("a whole object");
    assert!(lines.next_block().is_none());
    let block = lines.finish().expect("lines");
    let origin = Origin::Bucket(ObjectName { bucket: "example-elb-logs".to_owned(), key: key.to_owned() });
    let settings = EventSettings { schema, ..EventSettings::default() };
    let writer = EventWriter::new(&settings, &origin, jiff::Timestamp::UNIX_EPOCH);
    let mut scratch = Scratch::default();
    let event = |line| {
        let mut out = Buffer::default();
        writer.write(&mut out, &line, &mut scratch);
        String::from_utf8(out.to_vec()).expect("UTF-8")
    };
    block.lines().map(event).collect()
}

/// Returns the key of each sample object by the name of its golden files.
fn samples() -> BTreeMap<&'static str, String> {
    let day = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/";
    let name = "123456789012_elasticloadbalancing_eu-west-1_";
    [
        ("alb", format!("{day}{name}app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_3x8q0pzt.log.gz")),
        ("alb_odd_lines", format!("{day}{name}app.web.50dc6c495c0c9188_20260302T1025Z_203.0.113.7_0ddl1nes.log.gz")),
        ("alb_connection", format!("{day}conn_log_{name}app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_1k5dy7rb.log.gz")),
        (
            "alb_health_check",
            format!("{day}health_check_log_{name}app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_2w9hc4ne.log.gz"),
        ),
        ("classic", format!("{day}{name}shop-classic_20260302T1020Z_203.0.113.21_4z1qm8vw.log")),
        ("nlb", format!("{day}{name}net.edge.7d2f0c41aa93be05_20260302T1020Z_8f3kq1zd.log.gz")),
        ("vended", "vended/alb_access_2026-03-02.json.gz".to_owned()),
    ]
    .into()
}

#[test]
fn events_of_the_samples_match_the_golden_files() {
    for (sample, key) in samples() {
        for (schema, name) in [(Schema::Native, "native"), (Schema::Ecs, "ecs")] {
            check(&format!("crates/elb-log/tests/golden/{sample}.{name}.jsonl"), &(events(schema, &key).join("\n") + "\n"));
        }
    }
}

#[test]
fn the_field_reference_is_up_to_date() {
    check("docs/fields.md", &fields_markdown());
}

#[test]
fn the_index_templates_are_up_to_date() {
    for (schema, name) in [(Schema::Native, "native"), (Schema::Ecs, "ecs")] {
        let json = serde_json::to_string_pretty(&index_template(schema)).expect("JSON") + "\n";
        check(&format!("samples/elasticsearch/{name}.json"), &json);
    }
}

/// The mapping of every value has the value's type: a number is not mapped as text, and text is not mapped as a number, an
/// address or a time, unless the text is one.
#[test]
fn index_templates_map_every_value_to_its_type() {
    for (schema, name) in [(Schema::Native, "native"), (Schema::Ecs, "ecs")] {
        let template = index_template(schema);
        let properties = &template["template"]["mappings"]["properties"];
        for event in samples().values().flat_map(|key| events(schema, key)) {
            let event: Value = serde_json::from_str(&event).expect("JSON");
            for (member, value) in event.as_object().expect("an object").iter().filter(|(member, _)| *member != "@metadata") {
                check_mapping(&format!("{name}: {member}"), value, properties.get(member));
            }
        }
    }
}

fn check_mapping(path: &str, value: &Value, mapping: Option<&Value>) {
    let mapped = mapping.and_then(|mapping| mapping["type"].as_str()).unwrap_or_default();
    match value {
        Value::Object(members) => {
            // Invalid fields have no fixed names. All of them are text, which the dynamic template maps.
            if path.ends_with(".invalid") {
                assert!(members.values().all(Value::is_string), "{path}: {value}");
                return;
            }
            let properties = mapping.map(|mapping| &mapping["properties"]).unwrap_or_else(|| panic!("{path} has no mapping"));
            members.iter().for_each(|(member, value)| check_mapping(&format!("{path}.{member}"), value, properties.get(member)));
        }
        Value::Array(items) => items.iter().for_each(|item| check_mapping(path, item, mapping)),
        Value::Number(number) => {
            let fits = mapped == "double" || (mapped == "long" && number.is_i64());
            assert!(fits, "{path}: the number {number} is mapped as {mapped:?}");
        }
        Value::String(text) => {
            let fits = match mapped {
                "keyword" | "text" => true,
                "ip" => text.parse::<IpAddr>().is_ok(),
                "date" => text.parse::<jiff::Timestamp>().is_ok(),
                _ => false,
            };
            assert!(fits, "{path}: the text {text:?} is mapped as {mapped:?}");
        }
        Value::Bool(_) => panic!("{path}: events do not have booleans"),
        Value::Null => {}
    }
}
