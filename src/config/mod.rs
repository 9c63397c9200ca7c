//! The configuration of the shipper and the command line: environment variables in, typed settings out.

mod parse;
mod read;
mod reference;
mod variables;

#[cfg(test)]
mod redaction_tests;

use std::path::PathBuf;
use std::time::Duration;

use elb_common::env::{self, ConfigErrors, EffectiveValue, EnvReader};
use elb_common::tls::Identity;
use rustls::pki_types::CertificateDer;
use secrecy::SecretString;
use tracing::level_filters::LevelFilter;

pub use self::reference::reference_markdown;
pub use self::variables::VARIABLES;
use crate::ship::ShipSettings;
use crate::sink::{EndpointSource, ResponseCheck};

/// The program that reads the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The Lambda function, which needs an endpoint.
    Function,
    /// The command line, whose events go to standard output by default.
    CommandLine,
}

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Destination of the events.
    pub target: Target,
    /// Settings for shipping objects.
    pub ship: ShipSettings,
    /// Store of the log objects; see `OBJECT_STORE`.
    pub store: StoreConfig,
    /// Destination of rejected events; see `DEAD_LETTER_URL`.
    pub dead_letter: Option<DeadLetterConfig>,
    /// See `DEAD_LETTER_QUEUE_URL`.
    pub dead_letter_queue_url: Option<String>,
    /// See `DEADLINE_RESERVE`.
    pub deadline_reserve: Duration,
    /// See `LOG_LEVEL`.
    pub log_level: LevelFilter,
}

/// The destination of the events.
#[derive(Debug)]
pub enum Target {
    /// Standard output, one event per line.
    Output,
    /// Logstash.
    Http(Box<HttpTarget>),
}

/// The connection to Logstash.
#[derive(Debug)]
pub struct HttpTarget {
    /// Endpoints, or the registry that names them.
    pub endpoints: EndpointSource,
    /// Source of the user name and the password.
    pub credentials: CredentialsConfig,
    /// Certificate authorities that replace those of the system; empty to trust the system's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Client certificate.
    pub identity: Option<Identity>,
    /// See `RESPONSE_CHECK`.
    pub response_check: ResponseCheck,
    /// See `CONNECT_TIMEOUT`.
    pub connect_timeout: Duration,
    /// See `REQUEST_TIMEOUT`.
    pub request_timeout: Duration,
    /// See `RETRY_BUDGET`.
    pub retry_budget: Duration,
}

/// The source of the user name and the password.
#[derive(Debug)]
pub enum CredentialsConfig {
    /// Requests without credentials.
    None,
    /// `LOGSTASH_USER` and `LOGSTASH_PASSWORD`.
    Basic(String, SecretString),
    /// `LOGSTASH_SECRET_ARN`
    Secret(String),
}

/// The destination of rejected events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterConfig {
    /// Objects below a prefix of a bucket.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Prefix without a slash at its end.
        prefix: String,
        /// As in [`StoreConfig::S3`].
        path_style: bool,
    },
    /// Files in a directory.
    Dir(PathBuf),
}

/// The store of the log objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// S3, or a server that speaks its protocol.
    S3 {
        /// Whether the bucket's name is part of the path, as a server on an IP address or localhost needs it.
        path_style: bool,
    },
    /// A directory whose sub-directories are buckets.
    Dir(PathBuf),
}

impl Config {
    /// Reads the configuration. `lookup` returns the value of a variable that is set.
    ///
    /// # Errors
    /// All errors at once, each with the variable's name, its value unless it is a secret, and the allowed values.
    pub fn from_vars(program: Program, lookup: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
        Config::from_flags_and_vars(program, lookup, |_| None)
    }

    /// Does the same as [`Config::from_vars`] for a command line. `lookup` returns the value of a flag in place of its variable, and
    /// `flag_of` the flag that was used, which errors then name.
    ///
    /// # Errors
    /// As for [`Config::from_vars`].
    pub fn from_flags_and_vars(
        program: Program,
        lookup: impl Fn(&str) -> Option<String>,
        flag_of: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Config, ConfigErrors> {
        let mut vars = EnvReader::new(VARIABLES, &lookup).with_flags(&flag_of);
        let config = read::config(&mut vars, program);
        vars.finish(config)
    }

    /// Returns the values of the variables as they are used, in the order of the table, with secrets hidden. `lookup` returns the
    /// value of a variable that is set.
    pub fn effective_values(lookup: impl Fn(&str) -> Option<String>) -> Vec<EffectiveValue> {
        env::effective_values(VARIABLES, lookup)
    }
}

#[cfg(test)]
mod tests {
    use elb_log::batch::{Compression, Framing};

