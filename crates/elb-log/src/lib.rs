//! Parses every log line that AWS Elastic Load Balancing writes, and turns it into one structured JSON event.
//!
//! It reads access logs, connection logs and health check logs of Application Load Balancers, access logs of Network Load
//! Balancers, and access logs of Classic Load Balancers, in every width that AWS ever wrote. It is tolerant: the
//! kind of log is detected from the line itself, a line with more fields than known today parses, a line with fewer fields parses,
//! and a value that is not of its field's type does not spoil the line.
//!
//! Everything here is pure. Bytes come in and values go out: no I/O, no async, no clock, no environment. Memory is bounded by what
//! the caller chooses, never by the size of an object.
//!
//! # One line
//!
//! ```
//! use elb_log::format::{Kind, TokenBuffer, parse};
//!
//! let line = br#"2026-03-02T10:15:04.123456Z my-lb 192.0.2.1:2817 10.0.0.1:80 0.000073 0.001048 0.000057 200 200 0 29 "GET http://www.example.com:80/ HTTP/1.1" "curl/8.5.0" - -"#;
//! let mut tokens = TokenBuffer::default();
//! let record = parse(line, &mut tokens)?;
//! assert_eq!(record.kind, Kind::Classic);
//! let (_, status) = record.fields().find(|(field, _)| field.aws == "elb_status_code").expect("a known field");
//! assert_eq!(status.raw, b"200");
//! # Ok::<(), elb_log::format::LineError>(())
//! ```
//!
//! # From an object to events
//!
//! The modules in the order in which data flows:
//!
//! * [`key`]: what an object's key says: account, region, node, time. [`origin`] names the object.
//! * [`inflate`]: an object's bytes to text, gzip or not, in bounded steps.
//! * [`object_format`]: objects whose text has no lines of a load balancer.
//! * [`lines`]: text to blocks of lines.
//! * [mod@format]: a line to a record: its kind and its fields. One file a format.
//! * [`event`]: a record to the JSON of its event, and the ID that makes a retry harmless.
//! * [`batch`]: events to compressed request bodies.
//! * [`dead_letter`]: one line of a dead-letter object, written and read again.
//!
//! Beside them, [`buffer`] is the memory that text and events are written to, and [mod@reference] makes the field reference and the
//! index templates from the field tables.
//!
//! ```
//! use elb_log::buffer::Buffer;
//! use elb_log::event::{EventSettings, EventWriter, Scratch};
//! use elb_log::lines::Line;
//! use elb_log::origin::{ObjectName, Origin};
//!
//! let origin = Origin::LocalFile(ObjectName { bucket: String::new(), key: "access.log".to_owned() });
//! let writer = EventWriter::new(&EventSettings::default(), &origin, jiff::Timestamp::UNIX_EPOCH);
//! let (mut json, mut scratch) = (Buffer::default(), Scratch::default());
//! let line = Line { text: b"not a log line", offset: 0, truncated: false };
//! let written = writer.write(&mut json, &line, &mut scratch);
//! assert!(written.unparsed, "the line becomes an event with its text and the reason");
//! assert!(json.ends_with(b"}"));
//! ```

#![forbid(unsafe_code)]

pub mod batch;
pub mod buffer;
pub mod dead_letter;
mod deflate;
pub mod event;
pub mod format;
pub mod inflate;
pub mod key;
pub mod lines;
pub mod object_format;
pub mod origin;
pub mod reference;
