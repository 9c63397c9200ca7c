//! Credentials for Logstash: configured, or read from AWS Secrets Manager.

use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use elb_common::aws::{AwsConfig, explain_error};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

/// Minimum time between two reads of a secret. Each read costs money, and a wrong password would cause many.
const RENEWAL_INTERVAL: Duration = Duration::from_mins(1);

/// Timeout for reading a secret, including retries.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the user and the password come from.
#[derive(Debug)]
pub enum Credentials {
    /// No credentials.
    None,
    /// `LOGSTASH_USER` and `LOGSTASH_PASSWORD`, as the value of the header `Authorization`.
    Basic(HeaderValue),
    /// `LOGSTASH_SECRET_ARN`
    Secret(Box<Secret>),
}

/// A secret in AWS Secrets Manager. It is read when it is first needed.
#[derive(Debug)]
pub struct Secret {
    aws: AwsConfig,
    arn: String,
    client: OnceCell<Client>,
    cache: Mutex<CachedSecret>,
}

/// What a request authenticates with.
#[derive(Clone, Debug, Default)]
pub(super) struct Authorization {
    /// The value of the header `Authorization`.
    pub header: Option<HeaderValue>,
    /// Number of the secret's value that the header was made from, from 1; 0 if there is no secret.
    pub generation: u64,
}

#[derive(Debug, Default)]
struct CachedSecret {
    current: Option<Authorization>,
    /// When the secret was last read again, or could not be read.
    renewed: Option<Instant>,
    /// Why the secret could not be read.
    error: Option<String>,
}

/// The result of reading the credentials again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// There are other credentials.
    Changed,
    /// There are no other credentials.
    Unchanged,
    /// They were read recently, and may be read again after this time.
    TooEarly(Duration),
}

/// The format in which AWS's own tools store a user and a password.
#[derive(Deserialize)]
struct UserAndPassword {
    username: String,
    password: SecretString,
}

impl Credentials {
    /// Creates credentials for basic authentication.
    pub(crate) fn basic(user: &str, password: &SecretString) -> Self {
        Credentials::Basic(basic(user, password))
    }

    /// Creates credentials that are read from the secret `arn`.
    pub fn secret(aws: AwsConfig, arn: String) -> Self {
        Credentials::Secret(Box::new(Secret { aws, arn, client: OnceCell::new(), cache: Mutex::default() }))
    }

    /// Returns what a request authenticates with.
    ///
    /// # Errors
    /// The secret cannot be read, or does not contain a user and a password.
    pub(super) async fn authorization(&self) -> Result<Authorization, String> {
        match self {
            Credentials::None => Ok(Authorization::default()),
            Credentials::Basic(header) => Ok(Authorization { header: Some(header.clone()), generation: 0 }),
            Credentials::Secret(secret) => secret.authorization().await,
        }
    }

    /// Reads the secret again after `used` was refused.
    pub(super) async fn renew(&self, used: &Authorization) -> Renewal {
        match self {
            Credentials::None | Credentials::Basic(_) => Renewal::Unchanged,
            Credentials::Secret(secret) => secret.renew(used).await,
        }
    }
}

impl Secret {
    async fn authorization(&self) -> Result<Authorization, String> {
        let mut cache = self.cache.lock().await;
        if let Some(current) = &cache.current {
            return Ok(current.clone());
        }
        if let Some(error) = &cache.error
            && !cache.time_to_renewal().is_zero()
        {
            return Err(error.clone());
        }
        match self.read().await {
            Ok(header) => {
                let first = Authorization { header: Some(header), generation: 1 };
                cache.current = Some(first.clone());
                Ok(first)
            }
            Err(error) => {
                cache.renewed = Some(Instant::now());
                cache.error = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn renew(&self, used: &Authorization) -> Renewal {
        let mut cache = self.cache.lock().await;
        let Some(current) = cache.current.clone() else { return Renewal::Unchanged };
        if current.generation != used.generation {
            return Renewal::Changed;
        }
        let wait = cache.time_to_renewal();
        if !wait.is_zero() {
            return Renewal::TooEarly(wait);
        }
        cache.renewed = Some(Instant::now());
        match self.read().await {
            Ok(header) if Some(&header) != current.header.as_ref() => {
                cache.current = Some(Authorization { header: Some(header), generation: current.generation + 1 });
                Renewal::Changed
            }
            Ok(_) => Renewal::Unchanged,
            Err(error) => {
                tracing::warn!(error, "Logstash refused the credentials, and the secret could not be read again");
                Renewal::Unchanged
            }
        }
    }

    async fn read(&self) -> Result<HeaderValue, String> {
        let client = self.client.get_or_init(|| async { self.make_client().await }).await;
        let read = client.get_secret_value().secret_id(&self.arn).send().await;
        let secret = read.map_err(|error| {
            let detail = explain_error(&error);
            format!("cannot read the secret {}: {detail}; allow secretsmanager:GetSecretValue on it", self.arn)
        })?;
        let invalid = || format!("cannot use the secret {}: it is not {{\"username\":\"…\",\"password\":\"…\"}}", self.arn);
        let text = secret.secret_string().ok_or_else(invalid)?;
        // Serde's error message may contain the secret.
        let pair: UserAndPassword = serde_json::from_str(text).map_err(|_| invalid())?;
        Ok(basic(&pair.username, &pair.password))
    }

    async fn make_client(&self) -> Client {
        let config = aws_sdk_secretsmanager::config::Builder::from(self.aws.config().await)
            .timeout_config(TimeoutConfig::builder().operation_timeout(READ_TIMEOUT).build());
        Client::from_conf(config.build())
    }
}

impl CachedSecret {
    /// Returns the time until the secret may be read again.
    fn time_to_renewal(&self) -> Duration {
        self.renewed.map_or(Duration::ZERO, |renewed| RENEWAL_INTERVAL.saturating_sub(renewed.elapsed()))
    }
}

fn basic(user: &str, password: &SecretString) -> HeaderValue {
    let pair = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
    // Base64 is always a valid header value.
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}
