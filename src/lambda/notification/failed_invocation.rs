//! The record that Lambda sends to a destination after an asynchronous invocation failed: it contains the event.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html>
//!
//! The crate has no type for this record.

use std::borrow::Cow;

use serde_json::Value;

use super::{Content, Opened};

/// Opens the record of a failed invocation.
pub(super) fn open(event: &Value) -> Option<Opened<'_>> {
    event.get("requestContext")?;
    Some(Ok(Content::Event(Cow::Borrowed(event.get("requestPayload")?))))
}
