//! The core on virtual time against a world that breaks: workers that crash, hang, lie, lose their heartbeats or never
//! start; clients that submit, cancel and vanish; limits and settings that change under load.
//!
//! One seed is one world. First faults: after every event the core's invariants hold, and every action is checked. Then no
//! more faults: every task ends, nothing is used any more, and the pool can be drained. A failure prints its seed;
//! `POOL_SIM_SEED=n cargo test -p pool-core --test sim` replays it alone.

mod check;
mod rng;
mod worker;
mod world;

use world::World;

/// Seeds per test; the tests run side by side.
const SEEDS: u64 = 6000;

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
