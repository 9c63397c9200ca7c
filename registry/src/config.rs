//! The configuration: variables to typed settings, every mistake reported at once.

use std::net::SocketAddr;
use std::time::Duration;

use elb_common::env::values::{duration, log_level, url};
use elb_common::env::{ConfigErrors, EnvReader, Variable};
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
        allowed: "groups with region, dcid, autoscaling_group, port and perhaps allowed_cidrs: TOML, JSON, or the path of such a file",
        meaning: "Auto Scaling groups and the data center that each group serves, see `samples/registry/groups.toml`. A request can only select one of these groups.",
    },
    Variable {
        name: "REGISTRY_STORE",
        default: "memory",
        allowed: "memory, or redis://, rediss://, redis+unix://, redis+cluster:// or rediss+cluster:// with the server's address",
        meaning: "Store of the lists: the memory of the process, or a Redis, with user and password in its URL if needed. `rediss` is TLS; for a cluster, give the address of one node. ElastiCache Serverless is always a cluster with TLS. Each list is one value under the key `elb-registry:{REGION:DCID}`. Never logged.",
    },
    Variable {
        name: "REGISTRY_TOKEN",
        default: "",
        allowed: "16 to 512 printable characters without spaces",
        meaning: "Token that authorizes updates. It is required if the server listens on a non-loopback address. Never logged.",
    },
    Variable {
        name: "REGISTRY_TOPICS",
        default: "",
        allowed: "ARNs of SNS topics separated by commas",
        meaning: "SNS topics whose messages the function accepts. Messages of other topics are rejected.",
    },
    Variable {
        name: "ALERT_TOPIC_ARN",
        default: "",
        allowed: "the ARN of an SNS topic",
        meaning: "SNS topic that receives alerts.",
    },
    Variable {
        name: "ALERT_WEBHOOK_URL",
        default: "",
        allowed: "a URL, http:// or https://",
        meaning: "URL that receives alerts as JSON with a member `text`, as chat services expect. Never logged.",
    },
    Variable {
        name: "REGISTRY_POLL",
        default: "5m",
        allowed: "a duration, such as 5m, or 0s for never",
        meaning: "Maximum age of a list before the server, or the function's schedule, refreshes it. `0s` disables polling.",
    },
    Variable {
        name: "REGISTRY_UPDATE_URL",
        default: "",
        allowed: "the URL of a server's update route, such as https://registry.internal:8081/update-ip-list",
        meaning: "For the function: the server that keeps the lists.",
    },
    Variable {
        name: "LOG_LEVEL",
        default: "info",
        allowed: "error, warn, info, debug or trace",
        meaning: "Lowest level of the log lines that are written.",
    },
    Variable {
        name: "AWS_ENDPOINT_URL",
        default: "",
        allowed: "the URL of a server that speaks AWS's protocols",
        meaning: "Another server that implements the AWS API, such as moto.",
    },
];

/// Variables whose values are never shown.
const SECRETS: &[&str] = &["REGISTRY_STORE", "REGISTRY_TOKEN", "ALERT_WEBHOOK_URL"];

/// What the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A Lambda function.
    Function,
    /// A server that listens here.
    Server(SocketAddr),
}

/// Everything the program can be told.
#[derive(Debug)]
pub struct Config {
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

/// Where lists are kept.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// In the process.
    Memory,
    /// In Redis; nothing is connected yet.
    Redis(Box<RedisAddress>),
}

