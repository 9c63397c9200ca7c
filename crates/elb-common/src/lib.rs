//! What every program of this workspace needs: environment variables, the log, TLS, and the clients of AWS services.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod aws;
pub mod env;
pub mod log;
pub mod tls;
