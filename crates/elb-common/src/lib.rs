//! Shared by the programs of this workspace: environment variables, logging, TLS, AWS clients, back-off, reserved addresses, and
//! text that is safe to show.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod aws;
pub mod backoff;
pub mod env;
pub mod log;
pub mod redact;
pub mod terminal;
pub mod text;
pub mod tls;
