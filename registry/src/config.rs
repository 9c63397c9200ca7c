//! The configuration: turns environment variables into typed settings, and reports all mistakes at once.

use std::net::SocketAddr;
use std::time::Duration;

use elb_common::env::values::{duration, log_level, url};
use elb_common::env::{ConfigErrors, EnvReader, Shown, Variable};
use secrecy::SecretString;
use tracing::level_filters::LevelFilter;
use url::Url;

use crate::group::Groups;
use crate::store::RedisAddress;

/// Every variable that the registry reads. A test compares the table in `README.md` with this one.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "REGISTRY_GROUPS",
        default: "",
        shown: Shown::Value,
        allowed: "groups with region, dcid, autoscaling_group, port and optionally allowed_cidrs: TOML, JSON, or the path of such a file",
        meaning: "Auto Scaling groups and the data center that each group serves, see `samples/registry/groups.toml`. A request can only select one of these groups.",
    },
    Variable {
        name: "REGISTRY_STORE",
        default: "memory",
        shown: Shown::Nothing,
        allowed: "memory, or redis://, rediss://, redis+unix://, redis+cluster:// or rediss+cluster:// with the server's address",
        meaning: "Store of the lists: the memory of the process, or a Redis, with user and password in its URL if needed. `rediss` is TLS; for a cluster, give the address of one node. ElastiCache Serverless is always a cluster with TLS. Each list is one value under the key `elb-registry:{REGION:DCID}`. Never logged.",
    },
    Variable {
        name: "REGISTRY_TOKEN",
        default: "",
        shown: Shown::Nothing,
        allowed: "16 to 512 printable characters without spaces",
        meaning: "Token that authorizes updates. It is required if the server listens on a non-loopback address. Never logged.",
    },
    Variable {
        name: "REGISTRY_TOPICS",
        default: "",
        shown: Shown::Value,
        allowed: "ARNs of SNS topics separated by commas",
        meaning: "SNS topics whose messages the function accepts. Messages of other topics are rejected.",
    },
    Variable {
        name: "ALERT_TOPIC_ARN",
        default: "",
        shown: Shown::Value,
        allowed: "the ARN of an SNS topic",
        meaning: "SNS topic that receives alerts.",
    },
    Variable {
        name: "ALERT_WEBHOOK_URL",
        default: "",
        shown: Shown::Nothing,
        allowed: "a URL, http:// or https://",
        meaning: "URL that receives alerts as JSON with a member `text`, as chat services expect. Never logged.",
    },
    Variable {
        name: "REGISTRY_POLL",
        default: "5m",
        shown: Shown::Value,
        allowed: "a duration, such as 5m, or 0s for never",
        meaning: "Maximum age of a list before the server, or the function's schedule, refreshes it. `0s` disables polling.",
    },
    Variable {
        name: "REGISTRY_UPDATE_URL",
        default: "",
        shown: Shown::Url,
        allowed: "the URL of a server's update route, such as https://registry.internal:8081/update-ip-list",
        meaning: "For the function: the server that keeps the lists.",
    },
    Variable {
        name: "LOG_LEVEL",
        default: "info",
        shown: Shown::Value,
        allowed: "error, warn, info, debug or trace",
        meaning: "Lowest level of the log lines that are written.",
    },
    Variable {
        name: "AWS_ENDPOINT_URL",
        default: "",
        shown: Shown::Url,
        allowed: "the URL of a server that speaks AWS's protocols",
        meaning: "Another server that implements the AWS API, such as moto.",
    },
];

/// How the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A Lambda function.
    Function,
    /// A server that listens on this address.
    Server(SocketAddr),
}

/// The configuration of the registry.
#[derive(Debug)]
pub struct RegistryConfig {
    /// See `REGISTRY_GROUPS`.
    pub groups: Groups,
    /// See `REGISTRY_STORE`.
    pub store: StoreConfig,
    /// See `REGISTRY_TOKEN`.
    pub token: Option<SecretString>,
    /// See `REGISTRY_TOPICS`.
    pub topics: Vec<String>,
    /// See `ALERT_TOPIC_ARN`.
    pub alert_topic: Option<Topic>,
    /// See `ALERT_WEBHOOK_URL`.
    pub alert_webhook: Option<SecretString>,
    /// See `REGISTRY_POLL`.
    pub poll: Duration,
    /// See `REGISTRY_UPDATE_URL`.
    pub update_url: Option<Url>,
    /// See `LOG_LEVEL`.
    pub log_level: LevelFilter,
}

/// The store of the lists.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// In the memory of the process.
    Memory,
    /// In Redis; nothing is connected yet.
    Redis(Box<RedisAddress>),
}

/// An SNS topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// ARN of the topic.
    pub arn: String,
    /// Region in the ARN.
    pub region: String,
}

impl RegistryConfig {
    /// Reads the configuration. `lookup` returns the value of a variable if it is set.
    ///
    /// # Errors
    /// All mistakes at once, each with the variable's name, its value unless it is a secret, and the allowed values.
    pub fn from_env(mode: Mode, lookup: impl Fn(&str) -> Option<String>) -> Result<RegistryConfig, ConfigErrors> {
        let mut env = EnvReader::new(VARIABLES, &lookup);
        let config = config(&mut env, mode);
        env.finish(config)
    }
}

