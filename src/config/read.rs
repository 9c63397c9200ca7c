//! Reads the settings from the variables, part by part.
//!
//! Each function reads all of its variables before it returns `None` for an error, so that one start reports every error.

use elb_common::env::EnvReader;
use elb_common::env::values::{boolean, duration, log_level, size, timeout, whole_number};
use elb_log::batch::{BatchSettings, Compression, Framing};
use elb_log::event::EventSettings;
use secrecy::SecretString;

use super::{Config, CredentialsConfig, HttpTarget, Program, StoreConfig, Target, parse};
use crate::ship::ShipSettings;
use crate::sink::{Discovery, EndpointSource, EndpointTemplate};

pub(super) fn config(vars: &mut EnvReader<'_>, program: Program) -> Option<Config> {
    let target = target(vars, program);
    let framing = if matches!(target, Some(Target::Output)) { Framing::Lines } else { Framing::JsonArray };
    let ship = ship_settings(vars, framing);
    let path_style = path_style(vars);
    let store = store(vars, path_style);
    let dead_letter = vars.optional("DEAD_LETTER_URL", |text| parse::dead_letter(text, path_style.unwrap_or_default()));
    let dead_letter_queue_url = vars.optional("DEAD_LETTER_QUEUE_URL", parse::queue_url);
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
    let authorities = vars.optional("LOGSTASH_CA", parse::authorities);
    let identity = vars.optional("LOGSTASH_CLIENT_IDENTITY", parse::identity);
    let response_check = vars.read("RESPONSE_CHECK", parse::response_check);
    let connect_timeout = vars.read("CONNECT_TIMEOUT", timeout);
    let request_timeout = vars.read("REQUEST_TIMEOUT", timeout);
    let retry_budget = vars.read("RETRY_BUDGET", duration);
    match endpoints? {
        Some(endpoints) => Some(Target::Http(Box::new(HttpTarget {
            endpoints,
            credentials: credentials?,
            authorities: authorities?.unwrap_or_default(),
            identity: identity?,
            response_check: response_check?,
            connect_timeout: connect_timeout?,
            request_timeout: request_timeout?,
            retry_budget: retry_budget?,
        }))),
        None => Some(Target::Output),
    }
}

/// Returns `Some(None)` for standard output.
#[expect(clippy::option_option, reason = "the outer `None` is an error, the inner one is standard output")]
fn endpoints(vars: &mut EnvReader<'_>, program: Program) -> Option<Option<EndpointSource>> {
    let fixed = vars.optional("LOGSTASH_URL", |text| parse::endpoints(program, text));
    let registry = vars.optional("REGISTRY_URL", parse::registry_url);
    let template = vars.read("REGISTRY_ENDPOINT", EndpointTemplate::parse);
    let allowed = vars.read("REGISTRY_ALLOWED_CIDRS", parse::ranges);
    match (fixed?, registry?) {
        (Some(_), Some(_)) => {
            vars.report_conflict("REGISTRY_URL", "LOGSTASH_URL");
            None
        }
        (None, Some(url)) => Some(Some(EndpointSource::Registry(Discovery { url, template: template?, allowed: allowed? }))),
        (Some(endpoints), None) if !endpoints.is_empty() => Some(Some(EndpointSource::Fixed(endpoints))),
        (None, None) if program == Program::Function => {
            vars.report_missing("LOGSTASH_URL");
            None
        }
        (Some(_) | None, None) => Some(None),
    }
}

fn credentials(vars: &mut EnvReader<'_>) -> Option<CredentialsConfig> {
    let user = vars.optional("LOGSTASH_USER", |text| Ok(text.to_owned()))?;
    let password = vars.optional("LOGSTASH_PASSWORD", |text| Ok(SecretString::from(text)))?;
    let secret = vars.optional("LOGSTASH_SECRET_ARN", parse::secret_arn)?;
    match (user, password, secret) {
        (None, None, None) => Some(CredentialsConfig::None),
        (Some(user), Some(password), None) => Some(CredentialsConfig::Basic(user, password)),
        (None, None, Some(arn)) => Some(CredentialsConfig::Secret(arn)),
        (user, _, Some(_)) => {
            let other = if user.is_some() { "LOGSTASH_USER" } else { "LOGSTASH_PASSWORD" };
            vars.report_conflict("LOGSTASH_SECRET_ARN", other);
            None
        }
        (user, _, None) => {
            vars.report_missing(if user.is_some() { "LOGSTASH_PASSWORD" } else { "LOGSTASH_USER" });
            None
        }
    }
}

fn ship_settings(vars: &mut EnvReader<'_>, framing: Framing) -> Option<ShipSettings> {
    let events = event_settings(vars);
    let batch = batch_settings(vars, framing);
    let concurrency = vars.read("SEND_CONCURRENCY", |text| whole_number(text, 1, 256));
    let poison_limit = vars.read("POISON_LIMIT", |text| whole_number(text, 0, 100_000));
    let max_line_bytes = vars.read("MAX_LINE_BYTES", |text| size(text, 1 << 10, 16 << 20));
    Some(ShipSettings {
        events: events?,
        batch: batch?,
        // One batch at a time keeps the events in the order of their lines.
        concurrency: if framing == Framing::Lines { 1 } else { concurrency? },
        max_line_bytes: max_line_bytes?,
        poison_limit: poison_limit?,
        events_per_second: None,
    })
}

fn event_settings(vars: &mut EnvReader<'_>) -> Option<EventSettings> {
    let schema = vars.read("EVENT_SCHEMA", parse::schema);
    let include_original = vars.read("INCLUDE_ORIGINAL", boolean);
    // Empty labels are allowed, so that a deployment template can always set the variable.
    let labels = if vars.is_empty("LABELS") { Some(None) } else { vars.optional("LABELS", parse::labels) };
    Some(EventSettings {
        schema: schema?,
        include_original: include_original?,
        labels: labels?.unwrap_or_default(),
        resend: false,
    })
}

fn batch_settings(vars: &mut EnvReader<'_>, framing: Framing) -> Option<BatchSettings> {
    let max_events = vars.read("BATCH_EVENTS", |text| whole_number(text, 1, 100_000));
    let max_bytes = vars.read("BATCH_BYTES", |text| size(text, 1 << 10, 64 << 20));
    let compression = vars.read("COMPRESSION", parse::compression);
    Some(BatchSettings {
        max_events: max_events?,
        max_bytes: max_bytes?,
        framing,
        compression: if framing == Framing::Lines { Compression::None } else { compression? },
        bodies: true,
    })
}

fn path_style(vars: &mut EnvReader<'_>) -> Option<bool> {
    let specific = vars.optional("AWS_ENDPOINT_URL_S3", parse::url)?;
    let general = vars.optional("AWS_ENDPOINT_URL", parse::url)?;
    Some(specific.or(general).is_some_and(|url| parse::needs_path_style(&url)))
}

fn store(vars: &mut EnvReader<'_>, path_style: Option<bool>) -> Option<StoreConfig> {
    let path_style = path_style?;
    vars.read("OBJECT_STORE", |text| parse::store(text, path_style))
}
