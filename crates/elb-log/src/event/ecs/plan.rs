//! The names of the `ecs` schema as a tree, made once a format from its field table.

use std::sync::LazyLock;

use super::ECS_VERSION;
use crate::event::fields::bit_of;
use crate::event::{MemberName, Shape};
use crate::format::{EcsForm, EcsName, Field, Format, Kind, Type};

/// The `ecs` names of a format, in the order in which they are written.
#[derive(Debug)]
pub(in crate::event) struct Plan {
    /// All leaves; those of one group follow each other.
    pub(super) leaves: Vec<Leaf>,
    /// The field with the status code of the response.
    pub(super) status: Option<usize>,
    /// The field with the time at which the request began.
    pub(super) start: Option<usize>,
    /// The field with the request.
    pub(super) request: Option<usize>,
}

/// One name with a value.
#[derive(Debug)]
pub(super) struct Leaf {
    /// `aws.elb.name`
    pub(super) path: String,
    /// The text before the value if the first so many of the objects around it are open: a comma, `"name":{` for each object that
    /// is not open yet, and `"name":`.
    pub(super) starts: Vec<Vec<u8>>,
    /// The number of groups that the leaf shares with the leaf before it.
    pub(super) common: usize,
    /// Where the value comes from.
    pub(super) source: Source,
    /// The bits without which there is no value: the bit of a field, or one of the constants below.
    pub(super) needs: u64,
}

pub(super) const INGESTED: u64 = 1 << 60;
pub(super) const ORIGINAL: u64 = 1 << 61;
pub(super) const LABELS: u64 = 1 << 62;
pub(super) const INVALID: u64 = 1 << 63;

/// Where a leaf's value comes from. Numbers are indexes of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    S3,
    Log,
    Cloud,
    Labels,
    Original,
    Constant(&'static str),
    Category,
    Outcome(usize, EcsForm),
    Start(usize),
    End(usize),
    Duration,
    Ingested,
    Protocol,
    NodeIp(Option<usize>),
    Field(usize, EcsForm),
    HostPort(usize, HostPortPart),
    Request(usize, RequestPart),
    Invalid,
    Extra,
    Tags,
}

/// A part of a [`Type::HostPort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostPortPart {
    /// The host or ARN, whatever it is.
    Address,
    /// The host or ARN if it is not an IP address.
    NonIpAddress,
    Ip,
    Port,
    /// The port as a string.
    PortKeyword,
}

/// A part of a [`Type::Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestPart {
    Line,
    Method,
    HttpVersion,
    Url,
    Scheme,
    Domain,
    Port,
    Path,
    Query,
}

/// The names of a request's parts, in every format that has one.
const REQUEST_NAMES: [(&str, RequestPart); 9] = [
    ("http.request.method", RequestPart::Method),
    ("http.version", RequestPart::HttpVersion),
    ("url.original", RequestPart::Url),
    ("url.scheme", RequestPart::Scheme),
    ("url.domain", RequestPart::Domain),
    ("url.port", RequestPart::Port),
    ("url.path", RequestPart::Path),
    ("url.query", RequestPart::Query),
    ("aws.elb.request_line", RequestPart::Line),
];

/// The names of the parts of a [`Type::HostPort`], below its own name.
const HOST_PORT_NAMES: [(&str, HostPortPart); 3] =
    [("address", HostPortPart::Address), ("ip", HostPortPart::Ip), ("port", HostPortPart::Port)];

/// The same where Elastic maps the port as a keyword, and has no name for the whole address.
const HOST_PORT_KEYWORD_NAMES: [(&str, HostPortPart); 3] =
    [("address", HostPortPart::NonIpAddress), ("ip", HostPortPart::Ip), ("port", HostPortPart::PortKeyword)];

static PLANS: LazyLock<[Plan; Kind::ALL.len()]> = LazyLock::new(|| Kind::ALL.map(|kind| Plan::of(kind.format())));

/// Returns the plan of a kind's format.
pub(in crate::event) fn plan(kind: Kind) -> &'static Plan {
    &PLANS[kind as usize]
}

