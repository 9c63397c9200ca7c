//! The rules: what is answered, when AWS is asked, and which list replaces which.
//!
//! A list is replaced only by a better one. What the store holds is believed if it is a list that the configuration allows;
//! otherwise AWS is asked, and if AWS fails too, the last good list that this process has seen is better than none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::alert::{Alerts, Problem};
use crate::clock::Clock;
use crate::fleet::{Fleet, FleetError};
use crate::flight::{Flights, Need, TooSoon};
use crate::group::{Group, Groups, Key};
use crate::list::{Departure, List, NoList, Refreshed, Roll, Source, describe, refreshed};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError, Stored};

/// Groups that are asked for at the same time: a start with many groups is no storm.
const AT_ONCE: usize = 2;

/// As often a refresh asks AWS again because another one was quicker.
const MOST_QUESTIONS: usize = 3;

/// As often a change is tried while others change the same list.
const MOST_CHANGES: usize = 50;

/// As often the list is asked for again of which AWS does not show a server that it has just announced.
const MOST_LOOKS: usize = 2;

/// Who looks up a list that this process knows waits no longer for AWS to give a newer one.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(1);

/// Of all that share a store, one asks for a list at a time. Whoever is gone before its answer had the turn for this long.
const LONGEST_TURN: Duration = Duration::from_secs(30);

/// After an answer nobody has the turn for this long.
const AFTER_ANSWER: Duration = Duration::from_secs(2);

/// After a failure nobody has the turn for this long, so that a throttled AWS is not asked by one process after the other.
const AFTER_QUESTION_FAILED: Duration = Duration::from_secs(4);

/// While another has the turn, its answer is looked for this often, before jitter.
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// After as many looks, 15 to 30 s, there is no answer.
const MOST_LOOKS_FOR_AN_ANSWER: usize = 50;

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
    /// Questions that are under way, whether or not somebody still waits for them.
    questions: TaskTracker,
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
    /// What became of it.
    pub kept: Kept,
}

/// What became of a list that has been made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is in the store.
    Stored,
    /// It was in the store already: another process has asked AWS meanwhile.
    Shared,
    /// It is in this process's memory only.
    Not(RefreshError),
}

/// Why a list was not made anew, or not kept. The one in the store stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// AWS fails.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// AWS answers, and no list can be made of it.
    #[error("{0}; the old list stays")]
    NoList(#[from] NoList),
    /// The store fails.
    #[error("{0}")]
    Store(StoreError),
    /// The store answers, and did not take the list.
    #[error("the list was not kept: {0}")]
    NotKept(StoreError),
    /// There were so many failures lately that AWS is left alone for a while.
    #[error("AWS is not asked again for {} s after failures", .0.as_secs())]
    TooSoon(Duration),
    /// Another process asks AWS, and has no answer.
    #[error("another registry is asking AWS and has no answer yet; try again")]
    Busy,
    /// Others changed the list all the time.
    #[error("the list changed at every attempt to replace it; try again")]
    Contended,
}

/// What became of an instance that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is out of the list, and stays so.
    Gone,
    /// It is the last one, as far as is known: the list stays as it is.
    LastServer,
}

/// What became of an instance that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is in the list, or has left again.
    Listed,
    /// AWS does not show it in service yet, or it has no address that is allowed.
    NotYet,
}

