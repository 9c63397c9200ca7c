//! Which endpoint gets the next request: the one with the fewest outstanding, among those that are not resting.
//!
//! An endpoint that failed rests, for a time that doubles with each failure in a row. After that it is probed with an empty
//! batch, which the http input takes for no event, and takes part again if it answers. Time comes in as a value.

use std::sync::Arc;
use std::time::Duration;

use elb_common::backoff::Backoff;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::outcome::Verdict;

/// How long an endpoint rests after a failure.
const REST: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

/// An endpoint, for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointId(u64);

/// The endpoints there are.
#[derive(Debug, Default)]
pub(super) struct Pool {
    members: Vec<Member>,
    next_id: u64,
    /// Where the search begins, so that endpoints with equally many requests take turns.
    turn: usize,
}

/// An endpoint that has been chosen.
#[derive(Clone, Debug)]
pub(super) struct ChosenEndpoint {
    /// By which the pool knows it.
    pub id: EndpointId,
    /// Where to send.
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
    Up,
    Resting { until: Instant },
    Probing,
}

impl EndpointId {
    /// An id. The pool's own count from 1.
    pub const fn new(id: u64) -> Self {
        EndpointId(id)
    }
}

impl Pool {
    /// A pool of these endpoints.
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        let mut pool = Pool::default();
        pool.replace(endpoints);
        pool
    }

    /// Takes these endpoints instead. What is known about those that were there before is kept.
    pub(super) fn replace(&mut self, endpoints: Vec<Endpoint>) {
        let mut before = std::mem::take(&mut self.members);
        for endpoint in endpoints {
            let known = before.iter().position(|member| *member.chosen.endpoint == endpoint);
            let member = known.map(|index| before.swap_remove(index)).unwrap_or_else(|| {
                self.next_id += 1;
                let chosen = ChosenEndpoint { id: EndpointId(self.next_id), endpoint: Arc::new(endpoint) };
                Member { chosen, outstanding: 0, failures: 0, health: Health::Up }
            });
            self.members.push(member);
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Chooses an endpoint for a request: `wanted` if it is up, and `avoided` only if no other is up. When all rest, the best is
    /// tried: the one that failed least, and of those the one whose rest ends first.
    pub(super) fn choose(&mut self, wanted: Option<EndpointId>, avoided: Option<EndpointId>) -> Option<ChosenEndpoint> {
        let count = self.members.len();
        if count == 0 {
            return None;
        }
        self.turn = (self.turn + 1) % count;
        let turn = self.turn;
        let rank = |(index, member): &(usize, &mut Member)| {
            let (rests, until) = match member.health {
                Health::Up => (false, None),
                Health::Resting { until } => (true, Some(until)),
                Health::Probing => (true, None),
            };
            let (is_wanted, is_avoided) = (wanted == Some(member.chosen.id), avoided == Some(member.chosen.id));
            let failures = if rests { member.failures } else { 0 };
            (rests, failures, until, is_avoided, !is_wanted, member.outstanding, (index + count - turn) % count)
        };
        let (_, best) = self.members.iter_mut().enumerate().min_by_key(rank)?;
        best.outstanding += 1;
        Some(best.chosen.clone())
    }

    /// Every endpoint.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.members.iter().map(|member| Arc::clone(&member.chosen.endpoint)).collect()
    }

    /// Whether none rests.
    pub(super) fn is_all_up(&self) -> bool {
        self.members.iter().all(|member| member.health == Health::Up)
    }

    /// What an endpoint is called. One that is gone from the list has no name any more.
    pub(super) fn name(&self, id: EndpointId) -> String {
        let member = self.members.iter().find(|member| member.chosen.id == id);
        member.map_or_else(|| "a former endpoint".to_owned(), |member| member.chosen.endpoint.to_string())
    }

    /// Whether an endpoint other than `id` is up.
    pub(super) fn has_other_up(&self, id: EndpointId) -> bool {
        self.members.iter().any(|member| member.chosen.id != id && member.health == Health::Up)
    }

    /// Notes how a request to a chosen endpoint ended. None for one that was given up.
    pub(super) fn ended(&mut self, id: EndpointId, verdict: Option<Verdict>, now: Instant) {
        // Being busy never rests the last one that is up, or the only one there is.
        let can_rest = self.has_other_up(id);
        let alone = self.members.len() == 1;
        let Some(member) = self.member(id) else { return };
        member.outstanding = member.outstanding.saturating_sub(1);
        match verdict {
            None => {}
            Some(Verdict::Down) if !alone => member.rest(now),
            Some(Verdict::Busy | Verdict::Failing) if can_rest || member.health != Health::Up => member.rest(now),
            Some(Verdict::Down | Verdict::Busy | Verdict::Failing) => {}
            Some(_) => member.is_well(),
        }
    }

    /// An endpoint whose rest is over and that is to be probed now. There is nothing to probe where none is up: then the
    /// batches themselves try.
    pub(super) fn due_probe(&mut self, now: Instant) -> Option<ChosenEndpoint> {
        if !self.members.iter().any(|member| member.health == Health::Up) {
            return None;
        }
        let rested = |member: &&mut Member| matches!(member.health, Health::Resting { until } if until <= now);
        let member = self.members.iter_mut().find(rested)?;
        member.health = Health::Probing;
        Some(member.chosen.clone())
    }

    /// Notes how a probe ended.
    pub(super) fn probed(&mut self, id: EndpointId, verdict: Verdict, now: Instant) {
        let Some(member) = self.member(id) else { return };
        match verdict {
            Verdict::Down | Verdict::Busy | Verdict::Failing => member.rest(now),
            _ => member.is_well(),
        }
    }

    fn member(&mut self, id: EndpointId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.chosen.id == id)
    }
}

