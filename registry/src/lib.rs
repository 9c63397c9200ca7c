//! The endpoint registry: tells which Logstash servers of an autoscaling group are alive, from a list that it keeps, instead of
//! asking AWS each time.
//!
//! # Layout
//!
//! What a list is, without any I/O:
//!
//! * [`group`]: which lists there are, and which addresses can be in them.
//! * [`list`]: one list, and how it becomes the next one.
//! * [`lifecycle`]: what the events of instances' lives mean.
//!
//! Where things come from and go to:
//!
//! * [`store`]: where lists are kept, by compare and set.
//! * [`fleet`] is what is asked of AWS; [`aws`] asks it.
//! * [`flight`]: one question at a time, and pauses between them.
//! * [`alert`] tells people, [`metrics`] tells Prometheus.
//!
//! The program:
//!
//! * [`registry`]: the rules, made of all of these.
//! * [`routes`]: look-up and update, by HTTP. [`serve`] puts them on a socket; [`function`] is the same as a Lambda function, and
//!   its events.
//! * [`config`] is everything the program can be told; [`assemble`] makes a registry of it.
//! * [`client`]: a person's way to look at a list.
//!
//! The environment and the wall clock ([`clock`]) are read in the binary alone.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod alert;
pub mod assemble;
pub mod aws;
pub mod client;
pub mod clock;
pub mod config;
pub mod fleet;
pub mod flight;
pub mod function;
pub mod group;
pub mod lifecycle;
pub mod list;
pub mod metrics;
pub mod registry;
pub mod routes;
pub mod serve;
pub mod store;
