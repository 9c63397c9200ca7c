//! The registry's rules: which list is returned, when AWS is called, and which list replaces which.
//!
//! Only a better list replaces a list. A list from the store is used if the configuration allows every address in it. Otherwise the
//! registry calls AWS, and if AWS fails too, it uses the last good list that this process has seen.

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
use crate::group::{Group, Groups, Key};
use crate::list::{List, Membership, NextList, NoValidList, Removal, Source, describe, next_list};
use crate::metrics::Metrics;
use crate::single_flight::{Freshness, SingleFlight, TooSoon};
use crate::store::{Store, StoreError, Stored};

/// Number of groups that are fetched from AWS at the same time, so that a start with many groups does not cause a burst of calls.
const MAX_CONCURRENT_FETCHES: usize = 2;

/// Number of times that a refresh calls AWS again because another refresh was faster.
const MAX_FETCHES: usize = 3;

/// Number of attempts to change a list that others change at the same time.
const MAX_CHANGE_ATTEMPTS: usize = 50;

/// Number of refreshes that look for a new instance which AWS does not return yet.
const MAX_LOOKS_FOR_INSTANCE: usize = 2;

/// Maximum time that a look-up of a known list waits for a newer list from AWS.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Duration of the lease to fetch a list, for processes that share a store. The lease of a process that crashes ends by itself.
const LEASE_TIME: Duration = Duration::from_secs(30);

/// After a response, no process gets the lease for this time.
const PAUSE_AFTER_SUCCESS: Duration = Duration::from_secs(2);

/// After a failure, no process gets the lease for this time, so that processes do not call a throttled AWS one after another.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(4);

/// Interval of the look-ups for the list that another process fetches, before jitter.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Maximum number of these look-ups: 15 to 30 s.
const MAX_LEASE_POLLS: usize = 50;

/// Minimum time until the next poll after a failed one.
const MIN_POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Poll interval if lists do not expire. Lists are still checked daily, because the store can lose them.
const DAILY: Duration = Duration::from_hours(24);

/// Problems that end when a list can be read from the store.
const STORE_PROBLEMS: &[Problem] = &[Problem::ListMissing, Problem::ListUnreadable, Problem::StoreFailed];

/// The parts of a registry.
#[derive(Debug)]
pub struct Parts<F> {
    /// Groups whose lists are served.
    pub groups: Groups,
    /// Store of the lists.
    pub store: Store,
    /// Source of the servers of a group.
    pub fleet: F,
    /// Alerts about problems.
    pub alerts: Alerts,
    /// Metrics.
    pub metrics: Metrics,
    /// Wall clock.
    pub clock: Clock,
    /// Maximum age of a list before it is refreshed; zero for no limit.
    pub poll: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

/// The registry.
#[derive(Debug)]
pub struct Registry<F> {
    parts: Parts<F>,
    lists: HashMap<Key, ListState>,
    aws_permits: Semaphore,
    /// Refreshes in progress, including those whose clients have gone.
    refreshes: TaskTracker,
}

/// What a process knows about one list.
#[derive(Debug)]
struct ListState {
    single_flight: SingleFlight<Result<Refresh, RefreshError>>,
    /// The last good list, for when the store fails.
    last_good: Mutex<Option<List>>,
    /// Serialises the changes of this process, so that they do not conflict with each other.
    changing: tokio::sync::Mutex<()>,
}

/// The result of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The list.
    pub list: List,
    /// Why the list may be outdated.
    pub warning: Option<Warning>,
}

/// Why a list may be outdated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The store fails. The list is from this process's memory.
    StoreFailed,
    /// The store fails or has no list, and AWS fails too.
    RefreshFailed,
    /// Two refreshes of the list are overdue.
    Overdue,
}

/// The result of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// The list.
    pub list: List,
    /// Where the list is saved.
    pub saved: SaveResult,
}

