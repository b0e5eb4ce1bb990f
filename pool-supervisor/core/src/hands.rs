//! A task leaves its worker's hands, and what follows for the worker.
//!
//! It does not decide what becomes of the task.

use alloc::vec::Vec;

use crate::Core;
use crate::action::Action;
use crate::place::{TaskPlace, WorkerPlace};
use crate::recycle::RETIRE_GRACE_MS;
use crate::roster::{Leaving, Manner, WorkerState};
use crate::task::TaskState;
use crate::timers::TimerKey;

impl Core {
    /// Takes the task at this position out of the worker's hands. `used_us`: what its project pays
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

    /// A worker's hands or state have changed: start its next task's clock, and see that an empty
    /// one that leaves does leave.
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
            self.start_head(w, out);
        }
    }
}
