//! The task that a worker runs, which is the first of those it holds; and what follows for a worker
//! when it lets go of one.
//!
//! Decides when the running task is late. The worker enforces the timeout by itself and exactly;
//! what is here stands behind it, a little later: ask, then kill. And tasks behind one that runs
//! long are taken back, so that they can run elsewhere.

use alloc::format;
use alloc::vec::Vec;

use pool_protocol::id::TaskId;
use pool_protocol::lane::Lane;
use pool_protocol::limits::CANCEL_GRACE_MS;
use pool_protocol::outcome::{Cause, ErrorCode, Verdict};

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::place::{TaskPlace, WorkerPlace};
use crate::recycle::RETIRE_GRACE_MS;
use crate::roster::{Leaving, Manner, WorkerState};
use crate::task::{Task, TaskState};
use crate::time::Time;
use crate::timers::TimerKey;

/// How much later than the worker the core calls a task late, in microseconds: a report may lie in
/// the worker's outbox for 10 ms.
const SLACK_US: u64 = 15_000;
/// A task that runs this long, in microseconds, is not tiny: those behind it are taken back.
const STALL_US: u64 = 2_000;

impl Core {
    /// If the worker's first task is a new one, that one runs from now.
    pub(crate) fn start_first(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let worker = &self.roster[w];
        let Some(front) = worker.held.front() else { return };
        let slot = front.task;
        let task = &mut self.tasks[slot];
        if let TaskState::Held { worker: holder, started: false } = task.state {
            task.state = TaskState::Held { worker: holder, started: true };
            task.started = self.timers.now();
            task.ran_on = Some(holder);
            self.line.count_started(task.project);
            let (id, attempt) = (task.id, task.attempts + 1);
            let stop = task.stop;
            out.push(Action::Emit(PoolEvent::TaskStarted {
                task: id,
                slot,
                worker: holder,
                attempt,
            }));
            if let Some(code) = stop {
                self.interrupt(w, code, out);
            }
        }
        self.timers.arm_no_later(TimerKey::Running(w), self.first_due(w));
    }

    /// When the worker's first task has to be looked at.
    fn first_due(&self, w: WorkerPlace) -> Time {
        let worker = &self.roster[w];
        let Some(front) = worker.held.front() else { return Time::NEVER };
        let task = &self.tasks[front.task];
        let late = if worker.kill_at == Time::NEVER { overdue_at(task) } else { worker.kill_at };
        let due = if worker.held.len() > 1 && !worker.stalled {
            late.min(task.started.plus_us(STALL_US))
        } else {
            late
        };
        due.max(self.timers.now().plus_us(1))
    }

    pub(crate) fn on_running_check(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let worker = &self.roster[w];
        let Some(front) = worker.held.front() else { return };
        if !worker.runs_on() {
            return;
        }
        let task = &self.tasks[front.task];
        if worker.kill_at <= self.timers.now() {
            let (id, code) = (task.id, task.stop.unwrap_or(ErrorCode::Timeout));
            let grace_ms = self.stop_grace_ms(worker.lane);
            self.kill(w, refused_to_stop(id, code, grace_ms), out);
            return;
        }
        if worker.kill_at == Time::NEVER && overdue_at(task) <= self.timers.now() {
            self.interrupt(w, ErrorCode::Timeout, out);
        }
        let worker = &self.roster[w];
        let started = self.tasks[worker.held[0].task].started;
        if worker.held.len() > 1
            && !worker.stalled
            && started.plus_us(STALL_US) <= self.timers.now()
        {
            self.roster.stall(w);
            self.take_back(w, |_| true, out);
        }
        self.timers.arm_no_later(TimerKey::Running(w), self.first_due(w));
    }

    /// Asks the worker to end its first task, and sets when it is killed if it does not.
    pub(crate) fn interrupt(&mut self, w: WorkerPlace, code: ErrorCode, out: &mut Vec<Action>) {
        let worker = &self.roster[w];
        let kill_at = self.timers.now().plus_ms(self.stop_grace_ms(worker.lane));
        let (id, slot) = (worker.id, worker.held.front().expect("it has a first task").task);
        let task = &mut self.tasks[slot];
        task.stop = Some(code);
        self.roster.set_kill_at(w, kill_at);
        out.push(Action::Interrupt { worker: id, task: task.id, attempt: task.attempts + 1, code });
        self.timers.arm_no_later(TimerKey::Running(w), kill_at);
    }

    /// From asking a worker to end its task until it is killed, in milliseconds. Programs are asked
    /// by their worker in turn.
    pub(crate) const fn stop_grace_ms(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Js => CANCEL_GRACE_MS,
            Lane::Io => CANCEL_GRACE_MS.saturating_add(self.settings.kill_after_ms),
        }
    }

    /// Asks the worker to give back those of its unstarted tasks that are meant and were not asked
    /// for before.
    pub(crate) fn take_back(
        &mut self,
        w: WorkerPlace,
        meant: impl Fn(&Task) -> bool,
        out: &mut Vec<Action>,
    ) {
        let tasks = self.roster.ask_back(w, &self.tasks, meant);
        if !tasks.is_empty() {
            out.push(Action::TakeBack { worker: self.roster[w].id, tasks });
        }
    }

    /// The worker lets go of the task at this position. `used_us`: what its project pays
    /// for it, in place of what it was charged in advance. What becomes of the task, the caller
    /// decides. Returns its place, and whether it was the one that ran.
    pub(crate) fn let_go(
        &mut self,
        w: WorkerPlace,
        position: usize,
        used_us: u64,
    ) -> (TaskPlace, bool) {
        let slot = self.roster[w].held[position].task;
        let task = &mut self.tasks[slot];
        let TaskState::Held { started, .. } = task.state else {
            unreachable!("a worker holds held tasks")
        };
        task.state = TaskState::LetGo;
        let project = task.project;
        let was_last = self.roster.let_go(w, position, project, started, self.timers.now());
        let (tasks, timers) = (&mut self.tasks, &mut self.timers);
        self.line.release(tasks, timers, slot, (started, was_last), used_us);
        (slot, started)
    }

    /// What a worker holds or its state has changed: its next task's clock starts, and one that
    /// leaves and holds nothing does leave.
    pub(crate) fn after_change(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let worker = &self.roster[w];
        if worker.held.is_empty() {
            if worker.is_ready() {
                self.arm_idle(w);
            } else if worker.runs_its_one_task() {
                self.dismiss(w, out);
            } else if matches!(
                worker.state,
                WorkerState::Leaving(Leaving { manner: Manner::Retiring { .. }, .. })
            ) {
                self.timers
                    .arm_no_later(TimerKey::Leave(w), self.timers.now().plus_ms(RETIRE_GRACE_MS));
            }
        } else if worker.runs_on() {
            self.start_first(w, out);
        }
    }
}

/// When a running task should have been ended by its worker.
fn overdue_at(task: &Task) -> Time {
    task.started.plus_ms(task.timeout_ms).min(task.deadline()).plus_us(SLACK_US)
}

fn refused_to_stop(id: TaskId, code: ErrorCode, grace_ms: u64) -> Verdict {
    let (cause, why) = match code {
        ErrorCode::Cancelled => (Cause::Cancelled, "was cancelled"),
        _ => (Cause::Deadline, "ran out of time"),
    };
    Verdict {
        cause,
        evidence: format!(
            "task {id} {why} and did not stop within {grace_ms} ms of being asked to"
        ),
    }
}