/// Whose turn it was to ask AWS.
enum Turn<'a> {
    /// This process's, which asks now.
    Mine(Option<SemaphorePermit<'a>>),
    /// Another's, and this is its answer.
    Theirs(List),
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
        Registry { parts, desks, asking: Semaphore::new(AT_ONCE), questions: TaskTracker::new() }
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
    pub async fn lookup(self: &Arc<Self>, group: &Group) -> Result<Answer, RefreshError> {
        match self.known(group).await {
            Ok((stored, Known::Good(list))) => Ok(self.answer(self.believe(group, &stored, list).await)),
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
    /// The list in the store stays as it is, and a person is told.
    pub async fn update(self: &Arc<Self>, group: &Group, source: Source) -> Result<List, RefreshError> {
        let made = self.refresh(group, source, Need::News).await?;
        match made.kept {
            Kept::Stored | Kept::Shared => Ok(made.list),
            Kept::Not(error) => Err(error),
        }
    }

    /// Makes a list anew if it is not there, or old, or will be within `early`; and says when to look again.
    ///
    /// # Errors
    /// As [`Registry::update`].
    pub async fn poll(self: &Arc<Self>, group: &Group, early: Duration) -> Result<Duration, RefreshError> {
        let left = match self.known(group).await {
            Ok((stored, Known::Good(list))) => self.time_left(&self.believe(group, &stored, list).await),
            Ok(_) => Duration::ZERO,
            Err(error) => {
                self.parts.alerts.raise(&group.key, Problem::StoreFailed, &error.to_string());
                self.last_good(group).as_ref().map(|list| self.time_left(list)).unwrap_or_default()
            }
        };
        if left > early {
            return Ok(left);
        }
        match self.refresh(group, Source::Poll, Need::Any).await? {
            Made { kept: Kept::Not(error), .. } => Err(error),
            Made { list, .. } => Ok(self.time_left(&list)),
        }
    }

    /// Polls one group for ever. The jitter keeps registries that share a store from asking at the same moment: who comes second
    /// finds a new list.
    pub async fn keep_polling(self: &Arc<Self>, group: &Group) {
        let Some(desk) = self.desks.get(&group.key) else { return };
        let soonest = if self.parts.poll.is_zero() { AFTER_FAILURE } else { AFTER_FAILURE.min(self.parts.poll) };
        loop {
            let wait = self.poll(group, Duration::ZERO).await.unwrap_or_default().max(soonest);
            sleep(wait + desk.flights.jitter(wait / 10)).await;
        }
    }

    /// Waits until no question is under way and no alert on its way: a function stands still once it has answered.
    pub async fn settle(&self) {
        self.questions.close();
        self.questions.wait().await;
        self.questions.reopen();
        self.parts.alerts.flush().await;
    }

    /// Brings the metrics of all lists up to this moment.
    pub fn measure(&self) {
        for group in self.parts.groups.iter() {
            if let Some(list) = self.last_good(group) {
                self.parts.metrics.list(&group.key, &list, list.age_s(self.parts.clock.now()));
            }
        }
    }

    /// Takes an instance out of the list and keeps it out for a while. AWS is asked only if nobody else would be left, or if it is
    /// not known who is behind which endpoint.
    ///
    /// # Errors
    /// The list could not be changed; a person is told.
    pub async fn leave(self: &Arc<Self>, group: &Group, instance: &str) -> Result<Left, RefreshError> {
        if !self.names_instances(group).await {
            match self.update(group, Source::Lifecycle).await {
                Err(RefreshError::NoList(_)) => return Ok(self.last_one(group, instance)),
                other => _ = other?,
            }
        }
        if self.take_out(group, instance).await? == Left::Gone {
            return Ok(Left::Gone);
        }
        // A successor may be in service already, of which no event has told yet.
        match self.update(group, Source::Lifecycle).await {
            Ok(_) => Ok(Left::Gone),
            Err(RefreshError::NoList(_)) => Ok(self.last_one(group, instance)),
            Err(error) => Err(error),
        }
    }

    async fn take_out(&self, group: &Group, instance: &str) -> Result<Left, RefreshError> {
        let now = self.parts.clock.now();
        let mut left = Left::Gone;
        // Asked again where somebody else has changed the list: it may be the last one no longer.
        let change = |list: &List| {
            let departure = list.without(instance, now);
            left = if matches!(departure, Departure::Last(_)) { Left::LastServer } else { Left::Gone };
            match departure {
                Departure::Next(next) => Some(next),
                Departure::Known => None,
                Departure::Last(next) => (next != *list).then_some(next),
            }
        };
        self.change(group, change).await?;
        Ok(left)
    }

    /// No longer keeps an instance out, and asks AWS for it if it is not in the list.
    ///
    /// # Errors
    /// The list could not be changed, or as [`Registry::update`].
    pub async fn come(self: &Arc<Self>, group: &Group, instance: &str) -> Result<Came, RefreshError> {
        if matches!(self.known(group).await, Ok((_, Known::Good(list))) if list.lists(instance)) {
            return Ok(Came::Listed);
        }
        self.change(group, |list| list.readmitting(instance)).await?;
        for _ in 0..MOST_LOOKS {
            match self.update(group, Source::Lifecycle).await {
                // It may have left again meanwhile.
                Ok(list) if list.instances.contains_key(instance) || list.departed.contains_key(instance) => {
                    return Ok(Came::Listed);
                }
                Ok(_) | Err(RefreshError::NoList(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Came::NotYet)
    }

    fn last_one(&self, group: &Group, instance: &str) -> Left {
        let what = format!("its last server, {instance}, is leaving");
        self.parts.alerts.raise(&group.key, Problem::LastServer, &what);
        Left::LastServer
    }

    /// Whether an instance can leave without a question to AWS. Where the store fails, it cannot leave anyway.
    async fn names_instances(&self, group: &Group) -> bool {
        match self.known(group).await {
            Ok((_, Known::Good(list))) => !list.instances.is_empty(),
            Ok(_) => false,
            Err(_) => true,
        }
    }

    /// What the store holds, unless this process knows of something newer.
    async fn believe(&self, group: &Group, stored: &Stored, list: List) -> List {
        self.parts.alerts.recover(&group.key, STORE_PROBLEMS);
        let Some(newer) = self.last_good(group).filter(|known| is_newer(known, &list)) else {
            self.remember(group, &list);
            return list;
        };
        // The store was away or took nothing while this list was made, or it has been set back.
        match self.parts.store.replace(&group.key, stored, &newer.encode()).await {
            Ok(_) => self.parts.alerts.recover(&group.key, &[Problem::NotKept]),
            Err(error) => self.parts.alerts.raise(&group.key, Problem::NotKept, &error.to_string()),
        }
        newer
    }

    fn answer(&self, list: List) -> Answer {
        let warning = self.is_old(&list, 2).then_some(Warning::Overdue);
        Answer { list, warning }
    }

    /// Answers what AWS says, or else the last good list: at once if AWS fails, and soon if it does not answer.
    async fn fall_back(self: &Arc<Self>, group: &Group, warning: Option<Warning>) -> Result<Answer, RefreshError> {
        let refreshed = self.refresh(group, Source::Fallback, Need::Any);
        let Some(last_good) = self.last_good(group) else {
            return refreshed.await.map(|made| Answer { list: made.list, warning });
        };
        match timeout(LOOKUP_PATIENCE, refreshed).await {
            Ok(Ok(made)) => Ok(Answer { list: made.list, warning }),
            _ => Ok(Answer { list: last_good, warning: Some(Warning::RefreshFailed) }),
        }
    }

    /// Asks AWS, or shares the answer to somebody else's question. Once it is asked, the question is seen to its end even if nobody
    /// waits for it any more: otherwise clients that lose their patience would have a slow AWS asked without a pause.
    async fn refresh(self: &Arc<Self>, group: &Group, source: Source, need: Need) -> Result<Made, RefreshError> {
        let (registry, group) = (Arc::clone(self), group.clone());
        let question = self.questions.spawn(async move { registry.ask(&group, source, need).await });
        // A question ends early only with the program.
        question.await.unwrap_or(Err(RefreshError::Contended))
    }

    async fn ask(&self, group: &Group, source: Source, need: Need) -> Result<Made, RefreshError> {
        let Some(desk) = self.desks.get(&group.key) else { return Err(RefreshError::Contended) };
        let question = async || {
            let made = self.make(group, source, need).await;
            self.report(group, source, &made);
            made
        };
        // A list that was not kept has to be asked for again as if there were none.
        let failed =
            |made: &Result<Made, RefreshError>| matches!(made, Err(RefreshError::Fleet(_)) | Ok(Made { kept: Kept::Not(_), .. }));
        match desk.flights.ask(need, question, failed).await {
            Ok(made) => made,
            Err(TooSoon { wait }) => Err(RefreshError::TooSoon(wait)),
        }
    }

    /// Asks AWS and replaces the list, once. An answer is worth nothing any more if somebody else's has replaced the list meanwhile:
    /// theirs may be the newer one. What events have changed meanwhile is heeded by what they have left in the list.
    async fn make(&self, group: &Group, source: Source, need: Need) -> Result<Made, RefreshError> {
        let now = self.parts.clock.now();
        let since = if need == Need::News { now } else { now - 2 * AFTER_ANSWER };
        let _permit = match self.wait_for_turn(group, since).await? {
            Turn::Mine(permit) => permit,
            Turn::Theirs(list) => return Ok(Made { list, kept: Kept::Shared }),
        };
        let made = self.make_in_turn(group, source, since).await;
        let pause = if made.is_ok() { AFTER_ANSWER } else { AFTER_QUESTION_FAILED };
        // Where it cannot be given back, it ends by itself.
        let _ = self.parts.store.end_turn(&group.key, pause).await;
        made
    }

    async fn make_in_turn(&self, group: &Group, source: Source, since: Timestamp) -> Result<Made, RefreshError> {
        let mut known = self.known(group).await;
        for _ in 0..MOST_QUESTIONS {
            let answered = last_answer(&known);
            let roll = self.call_the_roll(group).await?;
            for _ in 0..MOST_CHANGES {
                let next = self.next(group, &roll, &known, source)?;
                let stored = match &known {
                    Ok((stored, _)) => stored,
                    Err(error) => return Ok(self.made(group, next, Kept::Not(RefreshError::Store(error.clone())))),
                };
                match self.parts.store.replace(&group.key, stored, &next.encode()).await {
                    Ok(true) => return Ok(self.made(group, next, Kept::Stored)),
                    Ok(false) => known = self.known(group).await,
                    Err(error) => return Ok(self.made(group, next, Kept::Not(RefreshError::NotKept(error)))),
                }
                match &known {
                    Ok((_, Known::Good(list))) if list.asked_at > since => {
                        return Ok(self.made(group, list.clone(), Kept::Shared));
                    }
                    known if last_answer(known) != answered => break,
                    _ => {}
                }
            }
        }
        Err(RefreshError::Contended)
    }

    /// Waits until nobody else asks, of all that share the store; or for somebody else's answer to a question that began after
    /// `since`, which is as good as an own one. A hundred invocations of a function at once so become a few questions.
    async fn wait_for_turn(&self, group: &Group, since: Timestamp) -> Result<Turn<'_>, RefreshError> {
        let Some(desk) = self.desks.get(&group.key) else { return Err(RefreshError::Busy) };
        for _ in 0..MOST_LOOKS_FOR_AN_ANSWER {
            // The permit comes first, so that no turn runs out while this process has other questions under way. The semaphore is
            // never closed; without a permit there would merely be no limit.
            let permit = self.asking.acquire().await.ok();
            // Without a store nobody can wait for anybody.
            if !matches!(self.parts.store.take_turn(&group.key, LONGEST_TURN).await, Ok(false)) {
                return Ok(Turn::Mine(permit));
            }
            drop(permit);
            sleep(BETWEEN_LOOKS + desk.flights.jitter(BETWEEN_LOOKS)).await;
            if let Ok((_, Known::Good(list))) = self.known(group).await
                && list.asked_at > since
            {
                self.remember(group, &list);
                return Ok(Turn::Theirs(list));
            }
        }
        Err(RefreshError::Busy)
    }

    async fn call_the_roll(&self, group: &Group) -> Result<Roll, FleetError> {
        let asked_at = self.parts.clock.now();
        Ok(Roll { members: self.parts.fleet.members(group).await?, asked_at })
    }

    fn next(
        &self,
        group: &Group,
        roll: &Roll,
        known: &Result<(Stored, Known), StoreError>,
        source: Source,
    ) -> Result<List, RefreshError> {
        let last_good = self.last_good(group);
        let floor = last_good.as_ref().map_or(0, |list| list.generation);
        let current = match known {
            Ok((_, Known::Good(list))) => Some(list),
            _ => last_good.as_ref(),
        };
        let Refreshed { list, foreign } = refreshed(group, roll, current, floor, source, self.parts.clock.now())?;
        if foreign.is_empty() {
            self.parts.alerts.recover(&group.key, &[Problem::ForeignAddress]);
        } else {
            let what = format!("servers outside of the allowed ranges are left out ({})", describe(&foreign));
            self.parts.alerts.raise(&group.key, Problem::ForeignAddress, &what);
        }
        Ok(list)
    }

    fn made(&self, group: &Group, list: List, kept: Kept) -> Made {
        self.remember(group, &list);
        Made { list, kept }
    }

    /// Tells of what became of an attempt to make a list anew.
    fn report(&self, group: &Group, source: Source, made: &Result<Made, RefreshError>) {
        let Key { region, dcid } = &group.key;
        let alerts = &self.parts.alerts;
        if let Ok(Made { kept, .. }) = made {
            alerts.recover(&group.key, &[Problem::AwsFailed, Problem::AnswerRefused, Problem::LastServer]);
            if !matches!(kept, Kept::Not(_)) {
                alerts.recover(&group.key, STORE_PROBLEMS);
            }
        }
        let result = match made {
            Ok(Made { list, kept: Kept::Stored }) => {
                alerts.recover(&group.key, &[Problem::NotKept]);
                let (endpoints, generation) = (list.endpoints.len(), list.generation);
                tracing::info!(region, dcid, source = source.name(), endpoints, generation, "list updated");
                "updated"
            }
            Ok(Made { kept: Kept::Shared, .. }) => "shared",
            Ok(Made { kept: Kept::Not(error), .. }) => {
                self.raise(group, error);
                "not_kept"
            }
            Err(error) => {
                self.raise(group, error);
                if matches!(error, RefreshError::NoList(_)) { "refused" } else { "failed" }
            }
        };
        self.parts.metrics.refresh(source.name(), result);
    }

    /// Tells people why a list was not made anew, or not changed.
    fn raise(&self, group: &Group, error: &RefreshError) {
        let problem = match error {
            RefreshError::Fleet(_) => Problem::AwsFailed,
            RefreshError::NoList(_) => Problem::AnswerRefused,
            RefreshError::Store(_) => Problem::StoreFailed,
            RefreshError::NotKept(_) | RefreshError::Contended => Problem::NotKept,
            // Whoever had the failures has told of them.
            RefreshError::TooSoon(_) | RefreshError::Busy => return,
        };
        self.parts.alerts.raise(&group.key, problem, &error.to_string());
    }

    /// Changes the list that is kept; `change` gives the next one, or none where nothing is to change. Without a list there is
    /// nothing to change.
    async fn change(&self, group: &Group, mut change: impl FnMut(&List) -> Option<List>) -> Result<(), RefreshError> {
        let Some(desk) = self.desks.get(&group.key) else { return Ok(()) };
        let _turn = desk.changing.lock().await;
        let changed = async {
            for _ in 0..MOST_CHANGES {
                let (stored, known) = self.known(group).await.map_err(RefreshError::Store)?;
                let Known::Good(list) = known else { return Ok(()) };
                let Some(next) = change(&list) else { return Ok(()) };
                let replaced = self.parts.store.replace(&group.key, &stored, &next.encode()).await;
                if replaced.map_err(RefreshError::NotKept)? {
                    self.remember(group, &next);
                    return Ok(());
                }
            }
            Err(RefreshError::Contended)
        };
        changed.await.inspect_err(|error: &RefreshError| self.raise(group, error))
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
        self.parts.poll.saturating_sub(list.asked_ago(self.parts.clock.now()))
    }

    /// Whether a list should have been made anew `times` times by now.
    fn is_old(&self, list: &List, times: u32) -> bool {
        !self.parts.poll.is_zero() && list.asked_ago(self.parts.clock.now()) > self.parts.poll * times
    }
}

/// Which answer of AWS a list is made of.
fn last_answer(known: &Result<(Stored, Known), StoreError>) -> Option<u64> {
    match known {
        Ok((_, Known::Good(list))) => Some(list.asked_generation),
        _ => None,
    }
}

/// A store that was emptied begins at generation 1 again, so the generation alone does not say which list is newer.
fn is_newer(list: &List, other: &List) -> bool {
    list.generation > other.generation && list.updated_at >= other.updated_at
}
