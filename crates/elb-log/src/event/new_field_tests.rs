//! Tests that a new field is one row in its format's table, from which everything else follows.

use std::sync::LazyLock;

use serde_json::Value;

use super::envelope::Envelope;
use super::explain::explain_record;
use super::fields::{Fields, Parsed};
use super::vended::{Vended, members_of};
use super::{EventSettings, Schema, ecs, names, native};
use crate::buffer::Buffer;
use crate::format::field::field;
use crate::format::{Field, Format, Kind, Record, TokenBuffer, parse};
use crate::lines::Line;
use crate::origin::{ObjectName, Origin};
use crate::reference::{markdown_of, template_of};

/// The table of ALB access logs with a made-up field behind its last one.
static FORMAT: LazyLock<Format> = LazyLock::new(|| {
    let format = Kind::Alb.format();
    let fields: Vec<Field> =
        format.fields.iter().copied().chain([field!("made:up" or "invented", Integer, "made_up", ["aws.elb.made_up"])]).collect();
    Format { fields: fields.leak(), ..*format }
});

/// A line that has a value for every field of the table.
fn line() -> String {
    let known = Kind::Alb.format().fields.len();
    let words = ["h2", "2026-03-02T10:15:04Z", "app/web/1", "192.0.2.1:80"];
    words.into_iter().map(str::to_owned).chain((words.len()..known).map(|_| "-".to_owned())).collect::<Vec<_>>().join(" ") + " 7"
}

fn with_record<T>(check: impl FnOnce(&Line<'_>, &Record<'_, '_>) -> T) -> T {
    let (text, mut tokens) = (line(), TokenBuffer::default());
    let record = parse(text.as_bytes(), &mut tokens).expect("an ALB line");
    assert_eq!(record.extras().len(), 1, "without its row, the field is one beyond the known ones");
    let line = Line { text: text.as_bytes(), offset: 0, truncated: false };
    check(&line, &Record { format: &FORMAT, ..record })
}

fn envelope() -> Envelope {
    let origin = Origin::LocalFile(ObjectName { bucket: String::new(), key: "a.log".to_owned() });
    Envelope::new(&EventSettings::default(), &origin, jiff::Timestamp::UNIX_EPOCH)
}

#[test]
fn both_schemas_write_a_new_field_under_its_names() {
    with_record(|line, record| {
        let mut out = Buffer::default();
        native::write(&mut out, &envelope(), line, record, &mut Vec::new(), false);
        let event: Value = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!((&event["elb"]["made_up"], &event["elb"]["extra"]), (&Value::from(7), &Value::Null));

        let (mut out, mut fields) = (Buffer::default(), Fields::default());
        fields.read(record);
        let parsed = Parsed { line, record, fields: &fields };
        ecs::write(&mut out, &ecs::Plan::of(&FORMAT), &envelope(), &parsed, false);
        let event: Value = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!((&event["aws"]["elb"]["made_up"], &event["aws"]["elb"]["extra"]), (&Value::from(7), &Value::Null));
    });
}

#[test]
fn explain_shows_a_new_field_at_its_position() {
    with_record(|line, record| {
        let explanation = explain_record(line.text, record, &ecs::Plan::of(&FORMAT), String::new());
        let last = explanation.fields.last().expect("fields");
        assert_eq!((last.number, last.aws, last.raw.as_str()), (FORMAT.fields.len(), "made:up", "7"));
        assert_eq!(explanation.known_fields, FORMAT.fields.len());
        assert!(last.native.contains_key("elb.made_up") && last.ecs.contains_key("aws.elb.made_up"), "{last:?}");
    });
}

#[test]
fn vended_json_has_a_new_field_under_each_of_its_names() {
    for name in ["made_up", "made:up", "invented"] {
        let line = format!(r#"{{"type":"h2","{name}":7}}"#);
        let vended = Vended::of(Kind::Alb, &FORMAT, members_of(line.as_bytes(), 0).expect("a JSON object"));
        assert_eq!(vended.tokens().last().map(|token| token.raw), Some(b"7".as_slice()), "{name}");
    }
}

#[test]
fn field_reference_and_index_templates_list_a_new_field() {
    let row = format!("| {} | `made:up` | integer | `elb.made_up` | `aws.elb.made_up` |", FORMAT.fields.len());
    let page = markdown_of(&[&FORMAT]);
    assert!(page.contains(&row), "{row} is not in\n{page}");
    let native = template_of(Schema::Native, &[&FORMAT]);
    assert_eq!(native.pointer("/template/mappings/properties/elb/properties/made_up/type"), Some(&Value::from("long")));
    let ecs = template_of(Schema::Ecs, &[&FORMAT]);
    assert_eq!(
        ecs.pointer("/template/mappings/properties/aws/properties/elb/properties/made_up/type"),
        Some(&Value::from("long"))
    );
    for schema in [Schema::Native, Schema::Ecs] {
        assert!(names(schema, &FORMAT).iter().any(|name| name.field == Some(FORMAT.fields.len() - 1)), "{schema:?}");
    }
}
