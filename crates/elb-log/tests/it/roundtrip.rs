//! A record of any kind that is written as AWS writes it is read back unchanged, also with fields that AWS may add later.

use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, EventWriter, Schema, Scratch, Written};
use elb_log::format::{Kind, Quoting, Type};
use elb_log::inflate::{Inflate, InflateProgress};
use elb_log::lines::{Line, LineLimits, LineSplitter};
use elb_log::origin::{ObjectName, Origin};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Map, Value, json};

/// A field as AWS writes it, and its members of `elb` in the event.
#[derive(Clone, Debug)]
struct Logged {
    raw: String,
    members: Vec<(String, Value)>,
}

fn logged(raw: impl Into<String>, members: impl IntoIterator<Item = (String, Value)>) -> Logged {
    Logged { raw: raw.into(), members: members.into_iter().collect() }
}

/// Text that is neither an absent field nor an ARN.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9/._%=:;,-]{2,20}", "x\\PC{0,20}", "x[ \"\\\\]{1,6}y"]
}

/// A word in a shape that is valid for the type, and not absent.
fn word(ty: Type) -> impl Strategy<Value = String> {
    let word = "[a-zA-Z][a-zA-Z0-9_.-]{1,20}|[0-9a-f]{8,16}x";
    let own = match ty {
        Type::Arn => "arn:aws:[a-z]{2,20}:eu-west-1:123456789012:[a-z/]{2,20}",
        Type::LoadBalancerId => "(app|net)/[a-z0-9-]{1,20}/[0-9a-f]{16}",
        Type::ConnectionTraceId => "TID_[0-9a-f]{16,32}",
        _ => word,
    };
    prop_oneof![word, own].prop_filter("a word in no other shape", |word| !word.starts_with("TID_") || word.len() > 19)
}

fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'"' | b'\\' | 0..0x20 | 0x7f.. => format!("\\x{byte:02X}"),
        plain => char::from(plain).to_string(),
    };
    text.bytes().map(escape).collect()
}

fn quoted_if_needed(raw: String, always: bool, quoting: Quoting) -> String {
    match quoting {
        Quoting::None => raw.replace(' ', "\\x20"),
        Quoting::Spaced | Quoting::SpacedOrDigit if always || raw.contains(' ') || raw.is_empty() => format!("\"{raw}\""),
        Quoting::Spaced | Quoting::SpacedOrDigit => raw,
    }
}

fn time() -> impl Strategy<Value = String> {
    (2014_u16..2040, 1_u8..=12, 1_u8..=28, 0_u8..24, 0_u8..60, 0_u8..60, prop::option::of(0_u32..1_000_000), any::<bool>())
        .prop_map(|(year, month, day, hour, minute, second, fraction, zone)| {
            let fraction = fraction.map(|fraction| format!(".{fraction:06}")).unwrap_or_default();
            format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{}", if zone { "Z" } else { "" })
        })
}

fn zoned(time: &str) -> String {
    if time.ends_with('Z') { time.to_owned() } else { format!("{time}Z") }
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
        any::<[u16; 8]>().prop_map(|parts| std::net::Ipv6Addr::from(parts).to_string()),
    ]
}

/// A field of a type, which is absent in one of five cases.
fn field(ty: Type, name: String, quoting: Quoting) -> BoxedStrategy<Logged> {
    let present = match ty {
        Type::Request => request(name).boxed(),
        Type::WordList | Type::TargetList | Type::IntegerList | Type::AlpnList => list(ty, name),
        Type::Validity => validity().boxed(),
        other => scalar(other, name, quoting),
    };
    prop_oneof![4 => present, 1 => Just(logged("-", []))].boxed()
}

fn one(name: &str, value: Value) -> [(String, Value); 1] {
    [(name.to_owned(), value)]
}

