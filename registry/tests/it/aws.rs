//! The AWS SDK against moto, and against a scripted server for responses that moto does not return.

use std::time::Duration;

use axum::response::Response;
use elb_log_registry::alert::{Alerts, Channel, Problem};
use elb_log_registry::aws::AwsFleet;
use elb_log_registry::fleet::{Fleet, FleetError, Hook};
use elb_log_registry::metrics::Metrics;

use crate::support::peers::{Moto, Scripted, Seen, answer, aws};
use crate::support::{clock, group, groups, instance};

fn hook() -> Hook {
    Hook {
        region: "eu-west-1".to_owned(),
        group: "logstash-eu1".to_owned(),
        instance: instance(1),
        name: "to-registry".to_owned(),
        token: Some("71514b9d-6a40-4b26-8523-05e7ee35fa40".to_owned()),
    }
}

#[tokio::test]
async fn returns_the_members_of_a_group_with_addresses() {
    let moto = Moto::start().await;
    moto.make_group(3).await;
    let metrics = Metrics::default();
    let fleet = AwsFleet::new(&moto.config(), &groups(), metrics.clone());
    let members = fleet.members(&group()).await.unwrap();
    assert_eq!(members.len(), 3);
    assert!(members.iter().all(|member| member.addresses.iter().any(|address| group().admits(*address))), "{members:?}");
    assert_eq!((metrics.aws_calls("DescribeAutoScalingGroups"), metrics.aws_calls("DescribeInstances")), (1, 1));
    moto.resize_group(0).await;
    assert_eq!(fleet.members(&group()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn splits_large_groups_into_several_calls() {
    let moto = Moto::start().await;
    moto.make_group(205).await;
    let metrics = Metrics::default();
    let members = AwsFleet::new(&moto.config(), &groups(), metrics.clone()).members(&group()).await.unwrap();
    assert_eq!((members.len(), metrics.aws_calls("DescribeInstances")), (205, 2));
}

#[tokio::test]
async fn names_a_group_that_does_not_exist() {
    let moto = Moto::start().await;
    let error = AwsFleet::new(&moto.config(), &groups(), Metrics::default()).members(&group()).await.unwrap_err();
    assert_eq!(error.to_string(), "the Auto Scaling group \"logstash-eu1\" does not exist in eu-west-1; correct REGISTRY_GROUPS");
}

/// A queue that is subscribed to the topic receives the alerts.
#[tokio::test]
async fn alerts_and_recoveries_reach_a_topic() {
    let moto = Moto::start().await;
    let config = moto.config();
    let (sns, sqs) = (aws_sdk_sns::Client::new(&config), aws_sdk_sqs::Client::new(&config));
    let arn = sns.create_topic().name("alerts").send().await.unwrap().topic_arn.unwrap();
    let queue = sqs.create_queue().queue_name("alerts").send().await.unwrap().queue_url.unwrap();
    let queue_arn = "arn:aws:sqs:eu-west-1:123456789012:alerts";
    sns.subscribe().topic_arn(&arn).protocol("sqs").endpoint(queue_arn).send().await.unwrap();
    let channel = Channel::Topic { client: sns, arn };
    let alerts = Alerts::new(vec![channel], Metrics::default(), clock());
    for _ in 0..10 {
        alerts.raise(&group().key, Problem::AwsFailed, "AWS throttled DescribeInstances");
    }
    alerts.flush().await;
    alerts.recover(&group().key, &[Problem::AwsFailed]);
    alerts.flush().await;
    let messages =
        sqs.receive_message().queue_url(queue).max_number_of_messages(10).send().await.unwrap().messages.unwrap_or_default();
    let bodies: Vec<&str> = messages.iter().filter_map(|message| message.body()).collect();
    assert_eq!(bodies.len(), 2, "{bodies:#?}");
    assert!(bodies.iter().any(|body| body.contains("AWS throttled DescribeInstances") && body.contains("raised")), "{bodies:#?}");
    assert!(bodies.iter().any(|body| body.contains("aws_failed is over") && body.contains("recovered")), "{bodies:#?}");
}

#[tokio::test]
async fn counts_alerts_that_cannot_be_sent() {
    let receiver = Scripted::start(|_, _| answer(500, "")).await;
    let channel = Channel::Webhook { client: reqwest::Client::new(), url: receiver.url.clone().into() };
    let metrics = Metrics::default();
    let alerts = Alerts::new(vec![channel], metrics.clone(), clock());
    alerts.raise(&group().key, Problem::AwsFailed, "throttled");
    alerts.flush().await;
    assert_eq!(receiver.seen().len(), 3);
    assert!(metrics.text().contains("registry_alerts_lost_total{channel=\"webhook\"} 1"), "{}", metrics.text());
}

/// A response with instances in these lifecycle and health states.
fn describe_groups(states: &[(u8, &str, &str)]) -> String {
    let instances: String = states
        .iter()
        .map(|(number, state, health)| {
            format!(
                "<member><InstanceId>{}</InstanceId><AvailabilityZone>eu-west-1a</AvailabilityZone>\
                 <LifecycleState>{state}</LifecycleState><HealthStatus>{health}</HealthStatus>\
                 <ProtectedFromScaleIn>false</ProtectedFromScaleIn></member>",
                instance(*number)
            )
        })
        .collect();
    format!(
        "<DescribeAutoScalingGroupsResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
         <DescribeAutoScalingGroupsResult><AutoScalingGroups><member><AutoScalingGroupName>logstash-eu1</AutoScalingGroupName>\
         <MinSize>0</MinSize><MaxSize>9</MaxSize><DesiredCapacity>1</DesiredCapacity><DefaultCooldown>1</DefaultCooldown>\
         <AvailabilityZones/><HealthCheckType>EC2</HealthCheckType><CreatedTime>2026-03-02T10:00:00Z</CreatedTime>\
         <Instances>{instances}</Instances></member></AutoScalingGroups></DescribeAutoScalingGroupsResult>\
         </DescribeAutoScalingGroupsResponse>"
    )
}

/// A response of two pages.
fn describe_instances(request: &Seen) -> String {
    let (number, next) = if request.body.contains("NextToken") { (2, "") } else { (1, "<nextToken>more</nextToken>") };
    format!(
        "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item><instancesSet><item>\
         <instanceId>{}</instanceId><privateIpAddress>10.0.0.{number}</privateIpAddress><ipv6Address>fd12::{number}</ipv6Address>\
         </item></instancesSet></item></reservationSet>{next}</DescribeInstancesResponse>",
        instance(number)
    )
}

fn error(status: u16, code: &str, message: &str) -> Response {
    answer(
        status,
        &format!(
            "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type><Code>{code}</Code>\
             <Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        ),
    )
}

fn fleet(server: &Scripted) -> AwsFleet {
    AwsFleet::new(&aws(&server.url), &groups(), Metrics::default())
}

#[tokio::test]
async fn requests_only_instances_in_service_and_healthy() {
    let server = Scripted::start(|_, request| {
        let states = [
            (1, "InService", "Healthy"),
            (2, "InService", "HEALTHY"),
            (3, "Pending:Wait", "Healthy"),
            (4, "Pending:Proceed", "Healthy"),
            (5, "Terminating:Wait", "Healthy"),
            (6, "InService", "Unhealthy"),
            (7, "Warmed:Stopped", "Healthy"),
            (8, "Warmed:Running", "Healthy"),
            (9, "Standby", "Healthy"),
        ];
        let is_groups = request.body.contains("DescribeAutoScalingGroups");
        answer(200, &if is_groups { describe_groups(&states) } else { describe_instances(request) })
    })
    .await;
    let members = fleet(&server).members(&group()).await.unwrap();
    let found: Vec<String> = members.iter().map(|member| format!("{} {:?}", member.instance, member.addresses)).collect();
    assert_eq!(found, [format!("{} [10.0.0.1, fd12::1]", instance(1)), format!("{} [10.0.0.2, fd12::2]", instance(2))]);
    let asked = &server.seen()[1].body;
    assert!(asked.contains(&instance(1)) && asked.contains(&instance(2)), "{asked}");
    assert!((3..=9).all(|number| !asked.contains(&instance(number))), "{asked}");
    assert!(!asked.contains("InstanceId.1"), "one unknown id would fail the whole call: {asked}");
}

#[tokio::test]
async fn a_group_without_instances_needs_one_call() {
    let server = Scripted::start(|_, _| answer(200, &describe_groups(&[(3, "Pending:Wait", "Healthy")]))).await;
    assert_eq!(fleet(&server).members(&group()).await, Ok(Vec::new()));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn recognises_throttling_and_tries_at_most_twice() {
    let server = Scripted::start(|_, _| error(400, "Throttling", "Rate exceeded")).await;
    let error = fleet(&server).members(&group()).await.unwrap_err();
    assert!(
        matches!(&error, FleetError::Throttled { reason, .. } if reason == "Throttling: Rate exceeded (HTTP 400)"),
        "{error}"
    );
    assert!(server.seen().len() <= 2);
}

#[tokio::test]
async fn completes_a_lifecycle_action_with_its_token() {
    let server = Scripted::start(|_, _| answer(200, "<CompleteLifecycleActionResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><CompleteLifecycleActionResult/></CompleteLifecycleActionResponse>")).await;
    fleet(&server).complete_lifecycle_action(&hook()).await.unwrap();
    let asked = &server.seen()[0].body;
    for part in [
        "Action=CompleteLifecycleAction",
        "LifecycleActionResult=CONTINUE",
        "LifecycleHookName=to-registry",
        "AutoScalingGroupName=logstash-eu1",
        "LifecycleActionToken=71514b9d",
        &format!("InstanceId={}", instance(1)),
    ] {
        assert!(asked.contains(part), "{part} is not in {asked}");
    }
}

#[tokio::test]
async fn completing_a_finished_lifecycle_action_succeeds() {
    let gone = "No active Lifecycle Action found with instance ID i-0";
    let server = Scripted::start(move |_, _| error(400, "ValidationError", gone)).await;
    assert_eq!(fleet(&server).complete_lifecycle_action(&hook()).await, Ok(()));
    let server = Scripted::start(|_, _| error(400, "ValidationError", "Unable to find a hook")).await;
    let error = fleet(&server).complete_lifecycle_action(&hook()).await.unwrap_err().to_string();
    assert_eq!(error, "CompleteLifecycleAction failed: ValidationError: Unable to find a hook (HTTP 400)");
}

#[tokio::test]
async fn a_call_to_a_hanging_aws_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let fleet = AwsFleet::new(&aws(&url), &groups(), Metrics::default());
    let error = tokio::time::timeout(Duration::from_secs(30), fleet.members(&group())).await.expect("a time-out").unwrap_err();
    assert!(error.to_string().contains("DescribeAutoScalingGroups failed"), "{error}");
}
