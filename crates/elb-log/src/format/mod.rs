//! Lines to records: which kind of log a line is, and what each of its fields says.
//!
//! Everything here is a pure function of one line's bytes. A format is one file that lists its fields in order; the rest of
//! the program (both schemas, the field reference, the property tests) is made from that list.

mod alb;
mod alb_connection;
mod alb_health_check;
mod classic;
mod escapes;
mod field;
mod kind;
mod nlb;
mod record;
mod request;
mod scan;
mod split;
mod time;
mod value;

pub(crate) use self::escapes::show_invalid;
pub use self::escapes::{decode, decode_escapes};
pub(crate) use self::field::name;
pub use self::field::{Field, Name, Names, Type};
pub use self::kind::Kind;
pub use self::record::{LineError, Record, TokenBuffer, parse};
pub use self::request::{Request, Url};
pub use self::split::Token;
pub use self::time::{is_time, is_zoned, nanoseconds};
pub use self::value::{Host, HostPort, Port, Reading, Value};
pub(crate) use self::value::{ReadingVisitor, alpn_items, items};

/// What is known of one kind of log: the list of its fields in the order in which AWS writes them.
#[derive(Debug)]
pub struct Format {
    /// The fields, first to last. AWS only ever appends.
    pub fields: &'static [Field],
    /// The fewest fields that AWS ever wrote; a shorter line is parsed and marked.
    pub shortest: usize,
    /// How quotes are read.
    pub quoting: Quoting,
}

/// How a format quotes fields that may hold spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// Quotes mean nothing: fields end at spaces only.
    None,
    /// A closing quote is followed by a space or the end of the line.
    Spaced,
    /// As `Spaced`, but AWS has also been seen to leave out the space before a number: `"-"1 2018-…`.
    SpacedOrDigit,
}