impl Member {
    /// Several requests that fail together are one failure.
    fn rest(&mut self, now: Instant) {
        if matches!(self.health, Health::Resting { until } if until > now) {
            return;
        }
        let rest = REST.wait(self.failures);
        self.failures += 1;
        self.health = Health::Resting { until: now + rest };
    }

    fn is_well(&mut self) {
        self.failures = 0;
        self.health = Health::Up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u16) -> Pool {
        Pool::new((1..=count).map(|port| Endpoint::parse(&format!("http://10.0.0.1:{port}/")).unwrap()).collect())
    }

    /// Chooses `count` times and shows the ids.
    fn choices(pool: &mut Pool, count: usize) -> Vec<u64> {
        (0..count).map(|_| pool.choose(None, None).unwrap().id.0).collect()
    }

    fn sorted(mut ids: Vec<u64>) -> Vec<u64> {
        ids.sort_unstable();
        ids
    }

    #[test]
    fn the_one_with_the_fewest_outstanding_is_chosen_and_equals_take_turns() {
        let mut pool = pool(3);
        assert_eq!(sorted(choices(&mut pool, 6)), [1, 1, 2, 2, 3, 3]);
        pool.ended(EndpointId(2), Some(Verdict::Accepted), Instant::now());
        assert_eq!(choices(&mut pool, 1), [2]);
    }

    #[test]
    fn a_wish_is_granted_and_what_failed_is_avoided() {
        let mut pool = pool(3);
        for _ in 0..4 {
            assert_eq!(pool.choose(Some(EndpointId(3)), None).unwrap().id.0, 3);
            assert_ne!(pool.choose(None, Some(EndpointId(3))).unwrap().id.0, 3);
        }
    }

    #[test]
    fn rests_double_and_end_with_a_probe() {
        let mut pool = pool(2);
        let start = Instant::now();
        pool.ended(EndpointId(1), Some(Verdict::Down), start);
        assert_eq!(choices(&mut pool, 2), [2, 2]);
        assert!(pool.due_probe(start + Duration::from_millis(999)).is_none());
        let mut now = start + Duration::from_secs(1);
        for rest in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(pool.due_probe(now).unwrap().id.0, 1);
            assert!(pool.due_probe(now).is_none(), "one probe at a time");
            assert_eq!(choices(&mut pool, 1), [2], "nothing is sent to it before the probe is answered");
            pool.probed(EndpointId(1), Verdict::Busy, now);
            assert!(pool.due_probe(now + Duration::from_secs(rest) - Duration::from_millis(1)).is_none());
            now += Duration::from_secs(rest);
        }
        assert_eq!(pool.due_probe(now).unwrap().id.0, 1);
        pool.probed(EndpointId(1), Verdict::Accepted, now);
        assert_eq!(choices(&mut pool, 1), [1]);
        pool.ended(EndpointId(1), Some(Verdict::Down), now);
        assert!(pool.due_probe(now + Duration::from_secs(1)).is_some(), "after it has been well the rest is short again");
    }

    #[test]
    fn requests_that_fail_together_are_one_failure() {
        let mut pool = pool(2);
        let now = Instant::now();
        for _ in 0..8 {
            pool.ended(EndpointId(1), Some(Verdict::Down), now);
        }
        assert!(pool.due_probe(now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn being_busy_never_rests_the_last_one() {
        let mut pool = pool(2);
        let now = Instant::now();
        pool.ended(EndpointId(1), Some(Verdict::Busy), now);
        pool.ended(EndpointId(2), Some(Verdict::Busy), now);
        assert_eq!(choices(&mut pool, 2), [2, 2]);
        pool.ended(EndpointId(2), Some(Verdict::Down), now);
        assert!(!pool.has_other_up(EndpointId(1)));
        assert!(pool.choose(None, None).is_some(), "when all rest, the best is tried");
    }

    #[test]
    fn the_only_one_never_rests() {
        let mut pool = pool(1);
        let now = Instant::now();
        for verdict in [Verdict::Busy, Verdict::Down, Verdict::Failing] {
            pool.ended(EndpointId(1), Some(verdict), now);
            assert!(
                pool.due_probe(now + Duration::from_mins(1)).is_none(),
                "nothing but batches is sent to it after {verdict:?}"
            );
            assert!(pool.choose(None, None).is_some());
        }
    }

    #[test]
    fn when_all_rest_the_one_that_failed_least_is_tried() {
        let mut pool = pool(2);
        let now = Instant::now();
        pool.ended(EndpointId(2), Some(Verdict::Down), now);
        pool.ended(EndpointId(1), Some(Verdict::Down), now + Duration::from_millis(1));
        let later = now + Duration::from_secs(5);
        assert_eq!(choices(&mut pool, 1), [2], "its rest ends first");
        pool.ended(EndpointId(2), Some(Verdict::Down), later);
        assert_eq!(choices(&mut pool, 1), [1], "the other one failed less");
        pool.ended(EndpointId(1), Some(Verdict::Accepted), later);
        assert_eq!(choices(&mut pool, 1), [1]);
    }

    #[test]
    fn a_new_list_keeps_what_is_known() {
        let mut pool = pool(2);
        let now = Instant::now();
        pool.ended(EndpointId(1), Some(Verdict::Down), now);
        let url = |port: u16| Endpoint::parse(&format!("http://10.0.0.1:{port}/")).unwrap();
        pool.replace(vec![url(7), url(1)]);
        assert_eq!(choices(&mut pool, 2), [3, 3], "the first one still rests, and the second is gone");
        pool.ended(EndpointId(2), Some(Verdict::Accepted), now);
        pool.replace(Vec::new());
        assert!(pool.is_empty() && pool.choose(None, None).is_none());
    }
}
