//! A configuration to a program that works.

use std::sync::Arc;

use jiff::Timestamp;

use crate::config::{Config, CredentialsConfig, DeadLetterConfig, HttpTarget, StoreConfig, Target};
use crate::dead_letter::DeadLetterDestination;
use crate::object::{DirStore, S3Store, Store};
use crate::ship::Shipper;
use crate::sink::{Credentials, HttpSettings, HttpTransport, Logstash, LogstashSettings, Sink, StdoutSink};
use crate::summary_log::SummaryLog;
use elb_common::aws::AwsConfig;
use elb_common::tls::{SystemRoots, client_config};

/// What the binaries know and the configuration does not.
#[derive(Debug)]
pub struct Platform {
    /// Region and credentials.
    pub aws: AwsConfig,
    /// Whom https trusts where the configuration names nobody.
    pub roots: SystemRoots,
    /// All objects are files named on the command line.
    pub local_files: bool,
    /// Make the events and send none of them.
    pub dry_run: bool,
    /// Where the summary line of each object goes.
    pub journal: SummaryLog,
    /// Where the randomness of the back-off begins.
    pub seed: u64,
    /// The wall clock.
    pub now: fn() -> Timestamp,
}

/// Builds the store, the sink and the shipper between them. Nothing is connected yet.
///
/// # Errors
/// The certificates cannot be used.
pub fn build_shipper(mut config: Config, surroundings: Platform) -> Result<Arc<Shipper>, String> {
    let aws = &surroundings.aws;
    let store = match config.store {
        StoreConfig::Dir(root) => Store::Dir(DirStore::new(root)),
        StoreConfig::S3 { .. } if surroundings.local_files => Store::LocalFiles,
        StoreConfig::S3 { path_style } => Store::S3(S3Store::new(aws.clone(), path_style)),
    };
    let dead_letter = config.dead_letter.map(|place| match place {
        DeadLetterConfig::Dir(directory) => DeadLetterDestination::Dir(directory),
        DeadLetterConfig::S3 { bucket, prefix, path_style } => {
            DeadLetterDestination::S3 { store: S3Store::new(aws.clone(), path_style), bucket, prefix }
        }
    });
    let sink = match config.target {
        _ if surroundings.dry_run => Sink::Nowhere,
        Target::Output => Sink::Stdout(StdoutSink::stdout()),
        Target::Http(target) => Sink::Logstash(Arc::new(logstash(*target, config.ship.concurrency, &surroundings)?)),
    };
    config.ship.batch.bodies = !surroundings.dry_run;
    Ok(Arc::new(Shipper::new(store, sink, dead_letter, config.ship, surroundings.journal)))
}

/// Builds the sink for Logstash, with `concurrency` connections at most. Nothing is connected yet.
///
/// # Errors
/// The certificates cannot be used.
pub fn logstash(target: HttpTarget, concurrency: usize, surroundings: &Platform) -> Result<Logstash<HttpTransport>, String> {
    let transport = HttpTransport::new(HttpSettings {
        tls: client_config(&surroundings.roots, target.authorities, target.identity)?,
        concurrency,
        connect_timeout: target.connect_timeout,
        now: surroundings.now,
    })?;
    let credentials = match target.credentials {
        CredentialsConfig::None => Credentials::None,
        CredentialsConfig::Basic(user, password) => Credentials::basic(&user, &password),
        CredentialsConfig::Secret(arn) => Credentials::secret(surroundings.aws.clone(), arn),
    };
    let settings = LogstashSettings {
        endpoints: target.endpoints,
        credentials,
        request_timeout: target.request_timeout,
        retry_budget: target.retry_budget,
        seed: surroundings.seed,
    };
    Ok(Logstash::new(transport, settings))
}
