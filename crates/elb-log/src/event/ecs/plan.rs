//! The names of the `ecs` schema as a tree, made once a kind from the field tables.

use std::sync::LazyLock;

use super::ECS_VERSION;
use crate::event::{MemberName, Shape, bit_of};
use crate::format::{Field, Kind, Type};

/// The leaves of a kind.
pub(super) struct Plan {
    /// All leaves, those of a group behind each other.
    pub leaves: Vec<Leaf>,
    /// The field with the status of the answer.
    pub status: Option<usize>,
    /// The field with the time at which the request began.
    pub start: Option<usize>,
    /// The field with the request.
    pub request: Option<usize>,
}

/// One name.
pub(super) struct Leaf {
    /// `aws.elb.name`
    pub path: String,
    /// What stands before its value if so many of the objects around it are open, outermost first: a comma, `"name":{` for each
    /// that is not open, and `"name":`.
    pub starts: Vec<Vec<u8>>,
    /// How many groups it shares with the leaf before it.
    pub common: usize,
    /// Where its value comes from.
    pub source: Source,
    /// Without these there is no value: the bit of its field, or one of those below.
    pub needs: u64,
}

pub(super) const ORIGINAL: u64 = 1 << 61;
pub(super) const LABELS: u64 = 1 << 62;
pub(super) const INVALID: u64 = 1 << 63;

/// Where a leaf's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    S3,
    Log,
    Cloud,
    Labels,
    Original,
    Constant(&'static str),
    Category,
    Outcome,
    Start(usize),
    End(usize),
    Duration,
    Protocol,
    NodeIp(Option<usize>),
    Field(usize, Part),
    Invalid,
    Extra,
    Tags,
}

/// Which part of a field, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// A number as a string, because Elastic maps the name as a keyword.
    AsText,
    /// A size, only if the line is of a TCP connection or, the other, only if it is not.
    BytesOverTcp,
    BytesOverHttp,
    Address,
    /// The address only if it is no IP address.
    NoIpAddress,
    Ip,
    Port,
    PortAsText,
    NotBefore,
    NotAfter,
    TlsVersion,
    TlsProtocol,
    TraceRoot,
    TlsErrorCode,
    RequestLine,
    Method,
    HttpVersion,
    Url,
    Scheme,
    Domain,
    UrlPort,
    Path,
    Query,
}

/// What a request becomes, in every format that has one.
const REQUEST_NAMES: [(&str, Part); 9] = [
    ("http.request.method", Part::Method),
    ("http.version", Part::HttpVersion),
    ("url.original", Part::Url),
    ("url.scheme", Part::Scheme),
    ("url.domain", Part::Domain),
    ("url.port", Part::UrlPort),
    ("url.path", Part::Path),
    ("url.query", Part::Query),
    ("aws.elb.request_line", Part::RequestLine),
];

pub(super) static PLANS: LazyLock<[Plan; Kind::ALL.len()]> = LazyLock::new(|| Kind::ALL.map(Plan::of));

/// Every name that lines of a kind can have in this schema, beside those of the envelope.
pub(in crate::event) fn names(kind: Kind) -> Vec<MemberName> {
    let leaves = PLANS[kind as usize].leaves.iter().filter(|leaf| !leaf.source.is_envelope());
    let name = |leaf: &Leaf| MemberName { name: leaf.path.clone(), field: leaf.source.field(), shape: leaf.source.shape(kind) };
    leaves.map(name).collect()
}

