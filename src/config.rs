//! The configuration: variables to typed settings, every mistake reported at once.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use secrecy::SecretString;
use tracing::level_filters::LevelFilter;

use crate::ship::ShipSettings;
use crate::sink::{Discovery, Endpoint, EndpointSource, EndpointTemplate};
use elb_common::env::{ConfigErrors, EnvReader, Variable, boolean, duration, log_level, pem, size, timeout, url, whole_number};
use elb_common::tls::{self, Identity};
use elb_log::batch::{BatchSettings, Compression, Framing};
use elb_log::event::{EventSettings, Schema};

/// Every variable that is read, with its default and what is allowed; the README's table is checked against it.
pub const VARIABLES: &[Variable] = &[
    (
        "LOGSTASH_URL",
        "",
        "one URL or several separated by commas, http:// or https://; the command line also takes - for standard output",
    ),
    (
        "REGISTRY_URL",
        "",
        "the registry's look-up URL, such as http://10.0.0.5:8081/logstash-ip?dcid=eu1&region=eu-west-1, instead of LOGSTASH_URL",
    ),
    (
        "REGISTRY_ENDPOINT",
        "http://{ip}:{port}/",
        "a URL with {ip} and {port}; without {ip} its host is the name that certificates are checked against",
    ),
    (
        "REGISTRY_ALLOWED_CIDRS",
        "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7",
        "address ranges separated by commas, such as 10.20.0.0/16",
    ),
    ("LOGSTASH_USER", "", "a user name for basic authentication, together with LOGSTASH_PASSWORD"),
    ("LOGSTASH_PASSWORD", "", "the password of LOGSTASH_USER"),
    ("LOGSTASH_SECRET_ARN", "", "the ARN of a Secrets Manager secret with username and password, instead of LOGSTASH_USER"),
    ("LOGSTASH_CA", "", "certificates of the authorities to trust instead of the system's: PEM text, or the path of a PEM file"),
    ("LOGSTASH_CLIENT_IDENTITY", "", "a client certificate and its key: PEM text, or the path of a PEM file"),
    ("EVENT_SCHEMA", "native", "native or ecs"),
    ("INCLUDE_ORIGINAL", "false", "true or false"),
    ("LABELS", "", "NAME=VALUE pairs separated by commas, such as env=prod,team=web"),
    ("BATCH_EVENTS", "2000", "a whole number from 1 to 100000"),
    ("BATCH_BYTES", "4MiB", "a size from 1KiB to 64MiB, such as 4MiB or 4194304"),
    ("SEND_CONCURRENCY", "4", "a whole number from 1 to 256"),
    ("COMPRESSION", "gzip", "gzip, gzip:1 to gzip:9, or none"),
    ("CONNECT_TIMEOUT", "5s", "a duration above 0s, such as 5s or 500ms"),
    ("REQUEST_TIMEOUT", "30s", "a duration above 0s, such as 30s or 1m"),
    ("RETRY_BUDGET", "2m", "a duration, such as 2m or 90s"),
    ("POISON_LIMIT", "100", "a whole number from 0 to 100000"),
    ("DEADLINE_RESERVE", "10s", "a duration, such as 10s"),
    ("DEAD_LETTER_URL", "", "s3://BUCKET/PREFIX, or dir:PATH"),
    ("DEAD_LETTER_QUEUE_URL", "", "the URL of an SQS queue"),
    ("OBJECT_STORE", "s3", "s3, or dir:PATH for a directory whose sub-directories are buckets"),
    ("MAX_LINE_BYTES", "1MiB", "a size from 1KiB to 16MiB, such as 1MiB"),
    ("LOG_LEVEL", "info", "error, warn, info, debug or trace"),
    ("AWS_ENDPOINT_URL_S3", "", "the URL of a server that speaks the S3 protocol"),
    ("AWS_ENDPOINT_URL", "", "as AWS_ENDPOINT_URL_S3, which it yields to"),
];

/// Variables whose values are never shown.
const SECRETS: &[&str] = &["LOGSTASH_PASSWORD", "LOGSTASH_CLIENT_IDENTITY"];

/// The default gzip level. Deflate is most of all CPU, but bytes on the way cost more than CPU does.
const DEFAULT_GZIP_LEVEL: u32 = 6;

/// Which program reads its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The Lambda function, which must know where to send.
    Function,
    /// The command line, which writes to standard output unless told otherwise.
    CommandLine,
}

