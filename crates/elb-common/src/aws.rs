//! Region and credentials for AWS's services, looked up when the first of them is needed, and the connections to all of them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::sync::OnceCell;

use crate::tls::SystemRoots;

/// A look-up of region and credentials.
type Loading = Pin<Box<dyn Future<Output = SdkConfig> + Send>>;

/// What the clients of all services share. Clones share one look-up.
#[derive(Clone)]
pub struct AwsConfig {
    load: Arc<dyn Fn() -> Loading + Send + Sync>,
    config: Arc<OnceCell<SdkConfig>>,
}

impl AwsConfig {
    /// Calls `load` when a client is first needed: many a process never needs one, and the function starts sooner.
    pub fn new<F>(load: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = SdkConfig> + Send + 'static,
    {
        AwsConfig { load: Arc::new(move || Box::pin(load())), config: Arc::default() }
    }

    /// Uses what has been looked up already.
    pub fn loaded(config: SdkConfig) -> Self {
        let cell = OnceCell::new_with(Some(config.clone()));
        AwsConfig { load: Arc::new(move || Box::pin(std::future::ready(config.clone()))), config: Arc::new(cell) }
    }

    /// The shared configuration.
    pub async fn config(&self) -> &SdkConfig {
        self.config.get_or_init(|| (self.load)()).await
    }
}

impl fmt::Debug for AwsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.config.initialized() { "AwsConfig(loaded)" } else { "AwsConfig(not loaded)" })
    }
}

/// The SDK's own HTTP client, but for the authorities: left to itself, it would read those of the system a second time.
pub fn http_client(roots: SystemRoots, proxy: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector = connector.tls_context(roots.context()).proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build()
    })
}
