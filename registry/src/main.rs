//! The registry's binary: a Lambda function if Lambda starts it, else a server or a command-line client.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_smithy_http_client::proxy::ProxyConfig;
use axum::Router;
use clap::{Args, Parser, Subcommand};
use elb_common::aws::http_client;
use elb_common::log::{self, LogFormat};
use elb_common::redact::redact_arguments;
use elb_common::terminal::{escape, escape_lines};
use elb_common::tls::SystemRoots;
use elb_log_registry::aws::AwsFleet;
use elb_log_registry::client::{self, ClientError, Fetched, ListView};
use elb_log_registry::clock::Clock;
use elb_log_registry::config::{Mode, RegistryConfig};
use elb_log_registry::function::Function;
use elb_log_registry::registry::Registry;
use elb_log_registry::serve::{self, Timeouts};
use elb_log_registry::wiring::{Platform, Program, build_registry};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use secrecy::SecretString;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tracing::level_filters::LevelFilter;
use url::Url;

/// Maximum time that the server waits for the first lists before it responds.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Keeps lists of the Logstash servers that are in service in Auto Scaling groups.
///
/// Without a command, serves the lists of REGISTRY_GROUPS; registry/README.md describes all variables.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Listen address; if other machines can reach it, REGISTRY_TOKEN is required
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prints a list, one endpoint a line, and its age and source on standard error
    Get(LookupArgs),
    /// Requests a refresh of a list from AWS, with the token in REGISTRY_TOKEN
    Update {
        #[command(flatten)]
        lookup: LookupArgs,
        /// Auto Scaling group of the list
        #[arg(long)]
        as_name: String,
    },
    /// Prints a list and then every change, until it is interrupted
    Watch {
        #[command(flatten)]
        lookup: LookupArgs,
        /// Time between two look-ups
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
        every: Duration,
    },
}

#[derive(Args)]
struct LookupArgs {
    /// URL of the look-up, such as http://127.0.0.1:8081/logstash-ip?dcid=eu1&region=eu-west-1
    #[arg(long)]
    url: Url,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Lambda starts a function without arguments.
    if env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        return run(Mode::Function, LogFormat::StdoutJson).await;
    }
    let Cli { listen, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let arguments = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
            print_error(redact_arguments(&error.to_string(), arguments).trim_end());
            return ExitCode::from(2);
        }
        // The text of --help or --version.
        Err(text) => text.exit(),
    };
    match command {
        None => {
            let format = if io::stderr().is_terminal() { LogFormat::StderrText } else { LogFormat::StderrJson };
            run(Mode::Server(listen), format).await
        }
        Some(command) => match Box::pin(run_client(command)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                print_client_error(&error);
                ExitCode::FAILURE
            }
        },
    }
}

