//! The registry over Debian's Redis: gone, slow, restarted empty, holding garbage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use elb_log_registry::group::Key;
use elb_log_registry::list::Source;
use elb_log_registry::registry::{Registry, Warning};
use elb_log_registry::store::{RedisAddress, RedisStore, STORE_TIMEOUT, Store, Stored};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::peers::{Redis, RedisCluster, Scripted, answer, redis_store};
use crate::support::{Double, alerts, body, group, instance, registry_with, until};

/// The key that the README names.
const KEY: &str = "elb-registry:{eu-west-1:eu1}";

async fn looked_up(registry: &Arc<Registry<Double>>) -> (String, Option<Warning>) {
    let answer = registry.lookup(&group()).await.expect("a list");
    (answer.list.body(), answer.warning)
}

fn webhook(receiver: &Scripted) -> elb_log_registry::alert::Channel {
    elb_log_registry::alert::Channel::Webhook { client: reqwest::Client::new(), url: format!("{}/hook", receiver.url).into() }
}

#[tokio::test]
async fn replaces_a_value_only_if_it_is_the_expected_one() {
    let redis = Redis::start().await;
    let (store, key) = (redis.store(), group().key);
    assert_eq!(store.read(&key).await, Ok(Stored::Absent));
    assert_eq!(store.replace(&key, &Stored::Absent, "one").await, Ok(true));
    assert_eq!(store.replace(&key, &Stored::Absent, "two").await, Ok(false));
    assert_eq!(store.replace(&key, &Stored::Value(b"one".to_vec()), "two").await, Ok(true));
    assert_eq!(store.replace(&key, &Stored::Value(b"one".to_vec()), "three").await, Ok(false));
    assert_eq!(store.read(&key).await, Ok(Stored::Value(b"two".to_vec())));
    assert_eq!(store.read(&Key { dcid: "eu2".to_owned(), ..key }).await, Ok(Stored::Absent));
    let days: u64 = redis.command::<u64>(&["PTTL", KEY]).await / 86_400_000;
    assert!((29..=30).contains(&days), "{days} days: a list outlives every outage, but not its data centre");
}

