//! The field table's columns: what one field of a log line is called and how it is read.

use crate::buffer::Literal;

/// One field of a format. A field that AWS adds is one more of these at the end of its format's list.
#[derive(Debug)]
pub struct Field {
    /// AWS's name in the documentation: `client:port`.
    pub aws: &'static str,
    /// How the text is read.
    pub ty: Type,
    /// The names in the `native` schema.
    pub native: Names,
    /// The names in the `ecs` schema, dotted. An [`Type::HostPort`] has that of the object to which its parts go; a
    /// [`Type::Request`] and the line's own time have none here, because their parts are called the same in every format.
    pub ecs: &'static [&'static str],
}

impl Field {
    /// Whether this is the line's own time, which becomes `@timestamp` rather than a member of its own.
    pub fn is_timestamp(&self) -> bool {
        self.ty == Type::Timestamp
    }

    /// Whether this is the address of the load balancer's node.
    pub fn is_node_ip(&self) -> bool {
        self.ty == Type::NodeIp
    }
}

/// A field's name and the names made from it, each also as the start of a JSON member (`,"name":`), because they are written
/// once a line.
#[derive(Debug)]
pub struct Names {
    /// The name itself.
    pub whole: Name,
    /// The parts of an [`Type::HostPort`].
    pub ip: Name,
    /// See `ip`.
    pub port: Name,
    /// See `ip`.
    pub address: Name,
    /// See `ip`.
    pub arn: Name,
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
    /// A name, and it as a member and as a member that is a text.
    pub const fn new(text: &'static str, member: &str, text_member: &str) -> Self {
        Name { text, member: Literal::new(member), text_member: Literal::new(text_member) }
    }
}

/// How the text of a field is read. What is not of its field's type goes to `elb.invalid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Any text, AWS's escapes decoded.
    Text,
    /// An optional `-` and digits, within 64 bits.
    Integer,
    /// Digits of a number up to 65535.
    Port,
    /// A decimal: an optional `-`, digits, an optional fraction.
    Decimal,
    /// Seconds as a decimal, where -1 means that there is none.
    ProcessingTime,
    /// An address without a port.
    Ip,
    /// The address of the load balancer's node, for which the object's key can stand in.
    NodeIp,
    /// `ip:port`, an ARN, or a host name with a port.
    HostPort,
    /// The line's own time; it becomes `@timestamp`.
    Timestamp,
    /// Another time.
    Time,
    /// `METHOD url PROTOCOL`.
    Request,
    /// Texts separated by commas.
    CommaList,
    /// Texts separated by spaces.
    SpaceList,
    /// Integers separated by spaces, `-` for none.
    IntegerList,
    /// Texts in quotes of their own, separated by commas: `"h2","http/1.1"`.
    AlpnList,
    /// `NotBefore=…;NotAfter=…`
    Validity,
}

/// Builds one row of a field table: AWS's name, type, native name, ECS names.
macro_rules! field {
    ($aws:literal, $ty:ident, $native:literal, [$($ecs:literal),*]) => {
        $crate::format::field::Field {
            aws: $aws,
            ty: $crate::format::field::Type::$ty,
            native: $crate::format::field::Names {
                whole: $crate::format::field::name!($native, ""),
                ip: $crate::format::field::name!($native, "_ip"),
                port: $crate::format::field::name!($native, "_port"),
                address: $crate::format::field::name!($native, "_address"),
                arn: $crate::format::field::name!($native, "_arn"),
            },
            ecs: &[$($ecs),*],
        }
    };
}

/// Builds a [`Name`] of a stem and a suffix.
macro_rules! name {
    ($stem:literal, $suffix:literal) => {
        $crate::format::Name::new(
            concat!($stem, $suffix),
            concat!(",\"", $stem, $suffix, "\":"),
            concat!(",\"", $stem, $suffix, "\":\""),
        )
    };
}

pub(super) use field;
pub(crate) use name;
