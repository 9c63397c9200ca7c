//! Which endpoints have accepted bodies, and in which order that happened.
//!
//! An acceptance from before a refusal proves nothing about the refused body: meanwhile a password may have been rotated, or a
//! firewall may have begun to block the sender. An acceptance of a body that was *sent after* the refusal does.

use std::collections::BTreeMap;

use super::pool::EndpointId;

/// A position in the order of requests and responses of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// The bodies that endpoints have accepted. Empty batches do not count.
#[derive(Debug, Default)]
pub(super) struct Acceptances {
    moments: u64,
    bodies: u64,
    /// When the latest accepted body of each endpoint was sent.
    latest: BTreeMap<EndpointId, Moment>,
}

impl Acceptances {
    /// Returns the present moment, which is after every earlier one.
    pub(super) fn now(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }

    /// Records that `endpoint` has accepted a body, which was sent at `sent`.
    pub(super) fn record(&mut self, endpoint: EndpointId, sent: Moment) {
        self.bodies += 1;
        let latest = self.latest.entry(endpoint).or_insert(sent);
        *latest = sent.max(*latest);
    }

    /// Returns the number of bodies that any endpoint has accepted.
    pub(super) fn bodies(&self) -> u64 {
        self.bodies
    }

    /// Returns whether `endpoint` has accepted any body.
    pub(super) fn any(&self, endpoint: EndpointId) -> bool {
        self.latest.contains_key(&endpoint)
    }

    /// Returns whether `endpoint` has accepted a body that was sent after `moment`.
    pub(super) fn any_since(&self, endpoint: EndpointId, moment: Moment) -> bool {
        self.latest.get(&endpoint).is_some_and(|latest| *latest > moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_later_counts() {
        const A: EndpointId = EndpointId::new(1);
        const B: EndpointId = EndpointId::new(2);
        let mut acceptances = Acceptances::default();
        let [sent_before, refused, sent_after] = [(); 3].map(|()| acceptances.now());
        acceptances.record(A, sent_before);
        assert!(!acceptances.any_since(A, refused), "the body was sent before the refusal");
        acceptances.record(A, sent_after);
        acceptances.record(A, sent_before);
        assert!(acceptances.any_since(A, refused));
        assert!(!acceptances.any_since(B, refused), "another endpoint has accepted the body");
        assert_eq!(acceptances.bodies(), 3);
    }
}
