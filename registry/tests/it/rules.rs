//! Which list is returned, when AWS is called, and which list replaces which. Time is paused: a day takes a second.

use std::sync::Arc;
use std::time::Duration;

use elb_log_registry::fleet::FleetError;
use elb_log_registry::group::Key;
use elb_log_registry::list::{List, Source};
use elb_log_registry::registry::{JoinOutcome, LeaveOutcome, RefreshError, Registry, Warning};
use elb_log_registry::store::{MemoryStore, Store, Stored};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::support::{Double, alerts, body, group, instance, metric, registry, registry_at, registry_with};

/// A store that already contains this value.
fn store_with(value: &str) -> Store {
    let store = MemoryStore::default();
    assert!(store.replace(&group().key, &Stored::Absent, value));
    Store::Memory(store)
}

async fn looked_up(registry: &Arc<Registry<Double>>) -> (String, Option<Warning>) {
    let answer = registry.lookup(&group()).await.expect("a list");
    (answer.list.body(), answer.warning)
}

/// Starts an update in the background.
fn updating(registry: &Arc<Registry<Double>>) -> JoinHandle<Result<List, RefreshError>> {
    let registry = Arc::clone(registry);
    tokio::spawn(async move { registry.update(&group(), Source::Update).await })
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_lookups_cause_no_aws_calls() {
    let double = Double::with(&[1, 2]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    let asked = double.asked();
    for _ in 0..10_000 {
        assert_eq!(looked_up(&registry).await, (body(&[1, 2]), None));
    }
    assert_eq!((asked, double.asked()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn fetches_and_repairs_a_missing_list_with_one_alert() {
    let double = Double::with(&[1, 2]);
    let registry = registry(&double);
    assert_eq!(looked_up(&registry).await, (body(&[1, 2]), None));
    assert_eq!(alerts(&registry, "list_missing", "raised"), 1);
    for _ in 0..100 {
        assert_eq!(looked_up(&registry).await, (body(&[1, 2]), None));
    }
    assert_eq!((double.asked(), alerts(&registry, "list_missing", "raised")), (1, 1));
    assert_eq!(alerts(&registry, "list_missing", "recovered"), 1);
    assert_eq!(registry.lookup(&group()).await.unwrap().list.source, Source::Fallback);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_lookups_without_a_list_share_one_aws_call() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    let mut lookups: JoinSet<_> = (0..100)
        .map(|_| Arc::clone(&registry))
        .map(|registry| async move { registry.lookup(&group()).await.map(|answer| answer.list.body()) })
        .collect();
    while let Some(answer) = lookups.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), body(&[1]));
    }
    assert_eq!(double.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn replaces_invalid_lists() {
    let foreign = r#"{"endpoints":["192.0.2.66:8080"],"generation":9,"updated_at":"2027-01-15T08:00:00Z","source":"update"}"#;
    for garbage in ["", "[]", "{\"endpoints\":[]}", "\u{1}\u{2}", foreign, &"x".repeat(2 << 20)] {
        let registry = registry_with(&Double::with(&[1]), store_with(garbage), Vec::new());
        assert_eq!(looked_up(&registry).await, (body(&[1]), None));
        assert_eq!(alerts(&registry, "list_unreadable", "raised"), 1);
        assert_eq!(looked_up(&registry).await, (body(&[1]), None));
        assert_eq!(alerts(&registry, "list_unreadable", "recovered"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn without_any_list_lookups_fail_until_aws_recovers() {
    let double = Double::with(&[1]);
    double.throttle();
    let registry = registry(&double);
    let error = registry.lookup(&group()).await.unwrap_err();
    assert!(error.to_string().contains("RequestLimitExceeded"), "{error}");
    assert_eq!(alerts(&registry, "aws_failed", "raised"), 1);
    for _ in 0..1_000 {
        assert!(registry.lookup(&group()).await.is_err());
    }
    assert_eq!(double.asked(), 1, "look-ups cause no calls during an outage");

    double.fail(None);
    advance(Duration::from_mins(2)).await;
    assert_eq!(looked_up(&registry).await, (body(&[1]), None));
    assert_eq!(alerts(&registry, "aws_failed", "recovered"), 1);
}

/// A registry that has a list of the servers 1 and 2 in memory, and garbage in its store.
async fn with_garbage_in_store(double: &Double) -> Arc<Registry<Double>> {
    let store = MemoryStore::default();
    let registry = registry_with(double, Store::Memory(store.clone()), Vec::new());
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    assert!(store.replace(&group().key, &store.read(&group().key), "garbage"));
    advance(Duration::from_mins(1)).await;
    registry
}

#[tokio::test(start_paused = true)]
async fn returns_the_last_good_list_with_a_warning_without_aws() {
    let double = Double::with(&[1, 2]);
    let registry = with_garbage_in_store(&double).await;
    double.throttle();
    for _ in 0..1_000 {
        assert_eq!(looked_up(&registry).await, (body(&[1, 2]), Some(Warning::RefreshFailed)));
    }
    assert_eq!((double.asked(), alerts(&registry, "aws_failed", "raised")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn lookups_of_a_known_list_do_not_wait_for_a_slow_aws() {
    let double = Double::with(&[1, 2]);
    let registry = with_garbage_in_store(&double).await;
    double.slow(Duration::from_mins(10));
    let began = Instant::now();
    let mut clients: JoinSet<_> =
        (0..100).map(|_| Arc::clone(&registry)).map(|registry| async move { looked_up(&registry).await }).collect();
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap(), (body(&[1, 2]), Some(Warning::RefreshFailed)));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(double.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn client_timeouts_cause_no_extra_calls_to_a_slow_aws() {
    let double = Double::with(&[1]);
    double.slow(Duration::from_secs(8));
    double.throttle();
    let registry = registry(&double);
    for _ in 0..20 {
        let gone = timeout(Duration::from_secs(1), registry.lookup(&group())).await;
        assert!(gone.is_err() || gone.is_ok_and(|answer| answer.is_err()));
    }
    assert!(double.asked() <= 2, "AWS was called {} times in 20 s", double.asked());
    registry.settle().await;
    assert_eq!(alerts(&registry, "aws_failed", "raised"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_fails_changes_nothing() {
    let double = Double::with(&[1, 2]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    let timed_out = FleetError::Failed { operation: "DescribeInstances", reason: "timed out".to_owned() };
    let unknown = FleetError::NoSuchGroup { group: "logstash-eu1".to_owned(), region: "eu-west-1".to_owned() };
    for fault in [timed_out, unknown] {
        double.fail(Some(fault.clone()));
        advance(Duration::from_mins(3)).await;
        assert_eq!(registry.update(&group(), Source::Update).await, Err(RefreshError::Fleet(fault)));
        assert_eq!(registry.lookup(&group()).await.unwrap().list.body(), body(&[1, 2]));
    }
    assert_eq!(alerts(&registry, "aws_failed", "raised"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_response_never_replaces_a_good_list() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.end(1);
    let error = registry.update(&group(), Source::Update).await.unwrap_err();
    assert_eq!(error.to_string(), "AWS reports no healthy instance in service; the registry keeps the old list");
    assert_eq!(looked_up(&registry).await, (body(&[1]), None));
    assert_eq!(alerts(&registry, "answer_refused", "raised"), 1);

    double.start(2);
    registry.update(&group(), Source::Update).await.unwrap();
    assert_eq!(alerts(&registry, "answer_refused", "recovered"), 1);
}

#[tokio::test(start_paused = true)]
async fn leaves_out_servers_outside_the_allowed_ranges() {
    let double = Double::with(&[1]);
    double.start_at(2, "192.0.2.2");
    double.start_at(3, "169.254.169.254");
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    assert_eq!(looked_up(&registry).await, (body(&[1]), None));
    assert_eq!(alerts(&registry, "foreign_address", "raised"), 1);
    double.end(1);
    assert!(registry.update(&group(), Source::Update).await.unwrap_err().to_string().contains("192.0.2.2"));
    assert_eq!(looked_up(&registry).await, (body(&[1]), None));
}

/// Two registries share a store. The first calls AWS before a server starts, and gets its response long after the second.
#[tokio::test(start_paused = true)]
async fn the_older_of_two_racing_updates_does_not_win() {
    let (double, store) = (Double::with(&[1]), MemoryStore::default());
    let sharing = || registry_with(&double, Store::Memory(store.clone()), Vec::new());
    let (slow, quick) = (sharing(), sharing());
    double.slow(Duration::from_secs(8));
    let first = updating(&slow);
    sleep(Duration::from_secs(1)).await;
    double.start(2);
    double.slow(Duration::from_secs(1));
    let second = quick.update(&group(), Source::Update).await.unwrap();
    assert_eq!((second.body(), second.generation), (body(&[1, 2]), 2), "a response to an older call is not sufficient");
    let first = first.await.unwrap().unwrap();
    assert_eq!((first.body(), first.generation), (body(&[1]), 1));
    assert_eq!((looked_up(&slow).await.0, looked_up(&quick).await.0, double.asked()), (body(&[1, 2]), body(&[1, 2]), 2));
}

/// As above, but an event made the newer list. It must not be confused with a list from which events have only removed instances.
#[tokio::test(start_paused = true)]
async fn an_older_response_does_not_replace_a_list_made_by_an_event() {
    let (double, store) = (Double::with(&[1]), MemoryStore::default());
    let sharing = || registry_with(&double, Store::Memory(store.clone()), Vec::new());
    let (slow, quick) = (sharing(), sharing());
    quick.update(&group(), Source::Update).await.unwrap();
    sleep(Duration::from_mins(6)).await;
    double.slow(Duration::from_secs(8));
    let poll = tokio::spawn({
        let slow = Arc::clone(&slow);
        async move { slow.poll(&group(), Duration::ZERO).await }
    });
    sleep(Duration::from_secs(1)).await;
    double.start(2);
    double.slow(Duration::from_secs(1));
    assert_eq!(quick.add_instance(&group(), &instance(2)).await, Ok(JoinOutcome::Listed));
    poll.await.unwrap().unwrap();
    assert_eq!(looked_up(&quick).await.0, body(&[1, 2]));
}

/// Another process has called AWS earlier, and its response arrives very late.
#[tokio::test(start_paused = true)]
async fn a_response_does_not_replace_a_list_that_may_be_newer() {
    let (double, store) = (Double::with(&[1]), MemoryStore::default());
    let registry = registry_with(&double, Store::Memory(store.clone()), Vec::new());
    sleep(Duration::from_secs(60)).await;
    double.slow(Duration::from_secs(5));
    let update = updating(&registry);
    sleep(Duration::from_secs(1)).await;
    double.start(2);
    let theirs = r#"{"endpoints":["10.0.0.1:8080","10.0.0.2:8080"],"generation":50,"updated_at":"2027-01-15T08:01:01Z","source":"update",
        "asked_at":"2027-01-15T08:00:30Z","asked_generation":50}"#;
    assert!(store.replace(&group().key, &Stored::Absent, theirs));
    let updated = update.await.unwrap().unwrap();
    assert_eq!((updated.body(), updated.generation, double.asked()), (body(&[1, 2]), 51, 2));
}

/// Updates from 250 processes, such as invocations of a function.
async fn storm(double: &Double) -> Vec<Result<String, RefreshError>> {
    let store = MemoryStore::default();
    let mut processes = JoinSet::new();
    for number in 0..250_u64 {
        let registry = registry_with(double, Store::Memory(store.clone()), Vec::new());
        processes.spawn(async move {
            sleep(Duration::from_millis(number * 20)).await;
            registry.update(&group(), Source::Lifecycle).await.map(|list| list.body())
        });
    }
    processes.join_all().await
}

#[tokio::test(start_paused = true)]
async fn few_of_many_processes_call_a_slow_or_failing_aws() {
    let slow = Double::with(&[1]);
    slow.slow(Duration::from_secs(8));
    for updated in storm(&slow).await {
        assert!(updated == Ok(body(&[1])) || updated == Err(RefreshError::Busy), "{updated:?}");
    }
    assert!(slow.asked() <= 4, "a slow AWS was called {} times", slow.asked());
    let failing = Double::with(&[1]);
    failing.throttle();
    assert!(storm(&failing).await.into_iter().all(|updated| updated.is_err()));
    assert!(failing.asked() <= 12, "a throttling AWS was called {} times", failing.asked());
}

#[tokio::test(start_paused = true)]
async fn forty_processes_that_share_a_store_call_aws_a_few_times() {
    let (double, store) = (Double::with(&[1]), MemoryStore::default());
    let mut processes = JoinSet::new();
    for number in 0..40_u64 {
        let registry = registry_with(&double, Store::Memory(store.clone()), Vec::new());
        processes.spawn(async move {
            sleep(Duration::from_millis(number * 20)).await;
            registry.update(&group(), Source::Lifecycle).await.map(|list| list.body())
        });
    }
    for updated in processes.join_all().await {
        assert_eq!(updated, Ok(body(&[1])));
    }
    assert!(double.asked() <= 3, "AWS was called {} times", double.asked());
}

#[tokio::test(start_paused = true)]
async fn a_response_does_not_relist_an_instance_that_left() {
    let double = Double::with(&[1, 2, 3]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.slow(Duration::from_secs(5));
    let update = updating(&registry);
    // The pause after the first list is over: AWS was called and has not responded.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(double.asked(), 2);
    for number in [2, 9] {
        assert_eq!(registry.remove_instance(&group(), &instance(number)).await, Ok(LeaveOutcome::Removed));
    }
    assert_eq!(looked_up(&registry).await.0, body(&[1, 3]));
    assert_eq!(update.await.unwrap().unwrap().body(), body(&[1, 3]));
    assert_eq!((looked_up(&registry).await.0, double.asked()), (body(&[1, 3]), 2));
}

#[tokio::test(start_paused = true)]
async fn the_last_server_stays_listed_unless_another_is_in_service() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.end(1);
    assert_eq!(registry.remove_instance(&group(), &instance(1)).await, Ok(LeaveOutcome::LastServer));
    assert_eq!(looked_up(&registry).await.0, body(&[1]));
    assert_eq!(alerts(&registry, "last_server", "raised"), 1);
    double.start(2);
    assert_eq!(registry.remove_instance(&group(), &instance(1)).await, Ok(LeaveOutcome::Removed));
    assert_eq!(looked_up(&registry).await.0, body(&[2]));
    assert_eq!(alerts(&registry, "last_server", "recovered"), 1);
}

/// The four members of a list are enough for an answer, and not for knowing who leaves.
#[tokio::test(start_paused = true)]
async fn removes_an_instance_from_a_list_without_ids_by_calling_aws() {
    let nameless =
        r#"{"endpoints":["10.0.0.1:8080","10.0.0.2:8080"],"generation":9,"updated_at":"2027-01-15T08:00:00Z","source":"update"}"#;
    for store in [Store::Memory(MemoryStore::default()), store_with("garbage"), store_with(nameless)] {
        let double = Double::with(&[1, 2]);
        let registry = registry_with(&double, store, Vec::new());
        assert_eq!(registry.remove_instance(&group(), &instance(2)).await, Ok(LeaveOutcome::Removed));
        assert_eq!((looked_up(&registry).await.0, double.asked()), (body(&[1]), 1));
    }
    let nobody = registry(&Double::with(&[]));
    assert_eq!(nobody.remove_instance(&group(), &instance(1)).await, Ok(LeaveOutcome::LastServer), "no list exists");
}

#[tokio::test(start_paused = true)]
async fn looks_twice_for_an_instance_that_aws_does_not_report() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    assert_eq!(registry.add_instance(&group(), &instance(2)).await, Ok(JoinOutcome::NotInService));
    assert_eq!(double.asked(), 3);
    let coming = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.add_instance(&group(), &instance(2)).await }
    });
    sleep(Duration::from_secs(4)).await;
    double.start(2);
    assert_eq!(coming.await.unwrap(), Ok(JoinOutcome::Listed));
}

/// While AWS fails, the registry does not know whether an instance is the last one: it waits at its hook until AWS responds.
#[tokio::test(start_paused = true)]
async fn the_possibly_last_instance_stays_while_aws_fails() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.start(2);
    double.throttle();
    assert!(matches!(registry.remove_instance(&group(), &instance(1)).await, Err(RefreshError::Fleet(_))));
    assert_eq!((looked_up(&registry).await.0, alerts(&registry, "last_server", "raised")), (body(&[1]), 0));
    double.fail(None);
    assert_eq!(registry.remove_instance(&group(), &instance(1)).await, Ok(LeaveOutcome::Removed));
    assert_eq!(looked_up(&registry).await.0, body(&[2]));
}

#[tokio::test(start_paused = true)]
async fn the_last_server_leaves_only_when_a_successor_is_in_service() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.start(2);
    assert_eq!(registry.remove_instance(&group(), &instance(1)).await, Ok(LeaveOutcome::Removed));
    assert_eq!((looked_up(&registry).await.0, alerts(&registry, "last_server", "raised")), (body(&[2]), 0));
    for _ in 0..5 {
        assert_eq!(
            registry.remove_instance(&group(), &instance(2)).await,
            Ok(LeaveOutcome::LastServer),
            "AWS reports no other server"
        );
        assert_eq!(looked_up(&registry).await.0, body(&[2]));
    }
    assert_eq!(["raised", "recovered"].map(|state| alerts(&registry, "last_server", state)), [1, 0]);
    registry.add_instance(&group(), &instance(2)).await.unwrap();
    assert_eq!(["raised", "recovered"].map(|state| alerts(&registry, "last_server", state)), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn lists_an_instance_that_returns_from_a_warm_pool() {
    let double = Double::with(&[1, 2]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    registry.remove_instance(&group(), &instance(2)).await.unwrap();
    assert_eq!(looked_up(&registry).await.0, body(&[1]));
    registry.add_instance(&group(), &instance(2)).await.unwrap();
    assert_eq!(looked_up(&registry).await.0, body(&[1, 2]));
}

/// Five hundred events of thirty instances: hooks and notifications of both kinds, most of them repeated.
#[tokio::test(start_paused = true)]
async fn hundreds_of_events_call_aws_a_few_times() {
    let double = Double::with(&(1..=30).collect::<Vec<u8>>());
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    (1..=15).for_each(|number| double.end(number));
    (31..=45).for_each(|number| double.start(number));
    let mut events = JoinSet::new();
    for event in 0..500_u32 {
        let registry = Arc::clone(&registry);
        let number = u8::try_from(event % 30 + 1).unwrap();
        events.spawn(async move {
            match number {
                1..=15 => registry.remove_instance(&group(), &instance(number)).await.map(|_| ()),
                _ => registry.add_instance(&group(), &instance(number + 15)).await.map(|_| ()),
            }
        });
    }
    while let Some(result) = events.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(looked_up(&registry).await.0, body(&(16..=45).collect::<Vec<u8>>()));
    println!("500 events for 30 instances: AWS was called {} times", double.asked() - 1);
    assert!(double.asked() - 1 <= 3, "AWS was called {} times", double.asked() - 1);
}

#[tokio::test(start_paused = true)]
async fn calls_a_throttled_aws_ever_less_often() {
    let double = Double::with(&[1, 2]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.throttle();
    let polling = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.keep_polling(&group()).await }
    });
    sleep(Duration::from_hours(1)).await;
    polling.abort();
    println!("an hour of throttling: AWS was called {} times", double.asked() - 1);
    assert!(double.asked() - 1 <= 90, "AWS was called {} times", double.asked() - 1);
    assert_eq!(looked_up(&registry).await, (body(&[1, 2]), Some(Warning::Overdue)));
    assert_eq!(alerts(&registry, "aws_failed", "raised"), 1);
}

/// A day with thirty clients that look up every three minutes, and forty instances that arrive or leave.
#[tokio::test(start_paused = true)]
async fn a_day_causes_fewer_than_thirty_aws_calls_an_hour() {
    let double = Double::with(&(1..=20).collect::<Vec<u8>>());
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    let poller = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.keep_polling(&group()).await }
    });
    let mut clients = JoinSet::new();
    for client in 0..30_u64 {
        let registry = Arc::clone(&registry);
        clients.spawn(async move {
            sleep(Duration::from_secs(client * 6)).await;
            for _ in 0..480 {
                assert_eq!(looked_up(&registry).await.1, None);
                sleep(Duration::from_mins(3)).await;
            }
        });
    }
    for transition in 0..40_u8 {
        sleep(Duration::from_mins(35)).await;
        if transition % 2 == 0 {
            double.start(100 + transition);
            registry.add_instance(&group(), &instance(100 + transition)).await.unwrap();
        } else {
            registry.remove_instance(&group(), &instance(100 + transition - 1)).await.unwrap();
            double.end(100 + transition - 1);
        }
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    poller.abort();
    // The real fleet calls AWS twice: for the group, and for the addresses.
    let calls_per_hour = double.asked() * 2 / 24;
    let made = metric(&registry, "registry_refreshes_total{source=\"poll\",result=\"updated\"}");
    println!(
        "a day: 14400 look-ups, 40 transitions, {} questions ({made} of them polls), {calls_per_hour} calls an hour",
        double.asked()
    );
    assert!(calls_per_hour < 30, "{calls_per_hour} calls an hour");
    assert_eq!(looked_up(&registry).await.0, body(&(1..=20).collect::<Vec<u8>>()));
}

/// The store was emptied, and another registry without any list saves a new one: generation 1 again.
#[tokio::test(start_paused = true)]
async fn accepts_a_list_that_another_registry_restarted() {
    let (double, store) = (Double::with(&[1, 2]), MemoryStore::default());
    let old = registry_with(&double, Store::Memory(store.clone()), Vec::new());
    for _ in 0..3 {
        old.update(&group(), Source::Update).await.unwrap();
        advance(Duration::from_mins(1)).await;
    }
    let kept = store.read(&group().key);
    assert!(store.replace(&group().key, &kept, "emptied"));
    double.end(1);
    let new = registry_at(&double, Store::Memory(store.clone()), Vec::new(), old.clock().clone());
    new.update(&group(), Source::Update).await.unwrap();
    assert_eq!(old.lookup(&group()).await.unwrap().list.body(), body(&[2]));
    new.lookup(&group()).await.unwrap();
    assert_eq!(looked_up(&new).await.0, body(&[2]));
}

#[test]
fn formats_keys_as_region_and_data_centre() {
    assert_eq!(group().key, Key { region: "eu-west-1".to_owned(), dcid: "eu1".to_owned() });
    assert_eq!(group().key.to_string(), "eu-west-1:eu1");
}
