//! Questions about the pool, which change nothing.

use alloc::collections::BTreeMap;

use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::lane::Lane;

use crate::Core;
use crate::drain::Phase;
use crate::place::TaskPlace;
use crate::roster::WorkerState;
use crate::task::TaskState;
use crate::time::Time;

/// Sums over the pool's life.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    runs: u64,
    run_us: u64,
}

impl Tally {
    /// One more attempt ended.
    pub(crate) const fn learn(&mut self, run_us: u64) {
        self.runs += 1;
        self.run_us = self.run_us.saturating_add(run_us);
    }
}

/// The pool in figures.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stats {
    /// Workers that take tasks or are being started.
    pub workers: u32,
    /// Workers that are ready and hold nothing.
    pub available: u32,
    /// Workers that hold tasks, those among them that are leaving too.
    pub busy: u32,
    /// Workers that are not ready yet, replacements too.
    pub spawning: u32,
    /// Workers that take no more tasks and are not gone.
    pub stopping: u32,
    /// Tasks that wait, also those that a worker holds but has not started.
    pub queued: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks accepted since the start.
    pub accepted: u64,
    /// Tasks that succeeded since the start.
    pub completed: u64,
    /// Tasks that ended otherwise since the start.
    pub failed: u64,
    /// The mean run time of all attempts that a worker reported, in microseconds.
    pub avg_run_us: f64,
    /// Their sum, which only grows.
    pub run_us: u64,
    /// (running + waiting) / workers.
    pub load: f64,
    /// Bodies that are not run for having ended workers.
    pub set_aside: u32,
}

/// A worker's state, as users know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerStatus {
    /// Not ready yet.
    Spawning,
    /// Ready, holding nothing.
    Idle,
    /// Ready, holding tasks.
    Busy,
    /// It takes no more tasks.
    Stopping,
}

/// One worker.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WorkerView<'a> {
    /// Its name.
    pub id: WorkerId,
    /// Its lane.
    pub lane: Lane,
    /// Its state.
    pub state: WorkerStatus,
    /// Tasks ended on it.
    pub tasks_ended: u64,
    /// Resident bytes at its last heartbeat.
    pub rss_bytes: u64,
    /// CPU time at its last heartbeat, in microseconds.
    pub cpu_us: u64,
    /// When its process was ordered.
    pub started: Time,
    /// The task it runs, and whose that is.
    pub running: Option<(TaskId, &'a str)>,
}

/// One project.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ProjectView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Tasks that run.
    pub running: u32,
    /// How many may at once.
    pub limit: Option<u32>,
    /// Tasks that wait, also those that a worker holds but has not started.
    pub queued: u32,
    /// Its share.
    pub weight: f64,
    /// Tasks that ended since the project was first named.
    pub ended: u64,
}

/// Where a task is, as users know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskStatus {
    /// It waits for a worker, or for its turn in one.
    Queued,
    /// Its delay is not over.
    Delayed,
    /// Its last attempt failed and the next one is not due.
    Retrying,
    /// It runs.
    Running,
}

/// One task that has not ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TaskView<'a> {
    /// Its place.
    pub slot: TaskPlace,
    /// Where it is.
    pub state: TaskStatus,
    /// Whose it is.
    pub project: &'a str,
    /// Attempts started, the one being made too.
    pub attempts: u32,
    /// The worker that runs it, or ran it last.
    pub worker: Option<WorkerId>,
}

