//! Lines to records: bytes of one line come in, its kind and its fields go out.
//!
//! Everything here is a pure function of a line's bytes. A format is one file that lists its fields in order, and one entry in
//! [`Kind`]. Both schemas, the field reference, the index templates and the property tests follow from these tables.

mod alb;
mod alb_connection;
mod alb_health_check;
mod classic;
mod delimited;
mod digits;
mod escapes;
pub(crate) mod field;
mod kind;
mod nlb;
mod placement;
mod record;
mod request;
mod scan;
mod shape;
mod split;
mod time;
mod value;

pub(crate) use self::escapes::show_invalid;
pub use self::escapes::{decode, decode_escapes};
pub use self::field::{EcsForm, EcsName, Field, Name, Names, Type};
pub use self::kind::FirstWord;
pub use self::placement::Anchors;
pub(crate) use self::record::split_ingest_time;
pub use self::record::{LineError, Record, TokenBuffer, parse};
pub use self::request::{Request, Url};
pub use self::split::Token;
pub use self::time::{is_time, nanoseconds, without_zone};
pub use self::value::{Host, HostPort, Port, Reading, Value};
pub(crate) use self::value::{ReadingVisitor, alpn_items, items};

/// Declares [`Kind`] from its entries. An entry is a name and the module of its format.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $format:ident,)*) => {
        /// The kinds of log line that Elastic Load Balancing writes.
        ///
        /// The order is that of the documentation. A line that looks like several kinds belongs to the last of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind, in the order of declaration.
            pub const ALL: [Kind; [$(Kind::$kind),*].len()] = [$(Kind::$kind),*];

            /// Returns the format of this kind.
            pub fn format(self) -> &'static Format {
                match self {
                    $(Kind::$kind => &$format::FORMAT,)*
                }
            }
        }
    };
}

kinds! {
    /// Classic Load Balancer access log.
    Classic => classic,
    /// Application Load Balancer access log.
    Alb => alb,
    /// Application Load Balancer connection log.
    AlbConnection => alb_connection,
    /// Application Load Balancer health check log.
    AlbHealthCheck => alb_health_check,
    /// Network Load Balancer access log.
    Nlb => nlb,
}

impl Kind {
    /// Returns the value of `elb.kind`.
    pub fn name(self) -> &'static str {
        self.format().name
    }
}

/// Everything that is known of one kind of log.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The value of `elb.kind`.
    pub name: &'static str,
    /// How a line is recognised, as the end of a sentence.
    pub recognised_by: &'static str,
    /// What the first words of a line look like.
    pub first_words: &'static [FirstWord],
    /// What the member `type` says in JSON lines of deliveries through CloudWatch Logs; none if there are no such deliveries.
    pub vended: Option<TypeMember>,
    /// What the lines are about.
    pub traffic: Traffic,
    /// Whether the object's key holds the address of the load balancer's node.
    pub node_in_key: bool,
    /// The smallest number of fields that AWS ever wrote. A shorter line is parsed and tagged.
    pub shortest: usize,
    /// How quotes are read.
    pub quoting: Quoting,
    /// The fields, first to last. AWS only ever appends.
    pub fields: &'static [Field],
    /// The fields by which a line is known to lack none.
    pub anchors: Anchors,
}

/// What the member `type` of a vended JSON line says about its kind. Beside it, a member that only one kind has identifies this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeMember {
    /// Nothing: the kind has no such member, or shares its values with other kinds.
    Irrelevant,
    /// This value identifies the kind.
    Is(&'static str),
    /// The line belongs to this kind if nothing else identifies another one.
    AnyOther,
}

/// What the lines of a format are about. It decides `event.category` and `aws.elb.protocol` in the `ecs` schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// HTTP requests.
    Http,
    /// TCP connections.
    Tcp,
    /// HTTP requests, or TCP connections: TCP and SSL listeners log neither a status nor a request.
    HttpOrTcp,
    /// TLS handshakes of clients.
    Handshakes,
    /// Health checks of targets.
    HealthChecks,
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

impl Traffic {
    /// Returns whether a line is about a TCP connection. `is_request` says whether it has a status or a request.
    pub(crate) fn is_tcp(self, is_request: bool) -> bool {
        match self {
            Traffic::Tcp => true,
            Traffic::HttpOrTcp => !is_request,
            Traffic::Http | Traffic::Handshakes | Traffic::HealthChecks => false,
        }
    }

    /// Returns the protocol of the traffic, if it is HTTP or TCP.
    pub(crate) fn protocol(self, is_tcp: bool) -> Option<&'static str> {
        match self {
            Traffic::Http | Traffic::Tcp | Traffic::HttpOrTcp => Some(if is_tcp { "tcp" } else { "http" }),
            Traffic::Handshakes | Traffic::HealthChecks => None,
        }
    }

    /// Returns whether Elastic's category of a line is `network` instead of `web`.
    pub(crate) fn is_network(self, is_tcp: bool) -> bool {
        is_tcp || self == Traffic::Handshakes
    }
}
