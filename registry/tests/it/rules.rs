//! What is answered, when AWS is asked, and which list replaces which. Time is paused: a day takes a second.

use std::sync::Arc;
use std::time::Duration;

use elb_log_registry::fleet::FleetError;
use elb_log_registry::group::Key;
use elb_log_registry::list::{List, Source};
use elb_log_registry::registry::{Came, Left, RefreshError, Registry, Warning};
use elb_log_registry::store::{MemoryStore, Store, Stored};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::support::{Double, alerts, body, group, instance, metric, registry, registry_at, registry_with};

/// A store that already holds this.
fn store_with(value: &str) -> Store {
    let store = MemoryStore::default();
    assert!(store.replace(&group().key, &Stored::Absent, value));
    Store::Memory(store)
}

async fn looked_up(registry: &Arc<Registry<Double>>) -> (String, Option<Warning>) {
    let answer = registry.lookup(&group()).await.expect("a list");
    (answer.list.body(), answer.warning)
}

/// An update that goes on beside the test.
fn updating(registry: &Arc<Registry<Double>>) -> JoinHandle<Result<List, RefreshError>> {
    let registry = Arc::clone(registry);
    tokio::spawn(async move { registry.update(&group(), Source::Update).await })
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_lookups_ask_aws_nothing() {
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
async fn a_missing_list_is_fetched_answered_and_repaired_with_one_alert_and_a_recovery() {
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
async fn a_hundred_lookups_without_a_list_share_one_question() {
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
async fn what_is_no_list_is_replaced_by_one() {
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
async fn while_aws_fails_the_last_good_list_is_served_marked_and_without_one_there_is_an_error() {
    let double = Double::with(&[1]);
    double.throttle();
    let registry = registry(&double);
    let error = registry.lookup(&group()).await.unwrap_err();
    assert!(error.to_string().contains("RequestLimitExceeded"), "{error}");
    assert_eq!(alerts(&registry, "aws_failed", "raised"), 1);
    for _ in 0..1_000 {
        assert!(registry.lookup(&group()).await.is_err());
    }
    assert_eq!(double.asked(), 1, "look-ups do not make an outage worse");

    double.fail(None);
    advance(Duration::from_mins(2)).await;
    assert_eq!(looked_up(&registry).await, (body(&[1]), None));
    assert_eq!(alerts(&registry, "aws_failed", "recovered"), 1);
}

/// A registry with a list of the servers 1 and 2 in its memory, whose store holds garbage.
async fn robbed(double: &Double) -> Arc<Registry<Double>> {
    let store = MemoryStore::default();
    let registry = registry_with(double, Store::Memory(store.clone()), Vec::new());
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    assert!(store.replace(&group().key, &store.read(&group().key), "garbage"));
    advance(Duration::from_mins(1)).await;
    registry
}

#[tokio::test(start_paused = true)]
async fn without_store_and_aws_the_last_good_list_is_answered_and_marked() {
    let double = Double::with(&[1, 2]);
    let registry = robbed(&double).await;
    double.throttle();
    for _ in 0..1_000 {
        assert_eq!(looked_up(&registry).await, (body(&[1, 2]), Some(Warning::RefreshFailed)));
    }
    assert_eq!((double.asked(), alerts(&registry, "aws_failed", "raised")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn who_looks_up_a_known_list_does_not_wait_for_an_aws_that_does_not_answer() {
    let double = Double::with(&[1, 2]);
    let registry = robbed(&double).await;
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
async fn clients_that_lose_their_patience_do_not_have_a_slow_aws_asked_again() {
    let double = Double::with(&[1]);
    double.slow(Duration::from_secs(8));
    double.throttle();
    let registry = registry(&double);
    for _ in 0..20 {
        let gone = timeout(Duration::from_secs(1), registry.lookup(&group())).await;
        assert!(gone.is_err() || gone.is_ok_and(|answer| answer.is_err()));
    }
    assert!(double.asked() <= 2, "AWS was asked {} times in 20 s", double.asked());
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
async fn an_empty_answer_never_replaces_a_good_list() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.end(1);
    let error = registry.update(&group(), Source::Update).await.unwrap_err();
    assert_eq!(error.to_string(), "AWS shows no healthy instance in service; the old list stays");
    assert_eq!(looked_up(&registry).await, (body(&[1]), None));
    assert_eq!(alerts(&registry, "answer_refused", "raised"), 1);

    double.start(2);
    registry.update(&group(), Source::Update).await.unwrap();
    assert_eq!(alerts(&registry, "answer_refused", "recovered"), 1);
}

#[tokio::test(start_paused = true)]
async fn servers_where_none_may_be_are_left_out_and_told_of() {
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

/// Two registries share a store. The first asks AWS before a server starts and is answered long after the second has come.
#[tokio::test(start_paused = true)]
async fn of_two_updates_that_race_the_older_view_does_not_win() {
    let (double, store) = (Double::with(&[1]), MemoryStore::default());
    let sharing = || registry_with(&double, Store::Memory(store.clone()), Vec::new());
    let (slow, quick) = (sharing(), sharing());
    double.slow(Duration::from_secs(8));
    let first = updating(&slow);
    sleep(Duration::from_secs(1)).await;
    double.start(2);
    double.slow(Duration::from_secs(1));
    let second = quick.update(&group(), Source::Update).await.unwrap();
    assert_eq!((second.body(), second.generation), (body(&[1, 2]), 2), "an answer to an older question is no news");
    let first = first.await.unwrap().unwrap();
    assert_eq!((first.body(), first.generation), (body(&[1]), 1));
    assert_eq!((looked_up(&slow).await.0, looked_up(&quick).await.0, double.asked()), (body(&[1, 2]), body(&[1, 2]), 2));
}

/// The same, where an event made the newer list: it is not taken for a list that events have merely taken instances out of.
#[tokio::test(start_paused = true)]
async fn an_older_view_does_not_win_over_a_list_that_an_event_has_made() {
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
    assert_eq!(quick.come(&group(), &instance(2)).await, Ok(Came::Listed));
    poll.await.unwrap().unwrap();
    assert_eq!(looked_up(&quick).await.0, body(&[1, 2]));
}

/// Somebody has asked before, and is answered later than anybody should be.
#[tokio::test(start_paused = true)]
async fn an_answer_is_not_put_in_the_place_of_one_that_came_meanwhile_and_may_be_newer() {
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

/// Each has a process of its own, as invocations of a function have.
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
async fn of_many_processes_few_ask_an_aws_that_is_slow_or_fails() {
    let slow = Double::with(&[1]);
    slow.slow(Duration::from_secs(8));
    for updated in storm(&slow).await {
        assert!(updated == Ok(body(&[1])) || updated == Err(RefreshError::Busy), "{updated:?}");
    }
    assert!(slow.asked() <= 4, "a slow AWS was asked {} times", slow.asked());
    let failing = Double::with(&[1]);
    failing.throttle();
    assert!(storm(&failing).await.into_iter().all(|updated| updated.is_err()));
    assert!(failing.asked() <= 12, "a throttling AWS was asked {} times", failing.asked());
}

#[tokio::test(start_paused = true)]
async fn forty_processes_that_share_a_store_ask_a_few_times() {
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
    assert!(double.asked() <= 3, "AWS was asked {} times", double.asked());
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_leaves_while_aws_is_asked_is_not_listed_by_the_answer() {
    let double = Double::with(&[1, 2, 3]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.slow(Duration::from_secs(5));
    let update = updating(&registry);
    // Past the pause after the first list: AWS has been asked and has not answered.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(double.asked(), 2);
    for number in [2, 9] {
        assert_eq!(registry.leave(&group(), &instance(number)).await, Ok(Left::Gone));
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
    assert_eq!(registry.leave(&group(), &instance(1)).await, Ok(Left::LastServer));
    assert_eq!(looked_up(&registry).await.0, body(&[1]));
    assert_eq!(alerts(&registry, "last_server", "raised"), 1);
    double.start(2);
    assert_eq!(registry.leave(&group(), &instance(1)).await, Ok(Left::Gone));
    assert_eq!(looked_up(&registry).await.0, body(&[2]));
    assert_eq!(alerts(&registry, "last_server", "recovered"), 1);
}

/// The four members of a list are enough for an answer, and not for knowing who leaves.
#[tokio::test(start_paused = true)]
async fn an_instance_leaves_a_list_that_is_missing_or_names_no_instances_by_a_question_to_aws() {
    let nameless =
        r#"{"endpoints":["10.0.0.1:8080","10.0.0.2:8080"],"generation":9,"updated_at":"2027-01-15T08:00:00Z","source":"update"}"#;
    for store in [Store::Memory(MemoryStore::default()), store_with("garbage"), store_with(nameless)] {
        let double = Double::with(&[1, 2]);
        let registry = registry_with(&double, store, Vec::new());
        assert_eq!(registry.leave(&group(), &instance(2)).await, Ok(Left::Gone));
        assert_eq!((looked_up(&registry).await.0, double.asked()), (body(&[1]), 1));
    }
    let nobody = registry(&Double::with(&[]));
    assert_eq!(nobody.leave(&group(), &instance(1)).await, Ok(Left::LastServer), "there is no list to leave");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_aws_does_not_show_yet_is_looked_for_twice() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    assert_eq!(registry.come(&group(), &instance(2)).await, Ok(Came::NotYet));
    assert_eq!(double.asked(), 3);
    let coming = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.come(&group(), &instance(2)).await }
    });
    sleep(Duration::from_secs(4)).await;
    double.start(2);
    assert_eq!(coming.await.unwrap(), Ok(Came::Listed));
}

/// Nobody knows then whether it is the last one: it waits at its hook until AWS answers.
#[tokio::test(start_paused = true)]
async fn an_instance_that_may_be_the_last_does_not_leave_while_aws_fails() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.start(2);
    double.throttle();
    assert!(matches!(registry.leave(&group(), &instance(1)).await, Err(RefreshError::Fleet(_))));
    assert_eq!((looked_up(&registry).await.0, alerts(&registry, "last_server", "raised")), (body(&[1]), 0));
    double.fail(None);
    assert_eq!(registry.leave(&group(), &instance(1)).await, Ok(Left::Gone));
    assert_eq!(looked_up(&registry).await.0, body(&[2]));
}

#[tokio::test(start_paused = true)]
async fn the_last_one_leaves_when_it_is_shown_beside_its_successor_and_is_told_of_once_otherwise() {
    let double = Double::with(&[1]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    double.start(2);
    assert_eq!(registry.leave(&group(), &instance(1)).await, Ok(Left::Gone));
    assert_eq!((looked_up(&registry).await.0, alerts(&registry, "last_server", "raised")), (body(&[2]), 0));
    for _ in 0..5 {
        assert_eq!(registry.leave(&group(), &instance(2)).await, Ok(Left::LastServer), "AWS shows nobody else");
        assert_eq!(looked_up(&registry).await.0, body(&[2]));
    }
    assert_eq!(["raised", "recovered"].map(|state| alerts(&registry, "last_server", state)), [1, 0]);
    registry.come(&group(), &instance(2)).await.unwrap();
    assert_eq!(["raised", "recovered"].map(|state| alerts(&registry, "last_server", state)), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_comes_back_from_a_warm_pool_is_listed_again() {
    let double = Double::with(&[1, 2]);
    let registry = registry(&double);
    registry.poll(&group(), Duration::ZERO).await.unwrap();
    registry.leave(&group(), &instance(2)).await.unwrap();
    assert_eq!(looked_up(&registry).await.0, body(&[1]));
    registry.come(&group(), &instance(2)).await.unwrap();
    assert_eq!(looked_up(&registry).await.0, body(&[1, 2]));
}

/// Five hundred events of thirty instances, hooks and notifications of both kinds, most of them many times.
#[tokio::test(start_paused = true)]
async fn a_storm_of_events_asks_aws_a_handful_of_times() {
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
                1..=15 => registry.leave(&group(), &instance(number)).await.map(|_| ()),
                _ => registry.come(&group(), &instance(number + 15)).await.map(|_| ()),
            }
        });
    }
    while let Some(result) = events.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(looked_up(&registry).await.0, body(&(16..=45).collect::<Vec<u8>>()));
    println!("a storm of 500 events for 30 instances: AWS asked {} times", double.asked() - 1);
    assert!(double.asked() - 1 <= 3, "AWS was asked {} times", double.asked() - 1);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_aws_is_left_alone_ever_longer() {
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
    println!("an hour of throttling: AWS asked {} times", double.asked() - 1);
    assert!(double.asked() - 1 <= 90, "AWS was asked {} times", double.asked() - 1);
    assert_eq!(looked_up(&registry).await, (body(&[1, 2]), Some(Warning::Overdue)));
    assert_eq!(alerts(&registry, "aws_failed", "raised"), 1);
}

/// Thirty clients that ask every three minutes, and forty instances that come or go, for a day.
#[tokio::test(start_paused = true)]
async fn a_day_asks_aws_less_than_thirty_times_an_hour() {
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
            registry.come(&group(), &instance(100 + transition)).await.unwrap();
        } else {
            registry.leave(&group(), &instance(100 + transition - 1)).await.unwrap();
            double.end(100 + transition - 1);
        }
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    poller.abort();
    // The true AWS is called twice for each question: for the group, and for the addresses.
    let calls_per_hour = double.asked() * 2 / 24;
    let made = metric(&registry, "registry_refreshes_total{source=\"poll\",result=\"updated\"}");
    println!(
        "a day: 14400 look-ups, 40 transitions, {} questions ({made} of them polls), {calls_per_hour} calls an hour",
        double.asked()
    );
    assert!(calls_per_hour < 30, "{calls_per_hour} calls an hour");
    assert_eq!(looked_up(&registry).await.0, body(&(1..=20).collect::<Vec<u8>>()));
}

/// Somebody empties the store, and another registry, which has never seen a list, makes a new one: generation 1 again.
#[tokio::test(start_paused = true)]
async fn a_list_that_another_registry_began_anew_is_believed() {
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
fn keys_are_shown_as_region_and_data_centre() {
    assert_eq!(group().key, Key { region: "eu-west-1".to_owned(), dcid: "eu1".to_owned() });
    assert_eq!(group().key.to_string(), "eu-west-1:eu1");
}
