//! The implementation of [`Fleet`] that calls AWS.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_autoscaling::types::LifecycleState;
use aws_sdk_ec2::types::Filter;
use elb_common::aws::explain_error;

use crate::fleet::{Fleet, FleetError, Hook};
use crate::group::{Group, Groups};
use crate::list::Member;
use crate::metrics::Metrics;

/// Maximum number of values in a filter.
const MOST_FILTER_VALUES: usize = 200;

/// Time limit of a call with its retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);

/// Number of attempts. The registry has its own back-off, and more calls do not help a throttled account.
const MAX_ATTEMPTS: u32 = 2;

/// Error codes of AWS for too many calls.
const THROTTLING_CODES: [&str; 5] =
    ["Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "RequestThrottled"];

/// Clients for every configured region. A request never creates a client.
#[derive(Debug)]
pub struct AwsFleet {
    regions: HashMap<String, Clients>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Clients {
    autoscaling: aws_sdk_autoscaling::Client,
    ec2: aws_sdk_ec2::Client,
}

impl AwsFleet {
    /// Creates clients for all groups. Nothing is connected yet.
    pub fn new(config: &SdkConfig, groups: &Groups, metrics: Metrics) -> Self {
        let mut regions = HashMap::new();
        for group in groups.iter() {
            regions.entry(group.key.region.clone()).or_insert_with(|| {
                let config = in_region(config, &group.key.region);
                Clients { autoscaling: aws_sdk_autoscaling::Client::new(&config), ec2: aws_sdk_ec2::Client::new(&config) }
            });
        }
        AwsFleet { regions, metrics }
    }

    fn clients(&self, region: &str) -> Result<&Clients, FleetError> {
        let unknown = || failed("the choice of a client", format!("the region {region} is not in REGISTRY_GROUPS"));
        self.regions.get(region).ok_or_else(unknown)
    }

    /// Returns the ids of a group's instances that are in service and healthy. Instances that wait at a hook (`Pending:Wait`) or in a
    /// warm pool are not in service.
    async fn in_service(&self, clients: &Clients, group: &Group) -> Result<Vec<String>, FleetError> {
        const OPERATION: &str = "DescribeAutoScalingGroups";
        let mut pages =
            clients.autoscaling.describe_auto_scaling_groups().auto_scaling_group_names(&group.name).into_paginator().send();
        let (mut ids, mut exists) = (Vec::new(), false);
        while let Some(page) = pages.next().await {
            self.metrics.aws_call(OPERATION);
            let page = page.map_err(|error| fault(OPERATION, &error))?;
            for known in page.auto_scaling_groups().iter().filter(|known| known.auto_scaling_group_name() == Some(&group.name)) {
                exists = true;
                let serving = known.instances().iter().filter(|instance| {
                    let is_healthy = instance.health_status().is_some_and(|status| status.eq_ignore_ascii_case("healthy"));
                    is_healthy && instance.lifecycle_state() == Some(&LifecycleState::InService)
                });
                ids.extend(serving.filter_map(|instance| instance.instance_id()).map(str::to_owned));
            }
        }
        let unknown = || FleetError::NoSuchGroup { group: group.name.clone(), region: group.key.region.clone() };
        if exists { Ok(ids) } else { Err(unknown()) }
    }

    /// Returns the addresses of instances. The ids are in a filter instead of a list of ids, because one unknown id in the list would
    /// fail the whole call.
    async fn addresses(&self, clients: &Clients, ids: &[String]) -> Result<Vec<Member>, FleetError> {
        const OPERATION: &str = "DescribeInstances";
        let ids = Filter::builder().name("instance-id").set_values(Some(ids.to_vec())).build();
        let running = Filter::builder().name("instance-state-name").values("running").build();
        let mut pages = clients.ec2.describe_instances().filters(ids).filters(running).into_paginator().send();
        let mut members = Vec::new();
        while let Some(page) = pages.next().await {
            self.metrics.aws_call(OPERATION);
            let page = page.map_err(|error| fault(OPERATION, &error))?;
            let instances = page.reservations().iter().flat_map(|reservation| reservation.instances());
            members.extend(instances.filter_map(member));
        }
        Ok(members)
    }
}

impl Fleet for AwsFleet {
    async fn members(&self, group: &Group) -> Result<Vec<Member>, FleetError> {
        let clients = self.clients(&group.key.region)?;
        let ids = self.in_service(clients, group).await?;
        let mut members = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST_FILTER_VALUES) {
            members.append(&mut self.addresses(clients, ids).await?);
        }
        Ok(members)
    }

    async fn complete_lifecycle_action(&self, hook: &Hook) -> Result<(), FleetError> {
        const OPERATION: &str = "CompleteLifecycleAction";
        let clients = self.clients(&hook.region)?;
        self.metrics.aws_call(OPERATION);
        let request = clients.autoscaling.complete_lifecycle_action().lifecycle_action_result("CONTINUE");
        let request = request.auto_scaling_group_name(&hook.group).lifecycle_hook_name(&hook.name).instance_id(&hook.instance);
        match request.set_lifecycle_action_token(hook.token.clone()).send().await {
            Ok(_) => Ok(()),
            // The action is complete already: a notification can arrive more than once.
            Err(error) if error.message().is_some_and(|text| text.contains("No active Lifecycle Action")) => Ok(()),
            Err(error) => Err(fault(OPERATION, &error)),
        }
    }
}

/// Returns the configuration for a region, with the registry's time limits.
pub fn in_region(config: &SdkConfig, region: &str) -> SdkConfig {
    let timeouts =
        TimeoutConfig::builder().operation_timeout(OPERATION_TIMEOUT).operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    let retries = RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS);
    config.to_builder().region(Region::new(region.to_owned())).timeout_config(timeouts).retry_config(retries).build()
}

/// Returns an instance with its addresses, the private IPv4 address first. The allowed ranges decide which address is used.
fn member(instance: &aws_sdk_ec2::types::Instance) -> Option<Member> {
    let v4 = instance.private_ip_address().into_iter();
    let interfaces = instance.network_interfaces().iter().flat_map(|interface| interface.ipv6_addresses());
    let v6 = instance.ipv6_address().into_iter().chain(interfaces.filter_map(|address| address.ipv6_address()));
    let addresses: Vec<IpAddr> = v4.chain(v6).filter_map(|text| text.parse().ok()).collect();
    Some(Member { instance: instance.instance_id()?.to_owned(), addresses })
}

fn fault<E>(operation: &'static str, error: &SdkError<E>) -> FleetError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let is_throttled = error.code().is_some_and(|code| THROTTLING_CODES.contains(&code));
    let reason = explain_error(error);
    if is_throttled { FleetError::Throttled { operation, reason } } else { failed(operation, reason) }
}

fn failed(operation: &'static str, reason: String) -> FleetError {
    FleetError::Failed { operation, reason }
}
