//! One invocation of the Lambda function: an event comes in, and the response that its sender reads, or an error, goes out.

pub mod handler;
pub(crate) mod notification;
pub mod response;
pub mod sqs;
