//! The table of all variables, from which errors and `docs/configuration.md` are made.

use elb_common::env::Variable;

/// Every variable that the shipper and the command line read.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "LOGSTASH_URL",
        default: "",
        allowed: "one URL or several separated by commas, http:// or https://; the command line also takes - for standard output",
        meaning: "URL of the Logstash http input, or URLs of several. Flag: `--to`.",
    },
    Variable {
        name: "REGISTRY_URL",
        default: "",
        allowed: "the registry's look-up URL, such as http://10.0.0.5:8081/logstash-ip?dcid=eu1&region=eu-west-1, instead of LOGSTASH_URL",
        meaning: "Look-up URL of an [endpoint registry](../registry/README.md), which returns the endpoints as a JSON array of `ip:port`.",
    },
    Variable {
        name: "REGISTRY_ENDPOINT",
        default: "http://{ip}:{port}/",
        allowed: "a URL with {ip} and {port}; without {ip} its host is the name that certificates are checked against",
        meaning: "Endpoint URL for each entry of the registry's list. For https with certificates for a host name, use that name instead of `{ip}`: `https://logstash.internal:{port}/`.",
    },
    Variable {
        name: "REGISTRY_ALLOWED_CIDRS",
        default: "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7",
        allowed: "address ranges separated by commas, such as 10.20.0.0/16",
        meaning: "Address ranges of Logstash servers. Entries of the registry's list outside these ranges are rejected, with a log line at level ERROR. Loopback addresses are allowed only if a range names them.",
    },
    Variable {
        name: "LOGSTASH_USER",
        default: "",
        allowed: "a user name for basic authentication, together with LOGSTASH_PASSWORD",
        meaning: "User name for basic authentication.",
    },
    Variable {
        name: "LOGSTASH_PASSWORD",
        default: "",
        allowed: "the password of LOGSTASH_USER",
        meaning: "Password for basic authentication. It is never shown.",
    },
    Variable {
        name: "LOGSTASH_SECRET_ARN",
        default: "",
        allowed: "the ARN of a Secrets Manager secret with username and password, instead of LOGSTASH_USER",
        meaning: "Secret in AWS Secrets Manager of the form `{\"username\":\"…\",\"password\":\"…\"}`. It is read before the first request, and again, at most once a minute, after Logstash rejected the credentials.",
    },
    Variable {
        name: "LOGSTASH_CA",
        default: "",
        allowed: "certificates of the authorities to trust instead of the system's: PEM text, or the path of a PEM file",
        meaning: "Certificate authorities for https. They replace the authorities that the system trusts.",
    },
    Variable {
        name: "LOGSTASH_CLIENT_IDENTITY",
        default: "",
        allowed: "a client certificate and its key: PEM text, or the path of a PEM file",
        meaning: "Client certificate and private key for https (mutual TLS). They are never shown.",
    },
    Variable {
        name: "EVENT_SCHEMA",
        default: "native",
        allowed: "native or ecs",
        meaning: "Field names of the events, see [Schemas](events.md#schemas). Flag: `--schema`.",
    },
    Variable {
        name: "INCLUDE_ORIGINAL",
        default: "false",
        allowed: "true or false",
        meaning: "Also send the raw line in `event.original`. Flag: `--include-original`.",
    },
    Variable {
        name: "LABELS",
        default: "",
        allowed: "NAME=VALUE pairs separated by commas, such as env=prod,team=web",
        meaning: "Constants that every event contains: `env=prod,team=web` becomes `labels.env` and `labels.team`. Flag: `--label`, once for each pair.",
    },
    Variable {
        name: "BATCH_EVENTS",
        default: "2000",
        allowed: "a whole number from 1 to 100000",
        meaning: "Maximum number of events in a batch.",
    },
    Variable {
        name: "BATCH_BYTES",
        default: "4MiB",
        allowed: "a size from 1KiB to 64MiB, such as 4MiB or 4194304",
        meaning: "Maximum size of a batch before compression. A single larger event is sent alone.",
    },
    Variable {
        name: "SEND_CONCURRENCY",
        default: "4",
        allowed: "a whole number from 1 to 256",
        meaning: "Number of batches in flight in the whole process, and so the maximum number of connections. Always 1 for standard output. Flag: `--concurrency`.",
    },
    Variable {
        name: "COMPRESSION",
        default: "gzip",
        allowed: "gzip, gzip:1 to gzip:9, or none",
        meaning: "Compression of request bodies. `gzip` is level 6.",
    },
    Variable {
        name: "CONNECT_TIMEOUT",
        default: "5s",
        allowed: "a duration above 0s, such as 5s or 500ms",
        meaning: "Timeout for a new connection to Logstash, including the TLS handshake.",
    },
    Variable {
        name: "REQUEST_TIMEOUT",
        default: "30s",
        allowed: "a duration above 0s, such as 30s or 1m",
        meaning: "Timeout for one request, including its response.",
    },
    Variable {
        name: "RETRY_BUDGET",
        default: "2m",
        allowed: "a duration, such as 2m or 90s",
        meaning: "Maximum time for which one batch is retried, see [Retries](delivery.md#retries).",
    },
    Variable {
        name: "POISON_LIMIT",
        default: "100",
        allowed: "a whole number from 0 to 100000",
        meaning: "Maximum number of [rejected events](delivery.md#rejected-events) of one object. An object with more of them fails.",
    },
    Variable {
        name: "DEADLINE_RESERVE",
        default: "10s",
        allowed: "a duration, such as 10s",
        meaning: "Time before the invocation's deadline at which shipping stops and the report is made. At most half of the invocation's remaining time is reserved.",
    },
    Variable {
        name: "DEAD_LETTER_URL",
        default: "",
        allowed: "s3://BUCKET/PREFIX, or dir:PATH",
        meaning: "Destination of [rejected events](delivery.md#rejected-events). Without it, a rejected event fails its object.",
    },
    Variable {
        name: "DEAD_LETTER_QUEUE_URL",
        default: "",
        allowed: "the URL of an SQS queue",
        meaning: "Queue for [messages that cannot be processed](delivery.md#messages-that-cannot-be-processed).",
    },
    Variable {
        name: "OBJECT_STORE",
        default: "s3",
        allowed: "s3, or dir:PATH for a directory whose sub-directories are buckets",
        meaning: "Store of the log objects. Flag: `--objects` of `elbship invoke`.",
    },
    Variable {
        name: "MAX_LINE_BYTES",
        default: "1MiB",
        allowed: "a size from 1KiB to 16MiB, such as 1MiB",
        meaning: "Maximum length of a line. A longer line becomes one unparsed event, cut off and with the tag `_elbtruncated`.",
    },
    Variable {
        name: "LOG_LEVEL",
        default: "info",
        allowed: "error, warn, info, debug or trace",
        meaning: "Lowest level of the log lines that are written.",
    },
    Variable {
        name: "AWS_ENDPOINT_URL_S3",
        default: "",
        allowed: "the URL of a server that speaks the S3 protocol",
        meaning: "Another S3 server. If its host is an IP address or localhost, the bucket's name is part of the path.",
    },
    Variable {
        name: "AWS_ENDPOINT_URL",
        default: "",
        allowed: "the URL of a server that speaks AWS's protocols",
        meaning: "Another server for all AWS services. `AWS_ENDPOINT_URL_S3` takes precedence for S3.",
    },
];

/// Variables whose values no error shows.
pub(super) const SECRETS: &[&str] = &["LOGSTASH_PASSWORD", "LOGSTASH_CLIENT_IDENTITY"];
