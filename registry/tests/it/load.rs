//! Throughput and latency of look-ups.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::peers::{Moto, Redis, Server};

const LOOKUPS: usize = 50_000;
const CLIENTS: usize = 30;

/// Thirty clients with separate connections send look-ups as fast as possible; every list comes from Redis.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "uses the whole machine: run it alone, with --release and --nocapture"]
async fn lookups_a_second_with_redis() {
    let (moto, redis) = (Moto::start().await, Redis::start().await);
    moto.make_group(20).await;
    let server = Server::start(&moto.url, &[("REGISTRY_STORE", &redis.url)]).await;
    let left = Arc::new(AtomicUsize::new(LOOKUPS));
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (left, url) = (Arc::clone(&left), server.lookup());
        clients.spawn(async move {
            let client = reqwest::Client::new();
            let mut times = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let asked = Instant::now();
                let answer = client.get(&url).send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                assert!(answer.bytes().await.expect("a list").len() > 20);
                times.push(asked.elapsed());
            }
            times
        });
    }
    let mut times: Vec<Duration> = clients.join_all().await.into_iter().flatten().collect();
    let took = began.elapsed();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    let rate = times.len() as f64 / took.as_secs_f64();
    println!("{} look-ups by {CLIENTS} clients: {rate:.0} a second; p50 {:?}, p99 {:?}", times.len(), at(0.5), at(0.99));
    let metrics = reqwest::get(format!("{}/metrics", server.url)).await.expect("metrics").text().await.expect("text");
    let calls: Vec<&str> = metrics.lines().filter(|line| line.starts_with("registry_aws_calls_total{")).collect();
    assert!(calls.len() == 2 && calls.iter().all(|line| line.ends_with(" 1")), "look-ups cause no AWS calls: {calls:?}");
}