/// A field with a single value.
fn scalar(ty: Type, name: String, quoting: Quoting) -> BoxedStrategy<Logged> {
    match ty {
        Type::Text => (text(), any::<bool>())
            .prop_map(move |(text, quote)| logged(quoted_if_needed(escaped(&text), quote, quoting), one(&name, json!(text))))
            .boxed(),
        Type::Word | Type::Arn | Type::LoadBalancerId | Type::LoadBalancerName | Type::ConnectionTraceId => {
            (word(ty), any::<bool>())
                .prop_map(move |(word, quote)| logged(quoted_if_needed(word.clone(), quote, quoting), one(&name, json!(word))))
                .boxed()
        }
        Type::Integer => any::<i64>().prop_map(move |number| logged(number.to_string(), one(&name, json!(number)))).boxed(),
        Type::Port => any::<u16>().prop_map(move |port| logged(port.to_string(), one(&name, json!(port)))).boxed(),
        Type::Decimal | Type::ProcessingTime => (0_u32..100_000, 0_u32..1_000_000)
            .prop_map(move |(whole, fraction)| {
                let raw = format!("{whole}.{fraction:06}");
                let value: Value = serde_json::from_str(&raw).expect("a number");
                logged(raw, one(&name, value))
            })
            .boxed(),
        Type::Ip | Type::NodeIp => address().prop_map(move |ip| logged(ip.clone(), one(&name, json!(ip)))).boxed(),
        Type::HostPort => (address(), any::<u16>(), any::<bool>())
            .prop_map(move |(ip, port, brackets)| {
                let raw = if brackets && ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
                logged(raw, [(format!("{name}_ip"), json!(ip)), (format!("{name}_port"), json!(port))])
            })
            .boxed(),
        Type::Timestamp => time().prop_map(|time| logged(time.clone(), one("@timestamp", json!(zoned(&time))))).boxed(),
        Type::Time => time().prop_map(move |time| logged(time.clone(), one(&name, json!(zoned(&time))))).boxed(),
        Type::Request | Type::WordList | Type::TargetList | Type::IntegerList | Type::AlpnList | Type::Validity => {
            unreachable!("a field of type {ty:?} does not have a single value")
        }
    }
}

fn request(name: String) -> impl Strategy<Value = Logged> {
    ("[A-Z]{3,7}", "/[a-z0-9 /?]{0,20}[a-z]").prop_map(move |(method, url)| {
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        let mut request = json!({"method": method, "url": url, "protocol": "HTTP/1.1", "path": path});
        if !query.is_empty() {
            request["query"] = json!(query);
        }
        logged(format!("\"{method} {url} HTTP/1.1\""), one(&name, request))
    })
}

fn list(ty: Type, name: String) -> BoxedStrategy<Logged> {
    match ty {
        Type::IntegerList => prop::collection::vec(prop::option::of(any::<i64>()), 1..4)
            .prop_filter("a single dash is an absent list", |items| items != &[None])
            .prop_map(move |items| {
                let raw: Vec<String> = items.iter().map(|item| item.map_or("-".to_owned(), |item| item.to_string())).collect();
                logged(format!("\"{}\"", raw.join(" ")), one(&name, json!(items)))
            })
            .boxed(),
        Type::AlpnList => prop::collection::vec("[a-z0-9/.]{1,8}", 1..4)
            .prop_map(move |items| {
                let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
                logged(quoted.join(","), one(&name, json!(items)))
            })
            .boxed(),
        _ => prop::collection::vec(
            if ty == Type::WordList { "[a-z-]{2,12}" } else { "[a-z.]{2,8}:[0-9]{1,5}|10\\.0\\.[0-9]\\.[0-9]:80" },
            1..4,
        )
        .prop_map(move |items| {
            let separator = if ty == Type::WordList { "," } else { " " };
            logged(format!("\"{}\"", items.join(separator)), one(&name, json!(items)))
        })
        .boxed(),
    }
}

fn validity() -> impl Strategy<Value = Logged> {
    (time(), time()).prop_map(|(not_before, not_after)| {
        let members = [("not_before", &not_before), ("not_after", &not_after)];
        logged(
            format!("NotBefore={not_before};NotAfter={not_after}"),
            members.map(|(part, time)| (format!("leaf_client_cert_{part}"), json!(zoned(time)))),
        )
    })
}

