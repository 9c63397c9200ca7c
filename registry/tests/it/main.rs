//! The registry against doubles, and against real peers. One test binary, because linking AWS's crates takes long.

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
