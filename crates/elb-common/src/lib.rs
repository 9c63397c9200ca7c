//! What every program of this workspace needs: environment variables, the log, TLS, clients of AWS services, back-off, and
//! URLs without their secrets.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod aws;
pub mod backoff;
pub mod env;
pub mod log;
pub mod redact;
pub mod tls;
