//! Lines to records: which kind of log a line is, and what each of its fields says.
//!
//! Everything here is a pure function of one line's bytes. A format is one file that lists its fields in order; the rest of
//! the program (both schemas, the field reference, the property tests) is made from that list.

mod alb;
mod alb_connection;
mod alb_health_check;
mod classic;
mod cursor;
mod fields;
mod kind;
mod nlb;
mod record;
mod request;
mod scan;
mod text;
mod time;
mod value;

pub use self::cursor::Token;
pub(crate) use self::fields::name;
pub use self::fields::{Field, Name, Names, Type};
pub use self::kind::Kind;
pub use self::record::{LineError, Record, Tokens, parse};
pub use self::request::{Request, Url};
pub(crate) use self::text::show_invalid;
pub use self::text::{decode, decode_escapes};
pub use self::time::{is_time, is_zoned, nanoseconds};
pub use self::value::{Endpoint, Host, Port, Reading, Value};
pub(crate) use self::value::{Take, alpn_items, items};

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
