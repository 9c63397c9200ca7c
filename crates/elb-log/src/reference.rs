//! Generates the field reference and the index templates from the field tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::event::{MemberName, Schema, Shape, names};
use crate::format::{Format, Kind, Type};

/// Maximum number of characters of an indexed text: Lucene's limit of 32,766 bytes, divided by up to four bytes per character.
const INDEXED_CHARACTERS: u32 = 8_191;

/// Returns the page `docs/fields.md`, which lists every field of every log type.
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
            "\n## `{}`\n\nRecognised by: {}. {} fields; a line with fewer than {} fields has the tag `_elbshortline`.\n\n\
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
                "| {} | `{}`{} | {} | {} | {} |",
                index + 1,
                field.aws,
                if field.confirmed { "" } else { " (unconfirmed)" },
                type_name(field.ty),
                name_list(&native, Some(index), field.is_timestamp()),
                name_list(&ecs, Some(index), field.is_timestamp())
            );
        }
        let _ = writeln!(page, "| | | | {} | {} |", name_list(&native, None, false), name_list(&ecs, None, false));
    }
    page
}

/// Returns the index template of a schema for Elasticsearch and OpenSearch, as in `samples/elasticsearch/*.json`.
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
    // The patterns do not overlap, so that both templates can be installed at the same time.
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
        "_meta": {"description": "Events of elb-log-shipper, generated from its field tables"},
    })
}

const FIELDS_INTRODUCTION: &str = "\
# Fields

This page lists every field of every log type, in the order in which AWS writes the fields, with its names in both schemas (`EVENT_SCHEMA`).
It is generated from the field tables in `crates/elb-log/src/format/`; a test fails if it is out of date.

* A field of type `ip:port` becomes several members: the port as `…_port`, and the host as `…_ip`, or as `…_address` if it is not an IP address. An ARN becomes `…_arn`.
* A processing time of -1 is omitted, like every value that AWS writes as `-`.
* If a value does not match the type of its field, its text is in `elb.invalid` (`aws.elb.invalid`), and the event has the tag `_elbfieldfailure`.
* Fields after the known ones are in `elb.extra` (`aws.elb.extra`), in their order, with null for `-`.
* A field of type word, ARN, load balancer or trace ID never has the text of another field: an address, a time or the ID of something else there is a value of the wrong type. A line that lacks one of its fields is found that way, because the fields after the gap are shifted. Deliveries through CloudWatch Logs can be set up to leave out fields.
* An unconfirmed field is on real lines, but AWS has not published its name. The name comes from elsewhere and may change.
* `elb.ingest_time` (`event.ingested`) is the timestamp that an export of CloudWatch Logs writes before each line.
* The last row of each table has the names that do not come from a single field.

## When AWS adds a field

Nothing breaks. The text of the new field is in `elb.extra` from the first day, and `extra_fields` in the report increases.
Before the first day, AWS often writes `-` in the place of the new field. Then `longer_lines` in the report increases, and `extra_fields` does not.
To name the field, add one row at the end of its format's table: AWS's name, the type, the name in `native`, and the names in `ecs`. Then run `UPDATE_GOLDEN=1 cargo test -p elb-log --test it golden` to update this page and the index templates.
Documents that were indexed before keep the value in `elb.extra`. Replay their objects to replace these documents: the ids stay the same, and the field gets its name. Without a replay, searches must query both names.
";

/// Returns the name of a type for the field reference.
fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Text => "text",
        Type::Word => "word",
        Type::Arn => "ARN or word",
        Type::LoadBalancerId | Type::LoadBalancerName => "load balancer",
        Type::ConnectionTraceId => "trace ID",
        Type::Integer => "integer",
        Type::Port => "port",
        Type::Decimal => "decimal",
        Type::ProcessingTime => "seconds",
        Type::Ip | Type::NodeIp => "address",
        Type::HostPort => "ip:port",
        Type::Timestamp => "time of the event",
        Type::Time => "time",
        Type::Request => "request",
        Type::WordList => "words, separated by commas",
        Type::TargetList => "ip:port, separated by spaces",
        Type::IntegerList => "integers, separated by spaces",
        Type::AlpnList => "quoted texts, separated by commas",
        Type::Validity => "two times",
    }
}

/// Returns the names of one field; without a field, the names that come from no single field.
fn name_list(names: &[MemberName], field: Option<usize>, timestamp: bool) -> String {
    let own = names.iter().filter(|name| name.field == field).map(|name| name.name.as_str());
    // In both schemas the envelope has the time of the event.
    let envelope = (timestamp && !names.iter().any(|name| name.name == "@timestamp")).then_some("@timestamp");
    let cells: Vec<String> = envelope.into_iter().chain(own).map(|name| format!("`{name}`")).collect();
    if cells.is_empty() { "—".to_owned() } else { cells.join(" ") }
}

/// Returns the mapping of a value in Elasticsearch.
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

/// Inserts a dotted name into a tree of `properties`.
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
