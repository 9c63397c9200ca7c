//! Ships the logs of AWS load balancers from S3 to Logstash: one structured event per line, and a report that accounts for every
//! line.
//!
//! # Layout
//!
//! The modules in reading order, from a notification to the report:
//!
//! * [`lambda`]: one invocation of the function. A notification goes in, the response that its sender reads comes out.
//! * [`object`]: lists and reads log objects in S3 or in directories. A bucket and a key go in, blocks of lines come out.
//! * [`ship`]: ships objects. It makes events of lines and batches of events, sends the batches, and limits rate and memory.
//! * [`sink`]: delivers batches to Logstash: endpoints, credentials, requests, and the decision about each retry.
//! * [`dead_letter`]: stores the events that Logstash rejected.
//! * [`checkpoint`]: stores how far an object was delivered when its invocation ran out of time.
//! * [`ledger`]: counts what happened to every line, and makes the report.
//!
//! The modules that serve them:
//!
//! * [`reason`]: why an object is not shipped, as one word of a closed list.
//! * [`shutdown`]: ends a run at its deadline, or after an error that every object would share.
//! * [`summary_log`] and [`emf`]: the log line of each object, and the CloudWatch metrics in it.
//! * [`config`]: environment variables as typed settings.
//! * [`wiring`]: builds the shipper from its configuration.
//! * [`backfill`]: plans an S3 Batch Operations job over years of logs.
//! * [`receive`]: receives events like the http input of Logstash, for people and for tests.
//!
//! The crates that it builds on:
//!
//! * [`elb_log`] is pure: it decompresses, splits and parses lines, and writes events and batches. It knows no AWS, HTTP, clock or
//!   environment.
//! * [`elb_common`] is shared with the endpoint registry: environment variables, logging, TLS and AWS clients.
//!
//! Only the binaries read the environment and the wall clock.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod atomic_file;
pub mod backfill;
mod buffer_pool;
pub mod checkpoint;
pub mod config;
pub mod dead_letter;
pub mod emf;
pub mod lambda;
pub mod ledger;
pub mod object;
pub mod reason;
pub mod receive;
pub mod ship;
pub mod shutdown;
pub mod sink;
pub mod summary_log;
pub mod wiring;
