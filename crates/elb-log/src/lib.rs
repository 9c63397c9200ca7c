//! Parses every log line that AWS Elastic Load Balancing writes, and turns it into a structured JSON event.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod batch;
pub mod buffer;
pub mod dead_letter;
mod deflate;
pub mod event;
pub mod format;
pub mod inflate;
pub mod key;
pub mod lines;
pub mod origin;
pub mod reference;
