//! The Lambda function: an event comes in, the response or an error goes out.

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
use elb_log_shipper::lambda::handler::{HandlerError, handle, shutdown_before_deadline};
use elb_log_shipper::lambda::response::InvocationResponse;
use elb_log_shipper::lambda::sqs::SqsClient;
use elb_log_shipper::reason::Reason;
use elb_log_shipper::ship::Shipper;
use elb_log_shipper::summary_log::SummaryLog;
use elb_log_shipper::wiring::{Platform, build_shipper};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use tracing::level_filters::LevelFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::from_vars(Program::Function, variable) {
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
            tracing::error!(error, "the function cannot continue");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    Some(env::var_os(name)?.to_string_lossy().into_owned())
}

/// Builds the clients once and then handles one invocation after the other.
async fn run(config: Config) -> Result<(), String> {
    let platform = platform();
    let reserve = config.deadline_reserve;
    let sqs = Arc::new(SqsClient::new(platform.aws.clone(), config.dead_letter_queue_url.clone()));
    let shipper = build_shipper(config, platform)?;
    let handler = |event: LambdaEvent<Value>| invoke(Arc::clone(&shipper), Arc::clone(&sqs), event, reserve);
    lambda_runtime::run(service_fn(handler)).await.map_err(|error| error.to_string())
}

fn platform() -> Platform {
    let roots = SystemRoots::new();
    let http = http_client(roots.clone(), ProxyConfig::from_env());
    let aws = AwsConfig::new(move || aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).load());
    Platform {
        aws,
        roots,
        local_files: false,
        dry_run: false,
        checkpoints: true,
        summary_log: summary_log(),
        seed: fastrand::u64(..),
        now: jiff::Timestamp::now,
    }
}

/// Returns the log with metrics if Lambda runs the program: Lambda always sets the function's name, which the metrics need.
fn summary_log() -> SummaryLog {
    match env::var("AWS_LAMBDA_FUNCTION_NAME") {
        Ok(function) => SummaryLog::Metrics { function, now: jiff::Timestamp::now },
        Err(_) => SummaryLog::Log,
    }
}

async fn invoke(
    shipper: Arc<Shipper>,
    sqs: Arc<SqsClient>,
    event: LambdaEvent<Value>,
    reserve: Duration,
) -> Result<InvocationResponse, Diagnostic> {
    let shutdown = shutdown_before_deadline(remaining(event.context.deadline), reserve);
    let completed = handle(&shipper, Some(&sqs), &event.context.request_id, &event.payload, &shutdown).await;
    completed.map(|completed| completed.response).map_err(|error| {
        // Failed objects and messages have a line of their own.
        if let HandlerError::Notification(error) = &error {
            tracing::error!(reason = Reason::UnknownEvent.name(), %error, "invocation failed");
        }
        Diagnostic { error_type: error.error_type().to_owned(), error_message: error.to_string() }
    })
}

/// Returns the time until a deadline in milliseconds since 1970; `None` if it has passed, which only happens with the local
/// emulator.
fn remaining(deadline_ms: u64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Duration::from_millis(deadline_ms).checked_sub(now)
}
