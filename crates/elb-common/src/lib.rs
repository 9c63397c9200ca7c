//! Shared by the programs of this workspace: environment variables, logging, TLS, AWS clients, back-off, and the redaction of
//! URLs.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod aws;
pub mod backoff;
pub mod env;
pub mod log;
pub mod redact;
pub mod tls;
