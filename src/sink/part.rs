//! The parts of a batch, and what is known of the requests with them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::acceptances::{Acceptances, Moment};
use super::outcome::{Fault, Outcome};
use super::pool::EndpointId;

/// After this number of lost connections with the same body, and an accepted body between each two, the body may be the reason.
const RESETS_TO_SPLIT: u32 = 3;

/// Events of a batch that are sent as one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The positions of the events in the batch.
    pub(super) events: Range<usize>,
    /// How the body is made.
    pub(super) form: Form,
    pub(super) retries: u32,
    pub(super) failures: BTreeMap<EndpointId, u32>,
    resets: BTreeMap<EndpointId, Resets>,
    /// The endpoints that blocked the part, and accepted something else since.
    pub(super) blocked_by: BTreeSet<EndpointId>,
}

/// How the body of a part is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The whole batch as it was built.
    Whole,
    /// The whole batch without compression, tried once: a proxy may not pass compressed bodies on.
    Uncompressed,
    /// A part of the batch.
    Piece,
}

/// Lost connections of a part at one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resets {
    /// Number of lost connections with an accepted body between each two.
    count: u32,
    first: Moment,
    last: Moment,
}

/// A part that an endpoint refused.
#[derive(Clone, Debug)]
pub(super) struct RefusedPart {
    pub(super) part: Part,
    pub(super) endpoint: EndpointId,
    pub(super) outcome: Outcome,
    pub(super) refusal: Refusal,
}

/// What proves that a refusal is about the events of a part.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// The response is about the body. The witness is any accepted body of the object.
    OfBody,
    /// The response may have another reason. The witness has to be fresh.
    Blocked { at: Moment },
}

impl Part {
    pub(super) fn new(events: Range<usize>, form: Form) -> Self {
        Part { events, form, retries: 0, failures: BTreeMap::new(), resets: BTreeMap::new(), blocked_by: BTreeSet::new() }
    }

    /// Returns the part without its earlier requests. Which endpoints blocked it is kept.
    pub(super) fn renewed(self) -> Self {
        Part { blocked_by: self.blocked_by, ..Part::new(self.events, self.form) }
    }

    /// Returns the part for the request that shows whether `endpoint` still blocks it.
    pub(super) fn blocked_once_by(mut self, endpoint: EndpointId) -> Self {
        self.blocked_by.insert(endpoint);
        self.renewed()
    }

    pub(super) fn is_single(&self) -> bool {
        self.events.len() <= 1
    }

    /// Counts a lost connection. Returns when the first one happened if by now the part itself may be the reason: a firewall can
    /// close the connection instead of responding.
    pub(super) fn blocked_since(
        &mut self,
        outcome: &Outcome,
        endpoint: EndpointId,
        now: Moment,
        acceptances: &Acceptances,
    ) -> Option<Moment> {
        let Outcome::NoResponse(Fault::Broken(_)) = outcome else { return None };
        let resets = self.resets.entry(endpoint).or_insert(Resets { count: 0, first: now, last: now });
        if resets.count == 0 || acceptances.any_since(endpoint, resets.last) {
            resets.count += 1;
        }
        resets.last = now;
        (resets.count >= RESETS_TO_SPLIT).then_some(resets.first)
    }
}

impl RefusedPart {
    pub(super) fn new(part: Part, refusal: Refusal, outcome: &Outcome, endpoint: EndpointId) -> Self {
        RefusedPart { part, endpoint, outcome: outcome.clone(), refusal }
    }

    /// Returns whether the endpoint has accepted events that were sent after it refused this part.
    pub(super) fn is_confirmed(&self, acceptances: &Acceptances) -> bool {
        match self.refusal {
            Refusal::OfBody => true,
            Refusal::Blocked { at } => acceptances.any_since(self.endpoint, at),
        }
    }
}
