//! Builds a registry from a configuration.

use std::sync::Arc;

use aws_config::SdkConfig;
use axum::Router;
use elb_common::tls::{SystemRoots, client_config};

use crate::alert::{Alerts, Channel};
use crate::aws::{AwsFleet, in_region};
use crate::clock::Clock;
use crate::config::{Mode, RegistryConfig, StoreConfig};
use crate::function::{Function, ListOwner, UpdateRoute};
use crate::metrics::Metrics;
use crate::registry::{Parts, Registry};
use crate::routes::{UpdateAuth, router};
use crate::store::{MemoryStore, RedisStore, STORE_TIMEOUT, Store};

/// What the binary knows and the configuration does not.
#[derive(Debug)]
pub struct Platform {
    /// Region and credentials.
    pub aws: SdkConfig,
    /// Certificate authorities that the system trusts.
    pub roots: SystemRoots,
    /// Wall clock.
    pub clock: Clock,
    /// Seed of the jitter.
    pub seed: u64,
}

/// A program that is ready to run.
#[derive(Debug)]
pub enum Program {
    /// A server: a registry that polls in the background, and its routes.
    Server(Arc<Registry<AwsFleet>>, Router),
    /// A Lambda function.
    Function(Function<AwsFleet>),
}

/// Builds the store, the clients and the registry. Nothing is connected yet.
///
/// # Errors
/// The system's certificates cannot be used.
pub fn build_registry(mode: Mode, config: RegistryConfig, platform: Platform) -> Result<Program, String> {
    let Platform { aws, roots, clock, seed } = platform;
    let tls = client_config(&roots, Vec::new(), None)?;
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let http = http.tls_backend_preconfigured(tls).build().map_err(|error| format!("cannot create the HTTP client: {error}"))?;
    let store = match config.store {
        StoreConfig::Memory => Store::Memory(MemoryStore::default()),
        StoreConfig::Redis(address) => {
            Store::Redis(Box::new(RedisStore::new(*address, STORE_TIMEOUT).map_err(|error| error.to_string())?))
        }
    };
    let metrics = Metrics::default();
    let topic = config
        .alert_topic
        .map(|topic| Channel::Topic { client: aws_sdk_sns::Client::new(&in_region(&aws, &topic.region)), arn: topic.arn });
    let webhook = config.alert_webhook.map(|url| Channel::Webhook { client: http.clone(), url });
    let channels = topic.into_iter().chain(webhook).collect();
    let registry = Arc::new(Registry::new(Parts {
        fleet: AwsFleet::new(&aws, &config.groups, metrics.clone()),
        groups: config.groups,
        store,
        alerts: Alerts::new(channels, metrics.clone(), clock.clone()),
        metrics,
        clock,
        poll: config.poll,
        seed,
    }));
    let auth = match (mode, &config.token) {
        (_, Some(token)) => UpdateAuth::Token(token.clone()),
        (Mode::Function, None) => UpdateAuth::Iam,
        (Mode::Server(_), None) => UpdateAuth::Anyone,
    };
    let routes = router(Arc::clone(&registry), auth);
    Ok(match mode {
        Mode::Server(_) => Program::Server(registry, routes),
        Mode::Function => {
            let owner = match (config.update_url, config.token) {
                (Some(url), Some(token)) => ListOwner::Server(UpdateRoute::new(http, url, token)),
                _ => ListOwner::Function,
            };
            Program::Function(Function::new(registry, routes, owner, config.topics))
        }
    })
}