    use super::*;

    fn read(program: Program, vars: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Config::from_vars(program, lookup).map_err(|errors| errors.to_string())
    }

    #[test]
    fn uses_the_documented_defaults() {
        let config = read(Program::Function, &[("LOGSTASH_URL", "http://logstash.example:8080")]).unwrap();
        let batch = config.ship.batch;
        assert_eq!((batch.max_events, batch.max_bytes, batch.framing), (2_000, 4 << 20, Framing::JsonArray));
        assert_eq!((config.ship.concurrency, config.ship.max_line_bytes), (4, 1 << 20));
        assert_eq!(config.store, StoreConfig::S3 { path_style: false });
        assert_eq!(config.deadline_reserve, Duration::from_secs(10));
        let Target::Http(target) = config.target else { panic!("expected an HTTP target") };
        assert_eq!(target.retry_budget, Duration::from_mins(2));
        assert_eq!((target.connect_timeout, target.request_timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    }

    #[test]
    fn reports_every_error_at_once() {
        let vars = [
            ("LOGSTASH_URL", "ftp://logstash.example"),
            ("BATCH_EVENTS", "0"),
            ("BATCH_BYTES", "4 parsecs"),
            ("SEND_CONCURRENCY", "four"),
            ("COMPRESSION", "gzip:12"),
            ("RETRY_BUDGET", "120"),
            ("REQUEST_TIMEOUT", "0s"),
            ("INCLUDE_ORIGINAL", "yes"),
            ("LABELS", "env=prod,team"),
            ("LOGSTASH_USER", "shipper"),
            ("EVENT_SCHEMA", "otel"),
            ("OBJECT_STORE", "gs"),
            ("LOG_LEVEL", ""),
            ("DEAD_LETTER_URL", "s3://logs/"),
            ("REGISTRY_ENDPOINT", "http://{ip}/"),
            ("REGISTRY_ALLOWED_CIDRS", "10.0.0.0/8,ten"),
            ("DEAD_LETTER_QUEUE_URL", "dead"),
        ];
        let errors = read(Program::Function, &vars).unwrap_err();
        assert!(errors.starts_with("invalid configuration, 17 errors:\n"), "{errors}");
        for (name, _) in vars {
            let name = if name == "LOGSTASH_USER" { "LOGSTASH_PASSWORD is missing" } else { name };
            assert!(errors.lines().any(|line| line.trim_start().starts_with(name)), "{name} is not reported:\n{errors}");
        }
        let line = "BATCH_EVENTS=\"0\" is out of range; allowed: a whole number from 1 to 100000";
        assert!(errors.contains(line), "{errors}");
    }

    #[test]
    fn an_error_names_the_flag_that_was_used() {
        let lookup = |name: &str| match name {
            "LOGSTASH_URL" => Some("ftp://h/".to_owned()),
            "LABELS" => Some("env".to_owned()),
            "EVENT_SCHEMA" => Some(String::new()),
            _ => None,
        };
        let flag_of = |name: &str| match name {
            "LOGSTASH_URL" => Some("--to"),
            "EVENT_SCHEMA" => Some("--schema"),
            _ => None,
        };
        let errors = Config::from_flags_and_vars(Program::CommandLine, lookup, flag_of).unwrap_err().to_string();
        for error in [
            "--to \"ftp://h/\" does not begin",
            "LABELS=\"env\" has no =",
            "--schema is empty; leave it out, or set it to native",
        ] {
            assert!(errors.contains(error), "{error} is missing:\n{errors}");
        }
    }

    #[test]
    fn only_the_function_needs_an_endpoint() {
        let error = read(Program::Function, &[]).unwrap_err();
        assert!(error.starts_with("invalid configuration: LOGSTASH_URL is missing; set it to one URL"), "{error}");
        assert!(read(Program::Function, &[("LOGSTASH_URL", "-")]).is_err());
        for vars in [vec![], vec![("LOGSTASH_URL", "-")]] {
            let config = read(Program::CommandLine, &vars).unwrap();
            assert!(matches!(config.target, Target::Output));
            assert_eq!((config.ship.concurrency, config.ship.batch.compression), (1, Compression::None));
        }
    }

    #[test]
    fn errors_never_show_secrets() {
        let vars = [("LOGSTASH_URL", "https://user:hunter2@h/,http://h/?token=hunter2"), ("LOGSTASH_PASSWORD", "hunter2")];
        let error = read(Program::Function, &vars).unwrap_err();
        assert!(error.contains("LOGSTASH_URL=\"https://…\" contains credentials"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let identity = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----";
        let vars = [("LOGSTASH_URL", "https://h/"), ("LOGSTASH_CLIENT_IDENTITY", identity), ("LOGSTASH_CA", "no/such/file.pem")];
        let error = read(Program::Function, &vars).unwrap_err();
        assert!(error.contains("LOGSTASH_CLIENT_IDENTITY=\"…\" does not contain a certificate and its key"), "{error}");
        assert!(error.contains("LOGSTASH_CA=\"no/such/file.pem\" is neither PEM text nor a readable file"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn uses_path_style_for_addresses_and_localhost() {
        let path_style = |url: &str| match read(Program::CommandLine, &[("AWS_ENDPOINT_URL_S3", url)]).unwrap().store {
            StoreConfig::S3 { path_style } => path_style,
            StoreConfig::Dir(_) => panic!("expected S3"),
        };
        assert!(path_style("http://127.0.0.1:9000"));
        assert!(path_style("http://[::1]:9000"));
        assert!(path_style("http://localhost:9000"));
        assert!(!path_style("https://s3.eu-west-1.amazonaws.com"));
    }

    #[test]
    fn parses_values() {
        let vars = [
            ("LABELS", "env=prod,note=a=b"),
            ("COMPRESSION", "gzip:1"),
            ("BATCH_BYTES", "1048576"),
            ("MAX_LINE_BYTES", "64KiB"),
            ("LOGSTASH_URL", "http://a:1/, http://b:2/x"),
        ];
        let config = read(Program::CommandLine, &vars).unwrap();
        let labels = [("env", "prod"), ("note", "a=b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(config.ship.events.labels, labels);
        assert_eq!((config.ship.batch.max_bytes, config.ship.max_line_bytes), (1 << 20, 64 << 10));
        assert_eq!(config.ship.batch.compression, Compression::Gzip(1));
        let Target::Http(target) = config.target else { panic!("expected an HTTP target") };
        let EndpointSource::Fixed(endpoints) = target.endpoints else { panic!("expected fixed endpoints") };
        assert_eq!(endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(), ["http://a:1/", "http://b:2/x"]);
    }

    #[test]
    fn rejects_two_sources_of_endpoints_or_credentials() {
        let registry = ("REGISTRY_URL", "http://10.0.0.5:8081/logstash-ip?dcid=eu1&region=eu-west-1");
        let secret = ("LOGSTASH_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:logstash-AbCdEf");
        let config = read(Program::Function, &[registry, secret]).unwrap();
        let Target::Http(target) = config.target else { panic!("expected an HTTP target") };
        let EndpointSource::Registry(discovery) = &target.endpoints else { panic!("expected a registry") };
        assert_eq!((discovery.url.as_str(), discovery.allowed.len()), (registry.1, 4));
        assert!(matches!(&target.credentials, CredentialsConfig::Secret(arn) if arn == secret.1));

        let error = read(Program::Function, &[registry, ("LOGSTASH_URL", "http://a:1/")]).unwrap_err();
        assert_eq!(error, "invalid configuration: REGISTRY_URL and LOGSTASH_URL are both set; unset one of them");
        let error = read(Program::Function, &[registry, secret, ("LOGSTASH_USER", "shipper")]).unwrap_err();
        assert_eq!(error, "invalid configuration: LOGSTASH_SECRET_ARN and LOGSTASH_USER are both set; unset one of them");
        assert!(read(Program::Function, &[registry, ("LOGSTASH_SECRET_ARN", "hunter2")]).is_err());
    }

    #[test]
    fn dead_letters_need_a_prefix_or_a_directory() {
        let destination = |url: &str| read(Program::CommandLine, &[("DEAD_LETTER_URL", url)]).map(|config| config.dead_letter);
        let s3 = DeadLetterConfig::S3 { bucket: "logs".to_owned(), prefix: "dead/elb".to_owned(), path_style: false };
        assert_eq!(destination("s3://logs/dead/elb/"), Ok(Some(s3)));
        assert_eq!(destination("dir:dead"), Ok(Some(DeadLetterConfig::Dir("dead".into()))));
        for wrong in ["s3://logs", "s3:///dead", "dir:", "dead", "https://logs/dead"] {
            assert!(destination(wrong).is_err(), "{wrong} is accepted");
        }
    }
}
