//! Alerts: sent when a problem is raised, hourly while it lasts, and when it recovers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::group::Key;
use crate::metrics::Metrics;

/// Time between two alerts about a problem that lasts.
const REMINDER_INTERVAL: Duration = Duration::from_hours(1);

/// Minimum time between two alerts about a problem that comes and goes. People who get an alert every few seconds stop reading them.
const QUIET_TIME: Duration = Duration::from_mins(10);

/// Maximum number of attempts to send an alert.
const MAX_ATTEMPTS: u32 = 3;

/// Time between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Time limit of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// A problem with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// The store contains no list.
    ListMissing,
    /// The store contains a value that is not a valid list.
    ListUnreadable,
    /// The store does not respond, or returns an error.
    StoreFailed,
    /// The store responds, but does not save a list.
    NotKept,
    /// AWS does not respond, or returns an error.
    AwsFailed,
    /// AWS responds, but no valid list can be made of the response.
    AnswerRefused,
    /// Some servers have addresses outside the allowed ranges.
    ForeignAddress,
    /// The last server of a list is leaving.
    LastServer,
}

impl Problem {
    /// Returns the name of the problem in alerts and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Problem::ListMissing => "list_missing",
            Problem::ListUnreadable => "list_unreadable",
            Problem::StoreFailed => "store_failed",
            Problem::NotKept => "not_kept",
            Problem::AwsFailed => "aws_failed",
            Problem::AnswerRefused => "answer_refused",
            Problem::ForeignAddress => "foreign_address",
            Problem::LastServer => "last_server",
        }
    }

    /// Returns `critical` if lists may be wrong or outdated, else `warning`.
    fn severity(self) -> &'static str {
        match self {
            Problem::ForeignAddress => "warning",
            _ => "critical",
        }
    }

    /// Returns what the registry does about the problem, and what a person has to do.
    fn remedy(self) -> &'static str {
        match self {
            Problem::ListMissing => "the registry fetches the list from AWS; find out what emptied the store",
            Problem::ListUnreadable => {
                "the registry fetches the list from AWS; find out what else writes to the store, or runs with other REGISTRY_GROUPS"
            }
            Problem::StoreFailed => "lists are served from memory and refreshed from AWS; restore the store",
            Problem::NotKept => {
                "each process keeps its own list in memory; make the store writable (disk, memory, access list, primary)"
            }
            Problem::AwsFailed => "the last good list stays in use; check the error and the AWS service health",
            Problem::AnswerRefused => "the last good list stays in use; check the Auto Scaling group and allowed_cidrs",
            Problem::ForeignAddress => "those servers get no logs; correct allowed_cidrs or the subnets of the group",
            Problem::LastServer => "the list stays as it is, so that clients keep retrying; start a server",
        }
    }
}

/// The stage of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The problem is new.
    Raised,
    /// The problem lasts, and an alert about it was sent before.
    Lasting,
    /// The problem is over.
    Recovered,
}

impl AlertState {
    fn name(self) -> &'static str {
        match self {
            AlertState::Raised => "raised",
            AlertState::Lasting => "lasting",
            AlertState::Recovered => "recovered",
        }
    }
}

/// The body of a webhook request, and of a message to the topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// One sentence, which chat programs show unchanged.
    pub text: String,
    /// The stage of the problem.
    pub state: AlertState,
    /// See [`Problem::name`].
    pub problem: &'static str,
    /// `critical` or `warning`.
    pub severity: &'static str,
    /// Region of the list.
    pub region: String,
    /// Data centre of the list.
    pub dcid: String,
    /// Time of the change.
    pub at: Timestamp,
}

/// A destination of alerts.
#[derive(Clone, Debug)]
pub enum Channel {
    /// An SNS topic, with a client for the topic's region.
    Topic {
        /// Client for the topic's region.
        client: aws_sdk_sns::Client,
        /// ARN of the topic.
        arn: String,
    },
    /// A URL that accepts JSON by POST. The URL often contains a secret.
    Webhook {
        /// HTTP client.
        client: reqwest::Client,
        /// URL of the webhook.
        url: SecretString,
    },
}

impl Channel {
    /// Returns the name of the channel in the log and in metrics.
    fn name(&self) -> &'static str {
        match self {
            Channel::Topic { .. } => "topic",
            Channel::Webhook { .. } => "webhook",
        }
    }

    async fn send(&self, alert: &Alert) -> Result<(), String> {
        match self {
            Channel::Topic { client, arn } => {
                let body = serde_json::to_string(alert).map_err(|error| error.to_string())?;
                let subject =
                    format!("Logstash registry: {} {} ({}:{})", alert.problem, alert.state.name(), alert.region, alert.dcid);
                // SNS accepts at most 100 characters.
                let subject: String = subject.chars().take(100).collect();
                let sent = client.publish().topic_arn(arn).subject(subject).message(body).send().await;
                sent.map(|_| ()).map_err(|error| elb_common::aws::explain_error(&error))
            }
            Channel::Webhook { client, url } => {
                let body = serde_json::to_string(alert).map_err(|error| error.to_string())?;
                let request = client.post(url.expose_secret()).header("content-type", "application/json").body(body);
                let response = request.send().await.map_err(|error| error.without_url().to_string())?;
                response.error_for_status().map(|_| ()).map_err(|error| error.without_url().to_string())
            }
        }
    }
}

