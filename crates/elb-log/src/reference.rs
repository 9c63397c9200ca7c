//! The field reference and the index templates, made from the field tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::event::{MemberName, Schema, Shape, names};
use crate::format::{Format, Kind, Type};

/// The longest text that is indexed: Lucene's limit of 32,766 bytes at up to four bytes a character.
const INDEXED_CHARACTERS: u32 = 8_191;

/// Every field of every kind: `docs/fields.md`.
pub fn fields_markdown() -> String {
    markdown_of(&Kind::ALL.map(Kind::format))
}

/// Returns the page for these formats.
pub(crate) fn markdown_of(formats: &[&Format]) -> String {
    let mut page = String::from(FIELDS_INTRODUCTION);
    for format in formats {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## `{}`\n\nRecognised by: {}. {} fields; a line with fewer than {} is tagged `_elbshortline`.\n\n\
             | # | AWS | type | `native` | `ecs` |\n| --- | --- | --- | --- | --- |\n",
            format.name,
            format.recognised_by,
            format.fields.len(),
            format.shortest
        );
        let (native, ecs) = (names(Schema::Native, format), names(Schema::Ecs, format));
        for (index, field) in format.fields.iter().enumerate() {
            let _ = writeln!(
                page,
                "| {} | `{}` | {} | {} | {} |",
                index + 1,
                field.aws,
                type_name(field.ty),
                name_list(&native, Some(index), field.is_timestamp()),
                name_list(&ecs, Some(index), field.is_timestamp())
            );
        }
        let _ = writeln!(page, "| | | | {} | {} |", name_list(&native, None, false), name_list(&ecs, None, false));
    }
    page
}

/// The index template of a schema, for Elasticsearch and OpenSearch: `samples/elasticsearch/*.json`.
pub fn index_template(schema: Schema) -> Value {
    template_of(schema, &Kind::ALL.map(Kind::format))
}

/// Returns the index template for these formats.
pub(crate) fn template_of(schema: Schema, formats: &[&Format]) -> Value {
    let mut shapes = BTreeMap::new();
    for format in formats {
        for MemberName { name, shape, .. } in names(schema, format) {
            shapes.insert(name, shape);
        }
    }
    shapes.insert("@timestamp".to_owned(), Shape::Time);
    for name in
        ["aws.s3.bucket.name", "aws.s3.object.key", "cloud.provider", "cloud.account.id", "cloud.region", "log.file.path", "tags"]
    {
        shapes.insert(name.to_owned(), Shape::Text);
    }
    shapes.insert("log.offset".to_owned(), Shape::Integer);
    let mut properties = Map::new();
    for (name, shape) in shapes.into_iter().filter(|(_, shape)| *shape != Shape::Object) {
        insert(&mut properties, &name, mapping(shape));
    }
    insert(&mut properties, "event.original", json!({"type": "keyword", "index": false, "doc_values": false}));
    insert(&mut properties, "error.message", json!({"type": "text"}));
    // The patterns do not overlap, so that both templates can be installed beside each other.
    let index_patterns = match schema {
        Schema::Native => json!(["elb-events-*", "elb-unparsed-*"]),
        Schema::Ecs => json!(["elb-ecs-*"]),
    };
    json!({
        "index_patterns": index_patterns,
        "priority": 200,
        "template": {"mappings": {
            "date_detection": false,
            "numeric_detection": false,
            "dynamic_templates": [{"texts": {"match_mapping_type": "string", "mapping": mapping(Shape::Text)}}],
            "properties": properties,
        }},
        "_meta": {"description": "Events of elb-log-shipper, made from its field tables"},
    })
}

const FIELDS_INTRODUCTION: &str = "\
# Fields

Every field of every kind of log, in the order in which AWS writes them, and what it is called in each schema (`EVENT_SCHEMA`).
This page is made from the field tables in `src/format/`; a test fails if it is stale.

* A field of type `ip:port` becomes several members: the address as `…_ip`, or as `…_address` if it is no IP address, or the whole as `…_arn`.
* A processing time of -1 is left out, like everything that AWS writes as `-`.
* A field that is not of its type is in `elb.invalid` (`aws.elb.invalid`) as text, and the event is tagged `_elbfieldfailure`.
* Fields beyond the known ones are in `elb.extra` (`aws.elb.extra`), in order, with null for `-`.
* The names in the last row of a table come from several fields, from the object's key, or from none.

## When AWS adds a field

Nothing breaks: the field's text is in `elb.extra` from the first day, and `extra_fields` in the report grows.
It gets its name by one more line at the end of its format's table: AWS's name, its type, its name in `native`, its names in `ecs`. This page, the index templates and the tests follow from it (`UPDATE_GOLDEN=1 cargo test` writes them anew).
Documents indexed before keep the value in `elb.extra`. Replaying their objects writes them again under the same ids with the field in its place; otherwise a search over both has to ask for both.
";

fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Text => "text",
        Type::Integer => "integer",
        Type::Port => "port",
        Type::Decimal => "decimal",
        Type::ProcessingTime => "seconds",
        Type::Ip | Type::NodeIp => "address",
        Type::HostPort => "ip:port",
        Type::Timestamp => "time of the event",
        Type::Time => "time",
        Type::Request => "request",
        Type::CommaList => "texts, by commas",
        Type::SpaceList => "texts, by spaces",
        Type::IntegerList => "integers, by spaces",
        Type::AlpnList => "quoted texts, by commas",
        Type::Validity => "two times",
    }
}

fn name_list(names: &[MemberName], field: Option<usize>, timestamp: bool) -> String {
    let own = names.iter().filter(|name| name.field == field).map(|name| name.name.as_str());
    // Both schemas have the event's time in the envelope.
    let envelope = (timestamp && !names.iter().any(|name| name.name == "@timestamp")).then_some("@timestamp");
    let cells: Vec<String> = envelope.into_iter().chain(own).map(|name| format!("`{name}`")).collect();
    if cells.is_empty() { "—".to_owned() } else { cells.join(" ") }
}

fn mapping(shape: Shape) -> Value {
    match shape {
        Shape::Text => json!({"type": "keyword", "ignore_above": INDEXED_CHARACTERS}),
        Shape::Integer => json!({"type": "long"}),
        Shape::Decimal => json!({"type": "double"}),
        Shape::Ip => json!({"type": "ip"}),
        Shape::Time => json!({"type": "date"}),
        Shape::Object => json!({"type": "object"}),
    }
}

/// Puts a dotted name into a tree of `properties`.
fn insert(properties: &mut Map<String, Value>, name: &str, mapping: Value) {
    match name.split_once('.') {
        None => {
            properties.insert(name.to_owned(), mapping);
        }
        Some((group, rest)) => {
            let group = properties.entry(group).or_insert_with(|| json!({"properties": {}}));
            if let Some(inner) = group.get_mut("properties").and_then(Value::as_object_mut) {
                insert(inner, rest, mapping);
            }
        }
    }
}
