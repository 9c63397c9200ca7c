//! The rules: what is answered, when AWS is asked, and which list replaces which.
//!
//! A list is replaced only by a better one. What the store holds is believed if it is a list that the configuration allows;
//! otherwise AWS is asked, and if AWS fails too, the last good list that this process has seen is better than none.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::alert::{Alerts, Problem};
use crate::clock::Clock;
use crate::fleet::{Fleet, FleetError};
use crate::flight::{Flights, Need, TooSoon};
use crate::group::{Group, Groups, Key};
use crate::list::{Departure, List, Member, NoList, Refreshed, Source, describe, refreshed};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError, Stored};

/// Groups that are asked for at the same time: a start with many groups is no storm.
const AT_ONCE: usize = 2;

/// As often a refresh asks AWS again because another one was quicker.
const MOST_QUESTIONS: usize = 3;

/// As often a change is tried while others change the same list.
const MOST_CHANGES: usize = 50;

/// After a poll that failed, the next one comes no sooner.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Where lists do not become old, they are looked at once a day all the same: one may be gone.
const NEVER: Duration = Duration::from_hours(24);

/// The problems that a list which could be read puts an end to.
const STORE_PROBLEMS: &[Problem] = &[Problem::ListMissing, Problem::ListUnreadable, Problem::StoreFailed];

/// What the registry is made of.
#[derive(Debug)]
pub struct Parts<F> {
    /// The lists there are.
    pub groups: Groups,
    /// Where they are kept.
    pub store: Store,
    /// Who knows the servers.
    pub fleet: F,
    /// Who is told of problems.
    pub alerts: Alerts,
    /// What is counted.
    pub metrics: Metrics,
    /// The wall clock.
    pub clock: Clock,
    /// A list older than this is made anew; zero for never.
    pub poll: Duration,
    /// Where the randomness of the jitter begins.
    pub seed: u64,
}

/// The registry.
#[derive(Debug)]
pub struct Registry<F> {
    parts: Parts<F>,
    desks: HashMap<Key, Desk>,
    asking: Semaphore,
}

/// What a process knows of one list.
#[derive(Debug)]
struct Desk {
    flights: Flights<Result<Made, RefreshError>>,
    /// The last good list, for when the store fails.
    last_good: Mutex<Option<List>>,
    /// Changes of this process come one after the other instead of getting in each other's way.
    changing: tokio::sync::Mutex<()>,
}

/// A list that is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The list.
    pub list: List,
    /// Why it may be old.
    pub warning: Option<Warning>,
}

/// Why a list may be old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The store fails; the list is from this process's memory.
    StoreFailed,
    /// The store fails or has no list, and AWS fails too.
    RefreshFailed,
    /// It should have been made anew twice by now.
    Overdue,
}

/// A list that has been made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The list.
    pub list: List,
    /// Why it could not be kept, if it could not.
    pub not_kept: Option<StoreError>,
}

/// Why a list was not made anew. The old one stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// AWS fails.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// AWS answers, and no list can be made of it.
    #[error("{0}; the old list stays")]
    NoList(#[from] NoList),
    /// The list could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// AWS has failed so often lately that it is left alone for a while.
    #[error("AWS is not asked again for {} s after its failures", .0.as_secs())]
    TooSoon(Duration),
    /// Others changed the list all the time.
    #[error("the list changed at every attempt to replace it; try again")]
    Contended,
}

/// What became of an instance that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is out of the list, and stays so.
    Gone,
    /// It is the last one, and no other server is in service: the list stays as it is.
    LastServer,
}

/// What the store says of a list.
enum Known {
    Good(List),
    Missing,
    Unreadable(String),
}

impl<F: Fleet> Registry<F> {
    /// A registry that knows nothing yet.
    pub fn new(parts: Parts<F>) -> Self {
        let desk = |number: usize| Desk {
            flights: Flights::new(parts.seed.wrapping_add(number as u64)),
            last_good: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        };
        let desks = parts.groups.iter().enumerate().map(|(number, group)| (group.key.clone(), desk(number))).collect();
        Registry { parts, desks, asking: Semaphore::new(AT_ONCE) }
    }

    /// The lists there are.
    pub fn groups(&self) -> &Groups {
        &self.parts.groups
    }

