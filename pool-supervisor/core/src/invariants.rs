//! What is true between any two events, whatever came before. Each statement is a sentence; tests
//! ask after every event.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use pool_protocol::lane::Lane;
use pool_protocol::limits::MAX_CREDIT;

use crate::Core;
use crate::line::Flow;
use crate::place::{ProjectPlace, WorkerPlace};
use crate::roster::{Counts, Served, Worker, WorkerState};
use crate::settings::Tenancy;
use crate::task::TaskState;
use crate::time::Time;
use crate::timers::TimerKey;

impl Core {
    /// Checks everything.
    ///
    /// # Panics
    /// If a statement does not hold, with the statement.
    pub fn check_invariants(&self) {
        self.every_waiting_task_is_where_its_state_says();
        self.the_bytes_held_are_those_of_the_tasks();
        self.every_held_task_is_in_the_hands_of_one_living_worker();
        self.what_projects_use_is_what_workers_hold();
        self.a_lane_counts_what_could_run();
        self.no_worker_is_idle_while_a_task_could_run();
        self.no_worker_serves_more_than_the_tenancy_allows();
        self.ready_flows_stand_at_their_rank();
        self.a_worker_and_its_replacement_know_each_other();
        self.the_pool_has_no_more_workers_than_it_may();
        self.every_timer_belongs_to_something();
    }

    fn every_waiting_task_is_where_its_state_says(&self) {
        let mut listed = BTreeSet::new();
        for (place, project) in self.line.projects() {
            for lane in Lane::ALL {
                let mut in_flow = 0;
                for (priority, head) in project.flows[lane].list_heads() {
                    let mut next = head;
                    while let Some(slot) = next {
                        let task = &self.tasks[slot];
                        assert!(listed.insert(slot), "a task stands in one list, once");
                        assert_eq!(
                            (task.project, task.lane, task.priority),
                            (place, lane, priority)
                        );
                        in_flow += 1;
                        next = self.tasks.next_in_list(slot);
                    }
                }
                assert_eq!(in_flow, project.flows[lane].queued, "a flow knows how many wait in it");
            }
        }
        let mut waiting = 0;
        for (slot, task) in self.tasks.iter() {
            let (waits, is_listed, has_timer) = match task.state {
                TaskState::Queued { .. } => (true, true, false),
                TaskState::Delayed | TaskState::Retrying => (true, false, true),
                TaskState::Checking => (true, false, false),
                TaskState::Held { .. } => (false, false, false),
                TaskState::LetGo => panic!("no task is between two states after an event"),
            };
            waiting += u32::from(waits);
            assert_eq!(
                listed.contains(&slot),
                is_listed,
                "queued tasks and no others stand in lists"
            );
            assert_eq!(
                self.timers.armed(TimerKey::Wake(slot)).is_some(),
                has_timer,
                "what sleeps will be woken"
            );
            assert!(!waits || task.stop.is_none(), "a waiting task that was to end has ended");
        }
        assert_eq!(waiting, self.line.waiting(), "the pool knows how many tasks wait");
    }

    fn the_bytes_held_are_those_of_the_tasks(&self) {
        let bytes: u64 = self.tasks.iter().map(|(_, task)| u64::from(task.body_bytes)).sum();
        assert_eq!(
            bytes,
            self.line.held_bytes(),
            "what a task held is given back at its end, once"
        );
        let of_projects: u64 = self.line.projects().map(|(_, project)| project.held_bytes).sum();
        assert_eq!(bytes, of_projects, "each body is some project's");
        let checking =
            self.tasks.iter().filter(|(_, task)| task.state == TaskState::Checking).count();
        assert_eq!(
            checking,
            self.quarantine.checking() as usize,
            "the core knows how many bodies it has asked about"
        );
    }

    fn every_held_task_is_in_the_hands_of_one_living_worker(&self) {
        let mut held = BTreeSet::new();
        for (_, worker) in self.roster.iter() {
            assert!(worker.held.len() <= MAX_CREDIT, "a worker holds no more than its credit");
            assert_eq!(
                worker.load_us,
                worker.held.iter().map(|held| u64::from(held.cost_us)).sum::<u64>()
            );
            for (position, entry) in worker.held.iter().enumerate() {
                assert!(held.insert(entry.task), "one worker holds a task");
                let task = &self.tasks[entry.task];
                let TaskState::Held { worker: holder, started } = task.state else {
                    panic!("a worker holds only held tasks")
                };
                assert_eq!(holder, worker.id, "a task knows its worker");
                assert_eq!(
                    started,
                    position == 0 && (started || worker.runs_on()),
                    "the first one runs, no other does"
                );
                assert!(!task.solo || worker.held.len() == 1, "a suspect runs alone");
            }
        }
        let count = self
            .tasks
            .iter()
            .filter(|(_, task)| matches!(task.state, TaskState::Held { .. }))
            .count();
        assert_eq!(count, held.len(), "some worker holds every held task");
    }

