//! Alerts: a person is told once when a problem appears, again while it lasts, and when it is over.

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

/// While a problem lasts, it is told again after this.
const REMINDER: Duration = Duration::from_hours(1);

/// A problem that comes back sooner than this after it was told is not told again, nor is that it is over: who is called every
/// few seconds stops listening.
const QUIET: Duration = Duration::from_mins(10);

/// An alert is tried as often.
const TRIES: u32 = 3;

/// Between two tries of an alert.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// One try takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can go wrong with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// The store holds no list.
    ListMissing,
    /// The store holds something that is no list.
    ListUnreadable,
    /// The store does not answer or refuses.
    StoreFailed,
    /// The store answers, and does not take a list.
    NotKept,
    /// AWS does not answer or refuses.
    AwsFailed,
    /// AWS answers, and no list can be made of it.
    AnswerRefused,
    /// Some servers are where none may be.
    ForeignAddress,
    /// The last server of a list is leaving.
    LastServer,
}

impl Problem {
    /// As it is written in alerts and metrics.
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

    /// `critical` where lists are no longer what they should be.
    fn severity(self) -> &'static str {
        match self {
            Problem::ForeignAddress => "warning",
            _ => "critical",
        }
    }

    /// What a person does about it.
    fn remedy(self) -> &'static str {
        match self {
            Problem::ListMissing => "the list is made anew from AWS; find out who emptied the store",
            Problem::ListUnreadable => {
                "the list is made anew from AWS; find out who else writes to the store, or has another REGISTRY_GROUPS"
            }
            Problem::StoreFailed => "lists are served from memory and kept up by AWS; bring the store back",
            Problem::NotKept => {
                "each process keeps its own list in memory; let the store take writes (disk, memory, access list, primary)"
            }
            Problem::AwsFailed => "the last good list stays; look at the error and at AWS's service health",
            Problem::AnswerRefused => "the last good list stays; look at the autoscaling group and at allowed_cidrs",
            Problem::ForeignAddress => "those servers get no logs; mend allowed_cidrs or the group's subnets",
            Problem::LastServer => "the list stays as it is, so that clients keep trying; bring up a server",
        }
    }
}

/// Whether a problem has appeared, lasts, or is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is new.
    Raised,
    /// It has been told before.
    Lasting,
    /// It is over.
    Recovered,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Raised => "raised",
            State::Lasting => "lasting",
            State::Recovered => "recovered",
        }
    }
}

/// What is sent: the body of a webhook, and of a message to the topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// One sentence, which chat programs show as it is.
    pub text: String,
    /// Whether it has appeared, lasts, or is over.
    pub state: State,
    /// See [`Problem::name`].
    pub problem: &'static str,
    /// `critical` or `warning`.
    pub severity: &'static str,
    /// The list's region.
    pub region: String,
    /// The list's data centre.
    pub dcid: String,
    /// When.
    pub at: Timestamp,
}

/// A place that alerts are sent to.
#[derive(Clone, Debug)]
pub enum Channel {
    /// An SNS topic, through a client of its region.
    Topic {
        /// The client.
        client: aws_sdk_sns::Client,
        /// The topic's ARN.
        arn: String,
    },
    /// A URL that takes JSON by POST. It often holds a secret.
    Webhook {
        /// The client.
        client: reqwest::Client,
        /// Where to.
        url: SecretString,
    },
}

impl Channel {
    /// As it is written in the log and in metrics.
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
                // SNS takes at most 100 characters.
                let subject: String = subject.chars().take(100).collect();
                let sent = client.publish().topic_arn(arn).subject(subject).message(body).send().await;
                sent.map(|_| ()).map_err(|error| aws_sdk_sns::error::DisplayErrorContext(error).to_string())
            }
            Channel::Webhook { client, url } => {
                let body = serde_json::to_string(alert).map_err(|error| error.to_string())?;
                let request = client.post(url.expose_secret()).header("content-type", "application/json").body(body);
                let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
                answer.error_for_status().map(|_| ()).map_err(|error| error.without_url().to_string())
            }
        }
    }
}

/// Tells people of problems. One that is told already is not told again for an hour, whatever happens how often, and one that
/// comes and goes every ten minutes at most, but for the last server, which is told each time. The log and the metrics have all.
#[derive(Debug)]
pub struct Alerts {
    channels: Vec<Channel>,
    metrics: Metrics,
    clock: Clock,
    board: Mutex<Board>,
    sending: TaskTracker,
}

impl Alerts {
    /// Alerts go to all of `channels`, and always into the log and the metrics.
    pub fn new(channels: Vec<Channel>, metrics: Metrics, clock: Clock) -> Self {
        Alerts { channels, metrics, clock, board: Mutex::default(), sending: TaskTracker::new() }
    }

    /// There is a problem. `what` tells it in words.
    pub fn raise(&self, key: &Key, problem: Problem, what: &str) {
        let Some(change) = self.board().raise(key, problem, Instant::now()) else { return };
        let text = format!("The list {key}: {what}; {}.", problem.remedy());
        let (region, dcid, state) = (&key.region, &key.dcid, change.state.name());
        match problem.severity() {
            "critical" => tracing::error!(region, dcid, problem = problem.name(), state, "{text}"),
            _ => tracing::warn!(region, dcid, problem = problem.name(), state, "{text}"),
        }
        self.tell(key, problem, change, text);
    }

    /// These problems are over, if they were there.
    pub fn recover(&self, key: &Key, problems: &[Problem]) {
        for problem in problems {
            let Some(change) = self.board().recover(key, *problem) else { continue };
            let text = format!("The list {key}: {} is over.", problem.name());
            let (region, dcid, state) = (&key.region, &key.dcid, change.state.name());
            tracing::info!(region, dcid, problem = problem.name(), state, "{text}");
            self.tell(key, *problem, change, text);
        }
    }