impl Plan {
    fn of(kind: Kind) -> Self {
        let mut tree = Tree::default();
        for (path, source) in paths(kind) {
            tree.insert(path.split('.'), source);
        }
        let mut leaves = Vec::new();
        tree.flatten(&mut Vec::new(), &mut leaves);
        let mut before: Vec<String> = Vec::new();
        let leaves = leaves.into_iter().map(|(mut path, source)| {
            let whole = path.join(".");
            let member = path.pop().unwrap_or_default();
            let common = before.iter().zip(&path).take_while(|(before, now)| before == now).count();
            let start = |open: usize| {
                let groups: String = path[open..].iter().map(|name| format!("\"{name}\":{{")).collect();
                format!(",{groups}\"{member}\":").into_bytes()
            };
            let leaf = Leaf { path: whole, starts: (0..=path.len()).map(start).collect(), common, source, needs: source.needs() };
            before = path;
            leaf
        });
        let field = |is: fn(&Field) -> bool| kind.format().fields.iter().position(is);
        Plan {
            leaves: leaves.collect(),
            status: field(|field| field.ecs == ["http.response.status_code"]),
            start: field(is_start),
            request: field(|field| field.ty == Type::Request),
        }
    }
}

/// A tree of names that keeps the order in which they were put in.
#[derive(Default)]
struct Tree {
    source: Option<Source>,
    children: Vec<(String, Tree)>,
}

impl Tree {
    fn insert<'n>(&mut self, mut path: impl Iterator<Item = &'n str>, source: Source) {
        let Some(name) = path.next() else {
            self.source = Some(source);
            return;
        };
        let index = self.children.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.children.push((name.to_owned(), Tree::default()));
            self.children.len() - 1
        });
        self.children[index].1.insert(path, source);
    }

    fn flatten(&self, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Source)>) {
        leaves.extend(self.source.map(|source| (path.clone(), source)));
        for (name, child) in &self.children {
            path.push(name.clone());
            child.flatten(path, leaves);
            path.pop();
        }
    }
}

/// All names of a kind. The first one of a group decides where the group stands.
fn paths(kind: Kind) -> Vec<(String, Source)> {
    let fields = kind.format().fields;
    let start = fields.iter().position(is_start);
    let end = fields.iter().position(Field::is_timestamp);
    let fixed = [
        ("aws.s3", Source::S3),
        ("log", Source::Log),
        ("cloud", Source::Cloud),
        ("labels", Source::Labels),
        ("event.original", Source::Original),
        ("event.kind", Source::Constant("event")),
        ("event.category", Source::Category),
        ("event.outcome", Source::Outcome),
        ("aws.elb.protocol", Source::Protocol),
    ];
    let mut paths: Vec<(String, Source)> = fixed.map(|(path, source)| (path.to_owned(), source)).into();
    paths.extend(start.map(|index| ("event.start".to_owned(), Source::Start(index))));
    paths.extend(end.map(|index| ("event.end".to_owned(), Source::End(index))));
    paths.extend(start.map(|_| ("event.duration".to_owned(), Source::Duration)));
    for (index, field) in fields.iter().enumerate() {
        match field.ty {
            Type::Request => {
                paths.extend(REQUEST_NAMES.map(|(path, part)| (path.to_owned(), Source::Field(index, part))));
            }
            Type::HostPort => paths.extend(field.ecs.iter().flat_map(|base| endpoint_paths(base, index))),
            _ if field.is_node_ip() => paths.push((field.ecs[0].to_owned(), Source::NodeIp(Some(index)))),
            // The event begins with its request.
            _ if is_start(field) => {}
            _ => paths.extend(field.ecs.iter().map(|path| ((*path).to_owned(), Source::Field(index, part_of(path))))),
        }
    }
    if kind != Kind::Nlb && !fields.iter().any(Field::is_node_ip) {
        paths.push(("aws.elb.ip_address".to_owned(), Source::NodeIp(None)));
    }
    paths.push(("aws.elb.invalid".to_owned(), Source::Invalid));
    paths.push(("aws.elb.extra".to_owned(), Source::Extra));
    paths.push(("ecs.version".to_owned(), Source::Constant(ECS_VERSION)));
    paths.push(("tags".to_owned(), Source::Tags));
    paths
}

/// Whether this is the time at which the request began.
fn is_start(field: &Field) -> bool {
    field.ecs == ["event.start"]
}

