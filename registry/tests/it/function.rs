//! The Lambda function, with the events of `samples/events`.

use std::sync::Arc;
use std::time::Duration;

use elb_log_registry::fleet::FleetError;
use elb_log_registry::function::{Function, FunctionError, Keeper, UpdateRoute};
use elb_log_registry::registry::Registry;
use elb_log_registry::routes::{Updaters, router};
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

fn function_of(registry: &Arc<Registry<Double>>, keeper: Keeper) -> Function<Double> {
    let routes = router(Arc::clone(registry), Updaters::Iam);
    Function::new(Arc::clone(registry), routes, keeper, vec![TOPIC.to_owned()])
}

async fn invoke(function: &Function<Double>, event: Value) -> Result<Value, FunctionError> {
    function.invoke(event, Context::default()).await
}

/// A function whose list holds the servers 1, 2 and 3; the samples are about the second.
async fn started() -> (Double, Arc<Registry<Double>>, Function<Double>) {
    let double = Double::with(&[1, 2, 3]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    let function = function_of(&registry, Keeper::Function);
    (double, registry, function)
}

async fn listed(registry: &Arc<Registry<Double>>) -> String {
    registry.lookup(&group()).await.expect("a list").list.body()
}

#[tokio::test(start_paused = true)]
async fn an_instance_at_a_terminating_hook_leaves_the_list_before_it_goes_on() {
    for event in ["asg-sns-hook-terminating.json", "asg-eventbridge-hook-terminating.json"] {
        let (double, registry, function) = started().await;
        assert_eq!(invoke(&function, sample(event)).await.unwrap(), json!({"done": ["left the list and goes on"]}));
        assert_eq!(listed(&registry).await, body(&[1, 3]), "{event}");
        let gone_on = double.gone_on();
        let hook = (gone_on[0].name.as_str(), gone_on[0].instance.as_str(), gone_on[0].token.as_deref());
        assert_eq!(hook, ("to-registry", instance(2).as_str(), Some("71514b9d-6a40-4b26-8523-05e7ee35fa40")));
        assert_eq!((gone_on.len(), double.asked()), (1, 1), "AWS is not asked for the list");
        // SNS and EventBridge deliver at least once.
        invoke(&function, sample(event)).await.unwrap();
        assert_eq!((listed(&registry).await, double.asked()), (body(&[1, 3]), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_at_a_launching_hook_goes_on_at_once_and_is_listed_when_it_is_in_service() {
    let (double, registry, function) = started().await;
    double.end(2);
    registry.leave(&group(), &instance(2)).await.unwrap();
    for event in ["asg-sns-hook-launching.json", "asg-eventbridge-hook-launching-warm-pool.json"] {
        assert_eq!(invoke(&function, sample(event)).await.unwrap(), json!({"done": ["goes on"]}));
        assert_eq!((listed(&registry).await, double.asked()), (body(&[1, 3]), 1));
    }
    assert_eq!(double.gone_on().len(), 2);
    double.start(2);
    assert_eq!(invoke(&function, sample("asg-eventbridge-launched.json")).await.unwrap(), json!({"done": ["refreshed"]}));
    assert_eq!((listed(&registry).await, double.asked()), (body(&[1, 2, 3]), 2));
    invoke(&function, sample("asg-eventbridge-launched.json")).await.unwrap();
    assert_eq!(double.asked(), 2, "it is listed already");
}

#[tokio::test(start_paused = true)]
async fn what_was_launched_into_a_warm_pool_is_not_looked_for() {
    let (double, _, function) = started().await;
    let mut event = sample("asg-eventbridge-launched.json");
    event["detail"]["Destination"] = "WarmPool".into();
    assert_eq!(invoke(&function, event).await.unwrap(), json!({"done": ["is not in service"]}));
    assert_eq!(double.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn plain_notifications_of_an_end_take_an_instance_out_of_the_list() {
    for event in ["asg-sns-terminate.json", "asg-eventbridge-terminated.json"] {
        let (double, registry, function) = started().await;
        assert_eq!(invoke(&function, sample(event)).await.unwrap(), json!({"done": ["left the list"]}));
        assert_eq!((listed(&registry).await, double.gone_on().len()), (body(&[1, 3]), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_notification_is_answered_and_nothing_is_done() {
    let (double, registry, function) = started().await;
    assert_eq!(invoke(&function, sample("asg-sns-test.json")).await.unwrap(), json!({"done": ["a test notification"]}));
    assert_eq!((listed(&registry).await, double.asked(), double.gone_on().len()), (body(&[1, 2, 3]), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused_and_their_instances_never_let_go_on() {
    let (double, registry, function) = started().await;
    let mut event = sample("asg-eventbridge-hook-terminating.json");
    event["detail"]["AutoScalingGroupName"] = "somebody-elses".into();
    let error = invoke(&function, event).await.unwrap_err().to_string();
    assert!(error.starts_with("the autoscaling group \"somebody-elses\" in eu-west-1 is not in REGISTRY_GROUPS"), "{error}");
    let mut event = sample("asg-eventbridge-hook-terminating.json");
    event["region"] = "us-east-1".into();
    assert!(invoke(&function, event).await.is_err());
    let mut event = sample("asg-sns-hook-terminating.json");
    event["Records"][0]["Sns"]["TopicArn"] = "arn:aws:sns:eu-west-1:999999999999:logstash-lifecycle".into();
    assert!(invoke(&function, event).await.unwrap_err().to_string().contains("REGISTRY_TOPICS"));
    assert!(invoke(&function, json!({"hello": "world"})).await.unwrap_err().to_string().contains("connect only these"));
    assert_eq!((listed(&registry).await, double.gone_on().len()), (body(&[1, 2, 3]), 0));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_go_on_fails_the_invocation_so_that_it_is_tried_again() {
    let (double, registry, function) = started().await;
    let reason = "ServiceUnavailable: come again".to_owned();
    double.fail(Some(FleetError::Failed { operation: "CompleteLifecycleAction", reason }));
    let error = invoke(&function, sample("asg-sns-hook-terminating.json")).await.unwrap_err();
    assert_eq!(error.to_string(), "CompleteLifecycleAction failed (ServiceUnavailable: come again)");
    assert_eq!((listed(&registry).await, alerts(&registry, "aws_failed", "raised")), (body(&[1, 3]), 1));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_makes_lists_anew_that_have_become_old() {
    let (double, registry, function) = started().await;
    let schedule = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    invoke(&function, schedule.clone()).await.unwrap();
    assert_eq!(double.asked(), 1);
    // Every tick comes when the list is a moment younger than five minutes: AWS's answer took that moment.
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
async fn a_schedule_that_could_make_nothing_anew_is_a_failure() {
    let (double, registry, function) = started().await;
    double.throttle();
    tokio::time::advance(Duration::from_mins(5)).await;
    let schedule = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    let error = invoke(&function, schedule).await.unwrap_err().to_string();
    assert!(error.contains("RequestLimitExceeded"), "{error}");
    assert_eq!((listed(&registry).await, alerts(&registry, "aws_failed", "raised")), (body(&[1, 2, 3]), 1));
}

/// Thirty instances come or go, each told of by SNS and EventBridge many times, and each event to an invocation of its own.
#[tokio::test(start_paused = true)]
async fn a_storm_of_events_in_as_many_invocations_asks_aws_a_handful_of_times() {
    let (double, store) = (Double::with(&(1..=30).collect::<Vec<u8>>()), MemoryStore::default());
    let process = || registry_with(&double, Store::Memory(store.clone()), Vec::new());
    process().poll(&group(), Duration::ZERO).await.unwrap();
    (1..=15).for_each(|number| double.end(number));
    (31..=45).for_each(|number| double.start(number));
    let (here, mut invocations) = (LocalSet::new(), JoinSet::new());
    for event in 0..500_u64 {
        let function = function_of(&process(), Keeper::Function);
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
    println!("500 invocations: AWS asked {} times", double.asked() - 1);
    assert!(double.asked() - 1 <= 4, "AWS was asked {} times", double.asked() - 1);
}

#[tokio::test(start_paused = true)]
async fn requests_by_a_load_balancer_and_by_a_function_url_are_answered_alike() {
    let (_, _, function) = started().await;
    for event in ["registry-alb-lookup.json", "registry-url-lookup.json"] {
        let answer = invoke(&function, sample(event)).await.unwrap();
        assert_eq!((&answer["statusCode"], &answer["body"]), (&json!(200), &json!(body(&[1, 2, 3]))), "{event}");
        assert_eq!(answer["isBase64Encoded"], false);
        assert!(answer.to_string().contains("registry-generation"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_of_a_known_list_is_answered_although_neither_store_nor_aws_answers() {
    let (double, store) = (Double::with(&[1, 2]), MemoryStore::default());
    let registry = registry_with(&double, Store::Memory(store.clone()), Vec::new());
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    assert!(store.replace(&group().key, &store.read(&group().key), "garbage"));
    tokio::time::advance(Duration::from_mins(1)).await;
    double.slow(Duration::from_mins(10));
    let began = Instant::now();
    let answer = invoke(&function_of(&registry, Keeper::Function), sample("registry-alb-lookup.json")).await.unwrap();
    assert_eq!((&answer["statusCode"], &answer["body"]), (&json!(200), &json!(body(&[1, 2]))));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_token_iam_has_to_stand_in_front_of_an_update() {
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
    let url = serve(router(Arc::clone(&server), Updaters::Token(token()))).await;
    let update_url = format!("{url}/update-ip-list").parse().unwrap();
    let keeper = Keeper::Server(UpdateRoute::new(reqwest::Client::new(), update_url, token()));
    let own = registry(&Double::with(&[]));
    let function = function_of(&own, keeper);
    Served { double, server, own, function }
}

#[tokio::test]
async fn a_function_without_lists_tells_the_server_who_leaves_and_who_comes() {
    let Served { double, server, own, function } = served(&[1, 2, 3]).await;
    // AWS shows it for a moment longer, and the server is not asked to believe that.
    invoke(&function, sample("asg-sns-hook-terminating.json")).await.unwrap();
    assert_eq!((listed(&server).await, own.fleet().gone_on().len(), double.asked()), (body(&[1, 3]), 1, 1));
    invoke(&function, sample("asg-eventbridge-launched.json")).await.unwrap();
    assert_eq!((listed(&server).await, own.fleet().asked()), (body(&[1, 2, 3]), 0));
}

#[tokio::test]
async fn the_last_server_goes_on_whoever_keeps_the_list() {
    let Served { double, server, own, function } = served(&[2]).await;
    double.end(2);
    invoke(&function, sample("asg-sns-hook-terminating.json")).await.unwrap();
    assert_eq!((listed(&server).await, own.fleet().gone_on().len()), (body(&[2]), 1));
    assert_eq!(alerts(&server, "last_server", "raised"), 1);
}

#[tokio::test]
async fn the_last_server_goes_on_where_nobody_has_a_list() {
    let Served { own, function, .. } = served_without_list().await;
    let done = invoke(&function, sample("asg-sns-hook-terminating.json")).await.unwrap();
    assert_eq!((done, own.fleet().gone_on().len()), (json!({"done": ["stays listed as the last server and goes on"]}), 1));
}

#[tokio::test]
async fn a_function_without_lists_neither_polls_nor_answers_lookups() {
    let Served { double, own, function, .. } = served(&[1]).await;
    let schedule = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    assert_eq!(invoke(&function, schedule).await.unwrap(), json!({"done": ["the server polls by itself"]}));
    let answer = invoke(&function, sample("registry-alb-lookup.json")).await.unwrap();
    assert_eq!((&answer["statusCode"], own.fleet().asked(), double.asked()), (&json!(404), 0, 1), "{answer}");
}

#[tokio::test]
async fn a_server_that_refuses_keeps_the_instance_waiting() {
    let server = Scripted::start(|_, _| answer(502, "{}")).await;
    let update_url = format!("{}/update-ip-list", server.url).parse().unwrap();
    let keeper = Keeper::Server(UpdateRoute::new(reqwest::Client::new(), update_url, SecretString::from(TOKEN)));
    let own = registry(&Double::with(&[]));
    let error = invoke(&function_of(&own, keeper), sample("asg-sns-hook-terminating.json")).await.unwrap_err().to_string();
    assert!(error.contains("REGISTRY_UPDATE_URL answered 502") && !error.contains(TOKEN), "{error}");
    let seen = server.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("POST", "/update-ip-list?region=eu-west-1&dcid=eu1&as_name=logstash-eu1&leaves=i-00000000000000002")
    );
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {TOKEN}"));
    assert!(own.fleet().gone_on().is_empty());
}
