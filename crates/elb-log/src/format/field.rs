//! The columns of a field table: what one field of a log line is called, and how it is read and written.

use crate::buffer::Literal;

/// One field of a format. A field that AWS adds is one more row at the end of its format's table.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// AWS's name in the documentation: `client:port`.
    pub aws: &'static str,
    /// Other names that AWS has used for the field, as keys of vended JSON lines.
    pub aliases: &'static [&'static str],
    /// Whether AWS has published the field's name. The name of any other field comes from elsewhere and may change.
    pub confirmed: bool,
    /// How the text is read.
    pub ty: Type,
    /// The names in the `native` schema.
    pub native: Names,
    /// The names in the `ecs` schema. A [`Type::Request`] and the line's own time have none here, because their parts have the
    /// same names in every format.
    pub ecs: &'static [EcsName],
}

impl Field {
    /// Returns whether this is the line's own time, which becomes `@timestamp` instead of a member of its own.
    pub fn is_timestamp(&self) -> bool {
        self.ty == Type::Timestamp
    }

    /// Returns whether this is the address of the load balancer's node.
    pub fn is_node_ip(&self) -> bool {
        self.ty == Type::NodeIp
    }

    /// Returns whether a key of a vended JSON line names this field. Such keys have `_` where AWS's names have `:`.
    pub(crate) fn is_called(&self, key: &str) -> bool {
        let same = |aws: u8, key: u8| aws == key || (aws == b':' && key == b'_');
        (self.aws.len() == key.len() && self.aws.bytes().zip(key.bytes()).all(|(aws, key)| same(aws, key)))
            || self.aliases.contains(&key)
    }
}

/// A name in the `ecs` schema, and the form that the field's value has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcsName {
    /// The dotted name: `aws.elb.name`.
    pub path: &'static str,
    /// The form of the value.
    pub form: EcsForm,
}

/// The form of a field's value under one of its `ecs` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcsForm {
    /// The value as it is.
    Whole,
    /// A number as a string, because Elastic maps the name as a keyword.
    Keyword,
    /// `.address`, `.ip` and `.port` below the name.
    HostPort,
    /// The same, but with the port as a string, which Elastic maps as a keyword, and with an `.address` only for a host that is
    /// not an IP address.
    HostPortKeyword,
    /// A number of bytes, only if the line is about a TCP connection.
    BytesOverTcp,
    /// A number of bytes, only if the line is not about a TCP connection.
    BytesOverHttp,
    /// The time at which the request began. The event's duration is measured from it.
    Start,
    /// The first time of a validity.
    NotBefore,
    /// The second time of a validity.
    NotAfter,
    /// The version in `TLSv1.2`: `1.2`.
    TlsVersion,
    /// The protocol in `TLSv1.2`: `tls`.
    TlsProtocol,
    /// The value of `Root=` in a trace header.
    TraceRoot,
    /// The error code behind `Failed:`.
    TlsErrorCode,
    /// `event.outcome` from an HTTP status code: success below 400. Without a status code, a line of a format for HTTP and TCP
    /// may be about a TCP connection.
    OutcomeOfStatusCode,
    /// `event.outcome` from the status of a health check: `PASS` is success.
    OutcomeOfHealthCheck,
    /// `event.outcome` from the verification of a client certificate: `Success` is success.
    OutcomeOfTlsVerification,
}

impl EcsForm {
    /// Returns whether the form says how the request ended.
    pub(crate) fn is_outcome(self) -> bool {
        matches!(self, EcsForm::OutcomeOfStatusCode | EcsForm::OutcomeOfHealthCheck | EcsForm::OutcomeOfTlsVerification)
    }
}

/// A field's name in the `native` schema and the names made from it, each also as the start of a JSON member (`,"name":`),
/// because they are written once a line.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The name itself.
    pub whole: Name,
    /// The IP address of a [`Type::HostPort`].
    pub ip: Name,
    /// The port of a [`Type::HostPort`].
    pub port: Name,
    /// The host of a [`Type::HostPort`] that is not an IP address.
    pub address: Name,
    /// The ARN of a [`Type::HostPort`] that is one.
    pub arn: Name,
    /// The first time of a [`Type::Validity`].
    pub not_before: Name,
    /// The second time of a [`Type::Validity`].
    pub not_after: Name,
}

/// A member name, plain and as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// `client_ip`
    pub text: &'static str,
    /// `,"client_ip":`
    pub member: Literal,
    /// `,"client_ip":"`
    pub text_member: Literal,
}

