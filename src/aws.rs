//! Region and credentials for AWS's services, looked up when the first of them is needed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aws_config::SdkConfig;
use tokio::sync::OnceCell;

/// Looks up region and credentials as every AWS tool does it.
pub type LoadConfig = fn() -> Pin<Box<dyn Future<Output = SdkConfig> + Send>>;

/// What the clients of all services share. Clones share one look-up.
#[derive(Clone)]
pub struct Aws {
    load: LoadConfig,
    config: Arc<OnceCell<SdkConfig>>,
}

impl Aws {
    /// Calls `load` when a client is first needed: many a process never needs one, and the function starts sooner.
    pub fn new(load: LoadConfig) -> Self {
        Aws { load, config: Arc::default() }
    }

    /// Uses what has been looked up already.
    pub fn loaded(config: SdkConfig) -> Self {
        Aws { load: || Box::pin(async { SdkConfig::builder().build() }), config: Arc::new(OnceCell::new_with(Some(config))) }
    }

    /// The shared configuration.
    pub async fn config(&self) -> &SdkConfig {
        self.config.get_or_init(|| (self.load)()).await
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.config.initialized() { "Aws(loaded)" } else { "Aws(not loaded)" })
    }
}