async fn run(mode: Mode, format: LogFormat) -> ExitCode {
    let config = match RegistryConfig::from_env(mode, variable) {
        Ok(config) => config,
        Err(errors) => {
            log::init(format, LevelFilter::ERROR);
            tracing::error!(error = %errors, "cannot start the registry");
            return ExitCode::from(2);
        }
    };
    log::init(format, config.log_level);
    // Boxed, because the compiler cannot compute the size of futures that are nested this deeply.
    let roots = SystemRoots::new();
    let http = http_client(roots.clone(), ProxyConfig::from_env());
    let aws = Box::pin(aws_config::defaults(BehaviorVersion::latest()).http_client(http).load()).await;
    let platform = Platform { aws, roots, clock: Clock::new(jiff::Timestamp::now), seed: fastrand::u64(..) };
    let result = match (build_registry(mode, config, platform), mode) {
        (Ok(Program::Server(registry, routes)), Mode::Server(listen)) => Box::pin(serve(registry, routes, listen)).await,
        (Ok(Program::Function(function)), _) => Box::pin(run_function(function)).await,
        (Ok(Program::Server(..)), Mode::Function) => Err("a Lambda function cannot run as a server".to_owned()),
        (Err(error), _) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the registry has failed");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    Some(env::var_os(name)?.to_string_lossy().into_owned())
}

/// Serves until a signal arrives. The first lists are fetched before the first response, so that a start raises no alert.
async fn serve(registry: Arc<Registry<AwsFleet>>, routes: Router, listen: SocketAddr) -> Result<(), String> {
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    // Slower refreshes continue in the background.
    let _ = timeout(START_TIMEOUT, first_lists(&registry)).await;
    for group in registry.groups().iter() {
        let (registry, group) = (Arc::clone(&registry), group.clone());
        tokio::spawn(async move { registry.keep_polling(&group).await });
    }
    tracing::info!(%address, lists = registry.groups().iter().count(), "the registry listens");
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    serve::serve(listener, routes, Timeouts::default(), shutdown).await.map_err(|error| error.to_string())?;
    registry.alerts().flush().await;
    Ok(())
}

async fn first_lists(registry: &Arc<Registry<AwsFleet>>) {
    let mut polls = tokio::task::JoinSet::new();
    for group in registry.groups().iter() {
        let (registry, group) = (Arc::clone(registry), group.clone());
        polls.spawn(async move { registry.poll(&group, Duration::ZERO).await });
    }
    polls.join_all().await;
}

/// Handles one invocation after another.
async fn run_function(function: Function<AwsFleet>) -> Result<(), String> {
    let function = Arc::new(function);
    let handler = |LambdaEvent { payload, context }: LambdaEvent<Value>| {
        let function = Arc::clone(&function);
        async move { function.invoke(payload, context).await.map_err(|error| failed_invocation(error.to_string())) }
    };
    lambda_runtime::run(service_fn(handler)).await.map_err(|error| error.to_string())
}

/// Logs why an invocation fails, and returns what Lambda shows.
fn failed_invocation(error: String) -> Diagnostic {
    tracing::error!(error, "invocation failed");
    Diagnostic { error_type: "RegistryError".to_owned(), error_message: error }
}

async fn run_client(command: Command) -> Result<(), ClientError> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| ClientError::Unreachable(error.to_string()))?;
    match command {
        Command::Get(LookupArgs { url }) => {
            if let Fetched::New(ListView { endpoints, about, .. }) = client::get(&client, &url, None).await? {
                print_error(&about);
                endpoints.iter().for_each(|endpoint| print(&endpoint.to_string()));
            }
            Ok(())
        }
        Command::Update { lookup, as_name } => {
            let token = variable("REGISTRY_TOKEN").map(SecretString::from);
            let updated = client::update(&client, &lookup.url, &as_name, token.as_ref()).await?;
            print_error(&format!("generation {}", updated.generation));
            updated.endpoints.iter().for_each(|endpoint| print(&endpoint.to_string()));
            Ok(())
        }
        Command::Watch { lookup, every } => watch(&client, &lookup.url, every).await,
    }
}

/// Prints every change. Temporary failures are printed and retried; if the first look-up fails, the watch ends.
async fn watch(client: &reqwest::Client, url: &Url, every: Duration) -> Result<(), ClientError> {
    let mut known: Option<ListView> = None;
    loop {
        let etag = known.as_ref().and_then(|seen| seen.etag.as_deref());
        match (client::get(client, url, etag).await, &mut known) {
            (Ok(Fetched::New(seen)), _) => {
                let old = known.as_ref().map(|seen| seen.endpoints.clone()).unwrap_or_default();
                print_error(&seen.about);
                client::changes(&old, &seen.endpoints).iter().for_each(|line| print(line));
                known = Some(seen);
            }
            (Ok(Fetched::Unchanged { warning }), Some(seen)) if warning != seen.warning => {
                print_error(&warning.as_ref().map_or("the warning is over".to_owned(), |warning| format!("warning: {warning}")));
                seen.warning = warning;
            }
            (Ok(Fetched::Unchanged { .. }), _) => {}
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => print_client_error(&error),
        }
        sleep(every.max(Duration::from_millis(100))).await;
    }
}

/// Ignores errors, because there is no place to report them if standard output is closed.
fn print(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", escape_lines(line));
}

fn print_error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape_lines(text));
}

/// The error may contain the response of any server, which is shown in one line.
fn print_client_error(error: &ClientError) {
    print_error(&format!("registry: {}", escape(&error.to_string())));
}