/// Where a refreshed list is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaveResult {
    /// This process saved the list in the store.
    Stored,
    /// Another process has refreshed the list and saved it in the store.
    Shared,
    /// Only in this process's memory, because the store failed.
    Failed(RefreshError),
}

/// Why a list was not refreshed, or not saved. The list in the store does not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// AWS fails.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// AWS responds, but no valid list can be made of the response.
    #[error("{0}; the registry keeps the old list")]
    NoValidList(#[from] NoValidList),
    /// The store fails.
    #[error("{0}")]
    Store(StoreError),
    /// The store responds, but did not save the list.
    #[error("cannot save the list: {0}")]
    NotKept(StoreError),
    /// AWS is not called for a while after many failures.
    #[error("AWS is not called again for {} s, because the last calls failed", .0.as_secs())]
    TooSoon(Duration),
    /// Another process calls AWS, and has no response yet.
    #[error("another registry process calls AWS and has no response yet; try again")]
    Busy,
    /// Other processes changed the list at every attempt.
    #[error("cannot replace the list: other processes changed it at every attempt; try again")]
    Contended,
}

/// The result of removing an instance from a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveOutcome {
    /// The instance is removed and stays excluded for a while.
    Removed,
    /// The instance is the last known one. The list does not change.
    LastServer,
}

/// The result of adding an instance to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The instance is in the list, or has left again.
    Listed,
    /// AWS does not report the instance in service yet, or the instance has no allowed address.
    NotInService,
}

/// The right to fetch a list from AWS, which one process at a time has.
enum Lease<'a> {
    /// This process has the lease.
    Acquired(Option<SemaphorePermit<'a>>),
    /// Another process had the lease, and has fetched this list.
    AnsweredByOther(List),
}

/// The content of the store for a list.
enum StoredList {
    Good(List),
    Missing,
    Unreadable(String),
}

impl<F: Fleet> Registry<F> {
    /// Creates a registry without any list.
    pub fn new(parts: Parts<F>) -> Self {
        let list_state = |number: usize| ListState {
            single_flight: SingleFlight::new(parts.seed.wrapping_add(number as u64)),
            last_good: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        };
        let groups = parts.groups.iter().enumerate();
        let lists = groups.map(|(number, group)| (group.key.clone(), list_state(number))).collect();
        Registry { parts, lists, aws_permits: Semaphore::new(MAX_CONCURRENT_FETCHES), refreshes: TaskTracker::new() }
    }

    /// Returns the groups whose lists are served.
    pub fn groups(&self) -> &Groups {
        &self.parts.groups
    }

