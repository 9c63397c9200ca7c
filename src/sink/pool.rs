//! Selects the endpoint for the next request: the one with the fewest outstanding requests among those in service.
//!
//! An endpoint that failed is out of service, for a time that doubles with each failure in a row. Then a health check sends it an
//! empty batch, which creates no event, and a good response puts the endpoint back into service. The current time is a parameter.

use std::sync::Arc;
use std::time::Duration;

use elb_common::backoff::Backoff;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::outcome::Verdict;

/// How long an endpoint is out of service after a failure.
const OUT_OF_SERVICE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

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

/// An endpoint that was selected for a request.
#[derive(Clone, Debug)]
pub(super) struct ChosenEndpoint {
    /// Identifies the endpoint in the pool.
    pub id: EndpointId,
    /// Where to send the request.
    pub endpoint: Arc<Endpoint>,
}

#[derive(Debug)]
struct Member {
    chosen: ChosenEndpoint,
    outstanding: u32,
    /// Failures in a row.
    failures: u32,
    health: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    InService,
    OutOfService {
        until: Instant,
    },
    /// A health check is running.
    Checking,
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
                let chosen = ChosenEndpoint { id: EndpointId(self.next_id), endpoint: Arc::new(endpoint) };
                Member { chosen, outstanding: 0, failures: 0, health: Health::InService }
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
    /// first. Returns none if the pool is empty.
    pub(super) fn choose(&mut self, preferred: Option<EndpointId>, avoided: Option<EndpointId>) -> Option<ChosenEndpoint> {
        let count = self.members.len();
        if count == 0 {
            return None;
        }
        self.turn = (self.turn + 1) % count;
        let turn = self.turn;
        let rank = |(index, member): &(usize, &mut Member)| {
            let (out_of_service, until) = match member.health {
                Health::InService => (false, None),
                Health::OutOfService { until } => (true, Some(until)),
                Health::Checking => (true, None),
            };
            let (is_preferred, is_avoided) = (preferred == Some(member.chosen.id), avoided == Some(member.chosen.id));
            let failures = if out_of_service { member.failures } else { 0 };
            let distance = (index + count - turn) % count;
            (out_of_service, failures, until, is_avoided, !is_preferred, member.outstanding, distance)
        };
        let (_, best) = self.members.iter_mut().enumerate().min_by_key(rank)?;
        best.outstanding += 1;
        Some(best.chosen.clone())
    }

    /// Returns every endpoint.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.members.iter().map(|member| Arc::clone(&member.chosen.endpoint)).collect()
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

    /// Returns whether an endpoint other than `id` is in service.
    pub(super) fn has_other_in_service(&self, id: EndpointId) -> bool {
        self.members.iter().any(|member| member.chosen.id != id && member.health == Health::InService)
    }

    /// Records how a request to a chosen endpoint ended; `None` for a request that was cancelled.
    pub(super) fn record(&mut self, id: EndpointId, verdict: Option<Verdict>, now: Instant) {
        // A busy response never takes the last endpoint in service, or the only endpoint, out of service.
        let can_be_spared = self.has_other_in_service(id);
        let is_only = self.members.len() == 1;
        let Some(member) = self.member(id) else { return };
        member.outstanding = member.outstanding.saturating_sub(1);
        match verdict {
            None => {}
            Some(Verdict::Down) if !is_only => member.fail(now),
            Some(Verdict::Busy | Verdict::Failing) if can_be_spared || member.health != Health::InService => member.fail(now),
            Some(Verdict::Down | Verdict::Busy | Verdict::Failing) => {}
            Some(_) => member.recover(),
        }
    }

    /// Returns an endpoint whose health check is due, and marks the check as running. Returns none if no endpoint is in service,
    /// because then the batches themselves try the endpoints.
    pub(super) fn begin_health_check(&mut self, now: Instant) -> Option<ChosenEndpoint> {
        if !self.members.iter().any(|member| member.health == Health::InService) {
            return None;
        }
        let is_due = |member: &&mut Member| matches!(member.health, Health::OutOfService { until } if until <= now);
        let member = self.members.iter_mut().find(is_due)?;
        member.health = Health::Checking;
        Some(member.chosen.clone())
    }

    /// Records how a health check ended.
    pub(super) fn record_health_check(&mut self, id: EndpointId, verdict: Verdict, now: Instant) {
        let Some(member) = self.member(id) else { return };
        match verdict {
            Verdict::Down | Verdict::Busy | Verdict::Failing => member.fail(now),
            _ => member.recover(),
        }
    }

    fn member(&mut self, id: EndpointId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.chosen.id == id)
    }
}

