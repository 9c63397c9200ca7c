//! The Lambda function, with the events of `samples/events`.

use std::sync::Arc;
use std::time::Duration;

use elb_log_registry::fleet::FleetError;
use elb_log_registry::function::{Function, FunctionError, ListOwner, UpdateRoute};
use elb_log_registry::registry::Registry;
use elb_log_registry::routes::{UpdateAuth, router};
use elb_log_registry::store::{MemoryStore, Store};
use lambda_runtime::Context;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::support::peers::{Scripted, answer, sample, serve};
use crate::support::{Double, alerts, body, group, instance, registry, registry_with};

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:logstash-lifecycle";
const TOKEN: &str = "0123456789abcdef";

fn function_of(registry: &Arc<Registry<Double>>, owner: ListOwner) -> Function<Double> {
    let routes = router(Arc::clone(registry), UpdateAuth::Iam);
    Function::new(Arc::clone(registry), routes, owner, vec![TOPIC.to_owned()])
}

async fn invoke(function: &Function<Double>, event: Value) -> Result<Value, FunctionError> {
    function.invoke(event, Context::default()).await
}

/// A function whose list contains the servers 1, 2 and 3; the sample events are about server 2.
async fn started() -> (Double, Arc<Registry<Double>>, Function<Double>) {
    let double = Double::with(&[1, 2, 3]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    let function = function_of(&registry, ListOwner::Function);
    (double, registry, function)
}

async fn listed(registry: &Arc<Registry<Double>>) -> String {
    registry.lookup(&group()).await.expect("a list").list.body()
}

#[tokio::test(start_paused = true)]
async fn removes_an_instance_before_it_completes_the_terminate_hook() {
    for event in ["asg-sns-hook-terminating.json", "asg-eventbridge-hook-terminating.json"] {
        let (double, registry, function) = started().await;
        assert_eq!(invoke(&function, sample(event)).await.unwrap(), json!({"done": ["left the list and goes on"]}));
        assert_eq!(listed(&registry).await, body(&[1, 3]), "{event}");
        let completed_hooks = double.completed_hooks();
        let hook = (completed_hooks[0].name.as_str(), completed_hooks[0].instance.as_str(), completed_hooks[0].token.as_deref());
        assert_eq!(hook, ("to-registry", instance(2).as_str(), Some("71514b9d-6a40-4b26-8523-05e7ee35fa40")));
        assert_eq!((completed_hooks.len(), double.asked()), (1, 1), "AWS is not called for the list");
        // SNS and EventBridge deliver at least once.
        invoke(&function, sample(event)).await.unwrap();
        assert_eq!((listed(&registry).await, double.asked()), (body(&[1, 3]), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn completes_launch_hooks_at_once_and_lists_instances_later() {
    let (double, registry, function) = started().await;
    double.end(2);
    registry.remove_instance(&group(), &instance(2)).await.unwrap();
    for event in ["asg-sns-hook-launching.json", "asg-eventbridge-hook-launching-warm-pool.json"] {
        assert_eq!(invoke(&function, sample(event)).await.unwrap(), json!({"done": ["goes on"]}));
        assert_eq!((listed(&registry).await, double.asked()), (body(&[1, 3]), 1));
    }
    assert_eq!(double.completed_hooks().len(), 2);
    double.start(2);
    assert_eq!(invoke(&function, sample("asg-eventbridge-launched.json")).await.unwrap(), json!({"done": ["refreshed"]}));
    assert_eq!((listed(&registry).await, double.asked()), (body(&[1, 2, 3]), 2));
    invoke(&function, sample("asg-eventbridge-launched.json")).await.unwrap();
    assert_eq!(double.asked(), 2, "it is listed already");
}

#[tokio::test(start_paused = true)]
async fn ignores_instances_launched_into_a_warm_pool() {
    let (double, _, function) = started().await;
    let mut event = sample("asg-eventbridge-launched.json");
    event["detail"]["Destination"] = "WarmPool".into();
    assert_eq!(invoke(&function, event).await.unwrap(), json!({"done": ["is not in service"]}));
    assert_eq!(double.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn termination_notifications_remove_an_instance() {
    for event in ["asg-sns-terminate.json", "asg-eventbridge-terminated.json"] {
        let (double, registry, function) = started().await;
        assert_eq!(invoke(&function, sample(event)).await.unwrap(), json!({"done": ["left the list"]}));
        assert_eq!((listed(&registry).await, double.completed_hooks().len()), (body(&[1, 3]), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_notification_changes_nothing() {
    let (double, registry, function) = started().await;
    assert_eq!(invoke(&function, sample("asg-sns-test.json")).await.unwrap(), json!({"done": ["a test notification"]}));
    assert_eq!((listed(&registry).await, double.asked(), double.completed_hooks().len()), (body(&[1, 2, 3]), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn rejects_unknown_groups_regions_topics_and_events() {
    let (double, registry, function) = started().await;
    let mut event = sample("asg-eventbridge-hook-terminating.json");
    event["detail"]["AutoScalingGroupName"] = "somebody-elses".into();
    let error = invoke(&function, event).await.unwrap_err().to_string();
    assert!(error.starts_with("the Auto Scaling group \"somebody-elses\" in eu-west-1 is not in REGISTRY_GROUPS"), "{error}");
    let mut event = sample("asg-eventbridge-hook-terminating.json");
    event["region"] = "us-east-1".into();
    assert!(invoke(&function, event).await.is_err());
    let mut event = sample("asg-sns-hook-terminating.json");
    event["Records"][0]["Sns"]["TopicArn"] = "arn:aws:sns:eu-west-1:999999999999:logstash-lifecycle".into();
    assert!(invoke(&function, event).await.unwrap_err().to_string().contains("REGISTRY_TOPICS"));
    assert!(invoke(&function, json!({"hello": "world"})).await.unwrap_err().to_string().contains("connect only these"));
    assert_eq!((listed(&registry).await, double.completed_hooks().len()), (body(&[1, 2, 3]), 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_lifecycle_action_fails_the_invocation() {
    let (double, registry, function) = started().await;
    let reason = "ServiceUnavailable: come again".to_owned();
    double.fail(Some(FleetError::Failed { operation: "CompleteLifecycleAction", reason }));
    let error = invoke(&function, sample("asg-sns-hook-terminating.json")).await.unwrap_err();
    assert_eq!(error.to_string(), "CompleteLifecycleAction failed: ServiceUnavailable: come again");
    assert_eq!((listed(&registry).await, alerts(&registry, "aws_failed", "raised")), (body(&[1, 3]), 1));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_refreshes_expired_lists() {
    let (double, registry, function) = started().await;
    let schedule = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    invoke(&function, schedule.clone()).await.unwrap();
    assert_eq!(double.asked(), 1);
    // Every tick arrives when the list is slightly younger than five minutes, because AWS took a moment to respond.
    for tick in 2..=6 {
        double.start(2 + tick);
        tokio::time::advance(Duration::from_millis(299_800)).await;
        invoke(&function, schedule.clone()).await.unwrap();
        assert_eq!(
            (listed(&registry).await, double.asked()),
            (body(&[&[1, 2, 3], &(4..=2 + tick).collect::<Vec<_>>()[..]].concat()), usize::from(tick))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_cannot_refresh_a_list_fails() {
    let (double, registry, function) = started().await;
    double.throttle();
    tokio::time::advance(Duration::from_mins(5)).await;
    let schedule = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    let error = invoke(&function, schedule).await.unwrap_err().to_string();
    assert!(error.contains("RequestLimitExceeded"), "{error}");
    assert_eq!((listed(&registry).await, alerts(&registry, "aws_failed", "raised")), (body(&[1, 2, 3]), 1));
}

/// Thirty instances arrive or leave. SNS and EventBridge report each of them many times, each time to another invocation.
#[tokio::test(start_paused = true)]
async fn hundreds_of_invocations_call_aws_a_few_times() {
    let (double, store) = (Double::with(&(1..=30).collect::<Vec<u8>>()), MemoryStore::default());
    let process = || registry_with(&double, Store::Memory(store.clone()), Vec::new());
    process().poll(&group(), Duration::ZERO).await.unwrap();
    (1..=15).for_each(|number| double.end(number));
    (31..=45).for_each(|number| double.start(number));
    let (here, mut invocations) = (LocalSet::new(), JoinSet::new());
    for event in 0..500_u64 {
        let function = function_of(&process(), ListOwner::Function);
        let number = u8::try_from(event % 30 + 1).unwrap();
        let (name, number) = match (number, event % 2) {
            (1..=15, 0) => ("asg-sns-terminate.json", number),
            (1..=15, _) => ("asg-eventbridge-terminated.json", number),
            _ => ("asg-eventbridge-launched.json", number + 15),
        };
        let text = sample(name).to_string().replace(&instance(2), &instance(number));
        let invocation = async move {
            tokio::time::sleep(Duration::from_millis(event * 10)).await;
            invoke(&function, serde_json::from_str(&text).unwrap()).await.map(|_| ())
        };
        invocations.spawn_local_on(invocation, &here);
    }
    for result in here.run_until(invocations.join_all()).await {
        result.unwrap();
    }
    assert_eq!(listed(&process()).await, body(&(16..=45).collect::<Vec<u8>>()));
    println!("500 invocations: AWS was called {} times", double.asked() - 1);
    assert!(double.asked() - 1 <= 4, "AWS was called {} times", double.asked() - 1);
}

#[tokio::test(start_paused = true)]
async fn answers_load_balancer_and_function_url_requests_alike() {
    let (_, _, function) = started().await;
    for event in ["registry-alb-lookup.json", "registry-url-lookup.json"] {
        let answer = invoke(&function, sample(event)).await.unwrap();
        assert_eq!((&answer["statusCode"], &answer["body"]), (&json!(200), &json!(body(&[1, 2, 3]))), "{event}");
        assert_eq!(answer["isBase64Encoded"], false);
        assert!(answer.to_string().contains("registry-generation"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_known_lists_while_store_and_aws_are_down() {
    let (double, store) = (Double::with(&[1, 2]), MemoryStore::default());
    let registry = registry_with(&double, Store::Memory(store.clone()), Vec::new());
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    assert!(store.replace(&group().key, &store.read(&group().key), "garbage"));
    tokio::time::advance(Duration::from_mins(1)).await;
    double.slow(Duration::from_mins(10));
    let began = Instant::now();
    let answer = invoke(&function_of(&registry, ListOwner::Function), sample("registry-alb-lookup.json")).await.unwrap();
    assert_eq!((&answer["statusCode"], &answer["body"]), (&json!(200), &json!(body(&[1, 2]))));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn updates_without_a_token_need_iam() {
    let (_, registry, function) = started().await;
    let signed = sample("registry-url-update.json");
    let mut unsigned = signed.clone();
    unsigned["requestContext"].as_object_mut().unwrap().remove("authorizer");
    let answer = invoke(&function, unsigned).await.unwrap();
    assert_eq!(answer["statusCode"], 404, "{answer}");
    let answer = invoke(&function, signed).await.unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert_eq!(registry.lookup(&group()).await.unwrap().list.generation, 2);
}

/// The other mode: the registry runs as a server, and the function calls its update route.
struct Served {
    double: Double,
    server: Arc<Registry<Double>>,
    own: Arc<Registry<Double>>,
    function: Function<Double>,
}

async fn served(numbers: &[u8]) -> Served {
    let served = served_by(Double::with(numbers)).await;
    served.server.poll(&group(), Duration::ZERO).await.unwrap();
    served
}

async fn served_without_list() -> Served {
    served_by(Double::with(&[])).await
}

async fn served_by(double: Double) -> Served {
    let server = registry(&double);
    let token = || SecretString::from(TOKEN);
    let url = serve(router(Arc::clone(&server), UpdateAuth::Token(token()))).await;
    let update_url = format!("{url}/update-ip-list").parse().unwrap();
    let owner = ListOwner::Server(UpdateRoute::new(reqwest::Client::new(), update_url, token()));
    let own = registry(&Double::with(&[]));
    let function = function_of(&own, owner);
    Served { double, server, own, function }
}

#[tokio::test]
async fn a_function_forwards_lifecycle_events_to_the_server() {
    let Served { double, server, own, function } = served(&[1, 2, 3]).await;
    // AWS still reports the instance, and the server has to remove it anyway.
    invoke(&function, sample("asg-sns-hook-terminating.json")).await.unwrap();
    assert_eq!((listed(&server).await, own.fleet().completed_hooks().len(), double.asked()), (body(&[1, 3]), 1, 1));
    invoke(&function, sample("asg-eventbridge-launched.json")).await.unwrap();
    assert_eq!((listed(&server).await, own.fleet().asked()), (body(&[1, 2, 3]), 0));
}

#[tokio::test]
async fn the_last_server_can_terminate() {
    let Served { double, server, own, function } = served(&[2]).await;
    double.end(2);
    invoke(&function, sample("asg-sns-hook-terminating.json")).await.unwrap();
    assert_eq!((listed(&server).await, own.fleet().completed_hooks().len()), (body(&[2]), 1));
    assert_eq!(alerts(&server, "last_server", "raised"), 1);
}

#[tokio::test]
async fn the_last_server_can_terminate_without_any_list() {
    let Served { own, function, .. } = served_without_list().await;
    let done = invoke(&function, sample("asg-sns-hook-terminating.json")).await.unwrap();
    assert_eq!(
        (done, own.fleet().completed_hooks().len()),
        (json!({"done": ["stays listed as the last server and goes on"]}), 1)
    );
}

#[tokio::test]
async fn a_function_with_a_server_neither_polls_nor_answers() {
    let Served { double, own, function, .. } = served(&[1]).await;
    let schedule = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    assert_eq!(invoke(&function, schedule).await.unwrap(), json!({"done": ["the server polls by itself"]}));
    let answer = invoke(&function, sample("registry-alb-lookup.json")).await.unwrap();
    assert_eq!((&answer["statusCode"], own.fleet().asked(), double.asked()), (&json!(404), 0, 1), "{answer}");
}

#[tokio::test]
async fn an_instance_keeps_waiting_if_the_server_refuses() {
    let server = Scripted::start(|_, _| answer(502, "{}")).await;
    let update_url = format!("{}/update-ip-list", server.url).parse().unwrap();
    let owner = ListOwner::Server(UpdateRoute::new(reqwest::Client::new(), update_url, SecretString::from(TOKEN)));
    let own = registry(&Double::with(&[]));
    let error = invoke(&function_of(&own, owner), sample("asg-sns-hook-terminating.json")).await.unwrap_err().to_string();
    assert!(error.contains("REGISTRY_UPDATE_URL returned 502") && !error.contains(TOKEN), "{error}");
    let seen = server.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("POST", "/update-ip-list?region=eu-west-1&dcid=eu1&as_name=logstash-eu1&leaves=i-00000000000000002")
    );
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {TOKEN}"));
    assert!(own.fleet().completed_hooks().is_empty());
}
