//! Records to events: a parsed line comes in, and one JSON object is written straight into a batch's buffer.
//!
//! An event has an envelope (its time, its id, and where its line is from) and the fields of its line, under the names of one of
//! two schemas. A line that cannot be parsed becomes an event with its raw text and the reason.

mod ecs;
mod envelope;
pub mod explain;
mod fields;
mod id;
mod json;
mod names;
mod native;
#[cfg(test)]
mod new_field_tests;
mod vended;
mod writer;

pub use self::id::IdPrefix;
pub use self::names::{MemberName, Shape, names};
pub use self::writer::{EventWriter, Scratch, Written};

/// Whose names the fields of an event have; `EVENT_SCHEMA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schema {
    /// AWS's own names below `elb`, which no setting of Logstash's http input changes.
    #[default]
    Native,
    /// The names of the Elastic Common Schema.
    Ecs,
}

/// What events look like, for all objects of a run.
#[derive(Clone, Debug, Default)]
pub struct EventSettings {
    /// Whose names the fields have.
    pub schema: Schema,
    /// Whether parsed events also hold their raw line, in `event.original`.
    pub include_original: bool,
    /// Constant members of `labels`.
    pub labels: Vec<(String, String)>,
    /// Whether the lines of dead letters become the events that they hold. Otherwise these lines are unparsed.
    pub resend: bool,
}
