//! A configuration to a program that works.

use std::sync::Arc;

use aws_config::SdkConfig;
use axum::Router;
use elb_common::tls::{SystemRoots, client_config};

use crate::alert::{Alerts, Channel};
use crate::aws::{Aws, in_region};
use crate::clock::Clock;
use crate::config::{Config, Program, StoreConfig};
use crate::function::{Function, Keeper, UpdateRoute};
use crate::metrics::Metrics;
use crate::registry::{Parts, Registry};
use crate::routes::{Updaters, router};
use crate::store::{MemoryStore, RedisStore, STORE_PATIENCE, Store};

/// What the binary knows and the configuration does not.
#[derive(Debug)]
pub struct Surroundings {
    /// Region and credentials.
    pub aws: SdkConfig,
    /// The authorities that the system trusts.
    pub roots: SystemRoots,
    /// The wall clock.
    pub clock: Clock,
    /// Where the randomness of the jitter begins.
    pub seed: u64,
}

/// What is to run.
#[derive(Debug)]
pub enum Assembled {
    /// A server: its lists are kept up in the background, its routes served.
    Server(Arc<Registry<Aws>>, Router),
    /// A Lambda function.
    Function(Function<Aws>),
}

/// Builds the store, the clients and the registry. Nothing is connected yet.
///
/// # Errors
/// The system's certificates cannot be used.
pub fn assemble(program: Program, config: Config, surroundings: Surroundings) -> Result<Assembled, String> {
    let Surroundings { aws, roots, clock, seed } = surroundings;
    let tls = client_config(&roots, Vec::new(), None)?;
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let http = http.tls_backend_preconfigured(tls).build().map_err(|error| format!("no HTTP client can be made: {error}"))?;
    let store = match config.store {
        StoreConfig::Memory => Store::Memory(MemoryStore::default()),
        StoreConfig::Redis(address) => {
            Store::Redis(Box::new(RedisStore::new(*address, STORE_PATIENCE).map_err(|error| error.to_string())?))
        }
    };
    let metrics = Metrics::default();
    let topic = config
        .alert_topic
        .map(|topic| Channel::Topic { client: aws_sdk_sns::Client::new(&in_region(&aws, &topic.region)), arn: topic.arn });
    let webhook = config.alert_webhook.map(|url| Channel::Webhook { client: http.clone(), url });
    let channels = topic.into_iter().chain(webhook).collect();
    let registry = Arc::new(Registry::new(Parts {
        fleet: Aws::new(&aws, &config.groups, metrics.clone()),
        groups: config.groups,
        store,
        alerts: Alerts::new(channels, metrics.clone(), clock.clone()),
        metrics,
        clock,
        poll: config.poll,
        seed,
    }));
    let updaters = match (program, &config.token) {
        (_, Some(token)) => Updaters::Token(token.clone()),
        (Program::Function, None) => Updaters::Iam,
        (Program::Server(_), None) => Updaters::Anybody,
    };
    let routes = router(Arc::clone(&registry), updaters);
    Ok(match program {
        Program::Server(_) => Assembled::Server(registry, routes),
        Program::Function => {
            let keeper = match (config.update_url, config.token) {
                (Some(url), Some(token)) => Keeper::Server(UpdateRoute::new(http, url, token)),
                _ => Keeper::Function,
            };
            Assembled::Function(Function::new(registry, routes, keeper, config.topics))
        }
    })
}
