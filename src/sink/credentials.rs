//! What a request shows to be let in.

use std::error::Error;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use elb_common::aws::AwsConfig;

/// A secret is read again at most this often, or a wrong password would be paid for by the call.
const RENEWED_AT_MOST_EVERY: Duration = Duration::from_mins(1);

/// Reading a secret takes no longer, retries included.
const READ_TIME: Duration = Duration::from_secs(10);

/// Where user and password come from.
#[derive(Debug)]
pub enum Credentials {
    /// There are none.
    None,
    /// `LOGSTASH_USER` and `LOGSTASH_PASSWORD`.
    Basic(HeaderValue),
    /// `LOGSTASH_SECRET_ARN`
    Secret(Box<Secret>),
}

/// A secret in AWS Secrets Manager, read when it is first needed.
#[derive(Debug)]
pub struct Secret {
    aws: AwsConfig,
    arn: String,
    client: OnceCell<Client>,
    state: Mutex<CachedSecret>,
}

/// What to send with a request.
#[derive(Clone, Debug, Default)]
pub struct Authorization {
    /// The value of the header `Authorization`.
    pub header: Option<HeaderValue>,
    /// Which reading of the secret it is from.
    pub generation: u64,
}

#[derive(Debug, Default)]
struct CachedSecret {
    current: Option<Authorization>,
    /// When the secret was last read again, or in vain.
    renewed: Option<Instant>,
    /// Why it could not be read.
    error: Option<String>,
}

/// The form in which AWS's own tools store a user and a password.
#[derive(Deserialize)]
struct UserAndPassword {
    username: String,
    password: SecretString,
}

impl Credentials {
    /// Basic authentication.
    pub fn basic(user: &str, password: &SecretString) -> Self {
        Credentials::Basic(basic(user, password))
    }

    /// The secret `arn`.
    pub fn secret(aws: AwsConfig, arn: String) -> Self {
        Credentials::Secret(Box::new(Secret { aws, arn, client: OnceCell::new(), state: Mutex::default() }))
    }

    /// What to send.
    ///
    /// # Errors
    /// The secret cannot be read, or is no user and password.
    pub async fn authorization(&self) -> Result<Authorization, String> {
        match self {
            Credentials::None => Ok(Authorization::default()),
            Credentials::Basic(header) => Ok(Authorization { header: Some(header.clone()), generation: 0 }),
            Credentials::Secret(secret) => secret.authorization().await,
        }
    }

    /// Whether there are others now than those of `used`, which were not accepted.
    pub async fn renew(&self, used: &Authorization) -> bool {
        match self {
            Credentials::None | Credentials::Basic(_) => false,
            Credentials::Secret(secret) => secret.renew(used).await,
        }
    }
}

impl Secret {
    async fn authorization(&self) -> Result<Authorization, String> {
        let mut state = self.state.lock().await;
        if let Some(current) = &state.current {
            return Ok(current.clone());
        }
        if let Some(error) = &state.error
            && !state.may_renew()
        {
            return Err(error.clone());
        }
        match self.read().await {
            Ok(header) => {
                let first = Authorization { header: Some(header), generation: 1 };
                state.current = Some(first.clone());
                Ok(first)
            }
            Err(error) => {
                state.renewed = Some(Instant::now());
                state.error = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn renew(&self, used: &Authorization) -> bool {
        let mut state = self.state.lock().await;
        let Some(current) = state.current.clone() else { return false };
        if current.generation != used.generation {
            return true;
        }
        if !state.may_renew() {
            return false;
        }
        state.renewed = Some(Instant::now());
        match self.read().await {
            Ok(header) if Some(&header) != current.header.as_ref() => {
                state.current = Some(Authorization { header: Some(header), generation: current.generation + 1 });
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(error, "credentials were not accepted, and the secret could not be read again");
                false
            }
        }
    }

    async fn read(&self) -> Result<HeaderValue, String> {
        let client = self.client.get_or_init(|| async { self.make_client().await }).await;
        let read = client.get_secret_value().secret_id(&self.arn).send().await;
        let secret = read.map_err(|error| {
            let detail = detail(&error);
            format!("reading the secret {} failed ({detail}); allow secretsmanager:GetSecretValue on it", self.arn)
        })?;
        let no_pair = || format!("the secret {} is not of the form {{\"username\":\"…\",\"password\":\"…\"}}", self.arn);
        let text = secret.secret_string().ok_or_else(no_pair)?;
        // The text of serde's error may repeat the secret.
        let pair: UserAndPassword = serde_json::from_str(text).map_err(|_| no_pair())?;
        Ok(basic(&pair.username, &pair.password))
    }

    async fn make_client(&self) -> Client {
        let config = aws_sdk_secretsmanager::config::Builder::from(self.aws.config().await)
            .timeout_config(TimeoutConfig::builder().operation_timeout(READ_TIME).build());
        Client::from_conf(config.build())
    }
}

/// What went wrong. The SDK's own way to show an error repeats the whole answer, and with it a secret that could not be read.
fn detail<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> String {
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        said.push(inner.to_string());
        cause = inner.source();
    }
    said.extend(error.message().map(str::to_owned));
    said.join(": ")
}

impl CachedSecret {
    fn may_renew(&self) -> bool {
        self.renewed.is_none_or(|renewed| renewed.elapsed() >= RENEWED_AT_MOST_EVERY)
    }
}

fn basic(user: &str, password: &SecretString) -> HeaderValue {
    let pair = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
    // Base64 is always a valid header value.
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}