/// Everything the program can be told.
#[derive(Debug)]
pub struct Config {
    /// Where events go.
    pub target: Target,
    /// How objects are shipped.
    pub ship: ShipSettings,
    /// Where objects are.
    pub store: StoreConfig,
    /// Where poison events go; see `DEAD_LETTER_URL`.
    pub dead_letter: Option<DeadLetterConfig>,
    /// See `DEAD_LETTER_QUEUE_URL`.
    pub dead_letter_queue_url: Option<String>,
    /// See `DEADLINE_RESERVE`.
    pub deadline_reserve: Duration,
    /// See `LOG_LEVEL`.
    pub log_level: LevelFilter,
}

/// Where events go.
#[derive(Debug)]
pub enum Target {
    /// Standard output, one event a line.
    Output,
    /// Logstash.
    Http(Box<HttpTarget>),
}

/// How Logstash is reached.
#[derive(Debug)]
pub struct HttpTarget {
    /// Where to send.
    pub endpoints: EndpointSource,
    /// What to show.
    pub credentials: CredentialsConfig,
    /// Authorities to trust instead of the system's; none for those.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What the client shows.
    pub identity: Option<Identity>,
    /// See `CONNECT_TIMEOUT`.
    pub connect_timeout: Duration,
    /// See `REQUEST_TIMEOUT`.
    pub request_timeout: Duration,
    /// See `RETRY_BUDGET`.
    pub retry_budget: Duration,
}

/// Where user and password come from.
#[derive(Debug)]
pub enum CredentialsConfig {
    /// There are none.
    None,
    /// `LOGSTASH_USER` and `LOGSTASH_PASSWORD`.
    Basic(String, SecretString),
    /// `LOGSTASH_SECRET_ARN`
    Secret(String),
}

/// Where poison events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterConfig {
    /// Below a prefix in a bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without a slash at its end.
        prefix: String,
        /// As in [`StoreConfig::S3`].
        path_style: bool,
    },
    /// In a directory.
    Dir(PathBuf),
}

/// Where objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// S3; whether the bucket goes into the path, which a server on an address or localhost needs.
    S3 {
        /// See `AWS_ENDPOINT_URL_S3`.
        path_style: bool,
    },
    /// A directory of buckets.
    Dir(PathBuf),
}

impl Config {
    /// Reads the configuration through `lookup`, which gives a variable's value if it is set.
    ///
    /// # Errors
    /// Every mistake in it at once, each with the variable's name, its value unless it is a secret, and what is allowed.
    pub fn from_vars(program: Program, lookup: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
        let mut vars = EnvReader::new(VARIABLES, SECRETS, &lookup);
        let config = config(&mut vars, program);
        vars.finish(config)
    }
}

/// None after a mistake.
fn config(vars: &mut EnvReader<'_>, program: Program) -> Option<Config> {
    let target = target(vars, program);
    let framing = if matches!(target, Some(Target::Output)) { Framing::Lines } else { Framing::JsonArray };
    let ship = ship_settings(vars, framing);
    let path_style = path_style(vars);
    let store = store(vars, path_style);
    let dead_letter = vars.optional("DEAD_LETTER_URL", |text| dead_letter(text, path_style.unwrap_or_default()));
    let dead_letter_queue_url = vars.optional("DEAD_LETTER_QUEUE_URL", |text| url(text).map(String::from));
    let deadline_reserve = vars.read("DEADLINE_RESERVE", duration);
    let log_level = vars.read("LOG_LEVEL", log_level);
    Some(Config {
        target: target?,
        ship: ship?,
        store: store?,
        dead_letter: dead_letter?,
        dead_letter_queue_url: dead_letter_queue_url?,
        deadline_reserve: deadline_reserve?,
        log_level: log_level?,
    })
}

fn target(vars: &mut EnvReader<'_>, program: Program) -> Option<Target> {
    let endpoints = endpoints(vars, program);
    let credentials = credentials(vars);
    let authorities = vars.optional("LOGSTASH_CA", authorities);
    let identity = vars.optional("LOGSTASH_CLIENT_IDENTITY", identity);
    let connect_timeout = vars.read("CONNECT_TIMEOUT", timeout);
    let request_timeout = vars.read("REQUEST_TIMEOUT", timeout);
    let retry_budget = vars.read("RETRY_BUDGET", duration);
    match endpoints? {
        Some(endpoints) => Some(Target::Http(Box::new(HttpTarget {
            endpoints,
            credentials: credentials?,
            authorities: authorities?.unwrap_or_default(),
            identity: identity?,
            connect_timeout: connect_timeout?,
            request_timeout: request_timeout?,
            retry_budget: retry_budget?,
        }))),
        None => Some(Target::Output),
    }
}