impl Member {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u16) -> Pool {
        Pool::new((1..=count).map(|port| Endpoint::parse(&format!("http://10.0.0.1:{port}/")).unwrap()).collect())
    }

    /// Chooses `count` times and returns the ids.
    fn choices(pool: &mut Pool, count: usize) -> Vec<u64> {
        (0..count).map(|_| pool.choose(None, None).unwrap().id.0).collect()
    }

    fn sorted(mut ids: Vec<u64>) -> Vec<u64> {
        ids.sort_unstable();
        ids
    }

    #[test]
    fn chooses_the_fewest_outstanding_requests_and_takes_turns() {
        let mut pool = pool(3);
        assert_eq!(sorted(choices(&mut pool, 6)), [1, 1, 2, 2, 3, 3]);
        pool.record(EndpointId(2), Some(Verdict::Accepted), Instant::now());
        assert_eq!(choices(&mut pool, 1), [2]);
    }

    #[test]
    fn prefers_and_avoids_what_the_caller_asks_for() {
        let mut pool = pool(3);
        for _ in 0..4 {
            assert_eq!(pool.choose(Some(EndpointId(3)), None).unwrap().id.0, 3);
            assert_ne!(pool.choose(None, Some(EndpointId(3))).unwrap().id.0, 3);
        }
    }

    #[test]
    fn out_of_service_time_doubles_and_ends_with_a_check() {
        let mut pool = pool(2);
        let start = Instant::now();
        pool.record(EndpointId(1), Some(Verdict::Down), start);
        assert_eq!(choices(&mut pool, 2), [2, 2]);
        assert!(pool.begin_health_check(start + Duration::from_millis(999)).is_none());
        let mut now = start + Duration::from_secs(1);
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(pool.begin_health_check(now).unwrap().id.0, 1);
            assert!(pool.begin_health_check(now).is_none(), "one health check at a time");
            assert_eq!(choices(&mut pool, 1), [2], "it gets no batch before the health check has ended");
            pool.record_health_check(EndpointId(1), Verdict::Busy, now);
            assert!(pool.begin_health_check(now + Duration::from_secs(seconds) - Duration::from_millis(1)).is_none());
            now += Duration::from_secs(seconds);
        }
        assert_eq!(pool.begin_health_check(now).unwrap().id.0, 1);
        pool.record_health_check(EndpointId(1), Verdict::Accepted, now);
        assert_eq!(choices(&mut pool, 1), [1]);
        pool.record(EndpointId(1), Some(Verdict::Down), now);
        assert!(pool.begin_health_check(now + Duration::from_secs(1)).is_some(), "success makes the time short again");
    }

    #[test]
    fn requests_that_fail_together_count_as_one_failure() {
        let mut pool = pool(2);
        let now = Instant::now();
        for _ in 0..8 {
            pool.record(EndpointId(1), Some(Verdict::Down), now);
        }
        assert!(pool.begin_health_check(now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn busy_never_takes_the_last_one_out_of_service() {
        let mut pool = pool(2);
        let now = Instant::now();
        pool.record(EndpointId(1), Some(Verdict::Busy), now);
        pool.record(EndpointId(2), Some(Verdict::Busy), now);
        assert_eq!(choices(&mut pool, 2), [2, 2]);
        pool.record(EndpointId(2), Some(Verdict::Down), now);
        assert!(!pool.has_other_in_service(EndpointId(1)));
        assert!(pool.choose(None, None).is_some(), "if all are out of service, the best one is tried");
    }

    #[test]
    fn the_only_endpoint_stays_in_service() {
        let mut pool = pool(1);
        let now = Instant::now();
        for verdict in [Verdict::Busy, Verdict::Down, Verdict::Failing] {
            pool.record(EndpointId(1), Some(verdict), now);
            assert!(pool.begin_health_check(now + Duration::from_mins(1)).is_none(), "it gets no health check after {verdict:?}");
            assert!(pool.choose(None, None).is_some());
        }
    }

    #[test]
    fn without_service_tries_the_one_with_the_fewest_failures() {
        let mut pool = pool(2);
        let now = Instant::now();
        pool.record(EndpointId(2), Some(Verdict::Down), now);
        pool.record(EndpointId(1), Some(Verdict::Down), now + Duration::from_millis(1));
        let later = now + Duration::from_secs(5);
        assert_eq!(choices(&mut pool, 1), [2], "its time ends first");
        pool.record(EndpointId(2), Some(Verdict::Down), later);
        assert_eq!(choices(&mut pool, 1), [1], "the other one has fewer failures");
        pool.record(EndpointId(1), Some(Verdict::Accepted), later);
        assert_eq!(choices(&mut pool, 1), [1]);
    }

    #[test]
    fn a_new_list_keeps_known_endpoints() {
        let mut pool = pool(2);
        let now = Instant::now();
        pool.record(EndpointId(1), Some(Verdict::Down), now);
        let url = |port: u16| Endpoint::parse(&format!("http://10.0.0.1:{port}/")).unwrap();
        pool.replace(vec![url(7), url(1)]);
        assert_eq!(choices(&mut pool, 2), [3, 3], "the first one is still out of service, and the second has left");
        pool.record(EndpointId(2), Some(Verdict::Accepted), now);
        pool.replace(Vec::new());
        assert!(pool.is_empty() && pool.choose(None, None).is_none());
    }
}
