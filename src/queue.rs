//! The queue that notifications come from: a message that failed is to come again soon, and then ever later.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use aws_config::SdkConfig;
use tokio::sync::OnceCell;

use crate::notification::Receipt;

/// After the first failure a message comes again after this.
const FIRST_DELAY: Duration = Duration::from_secs(30);

/// And never later than this.
const LONGEST_DELAY: Duration = Duration::from_mins(15);

/// Looks up region and credentials. It is called for the first message that fails, since most processes never see one.
pub type LoadConfig = fn() -> Pin<Box<dyn Future<Output = SdkConfig> + Send>>;

/// Amazon SQS.
#[derive(Debug)]
pub struct Queue {
    load_config: LoadConfig,
    client: OnceCell<aws_sdk_sqs::Client>,
}

impl Queue {
    /// A queue client that is made when it is needed.
    pub fn new(load_config: LoadConfig) -> Self {
        Queue { load_config, client: OnceCell::new() }
    }

    /// Makes a failed message come again after a delay that grows with the number of times it has been received. Without this it
    /// would stay hidden for the queue's whole visibility time-out. If it cannot be done, that is what happens, and nothing is
    /// lost.
    pub async fn come_again(&self, receipt: &Receipt) {
        let client = self.client.get_or_init(|| async { aws_sdk_sqs::Client::new(&(self.load_config)().await) }).await;
        let delay_s = i32::try_from(delay(receipt.receive_count).as_secs()).unwrap_or(i32::MAX);
        let request = client.change_message_visibility().queue_url(&receipt.queue_url).receipt_handle(&receipt.handle);
        if let Err(error) = request.visibility_timeout(delay_s).send().await {
            let error = aws_sdk_sqs::error::DisplayErrorContext(error).to_string();
            tracing::warn!(
                queue = receipt.queue_url,
                error,
                "a failed message comes again only after the visibility time-out; allow sqs:ChangeMessageVisibility"
            );
        }
    }
}

/// 30 seconds, doubled with each time the message has been received, up to 15 minutes.
fn delay(receive_count: u32) -> Duration {
    let doublings = receive_count.saturating_sub(1).min(16);
    (FIRST_DELAY * 2_u32.pow(doublings)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_quarter_of_an_hour() {
        assert_eq!([0, 1, 2, 3, 5, 6, 200, u32::MAX].map(|count| delay(count).as_secs()), [30, 30, 60, 120, 480, 900, 900, 900]);
    }
}
