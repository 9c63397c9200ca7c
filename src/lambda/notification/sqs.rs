//! SQS: the messages of a queue, each with an event as its body.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>

use aws_lambda_events::event::sqs::SqsMessage;
use serde::Deserialize;
use serde_json::Value;

use super::{NotificationError, Opened, QueueArn, QueueMessage, Receipt, event_in_text, is_record_of, open_event};

/// Returns the records of an SQS event; `None` for another event.
pub(super) fn records(event: &Value) -> Option<&[Value]> {
    let records = event.get("Records")?.as_array()?;
    is_record_of(records.first()?, "aws:sqs").then_some(records)
}

/// Reads a record of an SQS event. If the body cannot be read, only this message fails.
pub(super) fn read_message(record: &Value) -> Result<QueueMessage, NotificationError> {
    let malformed = |reason: &dyn ToString| NotificationError::malformed(reason.to_string(), record);
    let message = SqsMessage::deserialize(record).map_err(|error| malformed(&error))?;
    let receipt = receipt(&message);
    let id = message.message_id.ok_or_else(|| malformed(&"the message has no messageId"))?;
    let body = message.body.ok_or_else(|| malformed(&"the message has no body"))?;
    let event = serde_json::from_str(&body).unwrap_or_else(|_| Value::from(body.as_str()));
    Ok(QueueMessage { id, receipt, tasks: open_event(&event), body })
}

/// Opens a message inside the record of a failed invocation.
pub(super) fn open_record(record: &Value) -> Option<Opened<'_>> {
    is_record_of(record, "aws:sqs").then(|| event_in_text(record, record.get("body")))
}

fn receipt(message: &SqsMessage) -> Option<Receipt> {
    let receive_count = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    Some(Receipt {
        queue: QueueArn::parse(message.event_source_arn.as_deref()?)?,
        receipt_handle: message.receipt_handle.clone()?,
        receive_count: receive_count.unwrap_or(1),
    })
}

impl QueueArn {
    fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.split(':').skip(2);
        let (service, region) = (parts.next()?, parts.next()?);
        let (account, name) = (parts.next()?, parts.next()?);
        (service == "sqs").then(|| QueueArn { region: region.to_owned(), account: account.to_owned(), name: name.to_owned() })
    }
}