/// Returns a field that identifies its kind, so that it must be present.
fn identifying_field(kind: Kind, index: usize) -> Option<BoxedStrategy<Logged>> {
    let text = |name: &'static str, raw: &'static str| {
        raw.prop_map(move |raw: String| logged(raw.clone(), [(name.to_owned(), json!(raw))])).boxed()
    };
    let present =
        |ty| field(ty, String::new(), Quoting::Spaced).prop_filter("it identifies the kind", |field| field.raw != "-").boxed();
    match (kind, index) {
        (Kind::Alb, 0) => Some(text("type", "[a-z][a-z0-9]{0,5}")),
        (Kind::AlbHealthCheck, 0) => Some(text("type", "[a-z][a-z0-9]{0,5}")),
        (Kind::Nlb, 0) => Some(text("type", "tls|tcp|[a-z]{1,6}")),
        (Kind::Nlb, 1) => Some(text("version", "[0-9]{1,2}\\.[0-9]{1,2}")),
        (Kind::Alb, 2) => Some(text("id", "(app|net)/[a-z0-9-]{1,20}/[0-9a-f]{16}")),
        (Kind::Nlb, 2) | (Kind::Alb | Kind::AlbHealthCheck, 1) | (Kind::Classic | Kind::AlbConnection, 0) => {
            Some(present(Type::Timestamp))
        }
        (Kind::Classic, 1) => Some(text("id", "[a-zA-Z0-9-]{2,30}")),
        (Kind::AlbConnection, 1) => {
            Some(address().prop_map(|ip| logged(ip.clone(), [("client_ip".to_owned(), json!(ip))])).boxed())
        }
        _ => None,
    }
}

fn record(kind: Kind) -> impl Strategy<Value = (Kind, Vec<Logged>)> {
    let format = kind.format();
    (format.shortest..=format.fields.len()).prop_flat_map(move |width| {
        let fields = format.fields.iter().take(width).enumerate().map(|(index, known)| {
            identifying_field(kind, index).unwrap_or_else(|| field(known.ty, known.native.whole.text.to_owned(), format.quoting))
        });
        fields.collect::<Vec<_>>().prop_map(move |fields| (kind, fields))
    })
}

/// Number of fields at the end of a line in which a gap cannot be seen: behind it are only fields like those in the gap.
const LAST_UNTYPED: [(Kind, usize); 1] = [(Kind::Alb, 2)];

/// Returns the fields of a line of which each has a value.
fn complete_fields(kind: Kind) -> Vec<&'static str> {
    let line = match kind {
        Kind::Alb => {
            "https 2026-09-23T10:15:04.3Z app/web/50dc6c495c0c9188 192.0.2.61:33870 10.0.4.9:9000 0.002 0.187 0.000 502 502 1893 624 \
             GET_ - TLS_AES_128_GCM_SHA256 TLSv1.3 arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/a4c1be02977d5e63 \
             Root=1-69a56328-246adb36420e01d6e4e6e9ec shop.example session-reused 10 2026-09-23T10:15:04.1Z forward - - 10.0.4.9:9000 502 \
             - - TID_404949171d49ad4b4d1357fbcff0262c - - - 203.0.113.7 TargetResetConnection -"
        }
        Kind::AlbConnection => {
            "2026-09-23T10:15:11.6Z 192.0.2.61 33870 443 TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 4.036 - - - - TID_404949171d49ad4b \
             x25519 app/web/50dc6c495c0c9188 203.0.113.7"
        }
        Kind::AlbHealthCheck => {
            "https 2026-09-23T10:15:07.5Z 5.000214930 10.0.4.12:9000 api FAIL 503 ResponseCodeMismatch app/web/50dc6c495c0c9188 203.0.113.7"
        }
        Kind::Nlb | Kind::Classic => {
            "tls 2.0 2026-09-23T10:15:46 net/edge/7d2f0c41aa93be05 3c9e51f08b27da64 198.51.100.201:44372 10.0.9.11:8443 2041 14 1873 40962 - \
             arn:aws:acm:eu-west-1:123456789012:certificate/6f1c0a52 - TLS_AES_128_GCM_SHA256 tlsv13 x25519 edge.example h2 h2 h2 \
             2026-09-23T10:15:44"
        }
    };
    line.split(' ').collect()
}

