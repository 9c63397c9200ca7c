//! What the endpoints have shown about the bodies of one object.

use std::collections::BTreeSet;

use super::pool::EndpointId;

/// What the endpoints have shown about the bodies of one object. All batches of the object share it.
#[derive(Debug)]
pub struct Evidence {
    pub(super) accepted_by: BTreeSet<EndpointId>,
    pub(super) rejected: usize,
    pub(super) poison_limit: usize,
}

impl Evidence {
    /// Creates the evidence of an object of which nothing has been sent. More than `poison_limit` rejected events fail the object.
    pub fn new(poison_limit: usize) -> Self {
        Evidence { accepted_by: BTreeSet::new(), rejected: 0, poison_limit }
    }

    /// Creates the evidence of the rest of an object, of which an earlier attempt has rejected `rejected` events.
    pub(crate) fn after(rejected: usize, poison_limit: usize) -> Self {
        Evidence { rejected, ..Evidence::new(poison_limit) }
    }

    /// Returns whether `endpoint` has accepted a body of the object.
    pub(super) fn has_witness(&self, endpoint: EndpointId) -> bool {
        self.accepted_by.contains(&endpoint)
    }
}