    /// Returns the alerts.
    pub fn alerts(&self) -> &Alerts {
        &self.parts.alerts
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// Returns the wall clock.
    pub fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// Returns the source of the servers of a group.
    pub fn fleet(&self) -> &F {
        &self.parts.fleet
    }

    /// Returns the list of a group. Calls AWS only if the store has no valid list.
    ///
    /// # Errors
    /// The store has no valid list, AWS fails, and this process has never seen a list.
    pub async fn lookup(self: &Arc<Self>, group: &Group) -> Result<Lookup, RefreshError> {
        match self.read_list(group).await {
            Ok((stored, StoredList::Good(list))) => Ok(self.checked(self.reconcile(group, &stored, list).await)),
            Ok((_, StoredList::Missing)) => {
                self.parts.alerts.raise(&group.key, Problem::ListMissing, "the store contains no list");
                self.fall_back(group, None).await
            }
            Ok((_, StoredList::Unreadable(reason))) => {
                let description = format!("the store contains an invalid list: {reason}");
                self.parts.alerts.raise(&group.key, Problem::ListUnreadable, &description);
                self.fall_back(group, None).await
            }
            Err(error) => {
                self.parts.alerts.raise(&group.key, Problem::StoreFailed, &error.to_string());
                match self.last_good(group).filter(|list| !self.is_older_than(list, 1)) {
                    Some(list) => Ok(Lookup { list, warning: Some(Warning::StoreFailed) }),
                    None => self.fall_back(group, Some(Warning::StoreFailed)).await,
                }
            }
        }
    }

    /// Fetches a new list from AWS. Calls that arrive while a fetch is in progress share the result of the next fetch.
    ///
    /// # Errors
    /// See [`RefreshError`]. The list in the store does not change, and an alert is sent.
    pub async fn update(self: &Arc<Self>, group: &Group, source: Source) -> Result<List, RefreshError> {
        let refresh = self.refresh(group, source, Freshness::New).await?;
        match refresh.saved {
            SaveResult::Stored | SaveResult::Shared => Ok(refresh.list),
            SaveResult::Failed(error) => Err(error),
        }
    }

    /// Refreshes a list that is missing, expired, or expires within `early`. Returns the time until the next poll.
    ///
    /// # Errors
    /// As [`Registry::update`].
    pub async fn poll(self: &Arc<Self>, group: &Group, early: Duration) -> Result<Duration, RefreshError> {
        let left = match self.read_list(group).await {
            Ok((stored, StoredList::Good(list))) => self.time_left(&self.reconcile(group, &stored, list).await),
            Ok(_) => Duration::ZERO,
            Err(error) => {
                self.parts.alerts.raise(&group.key, Problem::StoreFailed, &error.to_string());
                self.last_good(group).as_ref().map(|list| self.time_left(list)).unwrap_or_default()
            }
        };
        if left > early {
            return Ok(left);
        }
        match self.refresh(group, Source::Poll, Freshness::Recent).await? {
            Refresh { saved: SaveResult::Failed(error), .. } => Err(error),
            Refresh { list, .. } => Ok(self.time_left(&list)),
        }
    }

    /// Polls one group forever. The jitter prevents registries that share a store from calling AWS at the same moment: the second one
    /// finds a new list.
    pub async fn keep_polling(self: &Arc<Self>, group: &Group) {
        let Some(list_state) = self.lists.get(&group.key) else { return };
        let soonest = if self.parts.poll.is_zero() { MIN_POLL_INTERVAL } else { MIN_POLL_INTERVAL.min(self.parts.poll) };
        loop {
            let wait = self.poll(group, Duration::ZERO).await.unwrap_or_default().max(soonest);
            sleep(wait + list_state.single_flight.jitter(wait / 10)).await;
        }
    }

    /// Waits until no refresh is in progress and every alert is sent. Lambda stops a function's process after the response.
    pub async fn settle(&self) {
        self.refreshes.close();
        self.refreshes.wait().await;
        self.refreshes.reopen();
        self.parts.alerts.flush().await;
    }

    /// Updates the gauges of all lists.
    pub fn update_gauges(&self) {
        for group in self.parts.groups.iter() {
            if let Some(list) = self.last_good(group) {
                self.parts.metrics.list(&group.key, &list, list.age_s(self.parts.clock.now()));
            }
        }
    }

    /// Removes an instance from the list and excludes it for a while. Calls AWS only if the list would become empty, or if the list
    /// does not contain instance ids.
    ///
    /// # Errors
    /// The list could not be changed; an alert is sent.
    pub async fn remove_instance(self: &Arc<Self>, group: &Group, instance: &str) -> Result<LeaveOutcome, RefreshError> {
        if !self.has_instance_ids(group).await {
            match self.update(group, Source::Lifecycle).await {
                Err(RefreshError::NoValidList(_)) => return Ok(self.report_last_server(group, instance)),
                other => _ = other?,
            }
        }
        if self.remove_from_list(group, instance).await? == LeaveOutcome::Removed {
            return Ok(LeaveOutcome::Removed);
        }
        // A successor may be in service already, but no event has reported it yet.
        match self.update(group, Source::Lifecycle).await {
            Ok(_) => Ok(LeaveOutcome::Removed),
            Err(RefreshError::NoValidList(_)) => Ok(self.report_last_server(group, instance)),
            Err(error) => Err(error),
        }
    }

    async fn remove_from_list(&self, group: &Group, instance: &str) -> Result<LeaveOutcome, RefreshError> {
        let now = self.parts.clock.now();
        let remove = |list: &List| match list.without(instance, now) {
            Removal::Next(next) => (Some(next), LeaveOutcome::Removed),
            Removal::AlreadyRemoved => (None, LeaveOutcome::Removed),
            Removal::LastServer(next) => ((next != *list).then_some(next), LeaveOutcome::LastServer),
        };
        // Without a list, the instance is not listed.
        Ok(self.change(group, remove).await?.unwrap_or(LeaveOutcome::Removed))
    }

    /// Stops excluding an instance, and calls AWS if the instance is not in the list.
    ///
    /// # Errors
    /// The list could not be changed, or as [`Registry::update`].
    pub async fn add_instance(self: &Arc<Self>, group: &Group, instance: &str) -> Result<JoinOutcome, RefreshError> {
        if matches!(self.read_list(group).await, Ok((_, StoredList::Good(list))) if list.contains(instance)) {
            return Ok(JoinOutcome::Listed);
        }
        self.change(group, |list| (list.readmit(instance), ())).await?;
        for _ in 0..MAX_LOOKS_FOR_INSTANCE {
            match self.update(group, Source::Lifecycle).await {
                // The instance may have left again in the meantime.
                Ok(list) if list.instances.contains_key(instance) || list.departed.contains_key(instance) => {
                    return Ok(JoinOutcome::Listed);
                }
                Ok(_) | Err(RefreshError::NoValidList(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(JoinOutcome::NotInService)
    }

    fn report_last_server(&self, group: &Group, instance: &str) -> LeaveOutcome {
        let description = format!("its last server, {instance}, is leaving");
        self.parts.alerts.raise(&group.key, Problem::LastServer, &description);
        LeaveOutcome::LastServer
    }

    /// Returns whether an instance can be removed without calling AWS. If the store fails, an instance cannot be removed at all.
    async fn has_instance_ids(&self, group: &Group) -> bool {
        match self.read_list(group).await {
            Ok((_, StoredList::Good(list))) => !list.instances.is_empty(),
            Ok(_) => false,
            Err(_) => true,
        }
    }

    /// Returns the newer one of the store's list and this process's last good list. Saves the latter if it is newer.
    async fn reconcile(&self, group: &Group, stored: &Stored, list: List) -> List {
        self.parts.alerts.recover(&group.key, STORE_PROBLEMS);
        let Some(newer) = self.last_good(group).filter(|known| is_newer(known, &list)) else {
            self.remember(group, &list);
            return list;
        };
        // The store was unavailable or read-only when this list was made, or it was reset to an older state.
        match self.parts.store.replace(&group.key, stored, &newer.encode()).await {
            Ok(_) => self.parts.alerts.recover(&group.key, &[Problem::NotKept]),
            Err(error) => self.parts.alerts.raise(&group.key, Problem::NotKept, &error.to_string()),
        }
        newer
    }

    fn checked(&self, list: List) -> Lookup {
        let warning = self.is_older_than(&list, 2).then_some(Warning::Overdue);
        Lookup { list, warning }
    }

    /// Returns the list from AWS, or else the last good list: at once if AWS fails, and after [`LOOKUP_TIMEOUT`] if AWS does not
    /// respond.
    async fn fall_back(self: &Arc<Self>, group: &Group, warning: Option<Warning>) -> Result<Lookup, RefreshError> {
        let refresh = self.refresh(group, Source::Fallback, Freshness::Recent);
        let Some(last_good) = self.last_good(group) else {
            return refresh.await.map(|refresh| Lookup { list: refresh.list, warning });
        };
        match timeout(LOOKUP_TIMEOUT, refresh).await {
            Ok(Ok(refresh)) => Ok(Lookup { list: refresh.list, warning }),
            _ => Ok(Lookup { list: last_good, warning: Some(Warning::RefreshFailed) }),
        }
    }

    /// Fetches a list from AWS, or shares the result of another fetch. A fetch that has begun is completed even if its clients have
    /// gone: otherwise clients with short timeouts would make the registry call a slow AWS without a pause.
    async fn refresh(self: &Arc<Self>, group: &Group, source: Source, freshness: Freshness) -> Result<Refresh, RefreshError> {
        let (registry, group) = (Arc::clone(self), group.clone());
        let refresh = self.refreshes.spawn(async move { registry.refresh_shared(&group, source, freshness).await });
        // The task is only cancelled when the program ends.
        refresh.await.unwrap_or(Err(RefreshError::Contended))
    }

    async fn refresh_shared(&self, group: &Group, source: Source, freshness: Freshness) -> Result<Refresh, RefreshError> {
        let Some(list_state) = self.lists.get(&group.key) else { return Err(RefreshError::Contended) };
        let call = async || {
            let result = self.refresh_once(group, source, freshness).await;
            self.report(group, source, &result);
            result
        };
        // A list that was not saved has to be fetched again as if there were none.
        let failed = |result: &Result<Refresh, RefreshError>| {
            matches!(result, Err(RefreshError::Fleet(_)) | Ok(Refresh { saved: SaveResult::Failed(_), .. }))
        };
        match list_state.single_flight.run(freshness, call, failed).await {
            Ok(result) => result,
            Err(TooSoon { wait }) => Err(RefreshError::TooSoon(wait)),
        }
    }

    /// Fetches the list from AWS and replaces the stored list. The response is discarded if another response has replaced the list in
    /// the meantime, because the other response may be newer. Events that arrive in the meantime are kept: they are recorded in the
    /// list.
    async fn refresh_once(&self, group: &Group, source: Source, freshness: Freshness) -> Result<Refresh, RefreshError> {
        let now = self.parts.clock.now();
        let since = if freshness == Freshness::New { now } else { now - 2 * PAUSE_AFTER_SUCCESS };
        let _permit = match self.acquire_lease(group, since).await? {
            Lease::Acquired(permit) => permit,
            Lease::AnsweredByOther(list) => return Ok(Refresh { list, saved: SaveResult::Shared }),
        };
        let result = self.refresh_with_lease(group, source, since).await;
        let pause = if result.is_ok() { PAUSE_AFTER_SUCCESS } else { PAUSE_AFTER_FAILURE };
        // If this call fails, the lease expires.
        let _ = self.parts.store.end_lease(&group.key, pause).await;
        result
    }

    async fn refresh_with_lease(&self, group: &Group, source: Source, since: Timestamp) -> Result<Refresh, RefreshError> {
        let mut current = self.read_list(group).await;
        for _ in 0..MAX_FETCHES {
            let fetched_before = last_fetch(&current);
            let membership = self.fetch_membership(group).await?;
            for _ in 0..MAX_CHANGE_ATTEMPTS {
                let next = self.next(group, &membership, &current, source)?;
                let stored = match &current {
                    Ok((stored, _)) => stored,
                    Err(error) => return Ok(self.finish(group, next, SaveResult::Failed(RefreshError::Store(error.clone())))),
                };
                match self.parts.store.replace(&group.key, stored, &next.encode()).await {
                    Ok(true) => return Ok(self.finish(group, next, SaveResult::Stored)),
                    Ok(false) => current = self.read_list(group).await,
                    Err(error) => return Ok(self.finish(group, next, SaveResult::Failed(RefreshError::NotKept(error)))),
                }
                match &current {
                    Ok((_, StoredList::Good(list))) if list.asked_at > since => {
                        return Ok(self.finish(group, list.clone(), SaveResult::Shared));
                    }
                    current if last_fetch(current) != fetched_before => break,
                    _ => {}
                }
            }
        }
        Err(RefreshError::Contended)
    }

    /// Waits until this process has the lease, or until another process has saved a list that it began to fetch after `since`. A
    /// hundred simultaneous invocations of a function then cause a few calls only.
    async fn acquire_lease(&self, group: &Group, since: Timestamp) -> Result<Lease<'_>, RefreshError> {
        let Some(list_state) = self.lists.get(&group.key) else { return Err(RefreshError::Busy) };
        for _ in 0..MAX_LEASE_POLLS {
            // The permit comes first, so that no lease expires while this process fetches other lists. The semaphore is never closed;
            // without a permit there would be no limit.
            let permit = self.aws_permits.acquire().await.ok();
            // Without a store, processes cannot wait for each other.
            if !matches!(self.parts.store.acquire_lease(&group.key, LEASE_TIME).await, Ok(false)) {
                return Ok(Lease::Acquired(permit));
            }
            drop(permit);
            sleep(LEASE_POLL_INTERVAL + list_state.single_flight.jitter(LEASE_POLL_INTERVAL)).await;
            if let Ok((_, StoredList::Good(list))) = self.read_list(group).await
                && list.asked_at > since
            {
                self.remember(group, &list);
                return Ok(Lease::AnsweredByOther(list));
            }
        }
        Err(RefreshError::Busy)
    }

    async fn fetch_membership(&self, group: &Group) -> Result<Membership, FleetError> {
        let asked_at = self.parts.clock.now();
        Ok(Membership { members: self.parts.fleet.members(group).await?, asked_at })
    }

    fn next(
        &self,
        group: &Group,
        membership: &Membership,
        current: &Result<(Stored, StoredList), StoreError>,
        source: Source,
    ) -> Result<List, RefreshError> {
        let last_good = self.last_good(group);
        let floor = last_good.as_ref().map_or(0, |list| list.generation);
        let current = match current {
            Ok((_, StoredList::Good(list))) => Some(list),
            _ => last_good.as_ref(),
        };
        let NextList { list, foreign } = next_list(group, membership, current, floor, source, self.parts.clock.now())?;
        if foreign.is_empty() {
            self.parts.alerts.recover(&group.key, &[Problem::ForeignAddress]);
        } else {
            let description = format!("servers outside the allowed ranges are left out ({})", describe(&foreign));
            self.parts.alerts.raise(&group.key, Problem::ForeignAddress, &description);
        }
        Ok(list)
    }

    fn finish(&self, group: &Group, list: List, saved: SaveResult) -> Refresh {
        self.remember(group, &list);
        Refresh { list, saved }
    }

    /// Reports the result of a refresh to alerts, log and metrics.
    fn report(&self, group: &Group, source: Source, result: &Result<Refresh, RefreshError>) {
        let Key { region, dcid } = &group.key;
        let alerts = &self.parts.alerts;
        if let Ok(Refresh { saved, .. }) = result {
            alerts.recover(&group.key, &[Problem::AwsFailed, Problem::AnswerRefused, Problem::LastServer]);
            if !matches!(saved, SaveResult::Failed(_)) {
                alerts.recover(&group.key, STORE_PROBLEMS);
            }
        }
        let outcome = match result {
            Ok(Refresh { list, saved: SaveResult::Stored }) => {
                alerts.recover(&group.key, &[Problem::NotKept]);
                let (endpoints, generation) = (list.endpoints.len(), list.generation);
                tracing::info!(region, dcid, source = source.name(), endpoints, generation, "list updated");
                "updated"
            }
            Ok(Refresh { saved: SaveResult::Shared, .. }) => "shared",
            Ok(Refresh { saved: SaveResult::Failed(error), .. }) => {
                self.raise(group, error);
                "not_kept"
            }
            Err(error) => {
                self.raise(group, error);
                if matches!(error, RefreshError::NoValidList(_)) { "refused" } else { "failed" }
            }
        };
        self.parts.metrics.refresh(source.name(), outcome);
    }

    /// Raises the alert for a list that was not refreshed, or not changed.
    fn raise(&self, group: &Group, error: &RefreshError) {
        let problem = match error {
            RefreshError::Fleet(_) => Problem::AwsFailed,
            RefreshError::NoValidList(_) => Problem::AnswerRefused,
            RefreshError::Store(_) => Problem::StoreFailed,
            RefreshError::NotKept(_) | RefreshError::Contended => Problem::NotKept,
            // The process whose calls failed has raised the alert.
            RefreshError::TooSoon(_) | RefreshError::Busy => return,
        };
        self.parts.alerts.raise(&group.key, problem, &error.to_string());
    }

    /// Changes the stored list. `change` returns the next list, or `None` if the list stays as it is, and a result. It is called again
    /// if another process has changed the list in the meantime. Returns the last result, or `None` if the store has no valid list.
    async fn change<T>(&self, group: &Group, change: impl Fn(&List) -> (Option<List>, T)) -> Result<Option<T>, RefreshError> {
        let Some(list_state) = self.lists.get(&group.key) else { return Ok(None) };
        let _guard = list_state.changing.lock().await;
        let changed = async {
            for _ in 0..MAX_CHANGE_ATTEMPTS {
                let (stored, current) = self.read_list(group).await.map_err(RefreshError::Store)?;
                let StoredList::Good(list) = current else { return Ok(None) };
                let (next, result) = change(&list);
                let Some(next) = next else { return Ok(Some(result)) };
                let replaced = self.parts.store.replace(&group.key, &stored, &next.encode()).await;
                if replaced.map_err(RefreshError::NotKept)? {
                    self.remember(group, &next);
                    return Ok(Some(result));
                }
            }
            Err(RefreshError::Contended)
        };
        changed.await.inspect_err(|error: &RefreshError| self.raise(group, error))
    }

    async fn read_list(&self, group: &Group) -> Result<(Stored, StoredList), StoreError> {
        let stored = self.parts.store.read(&group.key).await?;
        let list = match &stored {
            Stored::Absent => StoredList::Missing,
            Stored::Unreadable => StoredList::Unreadable("the value is not a text, or too long".to_owned()),
            Stored::Value(value) => match List::decode(value, group) {
                Ok(list) => StoredList::Good(list),
                Err(reason) => StoredList::Unreadable(reason),
            },
        };
        Ok((stored, list))
    }

    fn last_good(&self, group: &Group) -> Option<List> {
        self.lists.get(&group.key)?.last_good.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a good list in memory, unless a newer one is there.
    fn remember(&self, group: &Group, list: &List) {
        let Some(list_state) = self.lists.get(&group.key) else { return };
        let mut last_good = list_state.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        if !last_good.as_ref().is_some_and(|known| is_newer(known, list)) {
            *last_good = Some(list.clone());
        }
    }

    /// Returns the time until a list expires.
    fn time_left(&self, list: &List) -> Duration {
        if self.parts.poll.is_zero() {
            return DAILY;
        }
        self.parts.poll.saturating_sub(list.asked_ago(self.parts.clock.now()))
    }

    /// Returns whether a list is older than this number of poll intervals.
    fn is_older_than(&self, list: &List, intervals: u32) -> bool {
        !self.parts.poll.is_zero() && list.asked_ago(self.parts.clock.now()) > self.parts.poll * intervals
    }
}

/// Returns the generation of the last list that was made of an AWS response.
fn last_fetch(current: &Result<(Stored, StoredList), StoreError>) -> Option<u64> {
    match current {
        Ok((_, StoredList::Good(list))) => Some(list.asked_generation),
        _ => None,
    }
}

/// A store that was emptied begins at generation 1 again, so the generation alone does not say which list is newer.
fn is_newer(list: &List, other: &List) -> bool {
    list.generation > other.generation && list.updated_at >= other.updated_at
}