    /// Waits until everything is sent or given up. A function has to before it answers, because it stands still afterwards.
    pub async fn flush(&self) {
        self.sending.close();
        self.sending.wait().await;
        self.sending.reopen();
    }

    fn tell(&self, key: &Key, problem: Problem, change: Change, text: String) {
        let Change { state, is_told } = change;
        self.metrics.problem(problem.name(), key, state.name(), state != State::Recovered);
        if !is_told {
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

    /// Nothing that holds the lock can panic.
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(channel: &Channel, alert: &Alert, metrics: &Metrics) {
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            sleep(BETWEEN_TRIES).await;
        }
        match tokio::time::timeout(PATIENCE, channel.send(alert)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => last = error,
            Err(_) => last = format!("no answer within {} s", PATIENCE.as_secs()),
        }
    }
    metrics.alert_lost(channel.name());
    tracing::error!(
        channel = channel.name(),
        problem = alert.problem,
        error = last,
        "an alert reached nobody; see ALERT_TOPIC_ARN and ALERT_WEBHOOK_URL"
    );
}

/// What has become of a problem, and whether people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    state: State,
    is_told: bool,
}

/// The problems there are or have been.
#[derive(Debug, Default)]
struct Board(HashMap<(Key, Problem), Post>);

#[derive(Debug)]
struct Post {
    lasts: bool,
    /// Whether this time has been told.
    is_told: bool,
    /// When any time was told last.
    told_at: Instant,
}

impl Board {
    /// What has changed, if anything.
    fn raise(&mut self, key: &Key, problem: Problem, now: Instant) -> Option<Change> {
        let Some(post) = self.0.get_mut(&(key.clone(), problem)) else {
            self.0.insert((key.clone(), problem), Post { lasts: true, is_told: true, told_at: now });
            return Some(Change { state: State::Raised, is_told: true });
        };
        let silence = now.duration_since(post.told_at);
        let state = if post.lasts && post.is_told { State::Lasting } else { State::Raised };
        let is_told = match state {
            State::Lasting => silence >= REMINDER,
            _ => silence >= QUIET || problem == Problem::LastServer,
        };
        if post.lasts && !is_told {
            return None;
        }
        *post = Post { lasts: true, is_told, told_at: if is_told { now } else { post.told_at } };
        Some(Change { state, is_told })
    }

    /// What has changed, if it was there.
    fn recover(&mut self, key: &Key, problem: Problem) -> Option<Change> {
        if self.0.is_empty() {
            return None;
        }
        let post = self.0.get_mut(&(key.clone(), problem)).filter(|post| post.lasts)?;
        post.lasts = false;
        Some(Change { state: State::Recovered, is_told: post.is_told })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dcid: &str) -> Key {
        Key { region: "eu-west-1".to_owned(), dcid: dcid.to_owned() }
    }

    fn told(state: State) -> Option<Change> {
        Some(Change { state, is_told: true })
    }

    fn silent(state: State) -> Option<Change> {
        Some(Change { state, is_told: false })
    }

    #[tokio::test(start_paused = true)]
    async fn a_problem_is_told_once_then_every_hour_and_when_it_is_over() {
        let (mut board, key) = (Board::default(), key("eu1"));
        assert_eq!(board.recover(&key, Problem::AwsFailed), None);
        assert_eq!(board.raise(&key, Problem::AwsFailed, Instant::now()), told(State::Raised));
        assert_eq!(board.raise(&key, Problem::AwsFailed, Instant::now()), None);
        assert_eq!(board.raise(&self::key("eu2"), Problem::AwsFailed, Instant::now()), told(State::Raised));
        assert_eq!(board.raise(&key, Problem::StoreFailed, Instant::now()), told(State::Raised));
        tokio::time::advance(REMINDER).await;
        assert_eq!(board.raise(&key, Problem::AwsFailed, Instant::now()), told(State::Lasting));
        assert_eq!(board.recover(&key, Problem::AwsFailed), told(State::Recovered));
        assert_eq!(board.recover(&key, Problem::AwsFailed), None);
        tokio::time::advance(QUIET).await;
        assert_eq!(board.raise(&key, Problem::AwsFailed, Instant::now()), told(State::Raised));
    }

    #[tokio::test(start_paused = true)]
    async fn a_problem_that_comes_and_goes_is_told_every_ten_minutes_at_most() {
        let (mut board, key) = (Board::default(), key("eu1"));
        assert_eq!(board.raise(&key, Problem::StoreFailed, Instant::now()), told(State::Raised));
        assert_eq!(board.recover(&key, Problem::StoreFailed), told(State::Recovered));
        for _ in 0..100 {
            assert_eq!(board.raise(&key, Problem::StoreFailed, Instant::now()), silent(State::Raised));
            assert_eq!(board.recover(&key, Problem::StoreFailed), silent(State::Recovered));
        }
        assert_eq!(board.raise(&key, Problem::StoreFailed, Instant::now()), silent(State::Raised));
        assert_eq!(board.raise(&key, Problem::StoreFailed, Instant::now()), None);
        tokio::time::advance(QUIET).await;
        assert_eq!(board.raise(&key, Problem::StoreFailed, Instant::now()), told(State::Raised), "now it lasts");
        assert_eq!(board.raise(&key, Problem::StoreFailed, Instant::now()), None);
        assert_eq!(board.recover(&key, Problem::StoreFailed), told(State::Recovered));
        for _ in 0..2 {
            assert_eq!(board.raise(&key, Problem::LastServer, Instant::now()), told(State::Raised));
            assert_eq!(board.recover(&key, Problem::LastServer), told(State::Recovered));
        }
    }
}
