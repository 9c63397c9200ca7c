//! The true AWS behind the seam.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_autoscaling::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_autoscaling::types::LifecycleState;
use aws_sdk_ec2::types::Filter;

use crate::fleet::{Fleet, FleetError, Hook};
use crate::group::{Group, Groups};
use crate::list::Member;
use crate::metrics::Metrics;

/// As many values as a filter takes.
const MOST_FILTER_VALUES: usize = 200;

/// One call, with its retries.
const OPERATION_PATIENCE: Duration = Duration::from_secs(10);

/// One try of a call.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(4);

/// The registry has its own back-off, and a throttled account is not helped by more calls.
const ATTEMPTS: u32 = 2;

/// What AWS answers where there is nothing to throttle but the caller.
const THROTTLING: [&str; 5] =
    ["Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "RequestThrottled"];

/// Clients of every region that the configuration names. A request never makes another.
#[derive(Debug)]
pub struct Aws {
    regions: HashMap<String, Clients>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Clients {
    autoscaling: aws_sdk_autoscaling::Client,
    ec2: aws_sdk_ec2::Client,
}

impl Aws {
    /// Clients for all groups. Nothing is connected yet.
    pub fn new(config: &SdkConfig, groups: &Groups, metrics: Metrics) -> Self {
        let mut regions = HashMap::new();
        for group in groups.iter() {
            regions.entry(group.key.region.clone()).or_insert_with(|| {
                let config = in_region(config, &group.key.region);
                Clients { autoscaling: aws_sdk_autoscaling::Client::new(&config), ec2: aws_sdk_ec2::Client::new(&config) }
            });
        }
        Aws { regions, metrics }
    }

    fn clients(&self, region: &str) -> Result<&Clients, FleetError> {
        let unknown = || failed("choosing a client", format!("the region {region} is not in REGISTRY_GROUPS"));
        self.regions.get(region).ok_or_else(unknown)
    }

    /// The ids of a group's instances that are in service and healthy. One that waits at a hook (`Pending:Wait`) or in a warm pool
    /// is not.
    async fn in_service(&self, clients: &Clients, group: &Group) -> Result<Vec<String>, FleetError> {
        const OPERATION: &str = "DescribeAutoScalingGroups";
        let mut pages =
            clients.autoscaling.describe_auto_scaling_groups().auto_scaling_group_names(&group.name).into_paginator().send();
        let (mut ids, mut is_known) = (Vec::new(), false);
        while let Some(page) = pages.next().await {
            self.metrics.aws_call(OPERATION);
            let page = page.map_err(|error| fault(OPERATION, error))?;
            for known in page.auto_scaling_groups().iter().filter(|known| known.auto_scaling_group_name() == Some(&group.name)) {
                is_known = true;
                let serving = known.instances().iter().filter(|instance| {
                    let is_healthy = instance.health_status().is_some_and(|status| status.eq_ignore_ascii_case("healthy"));
                    is_healthy && instance.lifecycle_state() == Some(&LifecycleState::InService)
                });
                ids.extend(serving.filter_map(|instance| instance.instance_id()).map(str::to_owned));
            }
        }
        let unknown = || FleetError::NoSuchGroup { group: group.name.clone(), region: group.key.region.clone() };
        if is_known { Ok(ids) } else { Err(unknown()) }
    }

    /// The addresses of instances. They are filtered for rather than named, because one unknown id would fail the whole call.
    async fn addresses(&self, clients: &Clients, ids: &[String]) -> Result<Vec<Member>, FleetError> {
        const OPERATION: &str = "DescribeInstances";
        let ids = Filter::builder().name("instance-id").set_values(Some(ids.to_vec())).build();
        let running = Filter::builder().name("instance-state-name").values("running").build();
        let mut pages = clients.ec2.describe_instances().filters(ids).filters(running).into_paginator().send();
        let mut members = Vec::new();
        while let Some(page) = pages.next().await {
            self.metrics.aws_call(OPERATION);
            let page = page.map_err(|error| fault(OPERATION, error))?;
            let instances = page.reservations().iter().flat_map(|reservation| reservation.instances());
            members.extend(instances.filter_map(member));
        }
        Ok(members)
    }
}

impl Fleet for Aws {
    async fn members(&self, group: &Group) -> Result<Vec<Member>, FleetError> {
        let clients = self.clients(&group.key.region)?;
        let ids = self.in_service(clients, group).await?;
        let mut members = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST_FILTER_VALUES) {
            members.append(&mut self.addresses(clients, ids).await?);
        }
        Ok(members)
    }

    async fn go_on(&self, hook: &Hook) -> Result<(), FleetError> {
        const OPERATION: &str = "CompleteLifecycleAction";
        let clients = self.clients(&hook.region)?;
        self.metrics.aws_call(OPERATION);
        let request = clients.autoscaling.complete_lifecycle_action().lifecycle_action_result("CONTINUE");
        let request = request.auto_scaling_group_name(&hook.group).lifecycle_hook_name(&hook.name).instance_id(&hook.instance);
        match request.set_lifecycle_action_token(hook.token.clone()).send().await {
            Ok(_) => Ok(()),
            // Somebody has let it go on before: a notification comes more than once.
            Err(error) if error.message().is_some_and(|text| text.contains("No active Lifecycle Action")) => Ok(()),
            Err(error) => Err(fault(OPERATION, error)),
        }
    }
}

/// The configuration for a region, with the patience of the registry.
pub fn in_region(config: &SdkConfig, region: &str) -> SdkConfig {
    let timeouts =
        TimeoutConfig::builder().operation_timeout(OPERATION_PATIENCE).operation_attempt_timeout(ATTEMPT_PATIENCE).build();
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
    config.to_builder().region(Region::new(region.to_owned())).timeout_config(timeouts).retry_config(retries).build()
}

/// The private IPv4 address comes first; which of them is used, the allowed ranges decide.
fn member(instance: &aws_sdk_ec2::types::Instance) -> Option<Member> {
    let v4 = instance.private_ip_address().into_iter();
    let interfaces = instance.network_interfaces().iter().flat_map(|interface| interface.ipv6_addresses());
    let v6 = instance.ipv6_address().into_iter().chain(interfaces.filter_map(|address| address.ipv6_address()));
    let addresses: Vec<IpAddr> = v4.chain(v6).filter_map(|text| text.parse().ok()).collect();
    Some(Member { instance: instance.instance_id()?.to_owned(), addresses })
}

fn fault<E>(operation: &'static str, error: E) -> FleetError
where
    E: ProvideErrorMetadata + std::error::Error,
{
    let is_throttled = error.code().is_some_and(|code| THROTTLING.contains(&code));
    let reason = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => DisplayErrorContext(&error).to_string(),
    };
    if is_throttled { FleetError::Throttled { operation, reason } } else { failed(operation, reason) }
}

fn failed(operation: &'static str, reason: String) -> FleetError {
    FleetError::Failed { operation, reason }
}
