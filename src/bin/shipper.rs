//! The Lambda function: a notification in, the report or an error out.

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::BehaviorVersion;
use aws_smithy_http_client::proxy::ProxyConfig;
use elb_common::aws::{AwsConfig, http_client};
use elb_common::log::{self, LogFormat};
use elb_common::tls::SystemRoots;
use elb_log_shipper::config::{Config, Program};
use elb_log_shipper::lambda::handler::{HandlerError, handle, invocation_end};
use elb_log_shipper::lambda::reply::Reply;
use elb_log_shipper::lambda::sqs::Queue;
use elb_log_shipper::ship::Shipper;
use elb_log_shipper::summary_log::SummaryLog;
use elb_log_shipper::wiring::{Platform, build_shipper};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use tracing::level_filters::LevelFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::from_vars(Program::Function, |name| Some(env::var_os(name)?.to_string_lossy().into_owned())) {
        Ok(config) => config,
        Err(errors) => {
            log::init(LogFormat::StdoutJson, LevelFilter::ERROR);
            tracing::error!(error = %errors, "the function cannot start");
            return ExitCode::FAILURE;
        }
    };
    log::init(LogFormat::StdoutJson, config.log_level);
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the function cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// Builds the clients once and then serves one invocation after the other.
async fn run(config: Config) -> Result<(), String> {
    let roots = SystemRoots::new();
    let http = http_client(roots.clone(), ProxyConfig::from_env());
    let aws = AwsConfig::new(move || aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).load());
    let reserve = config.deadline_reserve;
    let queue = Arc::new(Queue::new(aws.clone(), config.dead_letter_queue_url.clone()));
    let platform = Platform {
        aws,
        roots,
        local_files: false,
        dry_run: false,
        summary_log: summary_log(),
        seed: fastrand::u64(..),
        now: jiff::Timestamp::now,
    };
    let shipper = build_shipper(config, platform)?;
    let handler = |event: LambdaEvent<Value>| invoke(Arc::clone(&shipper), Arc::clone(&queue), event, reserve);
    lambda_runtime::run(service_fn(handler)).await.map_err(|error| error.to_string())
}

/// Lambda always names the function; where nothing does, there is nobody to make metrics for.
fn summary_log() -> SummaryLog {
    match env::var("AWS_LAMBDA_FUNCTION_NAME") {
        Ok(function) => SummaryLog::Metrics { function, now: jiff::Timestamp::now },
        Err(_) => SummaryLog::Log,
    }
}

async fn invoke(
    shipper: Arc<Shipper>,
    queue: Arc<Queue>,
    event: LambdaEvent<Value>,
    reserve: Duration,
) -> Result<Reply, Diagnostic> {
    let stop = invocation_end(remaining(event.context.deadline), reserve);
    let handled = handle(&shipper, Some(&queue), &event.payload, &stop).await;
    handled.map(|handled| handled.reply).map_err(|error| {
        let error_type = match error {
            HandlerError::Notification(_) => "UnknownEvent",
            HandlerError::Failed { .. } => "ObjectsFailed",
        };
        Diagnostic { error_type: error_type.to_owned(), error_message: error.to_string() }
    })
}

/// The time until a deadline in milliseconds since 1970; none for one that has passed, which only the emulator names.
fn remaining(deadline_ms: u64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Duration::from_millis(deadline_ms).checked_sub(now)
}
