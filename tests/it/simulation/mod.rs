//! The whole way from a notification to Logstash, in a world that a seed makes: a clock that only runs when everybody waits,
//! a store whose bodies break, endpoints that are down, busy, blocked, wrong or forgetful, invocations that are killed and
//! notifications that come again. Everything between is the program's own code.
//!
//! `tools/simulate [SEEDS]` tries more seeds. A seed that fails prints the command that replays it.

mod check;
mod logstash;
mod schedule;
mod store;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::simulation::world::{World, live};

/// So many seeds are tried where nothing else is asked for.
const SEEDS: u64 = 1_000;

/// What one seed came to.
struct Life {
    /// What was wrong; empty if nothing was.
    wrong: Vec<String>,
    /// How often each fault happened.
    faults: BTreeMap<&'static str, u64>,
    /// Every request with its time and its end. The same seed gives the same.
    trace: Vec<String>,
}

fn run(seed: u64) -> Life {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let world = World::of(seed);
        live(&world).await;
        world.into_life()
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Tries `seeds` on all processors, and gives the faults of all.
fn run_all(first: u64, seeds: u64) -> BTreeMap<&'static str, u64> {
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let faults = Mutex::new(BTreeMap::<&'static str, u64>::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let life = run(seed);
                    if !life.wrong.is_empty() {
                        failed.store(true, Ordering::Relaxed);
                        let wrong = life.wrong.join("\n  ");
                        panic!("seed {seed}:\n  {wrong}\nreplay it with\n  SIMULATION_SEED={seed} cargo test --test it simulation::one_seed -- --nocapture");
                    }
                    let mut sums = faults.lock().expect("no panic while holding");
                    for (fault, count) in life.faults {
                        *sums.entry(fault).or_default() += count;
                    }
                }
            });
        }
    });
    faults.into_inner().expect("no panic while holding")
}

#[test]
fn nothing_is_lost_and_nothing_falsely_reported() {
    let (first, seeds) = (number("SIMULATION_FIRST").unwrap_or(0), number("SIMULATION_SEEDS").unwrap_or(SEEDS));
    let faults = run_all(first, seeds);
    for (fault, count) in &faults {
        println!("{count:>9} {fault}");
    }
    let missing: Vec<_> = schedule::FAULTS.iter().filter(|fault| !faults.contains_key(*fault)).collect();
    assert!(missing.is_empty() || seeds < SEEDS, "these faults never happened, so nothing is known about them: {missing:?}");
}

#[test]
fn one_seed() {
    let seed = number("SIMULATION_SEED").unwrap_or(1);
    let life = run(seed);
    for line in &life.trace {
        println!("{line}");
    }
    assert!(life.wrong.is_empty(), "seed {seed}:\n  {}", life.wrong.join("\n  "));
}

#[test]
fn a_seed_is_a_world() {
    for seed in 0..20 {
        assert_eq!(run(seed).trace, run(seed).trace, "seed {seed} does not always give the same; something is not in the seed");
    }
}
