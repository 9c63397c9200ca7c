//! The queues of notifications: a message that failed is to come again soon, and then ever later, unless its object can never be
//! read.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::DisplayErrorContext;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::lambda::notification::Receipt;
use elb_common::aws::AwsConfig;
use elb_common::backoff::Backoff;

/// The delay of a message that failed, by the number of times it has been received.
const DELAY: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_mins(15));

/// A call takes no longer, retries included: it is made in the time that is kept for the invocation's report.
const CALL_TIME: Duration = Duration::from_secs(4);

/// What is said of a call that the end of the invocation cuts off.
const NO_TIME: &str = "there was no time left";

/// Amazon SQS: the queue that messages come from, and the one for messages whose object can never be read.
#[derive(Debug)]
pub struct Queue {
    aws: AwsConfig,
    dead_letter_url: Option<String>,
    client: OnceCell<Client>,
}

impl Queue {
    /// A client that is made for the first message that fails, since most processes never see one. `dead_letter_url` is
    /// `DEAD_LETTER_QUEUE_URL`.
    pub fn new(aws: AwsConfig, dead_letter_url: Option<String>) -> Self {
        Queue { aws, dead_letter_url, client: OnceCell::new() }
    }

    /// Puts a message whose object can never be read into the dead-letter queue, unchanged. Whether it is there now, and that is
    /// known within `limit`.
    pub async fn give_up(&self, body: &str, limit: Duration) -> bool {
        let Some(url) = &self.dead_letter_url else { return false };
        let sent = timeout(limit, self.send(url, body)).await.unwrap_or_else(|_| Err(NO_TIME.to_owned()));
        if let Err(error) = &sent {
            tracing::error!(
                queue = url,
                error,
                "a message whose object can never be read stays in its queue; allow sqs:SendMessage on DEAD_LETTER_QUEUE_URL"
            );
        }
        sent.is_ok()
    }

    /// Makes a failed message come again after a delay that grows with the number of times it has been received. Without this it
    /// would stay hidden for the queue's whole visibility time-out. If it cannot be done within `limit`, that is what happens,
    /// and nothing is lost.
    pub async fn come_again(&self, receipt: &Receipt, limit: Duration) {
        let changed = timeout(limit, self.change(receipt)).await.unwrap_or_else(|_| Err(NO_TIME.to_owned()));
        if let Err(error) = changed {
            tracing::warn!(
                queue = receipt.queue_url,
                error,
                "a failed message comes again only after the visibility time-out; allow sqs:ChangeMessageVisibility"
            );
        }
    }

    async fn send(&self, url: &str, body: &str) -> Result<(), String> {
        let request = self.client().await.send_message().queue_url(url).message_body(body);
        request.send().await.map(drop).map_err(|error| DisplayErrorContext(error).to_string())
    }

    async fn change(&self, receipt: &Receipt) -> Result<(), String> {
        let delay_s = i32::try_from(delay(receipt.receive_count).as_secs()).unwrap_or(i32::MAX);
        let client = self.client().await;
        let request = client.change_message_visibility().queue_url(&receipt.queue_url).receipt_handle(&receipt.handle);
        let request = request.visibility_timeout(delay_s);
        request.send().await.map(drop).map_err(|error| DisplayErrorContext(error).to_string())
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| async { self.make_client().await }).await
    }

    async fn make_client(&self) -> Client {
        let time = TimeoutConfig::builder().operation_timeout(CALL_TIME).build();
        Client::from_conf(aws_sdk_sqs::config::Builder::from(self.aws.config().await).timeout_config(time).build())
    }
}

/// 30 seconds, doubled with each time the message has been received, up to 15 minutes.
fn delay(receive_count: u32) -> Duration {
    DELAY.wait(receive_count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_quarter_of_an_hour() {
        assert_eq!([0, 1, 2, 3, 5, 6, 200, u32::MAX].map(|count| delay(count).as_secs()), [30, 30, 60, 120, 480, 900, 900, 900]);
    }
}
