//! Region, credentials and HTTP client of the AWS clients, loaded when the first client needs them. `error` describes their errors.

mod error;
mod profile;

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

pub use self::error::{explain_causes, explain_error};
use crate::tls::SystemRoots;

/// Loads region and credentials.
type Loading = Pin<Box<dyn Future<Output = SdkConfig> + Send>>;

/// The configuration that the clients of all AWS services share. Clones load it once.
#[derive(Clone)]
pub struct AwsConfig {
    load: Arc<dyn Fn() -> Loading + Send + Sync>,
    config: Arc<OnceCell<SdkConfig>>,
}

impl AwsConfig {
    /// Calls `load` when a client first needs the configuration. The function starts faster, and some runs never need it.
    pub fn new<F>(load: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = SdkConfig> + Send + 'static,
    {
        AwsConfig { load: Arc::new(move || Box::pin(load())), config: Arc::default() }
    }

    /// Uses a configuration that is already loaded.
    pub fn loaded(config: SdkConfig) -> Self {
        let cell = OnceCell::new_with(Some(config.clone()));
        AwsConfig { load: Arc::new(move || Box::pin(std::future::ready(config.clone()))), config: Arc::new(cell) }
    }

    /// Returns the configuration, and loads it if necessary.
    pub async fn config(&self) -> &SdkConfig {
        self.config.get_or_init(|| (self.load)()).await
    }
}

impl fmt::Debug for AwsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.config.initialized() { "AwsConfig(loaded)" } else { "AwsConfig(not loaded)" })
    }
}

/// Returns the SDK's HTTP client with `roots` as its certificate authorities. The default client would read the system's
/// authorities a second time.
pub fn http_client(roots: SystemRoots, proxy: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector = connector.tls_context(roots.context()).proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build()
    })
}