/// An SNS topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its ARN.
    pub arn: String,
    /// The region in it.
    pub region: String,
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
    let groups = groups(vars);
    let update_url = vars.optional("REGISTRY_UPDATE_URL", |text| update_url(program, text));
    let keeps_lists = !matches!(update_url, Some(Some(_)));
    let store = vars.read("REGISTRY_STORE", |text| store(program, keeps_lists, text));
    let token = vars.optional("REGISTRY_TOKEN", token);
    let topics = vars.optional("REGISTRY_TOPICS", topics);
    let alert_topic = vars.optional("ALERT_TOPIC_ARN", topic);
    let alert_webhook = vars.optional("ALERT_WEBHOOK_URL", webhook);
    let poll = vars.read("REGISTRY_POLL", duration);
    let log_level = vars.read("LOG_LEVEL", log_level);
    let endpoint = vars.optional("AWS_ENDPOINT_URL", url);
    if matches!(token, Some(None)) && (needs_token(program) || !keeps_lists) {
        vars.report_missing("REGISTRY_TOKEN");
    }
    let _ = endpoint?;
    Some(Config {
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

fn groups(vars: &mut EnvReader<'_>) -> Option<Groups> {
    let groups = vars.optional("REGISTRY_GROUPS", Groups::read)?;
    if groups.is_none() {
        vars.report_missing("REGISTRY_GROUPS");
    }
    groups
}

/// Who reaches the server from another machine could make it ask AWS. In front of a function AWS IAM can stand instead.
fn needs_token(program: Program) -> bool {
    match program {
        Program::Function => false,
        Program::Server(address) => !address.ip().is_loopback(),
    }
}

fn store(program: Program, keeps_lists: bool, text: &str) -> Result<StoreConfig, String> {
    if text == "memory" {
        let is_lost = program == Program::Function && keeps_lists;
        let lost = "is of no use to a function, whose memory no other process sees";
        return if is_lost { Err(lost.to_owned()) } else { Ok(StoreConfig::Memory) };
    }
    RedisAddress::parse(text).map(|address| StoreConfig::Redis(Box::new(address))).ok_or_else(|| "is no store".to_owned())
}

fn token(text: &str) -> Result<SecretString, String> {
    let is_token = (16..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(SecretString::from(text)) } else { Err("is no token".to_owned()) }
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
        _ => Err(format!("has {arn:?}, which is no ARN of an SNS topic")),
    }
}

fn webhook(text: &str) -> Result<SecretString, String> {
    http_url(text).map(|_| SecretString::from(text))
}

fn update_url(program: Program, text: &str) -> Result<Url, String> {
    match (program, http_url(text)?) {
        (Program::Server(_), _) => {
            Err("is for the function, which calls a server there; unset it for the server itself".to_owned())
        }
        (Program::Function, url) if url.query().is_some() => Err("has a query, which the function adds".to_owned()),
        (Program::Function, url) => Ok(url),
    }
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = url(text)?;
    match url.scheme() {
        "http" | "https" if url.username().is_empty() && url.password().is_none() => Ok(url),
        "http" | "https" => Err("holds credentials".to_owned()),
        _ => Err("is neither http:// nor https://".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: (&str, &str) =
        ("REGISTRY_GROUPS", r#"{"groups":[{"region":"eu-west-1","dcid":"eu1","autoscaling_group":"logstash","port":8080}]}"#);
    const TOKEN: (&str, &str) = ("REGISTRY_TOKEN", "0123456789abcdef");

    fn local() -> Program {
        Program::Server("127.0.0.1:8081".parse().unwrap())
    }

    fn read(program: Program, vars: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Config::from_vars(program, lookup).map_err(|errors| errors.to_string())
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
    fn a_server_that_others_reach_needs_a_token() {
        for address in ["0.0.0.0:8081", "[::]:8081", "10.0.0.5:8081"] {
            let error = read(Program::Server(address.parse().unwrap()), &[GROUPS]).unwrap_err();
            assert!(error.starts_with("invalid configuration: REGISTRY_TOKEN is missing"), "{error}");
            assert!(read(Program::Server(address.parse().unwrap()), &[GROUPS, TOKEN]).is_ok());
        }
        assert!(read(Program::Server("[::1]:8081".parse().unwrap()), &[GROUPS]).is_ok());
    }

    #[test]
    fn a_function_keeps_lists_where_others_see_them_or_calls_a_server() {
        let error = read(Program::Function, &[GROUPS]).unwrap_err();
        assert!(error.contains("REGISTRY_STORE=\"…\" is of no use to a function"), "{error}");
        assert!(read(Program::Function, &[GROUPS, ("REGISTRY_STORE", "rediss://user:secret@store:6379")]).is_ok());
        let update_url = ("REGISTRY_UPDATE_URL", "https://registry.internal:8081/update-ip-list");
        let error = read(Program::Function, &[GROUPS, update_url]).unwrap_err();
        assert!(error.starts_with("invalid configuration: REGISTRY_TOKEN is missing"), "{error}");
        assert!(read(Program::Function, &[GROUPS, update_url, TOKEN]).is_ok());
    }

    #[test]
    fn a_store_is_a_server_or_a_cluster() {
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
    fn without_groups_there_is_nothing_to_do() {
        assert!(read(local(), &[]).unwrap_err().starts_with("invalid configuration: REGISTRY_GROUPS is missing"));
    }

    #[test]
    fn topics_are_arns() {
        let topic = topic("arn:aws-us-gov:sns:us-gov-east-1:123456789012:alerts.fifo").unwrap();
        assert_eq!(topic.region, "us-gov-east-1");
        let vars = [GROUPS, ("REGISTRY_TOPICS", "arn:aws:sns:eu-west-1:123456789012:a, arn:aws:sns:eu-west-1:123456789012:b")];
        assert_eq!(read(local(), &vars).unwrap().topics.len(), 2);
    }
}
