//! The endpoint registry: keeps a list of the Logstash servers that are in service in each Auto Scaling group, and answers look-ups
//! from that list instead of calling AWS each time.
//!
//! # Layout
//!
//! Lists and events, without I/O:
//!
//! * [`group`]: the configured groups, and the addresses that their lists may contain.
//! * [`list`]: one list, and the transitions to the next list.
//! * [`lifecycle`]: parses lifecycle events of instances.
//!
//! Inputs and outputs:
//!
//! * [`store`]: stores lists, with compare-and-set.
//! * [`fleet`]: the calls to AWS as a trait; [`aws`] implements it.
//! * [`single_flight`]: one call at a time, and pauses between calls.
//! * [`alert`]: alerts for people; [`metrics`]: metrics for Prometheus.
//!
//! The program:
//!
//! * [`registry`]: the rules that combine all of these.
//! * [`routes`]: look-up and update over HTTP. [`serve`] serves them on a socket; [`function`] serves them as a Lambda function, and
//!   handles events.
//! * [`config`]: the configuration; [`wiring`] builds a registry from it.
//! * [`client`]: the command-line client.
//!
//! Only the binary reads the environment and the wall clock ([`clock`]).

pub mod alert;
pub mod aws;
pub mod client;
pub mod clock;
pub mod config;
pub mod fleet;
pub mod function;
pub mod group;
pub mod lifecycle;
pub mod list;
pub mod metrics;
pub mod registry;
pub mod routes;
pub mod serve;
pub mod single_flight;
pub mod store;
pub mod wiring;