/// Elastic maps a backend's port as a keyword, and has no name for the whole address of one.
fn endpoint_paths(base: &str, index: usize) -> [(String, Source); 3] {
    let (address, port) =
        if base == "aws.elb.backend" { (Part::NoIpAddress, Part::PortAsText) } else { (Part::Address, Part::Port) };
    [("address", address), ("ip", Part::Ip), ("port", port)]
        .map(|(name, part)| (format!("{base}.{name}"), Source::Field(index, part)))
}

/// Names that say more than "the field's value".
fn part_of(path: &str) -> Part {
    match path {
        "tls.version" => Part::TlsVersion,
        "tls.version_protocol" => Part::TlsProtocol,
        "trace.id" => Part::TraceRoot,
        "aws.elb.tls_error_code" => Part::TlsErrorCode,
        "aws.elb.matched_rule_priority" | "aws.elb.listener" => Part::AsText,
        "aws.elb.leaf_client_cert_not_before" => Part::NotBefore,
        "aws.elb.leaf_client_cert_not_after" => Part::NotAfter,
        "source.bytes" | "destination.bytes" => Part::BytesOverTcp,
        "http.request.body.bytes" | "http.response.body.bytes" => Part::BytesOverHttp,
        _ => Part::Whole,
    }
}

impl Leaf {
    /// How many objects are around it.
    pub(super) fn groups(&self) -> usize {
        self.starts.len() - 1
    }
}

impl Source {
    /// The field that it comes from, if it is one.
    pub(super) fn field(self) -> Option<usize> {
        match self {
            Source::Field(index, _) | Source::Start(index) | Source::End(index) => Some(index),
            Source::NodeIp(index) => index,
            _ => None,
        }
    }

    /// See [`Leaf::needs`].
    fn needs(self) -> u64 {
        match self {
            Source::Field(index, _) | Source::Start(index) | Source::End(index) => bit_of(index),
            Source::Original => ORIGINAL,
            Source::Labels => LABELS,
            Source::Invalid => INVALID,
            _ => 0,
        }
    }

    /// Whether the envelope of both schemas has it.
    fn is_envelope(self) -> bool {
        matches!(self, Source::S3 | Source::Log | Source::Cloud | Source::Labels | Source::Original | Source::Tags)
    }

    fn shape(self, kind: Kind) -> Shape {
        match self {
            Source::S3 | Source::Log | Source::Cloud | Source::Labels | Source::Invalid => Shape::Object,
            Source::Start(_) | Source::End(_) => Shape::Time,
            Source::Duration => Shape::Integer,
            Source::NodeIp(_) => Shape::Ip,
            Source::Field(index, part) => part.shape(kind.format().fields[index].ty),
            Source::Original
            | Source::Constant(_)
            | Source::Category
            | Source::Outcome
            | Source::Protocol
            | Source::Extra
            | Source::Tags => Shape::Text,
        }
    }
}

impl Part {
    fn shape(self, ty: Type) -> Shape {
        match self {
            Part::Whole => Shape::of(ty).unwrap_or(Shape::Text),
            Part::Ip => Shape::Ip,
            Part::Port | Part::UrlPort | Part::BytesOverTcp | Part::BytesOverHttp => Shape::Integer,
            Part::NotBefore | Part::NotAfter => Shape::Time,
            _ => Shape::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_bit_of_its_own() {
        for kind in Kind::ALL {
            let fields = kind.format().fields.len();
            assert!(bit_of(fields) <= ORIGINAL, "{kind} has {fields} fields: keep their bits in a wider number");
        }
    }

    #[test]
    fn a_name_is_either_a_value_or_a_group() {
        for kind in Kind::ALL {
            let paths: Vec<String> = paths(kind).into_iter().map(|(path, _)| path).collect();
            for (index, path) in paths.iter().enumerate() {
                let same = paths[..index].iter().find(|other| *other == path || other.starts_with(&format!("{path}.")));
                assert_eq!(same, None, "{kind}: {path} stands twice, or holds a value and a group");
            }
        }
    }
}
