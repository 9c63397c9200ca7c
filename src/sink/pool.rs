//! Selects the endpoint for the next request: the one with the fewest outstanding requests among those in service.
//!
//! An endpoint that failed is out of service, for a time that doubles with each failure in a row. Then a health check sends it an
//! empty batch, which creates no event, and a good response puts the endpoint back into service. An endpoint that asked for a
//! pause with `Retry-After` gets no request before the pause ends. A misconfigured endpoint is removed for the rest of the run.
//! The current time is a parameter.

use std::sync::Arc;
use std::time::Duration;

use elb_common::backoff::Backoff;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::outcome::Verdict;

/// How long an endpoint is out of service after a failure.
const OUT_OF_SERVICE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

/// Number of failed requests in a row after which an endpoint counts as down that stays in service, because there is no better one.
/// A single busy response is normal.
const FAILURES_UNTIL_DOWN: u32 = 3;

/// Identifies an endpoint for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndpointId(u64);

/// The current endpoints.
#[derive(Debug, Default)]
pub(super) struct Pool {
    members: Vec<Member>,
    next_id: u64,
    /// Where the search begins, so that endpoints with equally many requests take turns.
    turn: usize,
}

/// The endpoint for a request, or why there is none now.
#[derive(Debug)]
pub(super) enum Choice {
    /// The endpoint to use.
    Chosen(ChosenEndpoint),
    /// Every endpoint asked for a pause. The first of these pauses ends at this time.
    AllPaused(Instant),
    /// The pool is empty.
    NoEndpoint,
}

/// An endpoint that was selected for a request.
#[derive(Clone, Debug)]
pub(super) struct ChosenEndpoint {
    /// Identifies the endpoint in the pool.
    pub id: EndpointId,
    /// Where to send the request.
    pub endpoint: Arc<Endpoint>,
}

/// What a request shows about its endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// What the outcome means.
    pub verdict: Verdict,
    /// How long the endpoint asked to be left alone; zero if it did not ask.
    pub pause: Duration,
}

/// A change of an endpoint that people should know about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateChange {
    /// The endpoint accepts no requests.
    Down,
    /// The endpoint accepts requests again, after this time.
    Up(Duration),
}

#[derive(Debug)]
struct Member {
    chosen: ChosenEndpoint,
    outstanding: u32,
    /// Failures in a row.
    failures: u32,
    /// Failed requests in a row, also those that do not take the endpoint out of service.
    failed_requests: u32,
    /// Since when the endpoint counts as down.
    down_since: Option<Instant>,
    health: Health,
    /// End of the pause that the endpoint asked for.
    paused_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    InService,
    OutOfService {
        until: Instant,
    },
    /// A health check is running.
    Checking,
    /// The endpoint is misconfigured.
    Removed,
}

impl EndpointId {
    /// Creates an id. A pool assigns ids from 1.
    pub(super) const fn new(id: u64) -> Self {
        EndpointId(id)
    }
}