/// None within for standard output; none after a mistake.
#[expect(clippy::option_option, reason = "a mistake, or endpoints that are there or not")]
fn endpoints(vars: &mut EnvReader<'_>, program: Program) -> Option<Option<EndpointSource>> {
    let fixed = vars.optional("LOGSTASH_URL", |text| target_endpoints(program, text));
    let registry = vars.optional("REGISTRY_URL", registry_url);
    let template = vars.read("REGISTRY_ENDPOINT", EndpointTemplate::parse);
    let allowed = vars.read("REGISTRY_ALLOWED_CIDRS", ranges);
    match (fixed?, registry?) {
        (Some(_), Some(_)) => {
            vars.conflict("REGISTRY_URL", "LOGSTASH_URL");
            None
        }
        (None, Some(url)) => Some(Some(EndpointSource::Registry(Discovery { url, template: template?, allowed: allowed? }))),
        (Some(endpoints), None) if !endpoints.is_empty() => Some(Some(EndpointSource::Fixed(endpoints))),
        (None, None) if program == Program::Function => {
            vars.missing("LOGSTASH_URL");
            None
        }
        (Some(_) | None, None) => Some(None),
    }
}

/// None after a mistake.
fn credentials(vars: &mut EnvReader<'_>) -> Option<CredentialsConfig> {
    let user = vars.optional("LOGSTASH_USER", |text| Ok(text.to_owned()))?;
    let password = vars.optional("LOGSTASH_PASSWORD", |text| Ok(SecretString::from(text)))?;
    let secret = vars.optional("LOGSTASH_SECRET_ARN", secret_arn)?;
    match (user, password, secret) {
        (None, None, None) => Some(CredentialsConfig::None),
        (Some(user), Some(password), None) => Some(CredentialsConfig::Basic(user, password)),
        (None, None, Some(arn)) => Some(CredentialsConfig::Secret(arn)),
        (user, _, Some(_)) => {
            vars.conflict("LOGSTASH_SECRET_ARN", if user.is_some() { "LOGSTASH_USER" } else { "LOGSTASH_PASSWORD" });
            None
        }
        (user, _, None) => {
            vars.missing(if user.is_some() { "LOGSTASH_PASSWORD" } else { "LOGSTASH_USER" });
            None
        }
    }
}

fn ship_settings(vars: &mut EnvReader<'_>, framing: Framing) -> Option<ShipSettings> {
    let schema = vars.read("EVENT_SCHEMA", schema);
    let include_original = vars.read("INCLUDE_ORIGINAL", boolean);
    // Empty labels are no mistake: a template can pass them on as they are.
    let labels = if vars.is_blank("LABELS") { Some(None) } else { vars.optional("LABELS", labels) };
    let batch_events = vars.read("BATCH_EVENTS", |text| whole_number(text, 1, 100_000));
    let batch_bytes = vars.read("BATCH_BYTES", |text| size(text, 1 << 10, 64 << 20));
    let concurrency = vars.read("SEND_CONCURRENCY", |text| whole_number(text, 1, 256));
    let compression = vars.read("COMPRESSION", compression);
    let poison_limit = vars.read("POISON_LIMIT", |text| whole_number(text, 0, 100_000));
    let max_line_bytes = vars.read("MAX_LINE_BYTES", |text| size(text, 1 << 10, 16 << 20));
    let to_output = framing == Framing::Lines;
    Some(ShipSettings {
        events: EventSettings {
            schema: schema?,
            include_original: include_original?,
            labels: labels?.unwrap_or_default(),
            resend: false,
        },
        batch: BatchSettings {
            max_events: batch_events?,
            max_bytes: batch_bytes?,
            framing,
            compression: if to_output { Compression::None } else { compression? },
            bodies: true,
        },
        // One at a time, so that events stand in the order of their lines.
        concurrency: if to_output { 1 } else { concurrency? },
        max_line_bytes: max_line_bytes?,
        poison_limit: poison_limit?,
        events_per_second: None,
    })
}

/// None after a mistake.
fn path_style(vars: &mut EnvReader<'_>) -> Option<bool> {
    let specific = vars.optional("AWS_ENDPOINT_URL_S3", url)?;
    let general = vars.optional("AWS_ENDPOINT_URL", url)?;
    Some(specific.or(general).is_some_and(|url| needs_path_style(&url)))
}

fn store(vars: &mut EnvReader<'_>, path_style: Option<bool>) -> Option<StoreConfig> {
    let path_style = path_style?;
    vars.read("OBJECT_STORE", |text| match text.strip_prefix("dir:") {
        None if text == "s3" => Ok(StoreConfig::S3 { path_style }),
        Some(path) if !path.is_empty() => Ok(StoreConfig::Dir(PathBuf::from(path))),
        _ => Err("is no store".to_owned()),
    })
}