/// Returns `None` after a mistake.
fn config(env: &mut EnvReader<'_>, mode: Mode) -> Option<RegistryConfig> {
    let groups = groups(env);
    let update_url = env.optional("REGISTRY_UPDATE_URL", |text| update_url(mode, text));
    let keeps_lists = !matches!(update_url, Some(Some(_)));
    let store = env.read("REGISTRY_STORE", |text| store(mode, keeps_lists, text));
    let token = env.optional("REGISTRY_TOKEN", token);
    let topics = env.optional("REGISTRY_TOPICS", topics);
    let alert_topic = env.optional("ALERT_TOPIC_ARN", topic);
    let alert_webhook = env.optional("ALERT_WEBHOOK_URL", webhook);
    let poll = env.read("REGISTRY_POLL", duration);
    let log_level = env.read("LOG_LEVEL", log_level);
    let endpoint = env.optional("AWS_ENDPOINT_URL", any_url);
    if matches!(token, Some(None)) && (needs_token(mode) || !keeps_lists) {
        env.report_missing("REGISTRY_TOKEN");
    }
    let _ = endpoint?;
    Some(RegistryConfig {
        groups: groups?,
        store: store?,
        token: token?,
        topics: topics?.unwrap_or_default(),
        alert_topic: alert_topic?,
        alert_webhook: alert_webhook?,
        poll: poll?,
        update_url: update_url?,
        log_level: log_level?,
    })
}

fn groups(env: &mut EnvReader<'_>) -> Option<Groups> {
    let groups = env.optional("REGISTRY_GROUPS", Groups::read)?;
    if groups.is_none() {
        env.report_missing("REGISTRY_GROUPS");
    }
    groups
}

/// Clients on other machines could make a server call AWS, so such a server needs a token. A function can rely on AWS IAM instead.
fn needs_token(mode: Mode) -> bool {
    match mode {
        Mode::Function => false,
        Mode::Server(address) => !address.ip().is_loopback(),
    }
}

fn store(mode: Mode, keeps_lists: bool, text: &str) -> Result<StoreConfig, String> {
    if text == "memory" {
        let is_lost = mode == Mode::Function && keeps_lists;
        let reason = "cannot be used by a Lambda function, because other processes do not see its memory";
        return if is_lost { Err(reason.to_owned()) } else { Ok(StoreConfig::Memory) };
    }
    RedisAddress::parse(text)
        .map(|address| StoreConfig::Redis(Box::new(address)))
        .ok_or_else(|| "is not the URL of a store".to_owned())
}

fn token(text: &str) -> Result<SecretString, String> {
    let is_token = (16..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(SecretString::from(text)) } else { Err("is not a valid token".to_owned()) }
}

fn topics(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|arn| topic(arn.trim()).map(|topic| topic.arn)).collect()
}

/// `arn:aws:sns:REGION:ACCOUNT:NAME`.
fn topic(arn: &str) -> Result<Topic, String> {
    let parts: Vec<&str> = arn.split(':').collect();
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    match parts.as_slice() {
        ["arn", partition, "sns", region, account, name]
            if partition.starts_with("aws")
                && is_name(region)
                && is_name(name)
                && account.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Ok(Topic { arn: arn.to_owned(), region: (*region).to_owned() })
        }
        _ => Err("contains a text that is not the ARN of an SNS topic".to_owned()),
    }
}

fn webhook(text: &str) -> Result<SecretString, String> {
    http_url(text).map(|_| SecretString::from(text))
}

fn update_url(mode: Mode, text: &str) -> Result<Url, String> {
    match (mode, http_url(text)?) {
        (Mode::Server(_), _) => {
            Err("is only for the Lambda function, which calls the server at this URL; unset it for the server".to_owned())
        }
        (Mode::Function, url) if url.query().is_some() => Err("has a query, but the function adds the query itself".to_owned()),
        (Mode::Function, url) => Ok(url),
    }
}

