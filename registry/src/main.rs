//! The registry: a Lambda function where Lambda runs it, otherwise a server, or a client of either.

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
use elb_common::tls::SystemRoots;
use elb_log_registry::assemble::{Assembled, Surroundings, assemble};
use elb_log_registry::aws::Aws;
use elb_log_registry::client::{self, ClientError, Look, Seen};
use elb_log_registry::clock::Clock;
use elb_log_registry::config::{Config, Program};
use elb_log_registry::function::Function;
use elb_log_registry::registry::Registry;
use elb_log_registry::serve::{self, Patience};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use secrecy::SecretString;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tracing::level_filters::LevelFilter;
use url::Url;

/// A start waits no longer for the first lists before it answers.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// Tells which Logstash servers of an autoscaling group are alive.
///
/// Without a command it serves the lists of REGISTRY_GROUPS; the README has all variables.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Where to listen; on another address than this machine's own, REGISTRY_TOKEN has to be set
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a list, one endpoint a line, and on standard error its age and where it came from
    Get(Lookup),
    /// Has a list made anew from AWS, with the token of REGISTRY_TOKEN
    Update {
        #[command(flatten)]
        lookup: Lookup,
        /// The autoscaling group of the list
        #[arg(long)]
        as_name: String,
    },
    /// Shows a list and then every change, until it is stopped
    Watch {
        #[command(flatten)]
        lookup: Lookup,
        /// Time between two look-ups
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
        every: Duration,
    },
}

#[derive(Args)]
struct Lookup {
    /// The look-up, such as http://127.0.0.1:8081/logstash-ip?dcid=eu1&region=eu-west-1
    #[arg(long)]
    url: Url,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Lambda starts a function without arguments.
    if env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        return run(Program::Function, LogFormat::StdoutJson).await;
    }
    let Cli { listen, command } = Cli::parse();
    match command {
        None => {
            let format = if io::stderr().is_terminal() { LogFormat::StderrText } else { LogFormat::StderrJson };
            run(Program::Server(listen), format).await
        }
        Some(command) => match Box::pin(ask(command)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&format!("registry: {error}"));
                ExitCode::FAILURE
            }
        },
    }
}

async fn run(program: Program, format: LogFormat) -> ExitCode {
    let config = match Config::from_vars(program, variable) {
        Ok(config) => config,
        Err(errors) => {
            log::init(format, LevelFilter::ERROR);
            tracing::error!(error = %errors, "the registry cannot start");
            return ExitCode::from(2);
        }
    };
    log::init(format, config.log_level);
    // Boxed, because the compiler does not work out the size of futures that are nested as deeply as these.
    let roots = SystemRoots::new();
    let http = http_client(roots.clone(), ProxyConfig::from_env());
    let aws = Box::pin(aws_config::defaults(BehaviorVersion::latest()).http_client(http).load()).await;
    let surroundings = Surroundings { aws, roots, clock: Clock::new(jiff::Timestamp::now), seed: fastrand::u64(..) };
    let result = match (assemble(program, config, surroundings), program) {
        (Ok(Assembled::Server(registry, routes)), Program::Server(listen)) => Box::pin(serve(registry, routes, listen)).await,
        (Ok(Assembled::Function(function)), _) => Box::pin(work(function)).await,
        (Ok(Assembled::Server(..)), Program::Function) => Err("a function listens nowhere".to_owned()),
        (Err(error), _) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the registry cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    Some(env::var_os(name)?.to_string_lossy().into_owned())
}

/// Serves until it is told to stop. The first lists are made before the first answer, so that a start is no alarm.
async fn serve(registry: Arc<Registry<Aws>>, routes: Router, listen: SocketAddr) -> Result<(), String> {
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    // What takes longer goes on in the background.
    let _ = timeout(START_PATIENCE, first_lists(&registry)).await;
    for group in registry.groups().iter() {
        let (registry, group) = (Arc::clone(&registry), group.clone());
        tokio::spawn(async move { registry.keep_polling(&group).await });
    }
    tracing::info!(%address, lists = registry.groups().iter().count(), "the registry listens");
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    serve::serve(listener, routes, Patience::default(), stop).await.map_err(|error| error.to_string())?;
    registry.alerts().flush().await;
    Ok(())
}

async fn first_lists(registry: &Arc<Registry<Aws>>) {
    let mut polls = tokio::task::JoinSet::new();
    for group in registry.groups().iter() {
        let (registry, group) = (Arc::clone(registry), group.clone());
        polls.spawn(async move { registry.poll(&group, Duration::ZERO).await });
    }
    polls.join_all().await;
}

/// Serves one invocation after the other.
async fn work(function: Function<Aws>) -> Result<(), String> {
    let function = Arc::new(function);
    let handler = |LambdaEvent { payload, context }: LambdaEvent<Value>| {
        let function = Arc::clone(&function);
        async move {
            function
                .invoke(payload, context)
                .await
                .map_err(|error| Diagnostic { error_type: "RegistryError".to_owned(), error_message: error.to_string() })
        }
    };
    lambda_runtime::run(service_fn(handler)).await.map_err(|error| error.to_string())
}

async fn ask(command: Command) -> Result<(), ClientError> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| ClientError::Unreachable(error.to_string()))?;
    match command {
        Command::Get(Lookup { url }) => {
            if let Look::New(Seen { endpoints, about, .. }) = client::get(&client, &url, None).await? {
                say(&about);
                endpoints.iter().for_each(|endpoint| print(&endpoint.to_string()));
            }
            Ok(())
        }
        Command::Update { lookup, as_name } => {
            let token = variable("REGISTRY_TOKEN").map(SecretString::from);
            let updated = client::update(&client, &lookup.url, &as_name, token.as_ref()).await?;
            say(&format!("generation {}", updated.generation));
            updated.endpoints.iter().for_each(|endpoint| print(&endpoint.to_string()));
            Ok(())
        }
        Command::Watch { lookup, every } => watch(&client, &lookup.url, every).await,
    }
}

/// A registry that fails for a while is told of and asked again; one that never answered ends the watch.
async fn watch(client: &reqwest::Client, url: &Url, every: Duration) -> Result<(), ClientError> {
    let mut known: Option<Seen> = None;
    loop {
        let etag = known.as_ref().and_then(|seen| seen.etag.as_deref());
        match (client::get(client, url, etag).await, &mut known) {
            (Ok(Look::New(seen)), _) => {
                let old = known.as_ref().map(|seen| seen.endpoints.clone()).unwrap_or_default();
                say(&seen.about);
                client::changes(&old, &seen.endpoints).iter().for_each(|line| print(line));
                known = Some(seen);
            }
            (Ok(Look::Same { warning }), Some(seen)) if warning != seen.warning => {
                say(&warning.as_ref().map_or("no warning any more".to_owned(), |warning| format!("warning: {warning}")));
                seen.warning = warning;
            }
            (Ok(Look::Same { .. }), _) => {}
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => say(&format!("registry: {error}")),
        }
        sleep(every.max(Duration::from_millis(100))).await;
    }
}

/// Nothing can be said any more where standard output is gone.
fn print(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