impl Pool {
    /// Creates a pool of endpoints that are all in service.
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        let mut pool = Pool::default();
        pool.replace(endpoints);
        pool
    }

    /// Replaces the endpoints. An endpoint that was in the pool before keeps its id, its requests and its health.
    pub(super) fn replace(&mut self, endpoints: Vec<Endpoint>) {
        let mut before = std::mem::take(&mut self.members);
        for endpoint in endpoints {
            let known = before.iter().position(|member| *member.chosen.endpoint == endpoint);
            let member = known.map(|index| before.swap_remove(index)).unwrap_or_else(|| {
                self.next_id += 1;
                Member::new(ChosenEndpoint { id: EndpointId(self.next_id), endpoint: Arc::new(endpoint) })
            });
            self.members.push(member);
        }
    }

    /// Returns whether the pool has no endpoint.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Selects an endpoint for a request: `preferred` if it is in service, and `avoided` only if no other is in service. If all
    /// are out of service, selects the one with the fewest failures, and among those the one whose time out of service ends
    /// first. Never selects an endpoint that is paused or removed.
    pub(super) fn choose(&mut self, preferred: Option<EndpointId>, avoided: Option<EndpointId>, now: Instant) -> Choice {
        let count = self.members.len();
        self.turn = (self.turn + 1) % count.max(1);
        let turn = self.turn;
        let rank = |(index, member): &(usize, &mut Member)| {
            let (out_of_service, until) = match member.health {
                Health::InService => (false, None),
                Health::OutOfService { until } => (true, Some(until)),
                Health::Checking | Health::Removed => (true, None),
            };
            let (is_preferred, is_avoided) = (preferred == Some(member.chosen.id), avoided == Some(member.chosen.id));
            let failures = if out_of_service { member.failures } else { 0 };
            let distance = (index + count - turn) % count;
            (out_of_service, failures, until, is_avoided, !is_preferred, member.outstanding, distance)
        };
        let usable = self.members.iter_mut().enumerate().filter(|(_, member)| !member.is_removed() && !member.is_paused(now));
        if let Some((_, best)) = usable.min_by_key(rank) {
            best.outstanding += 1;
            return Choice::Chosen(best.chosen.clone());
        }
        let paused = self.members.iter().filter(|member| !member.is_removed()).filter_map(|member| member.paused_until);
        paused.min().map_or(Choice::NoEndpoint, Choice::AllPaused)
    }

    /// Selects this endpoint for a request, unless it is paused or removed.
    pub(super) fn choose_only(&mut self, id: EndpointId, now: Instant) -> Choice {
        match self.member(id).filter(|member| !member.is_removed()) {
            Some(Member { paused_until: Some(until), .. }) if *until > now => Choice::AllPaused(*until),
            Some(member) => {
                member.outstanding += 1;
                Choice::Chosen(member.chosen.clone())
            }
            None => Choice::NoEndpoint,
        }
    }

    /// Returns every endpoint.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.members.iter().map(|member| Arc::clone(&member.chosen.endpoint)).collect()
    }

    /// Returns the endpoint with this id, if it may still get requests.
    pub(super) fn endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        let member = self.members.iter().find(|member| member.chosen.id == id && !member.is_removed())?;
        Some(Arc::clone(&member.chosen.endpoint))
    }

    /// Returns whether every endpoint is in service.
    pub(super) fn all_in_service(&self) -> bool {
        self.members.iter().all(|member| member.health == Health::InService)
    }

    /// Returns an endpoint's URL for messages. An endpoint that has left the pool has no URL any more.
    pub(super) fn name(&self, id: EndpointId) -> String {
        let member = self.members.iter().find(|member| member.chosen.id == id);
        member.map_or_else(|| "a former endpoint".to_owned(), |member| member.chosen.endpoint.to_string())
    }

    /// Returns whether an endpoint other than `id` is in service and not paused.
    pub(super) fn has_other_in_service(&self, id: EndpointId, now: Instant) -> bool {
        let in_service = |member: &Member| member.health == Health::InService && !member.is_paused(now);
        self.members.iter().any(|member| member.chosen.id != id && in_service(member))
    }

    /// Returns whether no endpoint other than `id` can get requests.
    pub(super) fn is_only(&self, id: EndpointId) -> bool {
        !self.members.iter().any(|member| member.chosen.id != id && !member.is_removed())
    }

    /// Records how a request to a chosen endpoint ended; `None` for a request that was cancelled. Returns what this changes.
    pub(super) fn record(&mut self, id: EndpointId, observation: Option<Observation>, now: Instant) -> Option<StateChange> {
        // A busy response never takes the last endpoint in service, or the only endpoint, out of service.
        let can_be_spared = self.has_other_in_service(id, now);
        let is_only = self.is_only(id);
        let member = self.member(id)?;
        member.outstanding = member.outstanding.saturating_sub(1);
        let Observation { verdict, pause } = observation.filter(|_| !member.is_removed())?;
        // A batch waits for the only endpoint by itself.
        if !is_only && !pause.is_zero() {
            member.paused_until = member.paused_until.max(Some(now + pause));
        }
        match verdict {
            Verdict::Down if !is_only => member.fail(now),
            Verdict::Busy | Verdict::Failing if can_be_spared || member.health != Health::InService => member.fail(now),
            Verdict::Down | Verdict::Busy | Verdict::Failing => {}
            _ => member.recover(),
        }
        member.state_change(verdict, now)
    }

    /// Removes a misconfigured endpoint for the rest of the run, unless it is the only one. Returns what happened.
    pub(super) fn remove(&mut self, id: EndpointId) -> Removal {
        if self.is_only(id) {
            return Removal::IsOnly;
        }
        match self.member(id) {
            Some(member) if !member.is_removed() => {
                member.health = Health::Removed;
                Removal::Removed
            }
            _ => Removal::WasRemoved,
        }
    }

    /// Puts removed endpoints back into service, for a new run.
    pub(super) fn restore_removed(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.is_removed()) {
            member.recover();
        }
    }

    /// Returns an endpoint whose health check is due, and marks the check as running. Returns none if no endpoint is in service,
    /// because then the batches themselves try the endpoints.
    pub(super) fn begin_health_check(&mut self, now: Instant) -> Option<ChosenEndpoint> {
        if !self.members.iter().any(|member| member.health == Health::InService) {
            return None;
        }
        let is_due = |member: &&mut Member| {
            !member.is_paused(now) && matches!(member.health, Health::OutOfService { until } if until <= now)
        };
        let member = self.members.iter_mut().find(is_due)?;
        member.health = Health::Checking;
        Some(member.chosen.clone())
    }

    /// Records how a health check ended, and returns what this changes.
    pub(super) fn record_health_check(&mut self, id: EndpointId, observation: Observation, now: Instant) -> Option<StateChange> {
        let member = self.member(id).filter(|member| !member.is_removed())?;
        if !observation.pause.is_zero() {
            member.paused_until = Some(now + observation.pause);
        }
        match observation.verdict {
            Verdict::Down | Verdict::Busy | Verdict::Failing => member.fail(now),
            _ => member.recover(),
        }
        member.state_change(observation.verdict, now)
    }

    fn member(&mut self, id: EndpointId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.chosen.id == id)
    }
}