/// Returns every name that lines of a format can have in this schema, beside those of the envelope.
pub(in crate::event) fn names(format: &Format) -> Vec<MemberName> {
    let leaves = Plan::of(format).leaves;
    let own = leaves.into_iter().filter(|leaf| !leaf.source.is_envelope());
    own.map(|leaf| MemberName { field: leaf.source.field(), shape: leaf.source.shape(format), name: leaf.path }).collect()
}

impl Plan {
    /// Makes the plan of a format.
    pub(in crate::event) fn of(format: &Format) -> Self {
        let mut tree = Tree::default();
        for (path, source) in paths(format) {
            tree.insert(path.split('.'), source);
        }
        let mut leaves = Vec::new();
        tree.flatten(&mut Vec::new(), &mut leaves);
        Plan {
            leaves: with_starts(leaves),
            status: with_form(format, |form| form == EcsForm::OutcomeOfStatusCode),
            start: with_form(format, |form| form == EcsForm::Start),
            request: format.fields.iter().position(|field| field.ty == Type::Request),
        }
    }
}

/// Adds to each leaf the text before its value, which depends on the leaf before it.
fn with_starts(leaves: Vec<(Vec<String>, Source)>) -> Vec<Leaf> {
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
    leaves.collect()
}

/// A tree of names that keeps the order in which they were inserted.
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

/// Returns all names of a format. The first name of a group decides where the group is written.
fn paths(format: &Format) -> Vec<(String, Source)> {
    let mut paths = common_paths(format);
    for (index, field) in format.fields.iter().enumerate() {
        match field.ty {
            Type::Request => {
                paths.extend(REQUEST_NAMES.map(|(path, part)| (path.to_owned(), Source::Request(index, part))));
            }
            Type::NodeIp => paths.extend(field.ecs.iter().map(|name| (name.path.to_owned(), Source::NodeIp(Some(index))))),
            _ => paths.extend(field.ecs.iter().flat_map(|name| field_paths(index, name))),
        }
    }
    if format.node_in_key && !format.fields.iter().any(Field::is_node_ip) {
        paths.push(("aws.elb.ip_address".to_owned(), Source::NodeIp(None)));
    }
    paths.push(("aws.elb.invalid".to_owned(), Source::Invalid));
    paths.push(("aws.elb.extra".to_owned(), Source::Extra));
    paths.push(("ecs.version".to_owned(), Source::Constant(ECS_VERSION)));
    paths.push(("tags".to_owned(), Source::Tags));
    paths
}

/// Returns the names that come first and are the same in every format, as far as the format has their source.
fn common_paths(format: &Format) -> Vec<(String, Source)> {
    let start = with_form(format, |form| form == EcsForm::Start);
    let end = format.fields.iter().position(Field::is_timestamp);
    let outcome = with_form(format, EcsForm::is_outcome).zip(outcome_form(format));
    let names = [
        ("aws.s3", Some(Source::S3)),
        ("log", Some(Source::Log)),
        ("cloud", Some(Source::Cloud)),
        ("labels", Some(Source::Labels)),
        ("event.original", Some(Source::Original)),
        ("event.kind", Some(Source::Constant("event"))),
        ("event.category", Some(Source::Category)),
        ("event.outcome", outcome.map(|(index, form)| Source::Outcome(index, form))),
        ("aws.elb.protocol", format.traffic.protocol(false).map(|_| Source::Protocol)),
        ("event.start", start.map(Source::Start)),
        ("event.end", end.map(Source::End)),
        ("event.duration", start.map(|_| Source::Duration)),
        ("event.ingested", Some(Source::Ingested)),
    ];
    names.into_iter().filter_map(|(path, source)| Some((path.to_owned(), source?))).collect()
}

/// Returns what a field's name becomes: a name of its own, one a part, or nothing for names that all formats share.
fn field_paths(index: usize, name: &EcsName) -> Vec<(String, Source)> {
    let parts = |parts: [(&str, HostPortPart); 3]| {
        parts.map(|(part, source)| (format!("{}.{part}", name.path), Source::HostPort(index, source))).into()
    };
    match name.form {
        EcsForm::HostPort => parts(HOST_PORT_NAMES),
        EcsForm::HostPortKeyword => parts(HOST_PORT_KEYWORD_NAMES),
        form if form == EcsForm::Start || form.is_outcome() => Vec::new(),
        form => vec![(name.path.to_owned(), Source::Field(index, form))],
    }
}