impl Name {
    /// Makes a name from its text, from it as a member, and from it as a member whose value is text.
    pub const fn new(text: &'static str, member: &str, text_member: &str) -> Self {
        Name { text, member: Literal::new(member), text_member: Literal::new(text_member) }
    }
}

/// How the text of a field is read. A value that is not of its field's type goes to `elb.invalid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Any text, AWS's escapes decoded.
    Text,
    /// A word that AWS chooses, such as a cipher or a status. It never looks like an address, a time, an ARN, a load balancer or a
    /// trace ID; see [`Record::misplaced`](super::Record::misplaced).
    Word,
    /// An ARN, or a word.
    Arn,
    /// The ID of a load balancer: `app/web/50dc6c495c0c9188`. Old lines have a name instead.
    LoadBalancerId,
    /// The name of a Classic Load Balancer.
    LoadBalancerName,
    /// The ID of a client's connection: `TID_…`.
    ConnectionTraceId,
    /// An optional `-` and digits, within 64 bits.
    Integer,
    /// Digits of a number up to 65535.
    Port,
    /// A decimal: an optional `-`, digits, an optional fraction.
    Decimal,
    /// Seconds as a decimal, where -1 means that there is no value.
    ProcessingTime,
    /// An IP address without a port.
    Ip,
    /// The address of the load balancer's node. The address in the object's key replaces it where it is absent.
    NodeIp,
    /// `ip:port`, an ARN, or a host name with a port.
    HostPort,
    /// The line's own time; it becomes `@timestamp`.
    Timestamp,
    /// Another time.
    Time,
    /// `METHOD url PROTOCOL`.
    Request,
    /// Words separated by commas.
    WordList,
    /// Addresses with their ports, separated by spaces.
    TargetList,
    /// Integers separated by spaces, `-` for none.
    IntegerList,
    /// Texts in quotes of their own, separated by commas: `"h2","http/1.1"`.
    AlpnList,
    /// `NotBefore=…;NotAfter=…`
    Validity,
}

/// Builds one row of a field table: AWS's name and its aliases, the type, the native name, the ECS names with their forms.
///
/// ```text
/// field!("client:port", HostPort, "client", ["source" as HostPort]),
/// field!("tls_keyexchange" or "tls_named_group", Text, "tls_keyexchange", ["aws.elb.ssl_named_group"]),
/// field!("elb_error_code" unconfirmed, Word, "elb_error_code", ["aws.elb.elb_error_code"]),
/// ```
///
/// The names of the parts begin with the native name, or with the one that `parts` gives.
macro_rules! field {
    ($aws:literal unconfirmed, $($rest:tt)*) => {
        $crate::format::field::Field { confirmed: false, ..$crate::format::field::field!($aws, $($rest)*) }
    };
    ($aws:literal $(or $alias:literal)*, $ty:ident, $native:literal, [$($ecs:literal $(as $form:ident)?),*]) => {
        $crate::format::field::field!($aws $(or $alias)*, $ty, $native parts $native, [$($ecs $(as $form)?),*])
    };
    ($aws:literal $(or $alias:literal)*, $ty:ident, $native:literal parts $parts:literal, [$($ecs:literal $(as $form:ident)?),*]) => {
        $crate::format::field::Field {
            aws: $aws,
            aliases: &[$($alias),*],
            confirmed: true,
            ty: $crate::format::field::Type::$ty,
            native: $crate::format::field::Names {
                whole: $crate::format::field::name!($native, ""),
                ip: $crate::format::field::name!($parts, "_ip"),
                port: $crate::format::field::name!($parts, "_port"),
                address: $crate::format::field::name!($parts, "_address"),
                arn: $crate::format::field::name!($parts, "_arn"),
                not_before: $crate::format::field::name!($parts, "_not_before"),
                not_after: $crate::format::field::name!($parts, "_not_after"),
            },
            ecs: &[$($crate::format::field::EcsName {
                path: $ecs,
                form: $crate::format::field::form!($($form)?),
            }),*],
        }
    };
}

/// Names an [`EcsForm`], [`EcsForm::Whole`] if the row names none.
macro_rules! form {
    () => {
        $crate::format::field::EcsForm::Whole
    };
    ($form:ident) => {
        $crate::format::field::EcsForm::$form
    };
}

/// Builds a [`Name`] from a stem and a suffix.
macro_rules! name {
    ($stem:literal, $suffix:literal) => {
        $crate::format::Name::new(
            concat!($stem, $suffix),
            concat!(",\"", $stem, $suffix, "\":"),
            concat!(",\"", $stem, $suffix, "\":\""),
        )
    };
}

pub(crate) use {field, form, name};