/// What [`Pool::remove`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// The endpoint gets no more requests in this run.
    Removed,
    /// The endpoint got no more requests before.
    WasRemoved,
    /// Nothing: it is the only endpoint.
    IsOnly,
}

impl Member {
    fn new(chosen: ChosenEndpoint) -> Self {
        Member {
            chosen,
            outstanding: 0,
            failures: 0,
            failed_requests: 0,
            down_since: None,
            health: Health::InService,
            paused_until: None,
        }
    }

    fn is_removed(&self) -> bool {
        self.health == Health::Removed
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Takes the endpoint out of service. Several requests that fail at the same time count as one failure.
    fn fail(&mut self, now: Instant) {
        if matches!(self.health, Health::OutOfService { until } if until > now) {
            return;
        }
        self.health = Health::OutOfService { until: now + OUT_OF_SERVICE.wait(self.failures) };
        self.failures += 1;
    }

    fn recover(&mut self) {
        self.failures = 0;
        self.health = Health::InService;
    }

    /// Counts the outcome of a request, and returns whether the endpoint counts as down, or as up, from now on.
    fn state_change(&mut self, verdict: Verdict, now: Instant) -> Option<StateChange> {
        if !matches!(verdict, Verdict::Down | Verdict::Busy | Verdict::Failing) {
            self.failed_requests = 0;
            return self.down_since.take().map(|since| StateChange::Up(now - since));
        }
        self.failed_requests = self.failed_requests.saturating_add(1);
        let is_down = verdict == Verdict::Down
            || self.failed_requests >= FAILURES_UNTIL_DOWN
            || matches!(self.health, Health::OutOfService { .. });
        if !is_down || self.down_since.is_some() {
            return None;
        }
        self.down_since = Some(now);
        Some(StateChange::Down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u16) -> Pool {
        Pool::new((1..=count).map(|port| Endpoint::parse(&format!("http://10.0.0.1:{port}/")).unwrap()).collect())
    }

    fn observation(verdict: Verdict) -> Observation {
        Observation { verdict, pause: Duration::ZERO }
    }

    fn record(pool: &mut Pool, id: u64, verdict: Verdict, now: Instant) {
        pool.record(EndpointId(id), Some(observation(verdict)), now);
    }

    fn record_pause(pool: &mut Pool, id: u64, seconds: u64, now: Instant) {
        pool.record(EndpointId(id), Some(Observation { verdict: Verdict::Busy, pause: Duration::from_secs(seconds) }), now);
    }

    fn chosen(choice: Choice) -> u64 {
        match choice {
            Choice::Chosen(chosen) => chosen.id.0,
            other => panic!("no endpoint was chosen: {other:?}"),
        }
    }

    /// Chooses `count` times and returns the ids.
    fn choices(pool: &mut Pool, count: usize) -> Vec<u64> {
        (0..count).map(|_| chosen(pool.choose(None, None, Instant::now()))).collect()
    }

    fn sorted(mut ids: Vec<u64>) -> Vec<u64> {
        ids.sort_unstable();
        ids
    }

    #[test]
    fn each_change_of_an_endpoint_is_reported_once() {
        let start = Instant::now();
        for (endpoints, verdict, until_down) in
            [(1, Verdict::Down, 1), (1, Verdict::Busy, 3), (2, Verdict::Busy, 1), (2, Verdict::Down, 1)]
        {
            let mut pool = pool(endpoints);
            let mut record =
                |verdict, after: u64| pool.record(EndpointId(1), Some(observation(verdict)), start + Duration::from_secs(after));
            assert_eq!(record(Verdict::Accepted, 0), None);
            let changes: Vec<_> = (1..=10).filter_map(|second| record(verdict, second).map(|change| (second, change))).collect();
            assert_eq!(changes, [(until_down, StateChange::Down)], "{endpoints} endpoints, {verdict:?}");
            assert_eq!(record(Verdict::Accepted, 20), Some(StateChange::Up(Duration::from_secs(20 - until_down))));
            assert_eq!(record(Verdict::Accepted, 21), None);
        }
    }

    #[test]
    fn chooses_the_fewest_outstanding_requests_and_takes_turns() {
        let mut pool = pool(3);
        assert_eq!(sorted(choices(&mut pool, 6)), [1, 1, 2, 2, 3, 3]);
        record(&mut pool, 2, Verdict::Accepted, Instant::now());
        assert_eq!(choices(&mut pool, 1), [2]);
    }

    #[test]
    fn prefers_and_avoids_what_the_caller_asks_for() {
        let mut pool = pool(3);
        for _ in 0..4 {
            assert_eq!(chosen(pool.choose(Some(EndpointId(3)), None, Instant::now())), 3);
            assert_ne!(chosen(pool.choose(None, Some(EndpointId(3)), Instant::now())), 3);
        }
    }

    #[test]
    fn out_of_service_time_doubles_and_ends_with_a_check() {
        let mut pool = pool(2);
        let start = Instant::now();
        record(&mut pool, 1, Verdict::Down, start);
        assert_eq!(choices(&mut pool, 2), [2, 2]);
        assert!(pool.begin_health_check(start + Duration::from_millis(999)).is_none());
        let mut now = start + Duration::from_secs(1);
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(pool.begin_health_check(now).unwrap().id.0, 1);
            assert!(pool.begin_health_check(now).is_none(), "one health check at a time");
            assert_eq!(choices(&mut pool, 1), [2], "it gets no batch before the health check has ended");
            pool.record_health_check(EndpointId(1), observation(Verdict::Busy), now);
            assert!(pool.begin_health_check(now + Duration::from_secs(seconds) - Duration::from_millis(1)).is_none());
            now += Duration::from_secs(seconds);
        }
        assert_eq!(pool.begin_health_check(now).unwrap().id.0, 1);
        pool.record_health_check(EndpointId(1), observation(Verdict::Accepted), now);
        assert_eq!(choices(&mut pool, 1), [1]);
        record(&mut pool, 1, Verdict::Down, now);
        assert!(pool.begin_health_check(now + Duration::from_secs(1)).is_some(), "success makes the time short again");
    }

    #[test]
    fn requests_that_fail_together_count_as_one_failure() {
        let mut pool = pool(2);
        let now = Instant::now();
        for _ in 0..8 {
            record(&mut pool, 1, Verdict::Down, now);
        }
        assert!(pool.begin_health_check(now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn busy_never_takes_the_last_one_out_of_service() {
        let mut pool = pool(2);
        let now = Instant::now();
        record(&mut pool, 1, Verdict::Busy, now);
        record(&mut pool, 2, Verdict::Busy, now);
        assert_eq!(choices(&mut pool, 2), [2, 2]);
        record(&mut pool, 2, Verdict::Down, now);
        assert!(!pool.has_other_in_service(EndpointId(1), now));
        assert!(matches!(pool.choose(None, None, now), Choice::Chosen(_)), "if all are out of service, the best one is tried");
    }

    #[test]
    fn the_only_endpoint_stays_in_service() {
        let mut pool = pool(1);
        let now = Instant::now();
        for verdict in [Verdict::Busy, Verdict::Down, Verdict::Failing] {
            record(&mut pool, 1, verdict, now);
            assert!(pool.begin_health_check(now + Duration::from_mins(1)).is_none(), "it gets no health check after {verdict:?}");
            assert!(matches!(pool.choose(None, None, now), Choice::Chosen(_)));
        }
    }

    #[test]
    fn without_service_tries_the_one_with_the_fewest_failures() {
        let mut pool = pool(2);
        let now = Instant::now();
        record(&mut pool, 2, Verdict::Down, now);
        record(&mut pool, 1, Verdict::Down, now + Duration::from_millis(1));
        let later = now + Duration::from_secs(5);
        assert_eq!(choices(&mut pool, 1), [2], "its time ends first");
        record(&mut pool, 2, Verdict::Down, later);
        assert_eq!(choices(&mut pool, 1), [1], "the other one has fewer failures");
        record(&mut pool, 1, Verdict::Accepted, later);
        assert_eq!(choices(&mut pool, 1), [1]);
    }

    #[test]
    fn a_new_list_keeps_known_endpoints() {
        let mut pool = pool(2);
        let now = Instant::now();
        record(&mut pool, 1, Verdict::Down, now);
        let url = |port: u16| Endpoint::parse(&format!("http://10.0.0.1:{port}/")).unwrap();
        pool.replace(vec![url(7), url(1)]);
        assert_eq!(choices(&mut pool, 2), [3, 3], "the first one is still out of service, and the second has left");
        record(&mut pool, 2, Verdict::Accepted, now);
        pool.replace(Vec::new());
        assert!(pool.is_empty() && matches!(pool.choose(None, None, now), Choice::NoEndpoint));
    }

    #[test]
    fn a_pause_holds_only_the_endpoint_that_asked_for_it() {
        let mut pool = pool(2);
        let now = Instant::now();
        record_pause(&mut pool, 1, 3_600, now);
        assert_eq!(choices(&mut pool, 3), [2, 2, 2]);
        assert!(!pool.has_other_in_service(EndpointId(2), now), "a paused endpoint is no alternative");
        record(&mut pool, 2, Verdict::Down, now);
        assert_eq!(choices(&mut pool, 1), [2], "a paused endpoint gets no request, even if the others are out of service");
        assert!(pool.begin_health_check(now + Duration::from_secs(5)).is_none(), "a paused endpoint gets no health check");
    }

    #[test]
    fn names_the_end_of_the_first_pause_if_all_are_paused() {
        let mut pool = pool(2);
        let now = Instant::now();
        record_pause(&mut pool, 1, 60, now);
        record_pause(&mut pool, 2, 7, now);
        let Choice::AllPaused(until) = pool.choose(None, None, now) else { panic!("an endpoint was chosen during its pause") };
        assert_eq!(until, now + Duration::from_secs(7));
        assert_eq!(chosen(pool.choose(None, None, until)), 2);
    }

    #[test]
    fn the_only_endpoint_is_never_paused() {
        let mut pool = pool(1);
        record_pause(&mut pool, 1, 60, Instant::now());
        assert_eq!(choices(&mut pool, 1), [1]);
    }

    #[test]
    fn a_removed_endpoint_gets_nothing_until_the_next_run() {
        let mut pool = pool(2);
        let now = Instant::now();
        assert_eq!(pool.remove(EndpointId(1)), Removal::Removed);
        assert_eq!(pool.remove(EndpointId(1)), Removal::WasRemoved);
        record(&mut pool, 1, Verdict::Accepted, now);
        assert_eq!(choices(&mut pool, 2), [2, 2], "a late response does not bring it back");
        assert_eq!(pool.remove(EndpointId(2)), Removal::IsOnly);
        assert!(pool.endpoint(EndpointId(1)).is_none() && pool.endpoint(EndpointId(2)).is_some());
        pool.restore_removed();
        assert_eq!(choices(&mut pool, 1), [1]);
    }
}