/// Returns the field that has a name of such a form.
fn with_form(format: &Format, is: impl Fn(EcsForm) -> bool) -> Option<usize> {
    format.fields.iter().position(|field| field.ecs.iter().any(|name| is(name.form)))
}

fn outcome_form(format: &Format) -> Option<EcsForm> {
    format.fields.iter().flat_map(|field| field.ecs).map(|name| name.form).find(|form| form.is_outcome())
}

impl Leaf {
    /// Returns the number of objects around the leaf.
    pub(super) fn groups(&self) -> usize {
        self.starts.len() - 1
    }
}

impl Source {
    /// Returns the field that the value comes from, if it is one.
    pub(super) fn field(self) -> Option<usize> {
        match self {
            Source::Field(index, _)
            | Source::HostPort(index, _)
            | Source::Request(index, _)
            | Source::Start(index)
            | Source::End(index) => Some(index),
            Source::NodeIp(index) => index,
            _ => None,
        }
    }

    /// Returns the bits for [`Leaf::needs`].
    fn needs(self) -> u64 {
        match self {
            Source::Field(index, _)
            | Source::HostPort(index, _)
            | Source::Request(index, _)
            | Source::Outcome(index, _)
            | Source::Start(index)
            | Source::End(index) => bit_of(index),
            Source::Ingested => INGESTED,
            Source::Original => ORIGINAL,
            Source::Labels => LABELS,
            Source::Invalid => INVALID,
            _ => 0,
        }
    }

    /// Returns whether the value belongs to the envelope of both schemas.
    fn is_envelope(self) -> bool {
        matches!(self, Source::S3 | Source::Log | Source::Cloud | Source::Labels | Source::Original | Source::Tags)
    }

    fn shape(self, format: &Format) -> Shape {
        match self {
            Source::S3 | Source::Log | Source::Cloud | Source::Labels | Source::Invalid => Shape::Object,
            Source::Start(_) | Source::End(_) | Source::Ingested => Shape::Time,
            Source::Duration | Source::HostPort(_, HostPortPart::Port) | Source::Request(_, RequestPart::Port) => Shape::Integer,
            Source::NodeIp(_) | Source::HostPort(_, HostPortPart::Ip) => Shape::Ip,
            Source::Field(index, form) => field_shape(format.fields[index].ty, form),
            Source::HostPort(..)
            | Source::Request(..)
            | Source::Original
            | Source::Constant(_)
            | Source::Category
            | Source::Outcome(..)
            | Source::Protocol
            | Source::Extra
            | Source::Tags => Shape::Text,
        }
    }
}

fn field_shape(ty: Type, form: EcsForm) -> Shape {
    match form {
        EcsForm::Whole => Shape::of(ty).unwrap_or(Shape::Text),
        EcsForm::BytesOverTcp | EcsForm::BytesOverHttp => Shape::Integer,
        EcsForm::NotBefore | EcsForm::NotAfter => Shape::Time,
        _ => Shape::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_bit_of_its_own() {
        for kind in Kind::ALL {
            let fields = kind.format().fields.len();
            assert!(bit_of(fields) <= INGESTED, "{kind} has {fields} fields: keep their bits in a wider number");
        }
    }

    #[test]
    fn only_lines_about_requests_or_tcp_connections_have_a_protocol() {
        for kind in Kind::ALL {
            let listed = names(kind.format()).iter().any(|name| name.name == "aws.elb.protocol");
            let has_one = [false, true].into_iter().any(|is_tcp| kind.format().traffic.protocol(is_tcp).is_some());
            assert_eq!(listed, has_one, "aws.elb.protocol of {kind}: list it only if lines of this kind have it");
        }
    }

    #[test]
    fn every_name_is_either_a_value_or_a_group() {
        for kind in Kind::ALL {
            let paths: Vec<String> = paths(kind.format()).into_iter().map(|(path, _)| path).collect();
            for (index, path) in paths.iter().enumerate() {
                let same = paths[..index].iter().find(|other| *other == path || other.starts_with(&format!("{path}.")));
                assert_eq!(same, None, "{kind}: {path} occurs twice, or holds a value and a group");
            }
        }
    }
}