    /// Who is told of problems.
    pub fn alerts(&self) -> &Alerts {
        &self.parts.alerts
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// The wall clock.
    pub fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// Who knows the servers.
    pub fn fleet(&self) -> &F {
        &self.parts.fleet
    }

    /// The list of a group. AWS is asked only where there is none.
    ///
    /// # Errors
    /// There is no list that can be read, AWS fails, and this process has never seen one.
    pub async fn lookup(&self, group: &Group) -> Result<Answer, RefreshError> {
        match self.known(group).await {
            Ok((stored, Known::Good(list))) => Ok(self.believe(group, stored, list).await),
            Ok((_, Known::Missing)) => {
                self.parts.alerts.raise(&group.key, Problem::ListMissing, "the store holds no list");
                self.fall_back(group, None).await
            }
            Ok((_, Known::Unreadable(what))) => {
                let what = format!("what the store holds is no list: {what}");
                self.parts.alerts.raise(&group.key, Problem::ListUnreadable, &what);
                self.fall_back(group, None).await
            }
            Err(error) => {
                self.parts.alerts.raise(&group.key, Problem::StoreFailed, &error.to_string());
                match self.last_good(group).filter(|list| !self.is_old(list, 1)) {
                    Some(list) => Ok(Answer { list, warning: Some(Warning::StoreFailed) }),
                    None => self.fall_back(group, Some(Warning::StoreFailed)).await,
                }
            }
        }
    }

    /// Makes a list anew from what AWS says now. Who comes while another question is under way shares the next answer.
    ///
    /// # Errors
    /// The old list stays, and a person is told.
    pub async fn update(&self, group: &Group, source: Source) -> Result<List, RefreshError> {
        let made = self.refresh(group, source, Need::News).await?;
        match made.not_kept {
            None => Ok(made.list),
            Some(error) => Err(RefreshError::Store(error)),
        }
    }

    /// Makes a list anew if it is old or not there, and says when to look again.
    pub async fn poll(&self, group: &Group) -> Duration {
        let left = match self.known(group).await {
            Ok((_, Known::Good(list))) => {
                self.remember(group, &list);
                self.parts.alerts.recover(&group.key, STORE_PROBLEMS);
                self.time_left(&list)
            }
            Ok(_) => Duration::ZERO,
            Err(error) => {
                self.parts.alerts.raise(&group.key, Problem::StoreFailed, &error.to_string());
                self.last_good(group).as_ref().map(|list| self.time_left(list)).unwrap_or_default()
            }
        };
        if !left.is_zero() {
            return left;
        }
        match self.refresh(group, Source::Poll, Need::Any).await {
            Ok(Made { list, not_kept: None }) => self.time_left(&list).max(AFTER_FAILURE.min(self.parts.poll)),
            _ if self.parts.poll.is_zero() => AFTER_FAILURE,
            _ => self.parts.poll.min(AFTER_FAILURE),
        }
    }

    /// Polls one group for ever. The jitter keeps registries that share a store from asking at the same moment: who comes second
    /// finds a new list.
    pub async fn keep_polling(&self, group: &Group) {
        let Some(desk) = self.desks.get(&group.key) else { return };
        loop {
            let wait = self.poll(group).await;
            sleep(wait + desk.flights.jitter(wait / 10)).await;
        }
    }

    /// Brings the metrics of all lists up to this moment.
    pub fn measure(&self) {
        for group in self.parts.groups.iter() {
            if let Some(list) = self.last_good(group) {
                self.parts.metrics.list(&group.key, &list, list.age_s(self.parts.clock.now()));
            }
        }
    }

    /// Whether an instance is in the list, as far as is known without asking AWS.
    pub async fn lists(&self, group: &Group, instance: &str) -> bool {
        matches!(self.known(group).await, Ok((_, Known::Good(list))) if list.instances.contains_key(instance))
    }

    /// Takes an instance out of the list and keeps it out for a while. AWS is asked only if nobody else would be left.
    ///
    /// # Errors
    /// The list could not be changed; a person is told.
    pub async fn leave(&self, group: &Group, instance: &str) -> Result<Left, RefreshError> {
        let now = self.parts.clock.now();
        let mut is_last = false;
        let change = |list: &List| match list.without(instance, now) {
            Departure::Next(next) => Some(next),
            Departure::Known => None,
            Departure::Last => {
                is_last = true;
                None
            }
        };
        self.change(group, change).await?;
        if !is_last {
            return Ok(Left::Gone);
        }
        // A successor may be in service already, of which no event has told yet.
        match self.update(group, Source::Lifecycle).await {
            Ok(list) if !list.instances.contains_key(instance) => Ok(Left::Gone),
            _ => {
                let what = format!("its last server, {instance}, is leaving");
                self.parts.alerts.raise(&group.key, Problem::LastServer, &what);
                Ok(Left::LastServer)
            }
        }
    }

    /// No longer keeps an instance out, and asks AWS for it if it is not in the list.
    ///
    /// # Errors
    /// The list could not be changed, or as [`Registry::update`].
    pub async fn come(&self, group: &Group, instance: &str) -> Result<(), RefreshError> {
        if self.lists(group, instance).await {
            return Ok(());
        }
        self.change(group, |list| list.readmitting(instance)).await?;
        self.update(group, Source::Lifecycle).await.map(|_| ())
    }

    /// Answers what the store holds, unless this process knows of something newer.
    async fn believe(&self, group: &Group, stored: Stored, list: List) -> Answer {
        self.parts.alerts.recover(&group.key, STORE_PROBLEMS);
        // The store was away while this list was made, or it has been set back.
        if let Some(newer) = self.last_good(group).filter(|known| is_newer(known, &list)) {
            // Should it fail again, the next look-up tries again.
            let _ = self.parts.store.replace(&group.key, &stored, &newer.encode()).await;
            return self.answer(newer);
        }
        self.remember(group, &list);
        self.answer(list)
    }

    fn answer(&self, list: List) -> Answer {
        let warning = self.is_old(&list, 2).then_some(Warning::Overdue);
        Answer { list, warning }
    }

    /// Answers what AWS says, or else the last good list.
    async fn fall_back(&self, group: &Group, warning: Option<Warning>) -> Result<Answer, RefreshError> {
        match self.refresh(group, Source::Fallback, Need::Any).await {
            Ok(made) => Ok(Answer { list: made.list, warning }),
            Err(error) => match self.last_good(group) {
                Some(list) => Ok(Answer { list, warning: Some(Warning::RefreshFailed) }),
                None => Err(error),
            },
        }
    }

    async fn refresh(&self, group: &Group, source: Source, need: Need) -> Result<Made, RefreshError> {
        let Some(desk) = self.desks.get(&group.key) else { return Err(RefreshError::Contended) };
        let question = async || {
            let made = self.make(group, source).await;
            self.report(group, source, &made);
            made
        };
        let failed = |made: &Result<Made, RefreshError>| matches!(made, Err(RefreshError::Fleet(_)));
        match desk.flights.ask(need, question, failed).await {
            Ok(made) => made,
            Err(TooSoon { wait }) => Err(RefreshError::TooSoon(wait)),
        }
    }

    /// Asks AWS and replaces the list, once. An answer is worth nothing any more if somebody else has made the list anew
    /// meanwhile: theirs may be the newer one. A lifecycle event meanwhile is heeded by what it has left in the list.
    async fn make(&self, group: &Group, source: Source) -> Result<Made, RefreshError> {
        let mut known = self.known(group).await;
        for _ in 0..MOST_QUESTIONS {
            let members = self.members(group).await?;
            for _ in 0..MOST_CHANGES {
                let next = self.next(group, &members, &known, source)?;
                let stored = match &known {
                    Ok((stored, _)) => stored,
                    Err(error) => return Ok(self.made(group, next, Some(error.clone()))),
                };
                match self.parts.store.replace(&group.key, stored, &next.encode()).await {
                    Ok(true) => return Ok(self.made(group, next, None)),
                    Ok(false) => known = self.known(group).await,
                    Err(error) => return Ok(self.made(group, next, Some(error))),
                }
                if !matches!(&known, Ok((_, Known::Good(list))) if list.source == Source::Lifecycle) {
                    break;
                }
            }
        }
        Err(RefreshError::Contended)
    }

    async fn members(&self, group: &Group) -> Result<Vec<Member>, FleetError> {
        // The semaphore is never closed; without a permit there would merely be no limit.
        let _permit = self.asking.acquire().await;
        self.parts.fleet.members(group).await
    }

    fn next(
        &self,
        group: &Group,
        members: &[Member],
        known: &Result<(Stored, Known), StoreError>,
        source: Source,
    ) -> Result<List, RefreshError> {
        let last_good = self.last_good(group);
        let floor = last_good.as_ref().map_or(0, |list| list.generation);
        let current = match known {
            Ok((_, Known::Good(list))) => Some(list),
            _ => last_good.as_ref(),
        };
        let Refreshed { list, foreign } = refreshed(group, members, current, floor, source, self.parts.clock.now())?;
        if foreign.is_empty() {
            self.parts.alerts.recover(&group.key, &[Problem::ForeignAddress]);
        } else {
            let what = format!("servers outside of the allowed ranges are left out ({})", describe(&foreign));
            self.parts.alerts.raise(&group.key, Problem::ForeignAddress, &what);
        }
        Ok(list)
    }

    fn made(&self, group: &Group, list: List, not_kept: Option<StoreError>) -> Made {
        self.remember(group, &list);
        Made { list, not_kept }
    }

    /// Tells of what became of an attempt to make a list anew.
    fn report(&self, group: &Group, source: Source, made: &Result<Made, RefreshError>) {
        let Key { region, dcid } = &group.key;
        let alerts = &self.parts.alerts;
        let result = match made {
            Ok(Made { list, not_kept: None }) => {
                alerts.recover(&group.key, &[Problem::AwsFailed, Problem::AnswerRefused, Problem::LastServer]);
                alerts.recover(&group.key, STORE_PROBLEMS);
                let (endpoints, generation) = (list.endpoints.len(), list.generation);
                tracing::info!(region, dcid, source = source.name(), endpoints, generation, "list updated");
                "updated"
            }
            Ok(Made { not_kept: Some(error), .. }) => {
                alerts.recover(&group.key, &[Problem::AwsFailed, Problem::AnswerRefused]);
                alerts.raise(&group.key, Problem::StoreFailed, &error.to_string());
                "not_kept"
            }
            Err(error @ RefreshError::NoList(_)) => {
                alerts.raise(&group.key, Problem::AnswerRefused, &error.to_string());
                "refused"
            }
            Err(error @ RefreshError::Fleet(_)) => {
                alerts.raise(&group.key, Problem::AwsFailed, &error.to_string());
                "failed"
            }
            Err(error) => {
                alerts.raise(&group.key, Problem::StoreFailed, &error.to_string());
                "failed"
            }
        };
        self.parts.metrics.refresh(source.name(), result);
    }

    /// Changes the list that is kept; `change` gives the next one, or none where nothing is to change. Without a list there is
    /// nothing to change.
    async fn change(&self, group: &Group, mut change: impl FnMut(&List) -> Option<List>) -> Result<(), RefreshError> {
        let Some(desk) = self.desks.get(&group.key) else { return Ok(()) };
        let _turn = desk.changing.lock().await;
        let changed = async {
            for _ in 0..MOST_CHANGES {
                let (stored, known) = self.known(group).await?;
                let Known::Good(list) = known else { return Ok(()) };
                let Some(next) = change(&list) else { return Ok(()) };
                if self.parts.store.replace(&group.key, &stored, &next.encode()).await? {
                    self.remember(group, &next);
                    return Ok(());
                }
            }
            Err(RefreshError::Contended)
        };
        changed.await.inspect_err(|error: &RefreshError| {
            self.parts.alerts.raise(&group.key, Problem::StoreFailed, &error.to_string());
        })
    }

    async fn known(&self, group: &Group) -> Result<(Stored, Known), StoreError> {
        let stored = self.parts.store.read(&group.key).await?;
        let known = match &stored {
            Stored::Absent => Known::Missing,
            Stored::Unreadable => Known::Unreadable("it is no text, or far too long".to_owned()),
            Stored::Value(value) => match List::decode(value, group) {
                Ok(list) => Known::Good(list),
                Err(what) => Known::Unreadable(what),
            },
        };
        Ok((stored, known))
    }

    fn last_good(&self, group: &Group) -> Option<List> {
        self.desks.get(&group.key)?.last_good.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a good list for bad times, unless a newer one is kept.
    fn remember(&self, group: &Group, list: &List) {
        let Some(desk) = self.desks.get(&group.key) else { return };
        let mut last_good = desk.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        if !last_good.as_ref().is_some_and(|known| is_newer(known, list)) {
            *last_good = Some(list.clone());
        }
    }

    /// How long a list is still new enough.
    fn time_left(&self, list: &List) -> Duration {
        if self.parts.poll.is_zero() {
            return NEVER;
        }
        self.parts.poll.saturating_sub(Duration::from_secs(list.age_s(self.parts.clock.now())))
    }

    /// Whether a list should have been made anew `times` times by now.
    fn is_old(&self, list: &List, times: u32) -> bool {
        let age = Duration::from_secs(list.age_s(self.parts.clock.now()));
        !self.parts.poll.is_zero() && age > self.parts.poll * times
    }
}

/// A store that was emptied begins at generation 1 again, so the generation alone does not say which list is newer.
fn is_newer(list: &List, other: &List) -> bool {
    list.generation > other.generation && list.updated_at > other.updated_at
}