fn any_record() -> impl Strategy<Value = (Kind, Vec<Logged>)> {
    prop::sample::select(Kind::ALL.to_vec()).prop_flat_map(record)
}

fn event(schema: Schema, line: &str) -> (Value, Written) {
    let origin = Origin::Bucket(ObjectName { bucket: "logs".to_owned(), key: "key".to_owned() });
    let settings = EventSettings { schema, ..EventSettings::default() };
    let writer = EventWriter::new(&settings, &origin, jiff::Timestamp::UNIX_EPOCH);
    let mut out = Buffer::default();
    let written = writer.write(&mut out, &Line { text: line.as_bytes(), offset: 0, truncated: false }, &mut Scratch::default());
    (serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error} in {}", out.escape_ascii())), written)
}

fn line_of(fields: &[Logged]) -> String {
    fields.iter().map(|field| field.raw.as_str()).collect::<Vec<_>>().join(" ")
}

fn expected(kind: Kind, fields: &[Logged]) -> (Option<Value>, Map<String, Value>) {
    let mut elb: Map<String, Value> = fields.iter().flat_map(|field| field.members.clone()).collect();
    let timestamp = elb.remove("@timestamp");
    elb.insert("kind".to_owned(), json!(kind.name()));
    (timestamp, elb)
}

/// Compares an event with its fields. Numbers are compared after serde_json has read both sides.
fn assert_event(event: &Value, written: Written, kind: Kind, fields: &[Logged]) -> Result<(), TestCaseError> {
    let (timestamp, elb) = expected(kind, fields);
    prop_assert_eq!(&event["elb"], &Value::Object(elb));
    if let Some(timestamp) = timestamp {
        prop_assert_eq!(&event["@timestamp"], &timestamp);
    }
    prop_assert_eq!(event.get("tags"), None);
    prop_assert_eq!((written.kind, written.short, written.invalid_fields), (Some(kind), false, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn reads_back_the_record_that_was_written((kind, fields) in any_record()) {
        let (event, written) = event(Schema::Native, &line_of(&fields));
        assert_event(&event, written, kind, &fields)?;
    }

    #[test]
    fn extra_fields_do_not_change_the_known_fields(
        (kind, mut fields) in any_record().prop_filter("all known fields", |(kind, fields)| fields.len() == kind.format().fields.len()),
        extras in prop::collection::vec(prop_oneof!["[a-z0-9]{2,8}", Just("-".to_owned())], 1..6),
    ) {
        let line = format!("{} {}", line_of(&fields), extras.join(" "));
        let (event, written) = event(Schema::Native, &line);
        let present = extras.iter().filter(|extra| *extra != "-").count();
        prop_assert_eq!(written.extra_fields as usize, present);
        if present > 0 {
            let extra: Vec<Value> = extras.iter().map(|extra| if extra == "-" { Value::Null } else { json!(extra) }).collect();
            fields.push(extra_members(extra));
        }
        assert_event(&event, written, kind, &fields)?;
    }

    /// Lines that are exported from CloudWatch Logs, or written by it with another delimiter.
    #[test]
    fn reads_back_the_record_behind_a_timestamp((kind, fields) in any_record(), time in time()) {
        let certain = match kind {
            Kind::Classic => fields[2].raw != "-" && fields[3].raw != "-",
            Kind::Alb | Kind::AlbHealthCheck => fields[3].raw != "-",
            Kind::AlbConnection | Kind::Nlb => true,
        };
        prop_assume!(certain);
        let (event, written) = event(Schema::Native, &format!("{time} {}", line_of(&fields)));
        let mut fields = fields;
        fields.push(logged("", [("ingest_time".to_owned(), json!(zoned(&time)))]));
        assert_event(&event, written, kind, &fields)?;
    }

    #[test]
    fn reads_back_the_record_between_tabs_and_commas((kind, fields) in any_record(), delimiter in prop::sample::select(vec!['\t', ','])) {
        let unquoted = |field: &&Logged| !field.raw.starts_with('"');
        prop_assume!(kind != Kind::Classic && fields.iter().filter(unquoted).all(|field| !field.raw.contains(delimiter)));
        prop_assume!(kind != Kind::Nlb || fields.iter().all(|field| !field.raw.contains(delimiter)));
        let line = fields.iter().map(|field| field.raw.as_str()).collect::<Vec<_>>().join(&delimiter.to_string());
        let (event, written) = event(Schema::Native, &line);
        assert_event(&event, written, kind, &fields)?;
    }

    /// Deliveries through CloudWatch Logs can leave out fields. The fields behind the gap must not be taken for others unnoticed.
    #[test]
    fn a_line_that_lacks_a_field_is_tagged_or_unparsed(
        kind in prop::sample::select(vec![Kind::Alb, Kind::AlbConnection, Kind::AlbHealthCheck, Kind::Nlb]),
        missing in any::<prop::sample::Index>(),
    ) {
        let mut fields = complete_fields(kind);
        // Without its last field, a line is one of the time before AWS added it.
        fields.remove(missing.index(fields.len() - LAST_UNTYPED.iter().find(|(found, _)| *found == kind).map_or(1, |(_, last)| *last)));
        let line = fields.join(" ");
        let (event, _) = event(Schema::Native, &line);
        prop_assert!(event["tags"].is_array(), "{} has no tag: {}", line, event);
    }

    #[test]
    fn both_schemas_have_the_same_counts_and_envelope((_, fields) in any_record()) {
        let line = line_of(&fields);
        let ((native, in_native), (ecs, in_ecs)) = (event(Schema::Native, &line), event(Schema::Ecs, &line));
        prop_assert_eq!(in_native, in_ecs);
        prop_assert_eq!(&native["@timestamp"], &ecs["@timestamp"]);
        prop_assert_eq!(&native["@metadata"], &ecs["@metadata"]);
        prop_assert_eq!(native["elb"].get("id"), ecs["aws"]["elb"].get("name"));
    }

    #[test]
    fn any_text_in_any_chunks_becomes_one_event_per_line(
        lines in prop::collection::vec(prop_oneof![any_record().prop_map(|(_, fields)| line_of(&fields)), "\\PC{0,40}"], 0..12),
        chunk_bytes in 1_usize..200,
    ) {
        let text = lines.join("\n");
        let whole = events(&text, usize::MAX);
        prop_assert_eq!(whole.len(), lines_with_text(&text));
        prop_assert_eq!(whole, events(&text, chunk_bytes));
    }
}

/// Counts the lines that are not empty or of spaces only. A carriage return belongs to the line feed after it.
fn lines_with_text(text: &str) -> usize {
    let lines = text.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => line,
    });
    lines.filter(|line| !line.bytes().all(|byte| byte == b' ')).count()
}

