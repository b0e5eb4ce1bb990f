//! How fast the core decides: submit, assign, done, end, over and over, as a client with a window of tasks in flight and
//! four workers that end whatever they are given. Prints cycles a second on one core.
//!
//! `cargo run --release -p pool-core --example cycle`

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::Instant;

use pool_core::Core;
use pool_core::action::Action;
use pool_core::event::{AttemptEnd, Event, NewTask};
use pool_core::settings::{Lane, Settings};
use pool_core::time::Time;
use pool_protocol::id::{ClientId, TaskId, WorkerId};

const WORKERS: u32 = 4;
const WINDOW: usize = 512;
const CYCLES: u64 = 5_000_000;
const RUN_US: u64 = 10;

fn settings() -> Settings {
    Settings {
        min_workers: WORKERS,
        max_workers: WORKERS,
        max_tasks_per_worker: 0,
        max_memory_per_worker: 0,
        max_worker_age_ms: 0,
        heartbeat_interval_ms: u64::from(u32::MAX),
        ..Settings::default()
    }
}

fn task(project: &str) -> NewTask<'_> {
    NewTask { priority: 5, body_bytes: 100, ..NewTask::new(Lane::Js, project) }
}

/// Runs the cycles over this many projects; returns cycles a second.
fn measure(projects: &[String]) -> f64 {
    let client = ClientId { slot: 0, generation: 1 };
    let mut core = Core::new(Time(0), settings(), TaskId(1), 1);
    let mut actions = Vec::new();
    core.handle(Time(0), Event::Tick, &mut actions);
    let spawned: Vec<WorkerId> = actions
        .drain(..)
        .filter_map(|action| if let Action::Spawn { worker, .. } = action { Some(worker) } else { None })
        .collect();
    for worker in spawned {
        core.handle(Time(1), Event::WorkerReady { worker }, &mut actions);
    }
    let end = AttemptEnd { code: None, run_us: RUN_US, cpu_us: RUN_US, memory_bytes: 0, spoiled: false };
    let mut now_us = 10u64;
    let mut ended = 0;
    let mut request = 0u64;
    let mut assigned: Vec<(WorkerId, TaskId, u32)> = Vec::new();
    let begin = Instant::now();
    while ended < CYCLES {
        while (request - ended) < WINDOW as u64 {
            let project = &projects[(request % projects.len() as u64) as usize];
            request += 1;
            core.handle(Time(now_us), Event::Submit { client, request, task: task(project) }, &mut actions);
        }
        for action in actions.drain(..) {
            match action {
                Action::Assign { worker, task, attempt, .. } => assigned.push((worker, task, attempt)),
                Action::End { .. } => ended += 1,
                _ => {}
            }
        }
        now_us += RUN_US * 8;
        for (worker, task, attempt) in std::mem::take(&mut assigned) {
            core.handle(Time(now_us), Event::TaskDone { worker, task, attempt, end }, &mut actions);
        }
        for action in actions.drain(..) {
            match action {
                Action::Assign { worker, task, attempt, .. } => assigned.push((worker, task, attempt)),
                Action::End { .. } => ended += 1,
                _ => {}
            }
        }
    }
    ended as f64 / begin.elapsed().as_secs_f64()
}

fn main() {
    for count in [1, 2, 16, 1000] {
        let projects: Vec<String> = (0..count).map(|n| format!("project-{n}")).collect();
        println!("{count:>5} projects: {:.2} M cycles/s", measure(&projects) / 1e6);
    }
}