    fn what_projects_use_is_what_workers_hold(&self) {
        let running: u32 = self.line.projects().map(|(_, project)| project.running).sum();
        assert_eq!(running, self.line.running(), "each running task is some project's");
        for (place, project) in self.line.projects() {
            let of_it = || self.tasks.iter().filter(move |(_, task)| task.project == place);
            let count = |is: fn(&TaskState) -> bool| {
                of_it().filter(|(_, task)| is(&task.state)).count() as u32
            };
            assert_eq!(project.held, count(|state| matches!(state, TaskState::Held { .. })));
            assert_eq!(
                project.running,
                count(|state| matches!(state, TaskState::Held { started: true, .. }))
            );
            assert_eq!(project.waiting, count(|state| !matches!(state, TaskState::Held { .. })));
            let mut holders = self.roster.holders(place).to_vec();
            holders.sort_unstable();
            let holding = |w: &WorkerPlace| {
                self.roster[*w].held.iter().any(|held| self.tasks[held.task].project == place)
            };
            let expected: Vec<WorkerPlace> =
                self.roster.places().into_iter().filter(holding).collect();
            assert_eq!(project.holders as usize, holders.len(), "its limit bounds them");
            assert_eq!(holders, expected, "a project knows which workers hold tasks of it");
        }
    }

    fn a_lane_counts_what_could_run(&self) {
        for lane in Lane::ALL {
            let counted: u32 =
                self.line.projects().map(|(_, project)| project.flows[lane].counted).sum();
            assert_eq!(self.line.runnable(lane), counted);
            let at_limit = |flow: &Flow| flow.queued > 0 && flow.rank.is_none();
            let flows = self.line.projects().map(|(_, project)| &project.flows[lane]);
            assert_eq!(
                self.line.at_limit(lane) as usize,
                flows.filter(|flow| at_limit(flow)).count()
            );
            let of_lane = || self.roster.iter().filter(move |(_, worker)| worker.lane == lane);
            assert_eq!(
                self.line.held(lane) as usize,
                of_lane().map(|(_, worker)| worker.held.len()).sum::<usize>()
            );
            let open: Vec<WorkerPlace> =
                of_lane().filter(|(_, worker)| worker.is_open()).map(|(w, _)| w).collect();
            assert_eq!(self.roster.open(lane), open, "a lane knows which workers have room");
            let mut counts = Counts::default();
            for (_, worker) in of_lane() {
                counts.add(&worker.state);
            }
            assert_eq!(self.roster.counts(lane), counts, "a lane counts its workers by state");
            let brisk = of_lane().filter(|(_, worker)| worker.is_brisk()).count();
            assert_eq!(
                self.roster.brisk(lane) as usize,
                brisk,
                "a lane knows how many hold tiny tasks only"
            );
            let idle: Vec<WorkerPlace> = of_lane()
                .filter(|(_, worker)| worker.is_ready() && worker.held.is_empty())
                .map(|(w, _)| w)
                .collect();
            assert_eq!(self.roster.idle(lane), idle, "a lane knows its idle workers");
        }
    }

    fn no_worker_is_idle_while_a_task_could_run(&self) {
        if self.quarantine.is_busy() {
            return; // The next task may have to wait for the shell.
        }
        for lane in Lane::ALL {
            let idle = !self.roster.idle(lane).is_empty() && self.line.first(lane).is_some();
            match self.settings.tenancy {
                Tenancy::Shared => {
                    let may_wait = self.line.is_crowd(lane);
                    assert!(!idle || may_wait, "no worker is idle while a task could run");
                }
                Tenancy::Project => {
                    let unbound = |w: &WorkerPlace| self.roster[*w].served == Served::Nobody;
                    let serves_all = self.roster.idle(lane).iter().any(unbound);
                    assert!(
                        !(idle && serves_all),
                        "no unbound worker is idle while a task could run"
                    );
                    assert_eq!(
                        self.best_at_home(lane),
                        None,
                        "no worker is idle while a task of its project could run"
                    );
                }
                Tenancy::Task => assert!(
                    !idle || self.next_fresh(lane).is_none(),
                    "no worker is idle while a task could run and may"
                ),
            }
        }
    }