/// Sends alerts, and limits how many. An alert about a lasting problem is repeated hourly. A problem that comes and goes causes at
/// most one alert in ten minutes, except [`Problem::LastServer`], which is always sent. The log and the metrics record every change.
#[derive(Debug)]
pub struct Alerts {
    channels: Vec<Channel>,
    metrics: Metrics,
    clock: Clock,
    problems: Mutex<Problems>,
    sending: TaskTracker,
}

impl Alerts {
    /// Creates alerts that are sent to all of `channels`.
    pub fn new(channels: Vec<Channel>, metrics: Metrics, clock: Clock) -> Self {
        Alerts { channels, metrics, clock, problems: Mutex::default(), sending: TaskTracker::new() }
    }

    /// Reports a problem. `description` is the part of the alert's sentence that says what happened.
    pub fn raise(&self, key: &Key, problem: Problem, description: &str) {
        let Some(notice) = self.problems().raise(key, problem, Instant::now()) else { return };
        let text = format!("The list {key}: {description}; {}.", problem.remedy());
        let (region, dcid, state) = (&key.region, &key.dcid, notice.state().name());
        match problem.severity() {
            "critical" => tracing::error!(region, dcid, problem = problem.name(), state, "{text}"),
            _ => tracing::warn!(region, dcid, problem = problem.name(), state, "{text}"),
        }
        self.notify(key, problem, notice, text);
    }

    /// Reports that these problems are over. Problems that were not reported before are ignored.
    pub fn recover(&self, key: &Key, problems: &[Problem]) {
        for problem in problems {
            let Some(notice) = self.problems().recover(key, *problem) else { continue };
            let text = format!("The list {key}: {} is over.", problem.name());
            let (region, dcid, state) = (&key.region, &key.dcid, notice.state().name());
            tracing::info!(region, dcid, problem = problem.name(), state, "{text}");
            self.notify(key, *problem, notice, text);
        }
    }

    /// Waits until every alert is sent or given up. A Lambda function waits before it responds, because Lambda stops the process
    /// between invocations.
    pub async fn flush(&self) {
        self.sending.close();
        self.sending.wait().await;
        self.sending.reopen();
    }

    fn notify(&self, key: &Key, problem: Problem, notice: Notice, text: String) {
        let state = notice.state();
        self.metrics.problem(problem.name(), key, state.name(), state != AlertState::Recovered);
        if let Notice::Log(_) = notice {
            return;
        }
        let Key { region, dcid } = key.clone();
        let (problem, severity) = (problem.name(), problem.severity());
        let alert = Arc::new(Alert { text, state, problem, severity, region, dcid, at: self.clock.now() });
        for channel in &self.channels {
            let (channel, alert, metrics) = (channel.clone(), Arc::clone(&alert), self.metrics.clone());
            self.sending.spawn(async move { send(&channel, &alert, &metrics).await });
        }
    }

    /// No code panics while it holds the lock.
    fn problems(&self) -> MutexGuard<'_, Problems> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(channel: &Channel, alert: &Alert, metrics: &Metrics) {
    let mut last_error = String::new();
    for attempt in 0..MAX_ATTEMPTS {
        if attempt > 0 {
            sleep(RETRY_INTERVAL).await;
        }
        match tokio::time::timeout(ATTEMPT_TIMEOUT, channel.send(alert)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => last_error = error,
            Err(_) => last_error = format!("no response within {} s", ATTEMPT_TIMEOUT.as_secs()),
        }
    }
    metrics.alert_lost(channel.name());
    tracing::error!(
        channel = channel.name(),
        problem = alert.problem,
        error = last_error,
        "cannot send an alert; check ALERT_TOPIC_ARN and ALERT_WEBHOOK_URL"
    );
}

/// Where a change of a problem is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// To the channels, the log and the metrics.
    Send(AlertState),
    /// To the log and the metrics only.
    Log(AlertState),
}

impl Notice {
    fn state(self) -> AlertState {
        match self {
            Notice::Send(state) | Notice::Log(state) => state,
        }
    }
}

/// The problems that exist or have existed.
#[derive(Debug, Default)]
struct Problems(HashMap<(Key, Problem), History>);

#[derive(Debug)]
struct History {
    phase: Phase,
    /// When the last alert about this problem was sent.
    sent_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The problem lasts, and an alert about it was sent.
    Sent,
    /// The problem lasts. No alert was sent, because the last one was too recent.
    Muted,
    /// The problem is over.
    Over,
}

