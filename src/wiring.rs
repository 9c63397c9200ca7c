//! Builds the shipper and the connection to Logstash from a configuration.

use std::sync::Arc;

use elb_common::aws::AwsConfig;
use elb_common::tls::{SystemRoots, client_config};
use jiff::Timestamp;

use crate::config::{Config, CredentialsConfig, DeadLetterConfig, HttpTarget, StoreConfig, Target};
use crate::dead_letter::DeadLetterDestination;
use crate::object::{DirStore, S3Store, Store};
use crate::ship::Shipper;
use crate::sink::{Credentials, HttpSettings, HttpTransport, Logstash, LogstashSettings, Sink, StdoutSink};
use crate::summary_log::SummaryLog;

/// What the binaries provide in addition to the configuration.
#[derive(Debug)]
pub struct Platform {
    /// Region and credentials of AWS.
    pub aws: AwsConfig,
    /// Certificate authorities that https trusts if the configuration names none.
    pub roots: SystemRoots,
    /// Whether all objects are files named on the command line.
    pub local_files: bool,
    /// Whether events are made and not sent.
    pub dry_run: bool,
    /// Destination of the summary line of each object.
    pub summary_log: SummaryLog,
    /// Seed of the random back-off times.
    pub seed: u64,
    /// Wall clock.
    pub now: fn() -> Timestamp,
}

/// Builds a shipper with its store and its sink. It connects to nothing yet.
///
/// # Errors
/// The certificates are invalid.
pub fn build_shipper(mut config: Config, platform: Platform) -> Result<Arc<Shipper>, String> {
    let sink = match config.target {
        _ if platform.dry_run => Sink::Nowhere,
        Target::Output => Sink::Stdout(StdoutSink::new()),
        Target::Http(target) => Sink::Logstash(Arc::new(build_logstash(*target, config.ship.concurrency, &platform)?)),
    };
    let store = build_store(config.store, &platform);
    let dead_letter = config.dead_letter.map(|destination| build_dead_letter(destination, &platform));
    config.ship.batch.bodies = !platform.dry_run;
    Ok(Arc::new(Shipper::new(store, sink, dead_letter, config.ship, platform.summary_log)))
}

fn build_store(config: StoreConfig, platform: &Platform) -> Store {
    match config {
        StoreConfig::Dir(root) => Store::Dir(DirStore::new(root)),
        StoreConfig::S3 { .. } if platform.local_files => Store::LocalFiles,
        StoreConfig::S3 { path_style } => Store::S3(S3Store::new(platform.aws.clone(), path_style)),
    }
}

fn build_dead_letter(config: DeadLetterConfig, platform: &Platform) -> DeadLetterDestination {
    match config {
        DeadLetterConfig::Dir(directory) => DeadLetterDestination::Dir(directory),
        DeadLetterConfig::S3 { bucket, prefix, path_style } => {
            let store = S3Store::new(platform.aws.clone(), path_style);
            DeadLetterDestination::S3 { store, bucket, prefix }
        }
    }
}

/// Builds the sink that sends to Logstash over at most `concurrency` connections. It connects to nothing yet.
///
/// # Errors
/// The certificates are invalid.
pub fn build_logstash(target: HttpTarget, concurrency: usize, platform: &Platform) -> Result<Logstash<HttpTransport>, String> {
    let transport = HttpTransport::new(HttpSettings {
        tls: client_config(&platform.roots, target.authorities, target.identity)?,
        concurrency,
        connect_timeout: target.connect_timeout,
        response_check: target.response_check,
        now: platform.now,
    })?;
    let credentials = match target.credentials {
        CredentialsConfig::None => Credentials::None,
        CredentialsConfig::Basic(user, password) => Credentials::basic(&user, &password),
        CredentialsConfig::Secret(arn) => Credentials::secret(platform.aws.clone(), arn),
    };
    let settings = LogstashSettings {
        endpoints: target.endpoints,
        credentials,
        request_timeout: target.request_timeout,
        retry_budget: target.retry_budget,
        seed: platform.seed,
    };
    Ok(Logstash::new(transport, settings))
}