/// Empty for standard output.
fn target_endpoints(program: Program, text: &str) -> Result<Vec<Endpoint>, String> {
    if text == "-" && program == Program::CommandLine {
        return Ok(Vec::new());
    }
    text.split(',').map(|url| Endpoint::parse(url.trim()).map_err(|error| error.to_string())).collect()
}

fn registry_url(text: &str) -> Result<reqwest::Url, String> {
    Endpoint::parse(text).map(|endpoint| endpoint.url().clone()).map_err(|error| error.to_string())
}

fn ranges(text: &str) -> Result<Vec<IpNet>, String> {
    text.split(',').map(|range| range.trim().parse().map_err(|_| format!("has the part {range:?}, which is no range"))).collect()
}

fn secret_arn(text: &str) -> Result<String, String> {
    let is_secret = text.starts_with("arn:") && text.split(':').nth(2) == Some("secretsmanager");
    if is_secret { Ok(text.to_owned()) } else { Err("is no ARN of a secret".to_owned()) }
}

/// Without a prefix, every object of the bucket would be taken for a dead letter.
fn dead_letter(text: &str, path_style: bool) -> Result<DeadLetterConfig, String> {
    if let Some(path) = text.strip_prefix("dir:").filter(|path| !path.is_empty()) {
        return Ok(DeadLetterConfig::Dir(PathBuf::from(path)));
    }
    let rest = text.strip_prefix("s3://").ok_or("is neither in S3 nor a directory")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if bucket.is_empty() || prefix.is_empty() {
        return Err("lacks a bucket or a prefix".to_owned());
    }
    Ok(DeadLetterConfig::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned(), path_style })
}

fn authorities(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    tls::certificates(&pem(text)?)
}

fn identity(text: &str) -> Result<Identity, String> {
    Identity::from_pem(&pem(text)?)
}

fn schema(text: &str) -> Result<Schema, String> {
    match text {
        "native" => Ok(Schema::Native),
        "ecs" => Ok(Schema::Ecs),
        _ => Err("is no schema".to_owned()),
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text.split_once(':') {
        None if text == "gzip" => Ok(Compression::Gzip(DEFAULT_GZIP_LEVEL)),
        None if text == "none" => Ok(Compression::None),
        Some(("gzip", level)) => match level.parse() {
            Ok(level @ 1..=9) => Ok(Compression::Gzip(level)),
            _ => Err("has no level from 1 to 9".to_owned()),
        },
        _ => Err("is no compression".to_owned()),
    }
}

fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut labels: Vec<(String, String)> = Vec::new();
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("has the part {pair:?} without a ="))?;
        if name.is_empty() {
            return Err(format!("has the part {pair:?} without a name"));
        }
        if labels.iter().any(|(known, _)| known == name) {
            return Err(format!("names {name:?} twice"));
        }
        labels.push((name.to_owned(), value.to_owned()));
    }
    Ok(labels)
}