    fn no_worker_serves_more_than_the_tenancy_allows(&self) {
        for (_, worker) in self.roster.iter() {
            let projects: BTreeSet<ProjectPlace> =
                worker.held.iter().map(|held| self.tasks[held.task].project).collect();
            match worker.served {
                Served::Nobody => {
                    assert!(projects.is_empty(), "a worker that holds a task serves its project")
                }
                Served::One(of) => assert!(
                    projects.iter().all(|project| *project == of),
                    "it holds what it serves"
                ),
                Served::Several => {}
            }
            if worker.runs_its_one_task() {
                assert_eq!(worker.held.len(), 1, "a worker serves one task");
            }
            if worker.is_ready() {
                match self.settings.tenancy {
                    Tenancy::Shared => {}
                    Tenancy::Project => {
                        assert_ne!(worker.served, Served::Several, "a worker serves one project")
                    }
                    Tenancy::Task => {
                        assert_eq!(worker.served, Served::Nobody, "a worker takes one task")
                    }
                }
            }
        }
        for (place, _) in self.line.projects() {
            let tenants = self
                .roster
                .iter()
                .filter(|(_, worker)| worker.served == Served::One(place))
                .count();
            assert_eq!(
                self.roster.tenants(place) as usize,
                tenants,
                "a project knows how many workers serve it alone"
            );
            for lane in Lane::ALL {
                let at_home = |worker: &&Worker| {
                    worker.lane == lane && worker.served == Served::One(place) && worker.is_ready()
                };
                let homes = || self.roster.iter().filter(|(_, worker)| at_home(worker));
                let mut counted = self.roster.homes(place, lane).workers().to_vec();
                counted.sort_unstable();
                assert_eq!(
                    counted,
                    homes().map(|(w, _)| w).collect::<Vec<WorkerPlace>>(),
                    "a project knows its own workers"
                );
                let stays = |worker: &Worker| {
                    matches!(worker.state, WorkerState::Ready { recycle: None, .. })
                };
                let staying = homes().filter(|(_, worker)| stays(worker)).count();
                assert_eq!(
                    self.roster.homes(place, lane).staying() as usize,
                    staying,
                    "and how many of them stay"
                );
            }
        }
    }

    fn ready_flows_stand_at_their_rank(&self) {
        for lane in Lane::ALL {
            assert!(self.line.is_consistent(lane), "flows in line are found by their seats");
            let seated =
                self.line.projects().filter(|(_, project)| project.flows[lane].seat.is_some());
            assert_eq!(
                self.roster.seats(lane).all_projects() as usize,
                seated.count(),
                "seats know how many projects they serve"
            );
            let mut ranked = BTreeSet::new();
            for (place, project) in self.line.projects() {
                let flow = &project.flows[lane];
                ranked.extend(flow.rank);
                let ready = flow.queued > 0 && project.allowance() > 0;
                assert_eq!(
                    flow.rank.is_some(),
                    ready,
                    "a flow is ready when it has tasks and may run them"
                );
                if let Some(rank) = flow.rank {
                    let now = self
                        .line
                        .rank_of(&self.tasks, self.timers.now(), place, lane)
                        .expect("it has tasks");
                    assert_eq!(
                        rank.level(),
                        now.level(),
                        "a flow stands at its effective priority"
                    );
                }
            }
            assert_eq!(&ranked, self.line.ready(lane), "the ready flows are those with a rank");
        }
    }

    fn a_worker_and_its_replacement_know_each_other(&self) {
        let replacement_of = |w: WorkerPlace| match self.roster[w].state {
            WorkerState::Ready { replacement, .. } => replacement,
            _ => None,
        };
        let replaced_by = |w: WorkerPlace| match self.roster[w].state {
            WorkerState::Spawning { replaces } => replaces,
            _ => None,
        };
        for (w, worker) in self.roster.iter() {
            match worker.state {
                WorkerState::Spawning { replaces: Some(old) } => {
                    assert_eq!(replacement_of(old), Some(w));
                }
                WorkerState::Ready { replacement: Some(new), .. } => {
                    assert_eq!(replaced_by(new), Some(w));
                }
                WorkerState::Spawning { replaces: None }
                | WorkerState::Ready { replacement: None, .. }
                | WorkerState::Leaving(_) => {}
            }
        }
    }

    fn the_pool_has_no_more_workers_than_it_may(&self) {
        let wanted: u32 = Lane::ALL.iter().map(|lane| self.pace[*lane].want).sum();
        assert!(wanted <= self.settings.max_workers, "no more workers are wanted than may be");
        if self.runs_tasks() && self.pace[Lane::Io].want == 0 {
            assert!(
                self.pace[Lane::Js].want >= self.settings.min_workers,
                "the minimum is always wanted"
            );
        }
    }

    fn every_timer_belongs_to_something(&self) {
        assert!(self.timers.is_consistent());
        for (slot, task) in self.tasks.iter() {
            let has_deadline_timer = self.timers.armed(TimerKey::Deadline(slot)).is_some();
            assert_eq!(
                has_deadline_timer,
                task.deadline() != Time::NEVER && task.deadline() > self.timers.now()
            );
        }
        let due = self.timers.first().filter(|(at, _)| *at <= self.timers.now());
        assert_eq!(due, None, "what was due by {:?} has been done", self.timers.now());
        assert!(self.quarantine.is_consistent());
        assert!(self.owners.len() <= self.tasks.len());
        assert!(self.keys.len() as u64 <= self.tally.accepted);
    }
}
