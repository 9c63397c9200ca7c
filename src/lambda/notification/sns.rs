//! SNS: the notification that a topic delivers, as a record of the function's event or as the body of an SQS message.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html>
//!
//! Only `Message` is read. The crate's `SnsMessage` refuses messages without `Signature`, `SigningCertUrl` and other members, as
//! people write them to replay an object.

use serde_json::Value;

use super::{Opened, event_in_text, is_record_of};

/// Opens the record of a notification.
pub(super) fn open_record(record: &Value) -> Option<Opened<'_>> {
    is_record_of(record, "aws:sns").then(|| event_in_text(record, record.pointer("/Sns/Message")))
}

/// Opens a notification that is the body of an SQS message.
pub(super) fn open_notification(event: &Value) -> Option<Opened<'_>> {
    let is_notification = event.get("Type").and_then(Value::as_str) == Some("Notification");
    is_notification.then(|| event_in_text(event, event.get("Message")))
}
