//! Ships the access logs of AWS load balancers from S3 to Logstash: one structured event a request, and proof of what arrived.
//!
//! # Layout
//!
//! In the order in which data goes:
//!
//! * [`notification`]: what S3 says happened, to the objects that are meant.
//! * [`object`]: where objects are kept; one object's bytes, inflated, to lines.
//! * [`format`]: a line to a record: its kind and its typed fields. One file a log format.
//! * [`event`]: a record to the JSON of its event, and the id that makes a retry harmless.
//! * [`batch`]: events to request bodies.
//! * [`sink`]: batches to Logstash, again and again if need be.
//! * [`dead_letter`]: the events that Logstash will never take.
//! * [`ledger`]: what became of every line.
//!
//! Around it:
//!
//! * [`buffer`] holds text and events, which are written in many small pieces; [`spares`] are used again.
//! * [`ship`] ties these together for one object and for many; [`pace`] slows them down, [`stop`] ends them.
//! * [`aws`] is what the clients of AWS's services share; [`tls`] is whom https trusts.
//! * [`handler`] is one invocation of the Lambda function; [`queue`] is where its messages come from.
//! * [`config`] is everything the program can be told, read by means of [`vars`]; [`build_shipper`] makes a shipper of it;
//!   [`telemetry`] is what it says while it works,
//!   and [`metrics`] what CloudWatch makes of that.
//! * [`backfill`] plans how AWS runs the function over years of objects.
//! * [`reference`] makes the field reference and the index templates from the field tables.
//! * [`receive`] is a stand-in for Logstash's http input.
//!
//! Line splitting, inflating, `format`, `event` and `batch` know no AWS, no HTTP, no clock and no environment: they take bytes and
//! give values. The environment and the wall clock are read in the binaries alone.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod backfill;
mod buffer_pool;
pub mod config;
pub mod dead_letter;
pub mod emf;
pub mod lambda;
pub mod ledger;
pub mod object;
pub mod receive;
pub mod ship;
pub mod shutdown;
pub mod sink;
pub mod summary_log;
pub mod wiring;