#[tokio::test]
async fn only_one_of_a_hundred_replacements_succeeds() {
    let redis = Redis::start().await;
    let stores: Vec<Arc<Store>> = (0..4).map(|_| Arc::new(redis.store())).collect();
    let mut writers = JoinSet::new();
    for number in 0..100 {
        let store = Arc::clone(&stores[number % 4]);
        writers.spawn(async move { store.replace(&group().key, &Stored::Absent, &number.to_string()).await.unwrap() });
    }
    let won = writers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

/// Four registries change the same list at the same time.
#[tokio::test]
async fn registries_that_share_a_store_lose_no_changes() {
    let redis = Redis::start().await;
    let double = Double::with(&(1..=40).collect::<Vec<u8>>());
    let registries: Vec<_> = (0..4).map(|_| registry_with(&double, redis.store(), Vec::new())).collect();
    registries[0].update(&group(), Source::Update).await.unwrap();
    let mut changes = JoinSet::new();
    for number in 1..=39_u8 {
        let registry = Arc::clone(&registries[usize::from(number % 4)]);
        changes.spawn(async move { registry.remove_instance(&group(), &instance(number)).await });
    }
    for change in changes.join_all().await {
        change.unwrap();
    }
    let answer = registries[3].lookup(&group()).await.unwrap();
    assert_eq!((answer.list.body(), answer.list.generation), (body(&[40]), 40));
}

#[tokio::test]
async fn reports_and_repairs_garbage_of_any_kind() {
    let redis = Redis::start().await;
    let huge = "x".repeat(2 << 20);
    let garbage: [&[&str]; 5] = [
        &["SET", KEY, ""],
        &["SET", KEY, "{\"generation\":7}"],
        &["RPUSH", KEY, "10.0.0.1"],
        &["SADD", KEY, "10.0.0.1"],
        &["SET", KEY, &huge],
    ];
    for command in garbage {
        redis.command::<redis::Value>(&["FLUSHALL"]).await;
        redis.command::<redis::Value>(command).await;
        let registry = registry_with(&Double::with(&[1]), redis.store(), Vec::new());
        assert_eq!(looked_up(&registry).await, (body(&[1]), None), "{:?}", command[0]);
        assert_eq!(alerts(&registry, "list_unreadable", "raised"), 1);
        let kept: String = redis.command(&["GET", KEY]).await;
        assert!(kept.starts_with("{\"endpoints\":[\"10.0.0.1:8080\"]"), "{kept}");
    }
}

#[tokio::test]
async fn serves_lists_while_redis_is_down_and_repairs_it_later() {
    let mut redis = Redis::start().await;
    let receiver = Scripted::start(|_, _| answer(200, "")).await;
    let double = Double::with(&[1, 2]);
    let registry = registry_with(&double, redis.store(), vec![webhook(&receiver)]);
    registry.update(&group(), Source::Update).await.unwrap();
    assert_eq!(looked_up(&registry).await, (body(&[1, 2]), None));

    redis.stop().await;
    for _ in 0..100 {
        assert_eq!(looked_up(&registry).await, (body(&[1, 2]), Some(Warning::StoreFailed)));
    }
    assert_eq!(double.asked(), 1, "a list that has not expired is served from memory");
    assert_eq!(alerts(&registry, "store_failed", "raised"), 1);
    assert!(registry.remove_instance(&group(), &instance(1)).await.is_err(), "a change that is not saved fails");
    let error = registry.update(&group(), Source::Update).await.unwrap_err();
    assert!(error.to_string().contains("redis.sock") && error.to_string().contains("REGISTRY_STORE"), "{error}");

    redis.start_again().await;
    let recovered = async || Some(looked_up(&registry).await).filter(|(_, warning)| warning.is_none());
    assert_eq!(until("the store is used again", recovered).await.0, body(&[1, 2]));
    let repaired = async || {
        looked_up(&registry).await;
        redis.command::<Option<String>>(&["GET", KEY]).await
    };
    let kept = until("the store is repaired", repaired).await;
    assert!(kept.contains("\"generation\":"), "{kept}");
    let told: Vec<String> = receiver.saw(4).await.into_iter().map(|seen| seen.body).collect();
    let states =
        ["raised", "recovered"].map(|state| told.iter().filter(|body| body.contains(&format!("\"state\":\"{state}\""))).count());
    assert!(states[0] >= 2 && states[1] >= 1, "{told:#?}");
    assert!(
        told.iter().any(|body| body.contains("store_failed")) && told.iter().any(|body| body.contains("list_missing")),
        "{told:#?}"
    );
}

#[tokio::test]
async fn answers_lookups_if_redis_is_down_from_the_start() {
    let mut redis = Redis::start().await;
    redis.stop().await;
    let double = Double::with(&[1]);
    let registry = registry_with(&double, redis.store(), Vec::new());
    for _ in 0..50 {
        assert_eq!(looked_up(&registry).await.0, body(&[1]));
    }
    assert_eq!(double.asked(), 1);
}

#[tokio::test]
async fn a_hanging_redis_delays_no_lookups() {
    let redis = Redis::start().await;
    let registry = registry_with(&Double::with(&[1]), redis.store_with(Duration::from_secs(1)), Vec::new());
    registry.lookup(&group()).await.unwrap();
    redis.command::<redis::Value>(&["CLIENT", "PAUSE", "60000", "ALL"]).await;
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(looked_up(&registry).await, (body(&[1]), Some(Warning::StoreFailed)));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_store_that_never_responds_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://user:hunter2@{}/", listener.local_addr().unwrap());
    let store = Store::Redis(Box::new(RedisStore::new(RedisAddress::parse(&url).unwrap(), STORE_TIMEOUT).unwrap()));
    let began = Instant::now();
    let error = store.read(&group().key).await.unwrap_err().to_string();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(error.starts_with("the store 127.0.0.1:") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn repairs_a_store_that_was_reset_to_an_older_list() {
    let redis = Redis::start().await;
    let double = Double::with(&[1, 2]);
    let registry = registry_with(&double, redis.store(), Vec::new());
    registry.update(&group(), Source::Update).await.unwrap();
    let old: String = redis.command(&["GET", KEY]).await;
    registry.remove_instance(&group(), &instance(1)).await.unwrap();
    redis.command::<redis::Value>(&["SET", KEY, &old]).await;
    assert_eq!(looked_up(&registry).await, (body(&[2]), None));
    assert_ne!(redis.command::<String>(&["GET", KEY]).await, old);
}

/// A Redis whose disk is full, for example, accepts reads but no writes.
#[tokio::test]
async fn a_read_only_redis_raises_one_alert_and_no_extra_aws_calls() {
    let redis = Redis::start().await;
    let double = Double::with(&[1, 2]);
    let registry = registry_with(&double, redis.store(), Vec::new());
    registry.update(&group(), Source::Update).await.unwrap();
    // Without a replica, Redis rejects writes.
    redis.command::<redis::Value>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    double.end(2);
    let error = registry.update(&group(), Source::Update).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot save the list: ") && error.contains("refuses the command (\"NOREPLICAS\""), "{error}");
    for _ in 0..50 {
        assert_eq!(looked_up(&registry).await, (body(&[1]), None), "this process has the newer list in memory");
        registry.poll(&group(), Duration::ZERO).await.unwrap();
    }
    let told = ["not_kept", "store_failed"]
        .map(|problem| (alerts(&registry, problem, "raised"), alerts(&registry, problem, "recovered")));
    assert_eq!((told, double.asked()), ([(1, 0), (0, 0)], 2));

    redis.command::<redis::Value>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    assert_eq!(looked_up(&registry).await, (body(&[1]), None));
    assert_eq!(alerts(&registry, "not_kept", "recovered"), 1);
    assert!(redis.command::<String>(&["GET", KEY]).await.starts_with("{\"endpoints\":[\"10.0.0.1:8080\"]"));
}

#[tokio::test]
async fn an_empty_read_only_redis_causes_one_aws_call() {
    let redis = Redis::start().await;
    redis.command::<redis::Value>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let double = Double::with(&[1]);
    let registry = registry_with(&double, redis.store(), Vec::new());
    for _ in 0..100 {
        assert_eq!(looked_up(&registry).await.0, body(&[1]));
    }
    assert_eq!((double.asked(), alerts(&registry, "not_kept", "raised")), (1, 1));
}

#[tokio::test]
async fn only_one_process_has_the_lease_in_redis() {
    let redis = Redis::start().await;
    let (one, other) = (redis.store(), redis.store());
    assert_eq!(one.acquire_lease(&group().key, Duration::from_millis(50)).await, Ok(true));
    let again = async || other.acquire_lease(&group().key, Duration::from_mins(1)).await.unwrap().then_some(());
    until("the first lease expires", again).await;
    assert_eq!(one.acquire_lease(&group().key, Duration::from_mins(1)).await, Ok(false));
    assert_eq!(one.end_lease(&group().key, Duration::from_millis(50)).await, Ok(()));
    let again = async || one.acquire_lease(&group().key, Duration::from_mins(1)).await.unwrap().then_some(());
    until("the lease ends after the pause", again).await;
    assert_eq!(one.read(&group().key).await, Ok(Stored::Absent), "a lease is stored under another key");
}

#[tokio::test]
async fn finds_a_list_on_the_right_node_of_a_cluster() {
    let mut cluster = RedisCluster::start().await;
    let owner = cluster.owner(KEY).await;
    let store = |number: usize| redis_store(&cluster.url(number), Duration::from_secs(20));
    let stores = [store(0), store(1)];
    assert_eq!(stores[1 - owner].replace(&group().key, &Stored::Absent, "one").await, Ok(true));
    assert_eq!(stores[owner].read(&group().key).await, Ok(Stored::Value(b"one".to_vec())));
    assert_eq!(stores[owner].acquire_lease(&group().key, Duration::from_mins(1)).await, Ok(true));
    assert_eq!(stores[1 - owner].acquire_lease(&group().key, Duration::from_mins(1)).await, Ok(false));
    assert_eq!(stores[1 - owner].end_lease(&group().key, Duration::from_millis(1)).await, Ok(()));

    let impatient = redis_store(&cluster.url(1 - owner), Duration::from_secs(2));
    let registry = registry_with(&Double::with(&[1, 2]), impatient, Vec::new());
    let kept = async || Some(looked_up(&registry).await).filter(|(_, warning)| warning.is_none());
    assert_eq!(until("an invalid list is replaced", kept).await.0, body(&[1, 2]));
    cluster.stop(owner).await;
    assert_eq!(looked_up(&registry).await, (body(&[1, 2]), Some(Warning::StoreFailed)));
    cluster.start_again(owner).await;
    let recovered = async || Some(looked_up(&registry).await).filter(|(_, warning)| warning.is_none());
    assert_eq!(until("the cluster is used again", recovered).await.0, body(&[1, 2]));
}

/// After a failover, the connection leads to a server that is a replica now.
#[tokio::test]
async fn reconnects_after_a_server_became_a_replica() {
    let redis = Redis::start().await;
    let store = redis.store();
    assert_eq!(store.read(&group().key).await, Ok(Stored::Absent));
    let connected: String = redis.command(&["CLIENT", "LIST"]).await;
    redis.command::<redis::Value>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = store.replace(&group().key, &Stored::Absent, "one").await.unwrap_err();
    assert!(error.to_string().contains("refuses the command (ReadOnly"), "{error}");
    store.read(&group().key).await.unwrap();
    let again: String = redis.command(&["CLIENT", "LIST"]).await;
    let id =
        |list: &str| list.lines().find(|line| line.contains("cmd=eval")).map(|line| line.split(' ').next().map(str::to_owned));
    assert!(id(&again).is_some() && id(&again) != id(&connected), "{connected}{again}");
}

/// The user in the README, and a user that cannot write.
#[tokio::test]
async fn a_redis_user_needs_three_commands() {
    let redis = Redis::start().await;
    for (user, commands) in [("registry", "+eval +get +set"), ("reader", "+eval +get")] {
        let rules = format!("ACL SETUSER {user} on >secret ~elb-registry:* {commands}");
        redis.command::<redis::Value>(&rules.split(' ').collect::<Vec<_>>()).await;
    }
    let as_user = |user: &str| {
        let url = format!("{}?user={user}&pass=secret", redis.url);
        Store::Redis(Box::new(RedisStore::new(RedisAddress::parse(&url).unwrap(), Duration::from_secs(20)).unwrap()))
    };
    assert_eq!(as_user("registry").replace(&group().key, &Stored::Absent, "one").await, Ok(true));
    assert!(as_user("reader").read(&group().key).await.is_ok());
    let error = as_user("reader").replace(&group().key, &Stored::Value(b"one".to_vec()), "two").await.unwrap_err();
    assert!(error.to_string().contains("can't run this command"), "{error}");
}
