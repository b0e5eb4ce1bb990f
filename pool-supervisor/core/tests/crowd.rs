//! Many projects with tiny tasks: each is served where its context is warm, and none is left
//! behind. Row 54 of what the pool must survive; the figures are those of `benches/run`.

mod common;

use std::collections::BTreeMap;

use common::{Pool, quiet, task};
use pool_core::settings::Settings;
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::outcome::Cause;

/// So many that more than 64 wait while the workers hold what they may.
const PROJECTS: usize = 120;
/// Half a worker's credit is a few of these.
const RUN_US: u64 = 30;

/// A closed loop: for each answer the next task is submitted.
struct Crowd {
    pool: Pool,
    /// How many tasks are under way, and how many projects take turns in having one.
    window: usize,
    taking_turns: usize,
    names: Vec<String>,
    /// Whose each task is.
    owner: BTreeMap<TaskId, usize>,
    /// Who served each project, in order.
    served: Vec<Vec<WorkerId>>,
    seen: usize,
}

impl Crowd {
    /// Each project has one task under way.
    fn new(settings: Settings) -> Self {
        Self::with_window(settings, PROJECTS, PROJECTS)
    }

    fn with_window(settings: Settings, window: usize, taking_turns: usize) -> Self {
        let mut pool = Pool::new(settings);
        let names: Vec<String> = (0..PROJECTS).map(|number| format!("p{number}")).collect();
        for name in &names {
            pool.teach(name, RUN_US);
        }
        let seen = pool.assigned.len();
        let served = vec![Vec::new(); PROJECTS];
        let mut crowd =
            Self { pool, window, taking_turns, names, owner: BTreeMap::new(), served, seen };
        (0..window).for_each(|project| crowd.submit(project));
        crowd
    }

    fn submit(&mut self, project: usize) {
        let id = self.pool.submit(task(&self.names[project]));
        self.owner.insert(id, project);
    }

    /// Each worker ends its first task, so many times.
    fn rounds(&mut self, rounds: usize) {
        self.rounds_without(None, rounds);
    }

    /// As `rounds`, but this worker ends nothing.
    fn rounds_without(&mut self, stalled: Option<WorkerId>, rounds: usize) {
        for _ in 0..rounds {
            self.pool.advance_us(RUN_US);
            let at_work = self.pool.workers.iter().filter(|(worker, _)| Some(**worker) != stalled);
            let heads: Vec<TaskId> = at_work
                .filter_map(|(_, process)| process.tasks.first().map(|(task, _)| *task))
                .collect();
            for id in heads {
                self.pool.done_after_us(id, RUN_US);
                let owner = self.owner[&id];
                self.submit((owner + self.window) % self.taking_turns);
            }
            for (task, worker, _) in &self.pool.assigned[self.seen..] {
                self.served[self.owner[task]].push(*worker);
            }
            self.seen = self.pool.assigned.len();
        }
    }

    /// Of all times that a project was served after another time, how many were on another worker.
    fn moves(&self) -> (usize, usize) {
        let pairs = || self.served.iter().flat_map(|of| of.windows(2));
        (pairs().filter(|pair| pair[0] != pair[1]).count(), pairs().count())
    }
}

#[test]
fn hostile_54_each_of_many_projects_is_served_by_its_own_worker_and_all_are_served_alike() {
    let mut crowd = Crowd::new(Settings { processors: 2, ..quiet(2) });
    crowd.rounds(PROJECTS);
    crowd.served.iter_mut().for_each(Vec::clear);
    crowd.rounds(4 * PROJECTS);
    let (moves, all) = crowd.moves();
    assert!(moves * 20 < all, "{moves} of {all} tasks went to another worker than the one before");
    let times: Vec<usize> = crowd.served.iter().map(Vec::len).collect();
    let (least, most) = (times.iter().min().expect("some"), times.iter().max().expect("some"));
    // 100 us of worker time, and the task that runs.
    assert!(most - least <= 5, "served between {least} and {most} times");
    let homes: Vec<WorkerId> = crowd.served.iter().map(|of| *of.last().expect("served")).collect();
    let at_first = homes.iter().filter(|home| **home == homes[0]).count();
    assert!(
        (PROJECTS / 4..=PROJECTS * 3 / 4).contains(&at_first),
        "{at_first} of {PROJECTS} on one of two workers"
    );
}

#[test]
fn a_new_worker_takes_over_what_its_predecessor_had() {
    let mut crowd = Crowd::new(Settings { processors: 2, ..quiet(2) });
    crowd.rounds(2 * PROJECTS);
    let first = *crowd.pool.workers.keys().next().expect("two");
    crowd.pool.gone(first, Cause::KilledFromOutside);
    crowd.pool.ready_all();
    crowd.rounds(2 * PROJECTS);
    crowd.served.iter_mut().for_each(Vec::clear);
    crowd.rounds(2 * PROJECTS);
    let (moves, all) = crowd.moves();
    assert!(moves * 20 < all, "{moves} of {all} tasks went to another worker than the one before");
    let by: BTreeMap<WorkerId, usize> =
        crowd.served.iter().flatten().fold(BTreeMap::new(), |mut by, worker| {
            *by.entry(*worker).or_default() += 1;
            by
        });
    assert!(by.len() == 2 && by.values().all(|count| count * 4 >= all), "{by:?} of {all}");
}

#[test]
fn a_project_that_is_new_is_served_within_a_turn_of_the_others() {
    let mut crowd = Crowd::new(Settings { processors: 2, ..quiet(2) });
    crowd.rounds(PROJECTS);
    let id = crowd.pool.submit(task("new"));
    crowd.owner.insert(id, 0);
    let from = crowd.pool.assigned.len();
    crowd.rounds(PROJECTS);
    let place =
        crowd.pool.assigned[from.saturating_sub(1)..].iter().position(|(task, _, _)| *task == id);
    // One turn of each, and what is ahead by seats that are not quite even.
    assert!(place.is_some_and(|place| place <= PROJECTS * 5 / 4), "{place:?}");
}

#[test]
fn few_in_line_of_many_are_served_where_their_contexts_are() {
    // An odd number, so that whoever goes first has another worker next time if workers are taken
    // in turn.
    let mut crowd = Crowd::with_window(Settings { processors: 2, ..quiet(2) }, 16, PROJECTS - 1);
    crowd.rounds(2 * PROJECTS);
    crowd.served.iter_mut().for_each(Vec::clear);
    crowd.rounds(4 * PROJECTS);
    let (moves, all) = crowd.moves();
    assert!(
        all > 4 * PROJECTS && moves * 20 < all,
        "{moves} of {all} tasks went to another worker than the one before"
    );
}

#[test]
fn a_worker_that_collects_gets_as_long_as_the_contexts_of_its_projects_would_take_elsewhere() {
    let mut crowd = Crowd::new(Settings { processors: 2, ..quiet(2) });
    crowd.rounds(2 * PROJECTS);
    let stalled = *crowd.pool.workers.keys().next().expect("two");
    let visits_in = |crowd: &mut Crowd, us: u64| {
        crowd.served.iter_mut().for_each(|of| drop(of.drain(..of.len().saturating_sub(1))));
        crowd.rounds_without(Some(stalled), (us / RUN_US) as usize);
        crowd.moves().0
    };
    // It serves half of 120 projects, of a millisecond each.
    assert_eq!(visits_in(&mut crowd, 45_000), 0, "it is waited for");
    assert!(visits_in(&mut crowd, 45_000) > 0, "it has had its time");
}
