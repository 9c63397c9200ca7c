//! The calls to AWS, as a trait between the registry's rules and the network. Tests replace it to simulate days, races and outages.

use crate::group::Group;
use crate::list::Member;

/// AWS, or a test double of it.
pub trait Fleet: Send + Sync + 'static {
    /// Returns the servers of a group that are in service and healthy, in any order.
    fn members(&self, group: &Group) -> impl Future<Output = Result<Vec<Member>, FleetError>> + Send;

    /// Completes the lifecycle action of an instance that waits at a hook. Succeeds as well if the instance no longer waits.
    fn complete_lifecycle_action(&self, hook: &Hook) -> impl Future<Output = Result<(), FleetError>> + Send;
}

/// An instance that waits at a lifecycle hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Region of the group.
    pub region: String,
    /// Auto Scaling group.
    pub group: String,
    /// Id of the instance.
    pub instance: String,
    /// Name of the hook.
    pub name: String,
    /// Token of this lifecycle action; older notifications have none.
    pub token: Option<String>,
}

/// Why a call to AWS failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// There were too many calls in the account and region.
    #[error("AWS throttled {operation}: {reason}")]
    Throttled {
        /// Operation of the API.
        operation: &'static str,
        /// Message of AWS.
        reason: String,
    },
    /// AWS did not respond, or returned an error.
    #[error("{operation} failed: {reason}")]
    Failed {
        /// Operation of the API.
        operation: &'static str,
        /// Cause.
        reason: String,
    },
    /// The group does not exist.
    #[error("the Auto Scaling group {group:?} does not exist in {region}; correct REGISTRY_GROUPS")]
    NoSuchGroup {
        /// Name of the group.
        group: String,
        /// Region that was searched.
        region: String,
    },
}
