//! What a worker holds: tasks come into its hands and leave them.
//!
//! Keeps every count that follows from that: the worker's load, the project's and the lane's share,
//! who is idle and who has room. It decides neither who gets a task nor what becomes of one that is
//! let go.

use alloc::vec::Vec;

use pool_protocol::id::TaskId;

use crate::Core;
use crate::action::Action;
use crate::place::{TaskPlace, WorkerPlace};
use crate::recycle::RETIRE_GRACE_MS;
use crate::task::TaskState;
use crate::tenancy::Served;
use crate::time::Time;
use crate::timers::TimerKey;
use crate::worker::{Held, Leaving, Manner, WorkerState};

impl Core {
    /// Puts a task behind those that the worker holds.
    pub(crate) fn hand_over(&mut self, slot: TaskPlace, w: WorkerPlace, cost_us: u32) {
        let worker = &mut self.workers[w];
        worker.held.push_back(Held { task: slot, cost_us, asked_back: false });
        worker.load_us += u64::from(cost_us);
        let place = self.tasks[slot].project;
        self.tasks[slot].state = TaskState::Held { worker: worker.id, started: false };
        if worker.served != Served::One(place) {
            self.bind(w, place);
        }
        let worker = &mut self.workers[w];
        let project = &mut self.projects[place];
        project.held += 1;
        match worker.shares.iter_mut().find(|(of, _)| *of == place) {
            Some((_, count)) => *count += 1,
            None => {
                worker.shares.push((place, 1));
                project.holders.push(w);
            }
        }
        self.lanes[worker.lane].held += 1;
        self.workers.note_room(w);
    }

    /// Takes the task at this position out of the worker's hands. What becomes of the task, the
    /// caller decides; then it ranks the project anew. Returns its place, and whether it was the
    /// one that ran.
    pub(crate) fn let_go(&mut self, w: WorkerPlace, position: usize) -> (TaskPlace, bool) {
        let worker = &mut self.workers[w];
        let held = worker.held.remove(position).expect("the position was looked up");
        worker.load_us -= u64::from(held.cost_us);
        let task = &mut self.tasks[held.task];
        let TaskState::Held { started, .. } = task.state else {
            unreachable!("a worker holds held tasks")
        };
        task.state = TaskState::LetGo;
        let place = task.project;
        let project = &mut self.projects[place];
        project.held -= 1;
        let share = worker
            .shares
            .iter()
            .position(|(of, _)| *of == place)
            .expect("counted when it was handed over");
        worker.shares[share].1 -= 1;
        if worker.shares[share].1 == 0 {
            worker.shares.swap_remove(share);
            let holder = project
                .holders
                .iter()
                .position(|holder| *holder == w)
                .expect("counted with the share");
            project.holders.swap_remove(holder);
        }
        if started {
            project.running -= 1;
            self.running -= 1;
            worker.kill_at = Time::NEVER;
            worker.stalled = false;
        }
        if worker.held.is_empty() {
            worker.idle_since = self.now;
        }
        self.lanes[worker.lane].held -= 1;
        (held.task, started)
    }

    /// Where in the worker's hands the task of this id and attempt is.
    pub(crate) fn position_of(&self, w: WorkerPlace, id: TaskId, attempt: u32) -> Option<usize> {
        let is_it = |held: &Held| {
            let task = &self.tasks[held.task];
            task.id == id && task.attempts + 1 == attempt
        };
        self.workers[w].held.iter().position(is_it)
    }

    /// A worker's hands or state have changed: start its next task's clock, note its room, see that
    /// an empty one that leaves does leave.
    pub(crate) fn after_change(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let worker = &self.workers[w];
        if worker.held.is_empty() {
            if worker.is_ready() {
                // One too many goes as soon as it is idle.
                self.workers_changed |= self.workers.lanes[worker.lane].shedding > 0;
                self.arm_idle(w);
            } else if worker.runs_its_one_task() {
                self.dismiss(w, out);
            } else if matches!(
                worker.state,
                WorkerState::Leaving(Leaving { manner: Manner::Retiring { .. }, .. })
            ) {
                self.timers.arm_no_later(TimerKey::Leave(w), self.now.plus_ms(RETIRE_GRACE_MS));
            }
        } else if worker.runs_on() {
            self.start_head(w, out);
        }
        self.workers.note_room(w);
    }
}
