//! Tests of the registry with test doubles and with real peers. One test binary, because linking the AWS crates takes long.

mod aws;
mod binary;
mod function;
mod load;
mod readme;
mod redis;
mod routes;
mod rules;
mod serve;
mod shipper;
mod support;