impl Problems {
    /// Records that a problem exists, and returns where to report it. Returns `None` if nothing has changed.
    fn raise(&mut self, key: &Key, problem: Problem, now: Instant) -> Option<Notice> {
        let Some(history) = self.0.get_mut(&(key.clone(), problem)) else {
            self.0.insert((key.clone(), problem), History { phase: Phase::Sent, sent_at: now });
            return Some(Notice::Send(AlertState::Raised));
        };
        let silence = now.duration_since(history.sent_at);
        let may_send = silence >= QUIET_TIME || problem == Problem::LastServer;
        let notice = match history.phase {
            Phase::Sent if silence >= REMINDER_INTERVAL => Notice::Send(AlertState::Lasting),
            Phase::Muted | Phase::Over if may_send => Notice::Send(AlertState::Raised),
            Phase::Over => Notice::Log(AlertState::Raised),
            Phase::Sent | Phase::Muted => return None,
        };
        *history = match notice {
            Notice::Send(_) => History { phase: Phase::Sent, sent_at: now },
            Notice::Log(_) => History { phase: Phase::Muted, sent_at: history.sent_at },
        };
        Some(notice)
    }

    /// Records that a problem is over, and returns where to report it. Returns `None` if the problem did not exist.
    fn recover(&mut self, key: &Key, problem: Problem) -> Option<Notice> {
        if self.0.is_empty() {
            return None;
        }
        let history = self.0.get_mut(&(key.clone(), problem))?;
        let notice = match history.phase {
            Phase::Sent => Notice::Send(AlertState::Recovered),
            Phase::Muted => Notice::Log(AlertState::Recovered),
            Phase::Over => return None,
        };
        history.phase = Phase::Over;
        Some(notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dcid: &str) -> Key {
        Key { region: "eu-west-1".to_owned(), dcid: dcid.to_owned() }
    }

    fn sent(state: AlertState) -> Option<Notice> {
        Some(Notice::Send(state))
    }

    fn logged(state: AlertState) -> Option<Notice> {
        Some(Notice::Log(state))
    }

    #[tokio::test(start_paused = true)]
    async fn alerts_once_then_hourly_and_on_recovery() {
        let (mut problems, key) = (Problems::default(), key("eu1"));
        assert_eq!(problems.recover(&key, Problem::AwsFailed), None);
        assert_eq!(problems.raise(&key, Problem::AwsFailed, Instant::now()), sent(AlertState::Raised));
        assert_eq!(problems.raise(&key, Problem::AwsFailed, Instant::now()), None);
        assert_eq!(problems.raise(&self::key("eu2"), Problem::AwsFailed, Instant::now()), sent(AlertState::Raised));
        assert_eq!(problems.raise(&key, Problem::StoreFailed, Instant::now()), sent(AlertState::Raised));
        tokio::time::advance(REMINDER_INTERVAL).await;
        assert_eq!(problems.raise(&key, Problem::AwsFailed, Instant::now()), sent(AlertState::Lasting));
        assert_eq!(problems.recover(&key, Problem::AwsFailed), sent(AlertState::Recovered));
        assert_eq!(problems.recover(&key, Problem::AwsFailed), None);
        tokio::time::advance(QUIET_TIME).await;
        assert_eq!(problems.raise(&key, Problem::AwsFailed, Instant::now()), sent(AlertState::Raised));
    }

    #[tokio::test(start_paused = true)]
    async fn limits_alerts_about_a_problem_that_comes_and_goes() {
        let (mut problems, key) = (Problems::default(), key("eu1"));
        assert_eq!(problems.raise(&key, Problem::StoreFailed, Instant::now()), sent(AlertState::Raised));
        assert_eq!(problems.recover(&key, Problem::StoreFailed), sent(AlertState::Recovered));
        for _ in 0..100 {
            assert_eq!(problems.raise(&key, Problem::StoreFailed, Instant::now()), logged(AlertState::Raised));
            assert_eq!(problems.recover(&key, Problem::StoreFailed), logged(AlertState::Recovered));
        }
        assert_eq!(problems.raise(&key, Problem::StoreFailed, Instant::now()), logged(AlertState::Raised));
        assert_eq!(problems.raise(&key, Problem::StoreFailed, Instant::now()), None);
        tokio::time::advance(QUIET_TIME).await;
        assert_eq!(problems.raise(&key, Problem::StoreFailed, Instant::now()), sent(AlertState::Raised), "the problem lasts now");
        assert_eq!(problems.raise(&key, Problem::StoreFailed, Instant::now()), None);
        assert_eq!(problems.recover(&key, Problem::StoreFailed), sent(AlertState::Recovered));
        for _ in 0..2 {
            assert_eq!(problems.raise(&key, Problem::LastServer, Instant::now()), sent(AlertState::Raised));
            assert_eq!(problems.recover(&key, Problem::LastServer), sent(AlertState::Recovered));
        }
    }
}
