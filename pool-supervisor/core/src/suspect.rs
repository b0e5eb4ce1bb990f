//! A task is suspected of ending its workers, and looked at before it runs.
//!
//! Decides when the shell is asked what a body hashes to, and what follows from the answer; which
//! bodies are not run is for [`crate::quarantine`] to know.

use alloc::format;
use alloc::vec::Vec;

use pool_protocol::id::TaskId;
use pool_protocol::outcome::{Blame, ErrorCode, Verdict};

use crate::Core;
use crate::action::{Action, Words};
use crate::event::BodyHash;
use crate::place::TaskPlace;
use crate::task::TaskState;

/// What is known of the body of a task whose turn has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// It may run.
    Runs,
    /// It has left the queue until the shell has looked.
    Asked,
    /// The shell has enough to look at.
    Later,
}

impl Core {
    /// Whether a new task with a body of this length may be one that is set aside: then its hash is
    /// wanted with it.
    #[must_use]
    pub fn suspects_body_of(&self, bytes: u32) -> bool {
        self.quarantine.has_length(bytes)
    }

    /// A worker ended under the task, perhaps by its doing: its body is remembered.
    pub(crate) fn suspect(
        &mut self,
        slot: TaskPlace,
        verdict: &Verdict,
        blame: Blame,
        body: Option<BodyHash>,
    ) {
        let (now, for_ms) = (self.timers.now(), self.settings.set_aside_ms);
        let Some(body) = body.filter(|_| for_ms > 0 && blame != Blame::Outside) else { return };
        let task = &self.tasks[slot];
        // A second death in the same task's life leaves no doubt either.
        let certain = blame == Blame::Task || task.crashes > 1;
        self.quarantine.expire(now);
        let until = now.plus_ms(for_ms);
        self.quarantine.record(until, body, task.body_bytes, verdict.clone(), certain);
    }

    /// Whether the task, whose turn has come, may run as far as its body is concerned.
    ///
    /// Tasks that wait are looked at when it is their turn, and not when a body like theirs is set
    /// aside: a death would cost a look at everything that waits.
    pub(crate) fn look_at_body(&mut self, slot: TaskPlace, out: &mut Vec<Action>) -> Look {
        let task = &self.tasks[slot];
        if task.checked || !self.suspects_body_of(task.body_bytes) {
            return Look::Runs;
        }
        if self.quarantine.is_busy() {
            return Look::Later;
        }
        let id = task.id;
        self.line.remove(&mut self.tasks, &mut self.timers, slot);
        self.tasks[slot].state = TaskState::Checking;
        self.quarantine.begin_check();
        out.push(Action::CheckBody { task: id, slot });
        Look::Asked
    }

    /// The shell says what the task's body is: it ends, or waits where it was.
    pub(crate) fn on_body_checked(&mut self, task: TaskId, body: BodyHash, out: &mut Vec<Action>) {
        // It may have been cancelled meanwhile.
        let Some(slot) = self.tasks.find(task) else { return };
        if self.tasks[slot].state != TaskState::Checking {
            return;
        }
        if let Some(text) = self.why_set_aside(body) {
            self.stop_waiting(slot);
            self.end(slot, Some(ErrorCode::WorkerCrashed), None, text, out);
        } else {
            self.quarantine.end_check();
            self.tasks[slot].checked = true;
            self.line.enqueue_again(&mut self.tasks, &mut self.timers, slot);
        }
    }

    /// What a person reads of a task with this body, if it is not run.
    pub(crate) fn why_set_aside(&mut self, body: BodyHash) -> Option<Words> {
        self.quarantine.expire(self.timers.now());
        let (verdict, until) = self.quarantine.find(self.timers.now(), body)?;
        let message = format!(
            "the task was not run: this very task has ended its worker before ({}: {}), and is set \
             aside for another {} s",
            verdict.cause,
            verdict.evidence,
            until.since(self.timers.now()).div_ceil(1_000_000)
        );
        Some(Words { message, verdict: Some(verdict.clone()) })
    }
}
