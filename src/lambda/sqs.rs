//! SQS after a message that is not done: sets the time of its next delivery, or moves it to the dead-letter queue if its object can never be read.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use elb_common::aws::{AwsConfig, explain_error};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::lambda::notification::{QueueArn, Receipt};

/// Delay of the next delivery after a message's first failure.
const FIRST_DELAY: Duration = Duration::from_secs(30);

/// Maximum delay of the next delivery.
const MAX_DELAY: Duration = Duration::from_mins(15);

/// Maximum duration of a call, retries included. The call is made in the time that is reserved for the invocation's report.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// The error of a call that the end of the invocation interrupts.
const NO_TIME_LEFT: &str = "there was no time left";

/// The queue that messages come from, and the dead-letter queue.
#[derive(Debug)]
pub struct SqsClient {
    aws: AwsConfig,
    dead_letter_queue_url: Option<String>,
    client: OnceCell<Client>,
}

impl SqsClient {
    /// Connects at the first failed message, because most processes never have one. `dead_letter_queue_url` is
    /// `DEAD_LETTER_QUEUE_URL`.
    pub fn new(aws: AwsConfig, dead_letter_queue_url: Option<String>) -> Self {
        SqsClient { aws, dead_letter_queue_url, client: OnceCell::new() }
    }

    /// Sends a message whose object can never be read to the dead-letter queue, unchanged. Returns whether the queue confirmed
    /// it within `limit`.
    pub(super) async fn move_to_dead_letter_queue(&self, body: &str, limit: Duration) -> bool {
        let Some(url) = &self.dead_letter_queue_url else { return false };
        let sent = within(limit, self.send(url, body)).await;
        if let Err(error) = &sent {
            tracing::error!(
                queue = url,
                error,
                "cannot move a message to the dead-letter queue; it stays in its queue; allow sqs:SendMessage on DEAD_LETTER_QUEUE_URL"
            );
        }
        sent.is_ok()
    }

    /// Makes the queue deliver a message again after `delay`. Without this call, or if it fails, the message stays hidden for the
    /// queue's whole visibility timeout, and nothing is lost.
    pub(super) async fn redeliver_after(&self, delay: Duration, receipt: &Receipt, limit: Duration) {
        let changed = within(limit, self.change_visibility(receipt, delay)).await;
        if let Err(error) = changed {
            tracing::warn!(
                queue = receipt.queue.name,
                error,
                "cannot change when a message is delivered again; it is delivered after the queue's visibility timeout; \
                 allow sqs:ChangeMessageVisibility on the queue"
            );
        }
    }

    async fn send(&self, url: &str, body: &str) -> Result<(), String> {
        let request = self.client().await.send_message().queue_url(url).message_body(body);
        request.send().await.map(drop).map_err(|error| explain_error(&error))
    }

    async fn change_visibility(&self, receipt: &Receipt, delay: Duration) -> Result<(), String> {
        let delay_s = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
        let url = queue_url(&receipt.queue).await?;
        let request = self.client().await.change_message_visibility().queue_url(url);
        let request = request.receipt_handle(&receipt.receipt_handle).visibility_timeout(delay_s);
        request.send().await.map(drop).map_err(|error| explain_error(&error))
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| async { self.make_client().await }).await
    }

    async fn make_client(&self) -> Client {
        let timeouts = TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).build();
        Client::from_conf(aws_sdk_sqs::config::Builder::from(self.aws.config().await).timeout_config(timeouts).build())
    }
}

/// Returns the URL of a queue. The SDK knows the domain of each region's partition.
async fn queue_url(queue: &QueueArn) -> Result<String, String> {
    let cannot =
        |error: &dyn std::fmt::Display| format!("cannot make the URL of the queue {} in {}: {error}", queue.name, queue.region);
    let region = Params::builder().region(&queue.region).build().map_err(|error| cannot(&error))?;
    let resolver = DefaultResolver::new();
    let endpoint = ResolveEndpoint::resolve_endpoint(&resolver, &region).await.map_err(|error| cannot(&error))?;
    Ok(format!("{}/{}/{}", endpoint.url().trim_end_matches('/'), queue.account, queue.name))
}

/// Makes a call, and interrupts it after `limit`. Without any time it connects to nothing.
async fn within(limit: Duration, call: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let no_time_left = || Err(NO_TIME_LEFT.to_owned());
    if limit.is_zero() { no_time_left() } else { timeout(limit, call).await.unwrap_or_else(|_| no_time_left()) }
}

/// Returns the delay of the next delivery after a failure: `FIRST_DELAY`, doubled for each delivery after the first, up to
/// `MAX_DELAY`.
pub(super) fn redelivery_delay(receive_count: u32) -> Duration {
    let doublings = receive_count.saturating_sub(1).min(16);
    (FIRST_DELAY * 2_u32.pow(doublings)).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_has_the_domain_of_its_partition() {
        for (region, domain) in [
            ("eu-west-1", "amazonaws.com"),
            ("cn-northwest-1", "amazonaws.com.cn"),
            ("us-gov-east-1", "amazonaws.com"),
            ("eusc-de-east-1", "amazonaws.eu"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
            ("us-isof-south-1", "csp.hci.ic.gov"),
            ("eu-isoe-west-1", "cloud.adc-e.uk"),
        ] {
            let (account, name) = ("123456789012".to_owned(), "logs".to_owned());
            let url = queue_url(&QueueArn { region: region.to_owned(), account, name }).await;
            assert_eq!(url, Ok(format!("https://sqs.{region}.{domain}/123456789012/logs")));
        }
    }

    #[test]
    fn delay_doubles_up_to_15_minutes() {
        let delays = [0, 1, 2, 3, 5, 6, 200, u32::MAX].map(|count| redelivery_delay(count).as_secs());
        assert_eq!(delays, [30, 30, 60, 120, 480, 900, 900, 900]);
    }
}