/// A bucket cannot be put before an address, and rarely before `localhost`.
fn needs_path_style(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => true,
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(program: Program, vars: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Config::from_vars(program, lookup).map_err(|errors| errors.to_string())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = read(Program::Function, &[("LOGSTASH_URL", "http://logstash.example:8080")]).unwrap();
        let batch = config.ship.batch;
        assert_eq!((batch.max_events, batch.max_bytes, batch.framing), (2_000, 4 << 20, Framing::JsonArray));
        assert_eq!((config.ship.concurrency, config.ship.max_line_bytes), (4, 1 << 20));
        assert_eq!(config.store, StoreConfig::S3 { path_style: false });
        assert_eq!(config.deadline_reserve, Duration::from_secs(10));
        let Target::Http(target) = config.target else { panic!("a URL is an http target") };
        assert_eq!(target.retry_budget, Duration::from_mins(2));
        assert_eq!((target.connect_timeout, target.request_timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
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
        assert!(errors.starts_with("wrong configuration, 17 mistakes:\n"), "{errors}");
        for (name, _) in vars {
            let name = if name == "LOGSTASH_USER" { "LOGSTASH_PASSWORD is missing" } else { name };
            assert!(errors.lines().any(|line| line.trim_start().starts_with(name)), "{name} is not reported:\n{errors}");
        }
        let line = "BATCH_EVENTS=\"0\" is out of range; allowed: a whole number from 1 to 100000";
        assert!(errors.contains(line), "{errors}");
    }

    #[test]
    fn the_function_must_know_where_to_send_and_the_command_line_need_not() {
        let error = read(Program::Function, &[]).unwrap_err();
        assert!(error.starts_with("wrong configuration: LOGSTASH_URL is missing; set it to one URL"), "{error}");
        assert!(read(Program::Function, &[("LOGSTASH_URL", "-")]).is_err());
        for vars in [vec![], vec![("LOGSTASH_URL", "-")]] {
            let config = read(Program::CommandLine, &vars).unwrap();
            assert!(matches!(config.target, Target::Output));
            assert_eq!((config.ship.concurrency, config.ship.batch.compression), (1, Compression::None));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let vars = [("LOGSTASH_URL", "https://user:hunter2@h/,http://h/?token=hunter2"), ("LOGSTASH_PASSWORD", "hunter2")];
        let error = read(Program::Function, &vars).unwrap_err();
        assert!(error.contains("LOGSTASH_URL=\"https://…@h/,http://h/\" holds credentials"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let identity = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----";
        let vars = [("LOGSTASH_URL", "https://h/"), ("LOGSTASH_CLIENT_IDENTITY", identity), ("LOGSTASH_CA", "no/such/file.pem")];
        let error = read(Program::Function, &vars).unwrap_err();
        assert!(error.contains("LOGSTASH_CLIENT_IDENTITY=\"…\" does not hold a certificate and its key"), "{error}");
        assert!(error.contains("LOGSTASH_CA=\"no/such/file.pem\" is neither PEM text nor a readable file"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_s3_server_on_an_address_gets_the_bucket_in_the_path() {
        let path_style = |url: &str| match read(Program::CommandLine, &[("AWS_ENDPOINT_URL_S3", url)]).unwrap().store {
            StoreConfig::S3 { path_style } => path_style,
            StoreConfig::Dir(_) => panic!("the store is S3"),
        };
        assert!(path_style("http://127.0.0.1:9000"));
        assert!(path_style("http://[::1]:9000"));
        assert!(path_style("http://localhost:9000"));
        assert!(!path_style("https://s3.eu-west-1.amazonaws.com"));
    }

    #[test]
    fn values_read_as_meant() {
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
        let Target::Http(target) = config.target else { panic!("URLs are an http target") };
        let EndpointSource::Fixed(endpoints) = target.endpoints else { panic!("URLs are fixed endpoints") };
        assert_eq!(endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(), ["http://a:1/", "http://b:2/x"]);
    }

    #[test]
    fn there_is_one_way_to_the_endpoints_and_one_to_the_credentials() {
        let registry = ("REGISTRY_URL", "http://10.0.0.5:8081/logstash-ip?dcid=eu1&region=eu-west-1");
        let secret = ("LOGSTASH_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:logstash-AbCdEf");
        let config = read(Program::Function, &[registry, secret]).unwrap();
        let Target::Http(target) = config.target else { panic!("a registry is an http target") };
        let EndpointSource::Registry(found) = &target.endpoints else { panic!("the registry names the endpoints") };
        assert_eq!((found.url.as_str(), found.allowed.len()), (registry.1, 4));
        assert!(matches!(&target.credentials, CredentialsConfig::Secret(arn) if arn == secret.1));

        let error = read(Program::Function, &[registry, ("LOGSTASH_URL", "http://a:1/")]).unwrap_err();
        assert_eq!(error, "wrong configuration: REGISTRY_URL is set as well as LOGSTASH_URL; unset one of the two");
        let error = read(Program::Function, &[registry, secret, ("LOGSTASH_USER", "shipper")]).unwrap_err();
        assert_eq!(error, "wrong configuration: LOGSTASH_SECRET_ARN is set as well as LOGSTASH_USER; unset one of the two");
        assert!(read(Program::Function, &[registry, ("LOGSTASH_SECRET_ARN", "hunter2")]).is_err());
    }

    #[test]
    fn dead_letters_have_a_place_of_their_own() {
        let place = |url: &str| read(Program::CommandLine, &[("DEAD_LETTER_URL", url)]).map(|config| config.dead_letter);
        let s3 = DeadLetterConfig::S3 { bucket: "logs".to_owned(), prefix: "dead/elb".to_owned(), path_style: false };
        assert_eq!(place("s3://logs/dead/elb/"), Ok(Some(s3)));
        assert_eq!(place("dir:dead"), Ok(Some(DeadLetterConfig::Dir("dead".into()))));
        for wrong in ["s3://logs", "s3:///dead", "dir:", "dead", "https://logs/dead"] {
            assert!(place(wrong).is_err(), "{wrong} is no place");
        }
    }
}