fn extra_members(extra: Vec<Value>) -> Logged {
    logged("", [("extra".to_owned(), Value::Array(extra))])
}

/// Returns the events of a text that arrives in chunks.
fn events(text: &str, chunk_bytes: usize) -> Vec<String> {
    let mut lines = LineSplitter::new(LineLimits { line_bytes: 1 << 20, block_lines: 3, block_bytes: 1 << 20 });
    let mut inflate = Inflate::default();
    let mut found = Vec::new();
    for mut input in text.as_bytes().chunks(chunk_bytes) {
        loop {
            let progress = inflate.step(&mut input, lines.buffer(), 64).expect("plain text");
            while let Some(block) = lines.next_block() {
                found.extend(block.lines().map(event_text));
            }
            if progress == InflateProgress::NeedInput {
                break;
            }
        }
    }
    inflate.finish(lines.buffer()).expect("plain text");
    while let Some(block) = lines.next_block() {
        found.extend(block.lines().map(event_text));
    }
    found.extend(lines.finish().iter().flat_map(|block| block.lines().map(event_text).collect::<Vec<_>>()));
    found
}

fn event_text(line: Line<'_>) -> String {
    let origin = Origin::Bucket(ObjectName { bucket: "logs".to_owned(), key: "key".to_owned() });
    let writer = EventWriter::new(&EventSettings::default(), &origin, jiff::Timestamp::UNIX_EPOCH);
    let mut out = Buffer::default();
    writer.write(&mut out, &line, &mut Scratch::default());
    String::from_utf8(out.to_vec()).expect("UTF-8")
}
