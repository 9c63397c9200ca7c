//! A configuration to a program that works.

use std::sync::Arc;

use aws_config::SdkConfig;

use crate::config::{Config, HttpTarget, StoreConfig, Target};
use crate::object::{DirStore, S3Store, Store};
use crate::ship::Shipper;
use crate::sink::{Destination, HttpSettings, HttpSink, OutputSink};
use crate::telemetry::Journal;

/// What the binaries know and the configuration does not.
#[derive(Debug)]
pub struct Surroundings {
    /// Region and credentials; needed where the store is S3.
    pub aws: Option<SdkConfig>,
    /// Make the events and send none of them.
    pub dry_run: bool,
    /// Where the summary line of each object goes.
    pub journal: Journal,
    /// Where the randomness of the back-off begins.
    pub seed: u64,
}

/// Builds the store, the sink and the shipper between them. Nothing is connected yet.
///
/// # Errors
/// The certificates cannot be used.
pub fn assemble(config: Config, surroundings: Surroundings) -> Result<Arc<Shipper<Destination>>, String> {
    let store = match (config.store, &surroundings.aws) {
        (StoreConfig::Dir(root), _) => Store::Dir(DirStore::new(root)),
        (StoreConfig::S3 { path_style }, Some(aws)) => Store::S3(S3Store::new(aws, path_style)),
        (StoreConfig::S3 { .. }, None) => Store::LocalFiles,
    };
    let sink = match config.target {
        _ if surroundings.dry_run => Destination::Nowhere,
        Target::Output => Destination::Output(OutputSink::stdout()),
        Target::Http(target) => Destination::Http(http_sink(target, config.ship.concurrency, surroundings.seed)?),
    };
    Ok(Arc::new(Shipper::new(store, sink, config.ship, surroundings.journal)))
}

/// Builds the sink for Logstash. Nothing is connected yet.
///
/// # Errors
/// The certificates cannot be used.
pub fn http_sink(target: HttpTarget, concurrency: usize, seed: u64) -> Result<HttpSink, String> {
    HttpSink::new(HttpSettings {
        endpoints: target.endpoints,
        credentials: target.credentials,
        authorities: target.authorities,
        identity: target.identity,
        concurrency,
        connect_timeout: target.connect_timeout,
        request_timeout: target.request_timeout,
        retry_budget: target.retry_budget,
        seed,
    })
}
