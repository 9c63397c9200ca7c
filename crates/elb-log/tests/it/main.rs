//! Integration tests of the public API: lines in, events out.

mod conformance;
mod corpus;
mod events;
mod examples;
mod golden;
mod regressions;
mod roundtrip;
mod support;
