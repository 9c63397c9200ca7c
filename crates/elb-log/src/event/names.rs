//! The names that events can have, for the field reference and the index templates.

use super::{Schema, ecs, native};
use crate::format::{Format, Type};

/// A dotted name that lines of a format can have in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberName {
    /// `elb.client_ip`
    pub name: String,
    /// The index of the field that the value comes from; none for a value made from several fields or from none.
    pub field: Option<usize>,
    /// What the value is.
    pub shape: Shape,
}

/// What kind of JSON value a name has. It decides the name's mapping in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Text, or an array of texts.
    Text,
    /// A whole number, or an array of whole numbers.
    Integer,
    /// A decimal.
    Decimal,
    /// An IP address.
    Ip,
    /// An instant.
    Time,
    /// An object with members of its own.
    Object,
}

/// Returns every name that lines of a format can have, beside the names of the envelope.
pub fn names(schema: Schema, format: &Format) -> Vec<MemberName> {
    match schema {
        Schema::Native => native::names(format),
        Schema::Ecs => ecs::names(format),
    }
}

impl Shape {
    /// Returns the shape of a whole field of this type; none for a type whose fields have parts instead.
    pub(super) fn of(ty: Type) -> Option<Shape> {
        match ty {
            Type::Integer | Type::Port | Type::IntegerList => Some(Shape::Integer),
            Type::Decimal | Type::ProcessingTime => Some(Shape::Decimal),
            Type::Ip | Type::NodeIp => Some(Shape::Ip),
            Type::Time | Type::Timestamp => Some(Shape::Time),
            Type::Text
            | Type::Word
            | Type::Arn
            | Type::LoadBalancerId
            | Type::LoadBalancerName
            | Type::ConnectionTraceId
            | Type::WordList
            | Type::TargetList
            | Type::AlpnList => Some(Shape::Text),
            Type::HostPort | Type::Request | Type::Validity => None,
        }
    }
}
