//! What is asked of AWS. The seam between the rules of the registry and the network: tests put days, races and outages in its place.

use crate::group::Group;
use crate::list::Member;

/// AWS, or what stands for it.
pub trait Fleet: Send + Sync + 'static {
    /// The servers of a group that are in service and healthy, in any order.
    fn members(&self, group: &Group) -> impl Future<Output = Result<Vec<Member>, FleetError>> + Send;

    /// Lets an instance that waits at a hook go on. One that waits no longer is a success too.
    fn go_on(&self, hook: &Hook) -> impl Future<Output = Result<(), FleetError>> + Send;
}

/// A lifecycle hook at which an instance waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The group's region.
    pub region: String,
    /// The autoscaling group.
    pub group: String,
    /// The instance.
    pub instance: String,
    /// The hook's name.
    pub name: String,
    /// What identifies this one wait; older notifications have none.
    pub token: Option<String>,
}

/// AWS did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// Too many calls in the account and region.
    #[error("{operation} was throttled by AWS ({reason})")]
    Throttled {
        /// The operation of the API.
        operation: &'static str,
        /// What AWS said.
        reason: String,
    },
    /// No answer, or a refusal.
    #[error("{operation} failed ({reason})")]
    Failed {
        /// The operation of the API.
        operation: &'static str,
        /// What happened.
        reason: String,
    },
    /// AWS does not know the group.
    #[error("there is no autoscaling group {group:?} in {region}; see REGISTRY_GROUPS")]
    NoSuchGroup {
        /// Its name.
        group: String,
        /// Where it was looked for.
        region: String,
    },
}
