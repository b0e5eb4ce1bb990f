//! The core on virtual time against a world that breaks: workers that crash, hang, lie, lose their
//! heartbeats or never start; clients that submit, cancel and vanish; limits and settings that
//! change under load.
//!
//! One seed is one world. First faults: after every event the core's invariants hold, and every
//! action is checked. Then no more faults: every task ends, nothing is used any more, and the pool
//! can be drained. A failure prints its seed, and writes what the core was told and said last to a
//! file; `POOL_SIM_SEED=n cargo test -p pool-core --test sim` replays it alone.

mod check;
mod log;
mod rng;
mod worker;
mod world;

use world::World;

/// Seeds per test; the tests run side by side.
const SEEDS: u64 = 64;

/// Names the seed when the simulation under it panics.
struct Witness(u64);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed with POOL_SIM_SEED={}", self.0);
        }
    }
}

fn simulate(seed: u64) {
    let _witness = Witness(seed);
    let mut world = World::new(seed);
    world.run_with_faults();
    world.run_without_faults();
    world.end();
}

fn simulate_all(from: u64) {
    match std::env::var("POOL_SIM_SEED") {
        Ok(seed) => simulate(seed.parse().expect("POOL_SIM_SEED is a number")),
        Err(_) => (from..from + SEEDS).for_each(simulate),
    }
}

#[test]
fn every_task_ends_once_and_nothing_leaks_whatever_breaks_1() {
    simulate_all(1);
}

#[test]
fn every_task_ends_once_and_nothing_leaks_whatever_breaks_2() {
    simulate_all(1 + SEEDS);
}

#[test]
fn every_task_ends_once_and_nothing_leaks_whatever_breaks_3() {
    simulate_all(1 + 2 * SEEDS);
}

#[test]
fn every_task_ends_once_and_nothing_leaks_whatever_breaks_4() {
    simulate_all(1 + 3 * SEEDS);
}

/// A simulation that never reaches what it is about proves nothing.
#[test]
fn the_simulation_reaches_every_action_every_event_and_every_kind_of_end() {
    let mut reached = std::collections::BTreeSet::new();
    for seed in 1..40 {
        let mut world = World::new(seed);
        world.run_with_faults();
        world.run_without_faults();
        world.end();
        reached.extend(world.reached().iter().cloned());
    }
    let actions = "Accepted Known KnownEnded Refused Assign TakeBack Interrupt CheckBody End \
        Reported Spawn Retire Kill Exit";
    let events = "WorkerStarted WorkerTerminated WorkerError TaskQueued TaskStarted TaskComplete \
        TaskError TaskRetry \
                  ScaledUp ScaledDown QueueFull Degraded Recovered Reloaded";
    let missing: Vec<&str> = actions
        .split_whitespace()
        .chain(events.split_whitespace())
        .filter(|name| !reached.contains(*name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for code in ["JsException", "JsSyntax", "Timeout", "MemoryLimit", "WorkerCrashed", "Cancelled"]
    {
        assert!(reached.contains(&format!("end Some({code})")), "{code}");
    }
    let causes = "recycled idle cancelled deadline js-heap kernel-oom engine-fatal unresponsive \
        protocol-violation \
                  spawn-failed killed-from-outside exited";
    for cause in causes.split_whitespace() {
        assert!(reached.contains(&format!("worker {cause}")), "{cause}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::new(seed);
        world.run_with_faults();
        world.fingerprint()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