fn any_url(text: &str) -> Result<Url, String> {
    url(text).map_err(|error| error.to_string())
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = any_url(text)?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("is neither an http:// nor an https:// URL".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: (&str, &str) =
        ("REGISTRY_GROUPS", r#"{"groups":[{"region":"eu-west-1","dcid":"eu1","autoscaling_group":"logstash","port":8080}]}"#);
    const TOKEN: (&str, &str) = ("REGISTRY_TOKEN", "0123456789abcdef");

    fn local() -> Mode {
        Mode::Server("127.0.0.1:8081".parse().unwrap())
    }

    fn read(mode: Mode, vars: &[(&str, &str)]) -> Result<RegistryConfig, String> {
        let lookup = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        RegistryConfig::from_env(mode, lookup).map_err(|errors| errors.to_string())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = read(local(), &[GROUPS]).unwrap();
        assert!(matches!(config.store, StoreConfig::Memory));
        assert_eq!(config.poll, Duration::from_mins(5));
        assert!(
            config.token.is_none() && config.topics.is_empty() && config.alert_topic.is_none() && config.update_url.is_none()
        );
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let vars = [
            ("REGISTRY_GROUPS", "groups = []"),
            ("REGISTRY_STORE", "redis://user:hunter2#@store/"),
            ("REGISTRY_TOKEN", "hunter2"),
            ("REGISTRY_TOPICS", "arn:aws:sns:eu-west-1:123456789012:a,b"),
            ("ALERT_TOPIC_ARN", "arn:aws:sqs:eu-west-1:123456789012:a"),
            ("ALERT_WEBHOOK_URL", "ftp://hooks.example/hunter2"),
            ("REGISTRY_POLL", "5"),
            ("REGISTRY_UPDATE_URL", "https://registry.internal/update-ip-list"),
            ("LOG_LEVEL", ""),
            ("AWS_ENDPOINT_URL", "moto"),
        ];
        let errors = read(local(), &vars).unwrap_err();
        assert!(errors.starts_with("invalid configuration, 10 errors:\n"), "{errors}");
        for (name, _) in vars {
            assert!(errors.lines().any(|line| line.trim_start().starts_with(name)), "{name} is not reported:\n{errors}");
        }
        assert!(!errors.contains("hunter2"), "{errors}");
    }

    #[test]
    fn no_error_shows_a_password_in_a_mistyped_url() {
        for secret in [
            "admin:hunter2@h:80",
            "https:/admin:hunter2@h",
            "https:admin:hunter2@h",
            r"https:\\admin:hunter2@h",
            "//admin:hunter2@h",
            "https://admin:1,hunter2@h",
            "https://admin:1/hunter2@h",
            "https://admin:1?hunter2@h",
            "https://admin:1#hunter2@h",
            "https://h:1@hunter2@h",
        ] {
            for name in VARIABLES.iter().map(|variable| variable.name) {
                let error = read(local(), &[(name, secret)]).unwrap_err();
                assert!(!error.contains("hunter2"), "{name}={secret}: {error}");
            }
        }
    }

    #[test]
    fn a_server_on_a_public_address_needs_a_token() {
        for address in ["0.0.0.0:8081", "[::]:8081", "10.0.0.5:8081"] {
            let error = read(Mode::Server(address.parse().unwrap()), &[GROUPS]).unwrap_err();
            assert!(error.starts_with("invalid configuration: REGISTRY_TOKEN is missing"), "{error}");
            assert!(read(Mode::Server(address.parse().unwrap()), &[GROUPS, TOKEN]).is_ok());
        }
        assert!(read(Mode::Server("[::1]:8081".parse().unwrap()), &[GROUPS]).is_ok());
    }

    #[test]
    fn a_function_needs_a_shared_store_or_a_server() {
        let error = read(Mode::Function, &[GROUPS]).unwrap_err();
        assert!(error.contains("REGISTRY_STORE=\"…\" cannot be used by a Lambda function"), "{error}");
        assert!(read(Mode::Function, &[GROUPS, ("REGISTRY_STORE", "rediss://user:secret@store:6379")]).is_ok());
        let update_url = ("REGISTRY_UPDATE_URL", "https://registry.internal:8081/update-ip-list");
        let error = read(Mode::Function, &[GROUPS, update_url]).unwrap_err();
        assert!(error.starts_with("invalid configuration: REGISTRY_TOKEN is missing"), "{error}");
        assert!(read(Mode::Function, &[GROUPS, update_url, TOKEN]).is_ok());
    }

    #[test]
    fn parses_stores_on_a_server_and_in_a_cluster() {
        let store = |text: &str| match store(local(), true, text) {
            Ok(StoreConfig::Redis(address)) => Some(*address),
            _ => None,
        };
        for text in ["redis://h", "rediss://user:secret@h:6380/1", "redis+unix:///run/redis.sock?user=a&pass=b"] {
            assert!(matches!(store(text), Some(RedisAddress::Server(_))), "{text}");
        }
        for text in ["redis+cluster://h:7000", "rediss+cluster://user:secret@h:6379"] {
            let Some(address @ RedisAddress::Cluster(_)) = store(text) else { panic!("{text} is a cluster") };
            assert!(!format!("{address:?}").contains("secret"), "{address:?}");
        }
        for text in ["", "h:6379", "user:hunter2@h:6379", "unix:///run/redis.sock", "redis+cluster+unix:///s", "valkey://h"] {
            assert!(store(text).is_none(), "{text}");
        }
    }

    #[test]
    fn groups_are_required() {
        assert!(read(local(), &[]).unwrap_err().starts_with("invalid configuration: REGISTRY_GROUPS is missing"));
    }

    #[test]
    fn parses_topic_arns() {
        let topic = topic("arn:aws-us-gov:sns:us-gov-east-1:123456789012:alerts.fifo").unwrap();
        assert_eq!(topic.region, "us-gov-east-1");
        let vars = [GROUPS, ("REGISTRY_TOPICS", "arn:aws:sns:eu-west-1:123456789012:a, arn:aws:sns:eu-west-1:123456789012:b")];
        assert_eq!(read(local(), &vars).unwrap().topics.len(), 2);
    }
}
