//! Ends that somebody asks for: a cancel, a client that went, a deadline before the start.
//!
//! A waiting task ends at once. A running one is interrupted, then killed (`head`). One that a
//! worker holds but has not started is asked back, so that the innocent task before it does not die
//! with it: it ends when it is given back, or is interrupted if it turns out to run.

use alloc::vec::Vec;

use pool_protocol::id::{ClientId, TaskId};
use pool_protocol::outcome::ErrorCode;

use crate::Core;
use crate::action::Action;
use crate::place::TaskPlace;
use crate::task::TaskState;

/// Tasks of a client that is gone that one event ends. Other events are handled between two of
/// these.
const CANCELLED_AT_ONCE: usize = 1024;

impl Core {
    /// Whether a client has tasks that end with it. After [`crate::event::Event::ClientGone`]:
    /// whether the event is wanted again.
    #[must_use]
    pub fn ends_tasks_with(&self, client: ClientId) -> bool {
        self.owners.first(client).is_some()
    }

    pub(crate) fn on_cancel(&mut self, task: TaskId, out: &mut Vec<Action>) -> bool {
        let Some(slot) = self.tasks.find(task) else { return false };
        self.stop(slot, ErrorCode::Cancelled, out);
        true
    }

    pub(crate) fn on_client_gone(&mut self, client: ClientId, out: &mut Vec<Action>) {
        for _ in 0..CANCELLED_AT_ONCE {
            let Some(slot) = self.owners.first(client) else { return };
            self.owners.remove(&mut self.tasks, slot);
            self.stop(slot, ErrorCode::Cancelled, out);
        }
    }

    /// Its deadline has come.
    pub(crate) fn on_deadline(&mut self, slot: TaskPlace, out: &mut Vec<Action>) {
        // A running task's worker has been told: it ends it by itself, and the check of running
        // tasks stands behind it.
        if !matches!(self.tasks[slot].state, TaskState::Held { started: true, .. }) {
            self.stop(slot, ErrorCode::Timeout, out);
        }
    }

    /// Ends a task wherever it is, under this code.
    pub(crate) fn stop(&mut self, slot: TaskPlace, code: ErrorCode, out: &mut Vec<Action>) {
        match self.tasks[slot].state {
            TaskState::Queued { .. }
            | TaskState::Delayed
            | TaskState::Retrying
            | TaskState::Checking => {
                self.end_waiting(slot, code, out);
            }
            TaskState::Held { worker, started } => {
                // Asked before: the first reason stands and its clock runs.
                if self.tasks[slot].stop.is_some() {
                    return;
                }
                self.tasks[slot].stop = Some(code);
                let w = self.roster.find(worker).expect("a task's worker is not gone");
                if !self.roster[w].runs_on() {
                    return;
                }
                if started {
                    self.interrupt(w, code, out);
                } else {
                    let id = self.tasks[slot].id;
                    self.take_back(w, |task| task.id == id, out);
                }
            }
            TaskState::LetGo => unreachable!("no task is let go of between two events"),
        }
    }
}
