//! Builds the shipper and the connection to Logstash from a configuration.

use std::collections::BTreeSet;
use std::sync::Arc;

use elb_common::aws::AwsConfig;
use elb_common::tls::{SystemRoots, client_config};
use elb_log::event::EventSettings;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::checkpoint::{CheckpointLocation, CheckpointStore};
use crate::config::{Config, CredentialsConfig, DeadLetterConfig, HttpTarget, StoreConfig, Target};
use crate::dead_letter::DeadLetterDestination;
use crate::object::{DirStore, S3Store, Store};
use crate::ship::Shipper;
use crate::sink::{Credentials, EndpointSource, HttpSettings, HttpTransport, Logstash, LogstashSettings, Sink, StdoutSink};
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
    /// Whether objects continue at checkpoints, which needs `DEAD_LETTER_URL`.
    pub checkpoints: bool,
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
    let settings = settings_digest(&config);
    let sink = match config.target {
        _ if platform.dry_run => Sink::Nowhere,
        Target::Output => Sink::Stdout(StdoutSink::new()),
        Target::Http(target) => Sink::Logstash(Arc::new(build_logstash(*target, config.ship.concurrency, &platform)?)),
    };
    let store = build_store(config.store, &platform);
    let dead_letter = config.dead_letter.map(|destination| build_dead_letter(destination, &platform));
    let checkpoints = dead_letter.as_ref().filter(|_| platform.checkpoints);
    let checkpoints = checkpoints.map(|destination| CheckpointStore::new(checkpoint_location(destination), settings));
    config.ship.batch.bodies = !platform.dry_run;
    let shipper = Shipper::new(store, sink, dead_letter, config.ship, platform.summary_log);
    Ok(Arc::new(match checkpoints {
        Some(checkpoints) => shipper.with_checkpoints(checkpoints),
        None => shipper,
    }))
}

fn checkpoint_location(dead_letter: &DeadLetterDestination) -> CheckpointLocation {
    match dead_letter {
        DeadLetterDestination::Dir(directory) => CheckpointLocation::Dir(directory.clone()),
        DeadLetterDestination::S3 { store, bucket, prefix } => {
            CheckpointLocation::S3 { store: store.clone(), bucket: bucket.clone(), prefix: prefix.clone() }
        }
    }
}

/// Returns a digest of the settings that decide where events go and what they contain. Each setting of this kind belongs here, so
/// that an object never consists of parts that were sent with different settings.
fn settings_digest(config: &Config) -> String {
    let destination = match &config.target {
        Target::Output => json!(null),
        Target::Http(target) => {
            let endpoints = match &target.endpoints {
                // Without queries, which can contain secrets. In any order, because every endpoint may get every event.
                EndpointSource::Fixed(endpoints) => json!(endpoints.iter().map(ToString::to_string).collect::<BTreeSet<_>>()),
                EndpointSource::Registry(discovery) => json!([discovery.url.as_str(), format!("{:?}", discovery.template)]),
            };
            // What counted as delivered with one check may not have been with the other.
            json!([endpoints, format!("{:?}", target.response_check)])
        }
    };
    let EventSettings { schema, include_original, labels, resend } = &config.ship.events;
    let events = json!([format!("{schema:?}"), include_original, labels, resend, config.ship.max_line_bytes]);
    hex::encode(&Sha256::digest(json!([destination, events]).to_string())[..16])
}

/// Builds the store of the log objects. It connects to nothing yet.
pub fn build_store(config: StoreConfig, platform: &Platform) -> Store {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Program;

    fn digest(vars: &[(&str, &str)]) -> String {
        let lookup = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        settings_digest(&Config::from_vars(Program::Function, lookup).expect("a valid configuration"))
    }

    #[test]
    fn the_digest_is_of_the_settings_that_change_events_or_their_destination() {
        let endpoints = ("LOGSTASH_URL", "https://a:1/in?token=x,http://b:2/");
        let registry = ("REGISTRY_URL", "http://10.0.0.5:8081/logstash-ip?dcid=eu1");
        let digests = [
            digest(&[endpoints]),
            digest(&[("LOGSTASH_URL", "https://a:1/in")]),
            digest(&[registry]),
            digest(&[("REGISTRY_URL", "http://10.0.0.5:8081/logstash-ip?dcid=eu2")]),
            digest(&[registry, ("REGISTRY_ENDPOINT", "https://{ip}:{port}/")]),
            digest(&[endpoints, ("EVENT_SCHEMA", "ecs")]),
            digest(&[endpoints, ("LABELS", "env=prod")]),
            digest(&[endpoints, ("INCLUDE_ORIGINAL", "true")]),
            digest(&[endpoints, ("MAX_LINE_BYTES", "1KiB")]),
        ];
        assert_eq!(digests.iter().collect::<BTreeSet<_>>().len(), digests.len(), "{digests:?}");
        assert_eq!(digests[0].len(), 32);
        let same = [
            digest(&[("LOGSTASH_URL", "http://b:2/,https://a:1/in?token=y")]),
            digest(&[
                endpoints,
                ("BATCH_EVENTS", "7"),
                ("SEND_CONCURRENCY", "2"),
                ("LOGSTASH_USER", "u"),
                ("LOGSTASH_PASSWORD", "p"),
            ]),
        ];
        assert_eq!(same, [digests[0].clone(), digests[0].clone()]);
    }
}