impl Core {
    /// The pool in figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            workers: 0,
            available: 0,
            busy: 0,
            spawning: 0,
            stopping: 0,
            queued: 0,
            running: 0,
            accepted: self.tally.accepted,
            completed: self.tally.completed,
            failed: self.tally.failed,
            avg_run_us: if self.tally.runs == 0 {
                0.0
            } else {
                self.tally.run_us as f64 / self.tally.runs as f64
            },
            run_us: self.tally.run_us,
            load: 0.0,
            set_aside: self.quarantine.count(self.timers.now()),
        };
        for lane in Lane::ALL {
            let counts = self.roster.counts(lane);
            stats.workers += counts.capacity();
            stats.spawning += counts.starting();
            stats.available += self.roster.idle(lane).len() as u32;
        }
        for (_, worker) in self.roster.iter() {
            stats.busy += u32::from(!worker.held.is_empty());
            let serves = worker.runs_its_one_task();
            stats.workers += u32::from(serves);
            stats.stopping += u32::from(!serves && matches!(worker.state, WorkerState::Leaving(_)));
        }
        stats.running = self.line.running();
        stats.queued = self.tasks.len() as u32 - stats.running;
        stats.load = self.tasks.len() as f64 / f64::from(stats.workers.max(1));
        stats
    }

    /// All workers that are not gone, in the order of their places.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView<'_>> {
        self.roster.iter().map(|(_, worker)| {
            let state = match worker.state {
                WorkerState::Spawning { .. } => WorkerStatus::Spawning,
                WorkerState::Ready { .. } if worker.held.is_empty() => WorkerStatus::Idle,
                WorkerState::Ready { .. } => WorkerStatus::Busy,
                WorkerState::Leaving(_) if worker.runs_its_one_task() => WorkerStatus::Busy,
                WorkerState::Leaving(_) => WorkerStatus::Stopping,
            };
            let running = worker.held.front().map(|front| &self.tasks[front.task]);
            let running =
                running.filter(|task| matches!(task.state, TaskState::Held { started: true, .. }));
            WorkerView {
                id: worker.id,
                lane: worker.lane,
                state,
                tasks_ended: worker.tasks_ended,
                rss_bytes: worker.rss_bytes,
                cpu_us: worker.cpu_us,
                started: worker.ordered_at,
                running: running.map(|task| (task.id, &*self.line[task.project].name)),
            }
        })
    }

    /// Running tasks of the projects that run any, and of those that the configuration gives a
    /// limit. Asked for by everybody who looks at the pool, so it goes by the workers, not by the
    /// projects: those may be many.
    #[must_use]
    pub fn usage(&self) -> BTreeMap<&str, u32> {
        let limited =
            self.settings.projects.iter().filter(|(_, settings)| settings.limit.is_some());
        let limited = limited.map(|(name, _)| &**name);
        let running = self.roster.iter().flat_map(|(_, worker)| worker.shares.iter());
        let running =
            running.map(|(place, _)| &self.line[*place]).filter(|project| project.running > 0);
        let used = |name: &str| self.line.find(name).map_or(0, |place| self.line[place].running);
        limited
            .map(|name| (name, used(name)))
            .chain(running.map(|project| (&*project.name, project.running)))
            .collect()
    }

    /// All projects that are known: configured, limited by hand, or used.
    pub fn projects(&self) -> impl Iterator<Item = ProjectView<'_>> {
        self.line.projects().map(|(_, project)| ProjectView {
            name: &project.name,
            running: project.running,
            limit: project.limit,
            queued: project.queued(),
            weight: project.weight,
            ended: project.ended,
        })
    }

    /// A task that has not ended.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<TaskView<'_>> {
        let slot = self.tasks.find(id)?;
        let task = &self.tasks[slot];
        let (state, making) = match task.state {
            TaskState::Delayed => (TaskStatus::Delayed, 0),
            TaskState::Retrying => (TaskStatus::Retrying, 0),
            TaskState::Held { started: true, .. } => (TaskStatus::Running, 1),
            TaskState::Queued { .. }
            | TaskState::Checking
            | TaskState::Held { started: false, .. }
            | TaskState::LetGo => (TaskStatus::Queued, 0),
        };
        Some(TaskView {
            slot,
            state,
            project: &self.line[task.project].name,
            attempts: task.attempts + making,
            worker: task.ran_on,
        })
    }

    /// The task that this worker runs.
    #[must_use]
    pub fn running_on(&self, worker: WorkerId) -> Option<(TaskId, TaskPlace)> {
        let front = self.roster[self.roster.find(worker)?].held.front()?;
        let task = &self.tasks[front.task];
        let runs = matches!(task.state, TaskState::Held { started: true, .. });
        runs.then_some((task.id, front.task))
    }

    /// Whether this id was ever given to a task.
    #[must_use]
    pub const fn task_known(&self, id: TaskId) -> bool {
        self.tasks.known(id)
    }

    /// Whether a task, ended or not, is known by an idempotency key: then
    /// [`crate::event::Event::Forget`] is wanted once its outcome is not kept any more.
    #[must_use]
    pub fn has_key(&self, id: TaskId) -> bool {
        self.keys.has(id)
    }

    /// How many tasks of this project may run at once, if that is limited.
    #[must_use]
    pub fn limit_of(&self, project: &str) -> Option<u32> {
        let of_unknown = || self.settings.projects.get(project).and_then(|settings| settings.limit);
        self.line.find(project).map_or_else(of_unknown, |place| self.line[place].limit)
    }

    /// Whether one more project may have a limit set by hand, or this one has one already.
    #[must_use]
    pub fn may_set_limit(&self, project: &str) -> bool {
        self.line.has_room_for_limit(project)
    }

    /// Whether tasks are taken and a worker is there to run them.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Open && self.roster.iter().any(|(_, worker)| worker.is_ready())
    }

    /// Why workers cannot be started, if so.
    #[must_use]
    pub fn degraded(&self) -> Option<&str> {
        self.restart.degraded()
    }

    /// Whether the pool is stopping.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.phase != Phase::Open
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> &crate::settings::Settings {
        &self.settings
    }
}
