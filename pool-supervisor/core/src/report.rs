//! What workers say about the tasks they hold: done, or given back.
//!
//! A worker is not believed beyond its own tasks: a word about one that it does not hold, or about
//! another attempt, ends the worker and changes nothing else. A word from a process that is gone is
//! dropped.

use alloc::format;
use alloc::vec::Vec;

use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::limits::MAX_CREDIT;
use pool_protocol::outcome::{Cause, ErrorCode, Verdict};

use crate::Core;
use crate::action::Action;
use crate::answer::Reported;
use crate::event::{AttemptEnd, Report};
use crate::place::{TaskPlace, WorkerPlace};
use crate::roster::Manner;

/// Tasks that a worker may give back unasked before it has ended one. More is a worker that takes
/// tasks without running any: it would be given them again for ever.
const MOST_GIVEN_BACK: u32 = 4 * MAX_CREDIT as u32;

impl Core {
    pub(crate) fn on_report(&mut self, report: &Report, out: &mut Vec<Action>) -> Reported {
        let Report { worker, task, attempt, mut end } = *report;
        let Some(w) = self.roster.find(worker) else { return Reported::Dropped };
        let Some(position) = self.roster.position_of(w, &self.tasks, task, attempt) else {
            let evidence =
                format!("it reported attempt {attempt} of task {task}, which it does not hold");
            self.kill(w, Verdict { cause: Cause::ProtocolViolation, evidence }, out);
            return Reported::Dropped;
        };
        // No task ran longer than its worker lives, whatever the worker says: the figures go into
        // everybody's shares.
        let lived_us = self.timers.now().since(self.roster[w].ordered_at);
        end.run_us = end.run_us.min(lived_us);
        end.busy_us = end.busy_us.min(lived_us);
        let slot = self.release_ended(w, position, &end);
        self.note_proof(w, out);
        let reported = self.decide_end(slot, &end, out);

        if end.spoiled || end.code.is_some_and(ErrorCode::spoils_worker) {
            self.spoil(w, task, end.code);
        } else {
            self.after_task(w, out);
        }
        self.after_change(w, out);
        self.topped_up = Some(w);
        reported
    }

    /// Takes a task that has ended from its worker, and learns from it.
    fn release_ended(&mut self, w: WorkerPlace, position: usize, end: &AttemptEnd) -> TaskPlace {
        // On a loaded machine wall times grow. Tiny tasks must not look long for that: it would
        // take more workers, which would load the machine more. Nor is a project to wait for its
        // next turn because its task met a collection of what thousands of others have left.
        let (slot, started) = self.let_go(w, position, end.busy_us);
        self.roster.count_ended(w, end.busy_us);
        let task = &mut self.tasks[slot];
        task.attempts += 1;
        task.ran_on = Some(self.roster[w].id);
        if !started {
            task.started = self.timers.now();
        }
        let (project, lane) = (task.project, task.lane);
        self.line.learn(project, lane, end.busy_us);
        self.tally.learn(end.run_us);
        slot
    }

    /// The attempt ended: the task ends, or is tried again.
    fn decide_end(&mut self, slot: TaskPlace, end: &AttemptEnd, out: &mut Vec<Action>) -> Reported {
        match (end.code, self.tasks[slot].stop) {
            (None, _) => self.end_reported(slot, end, out),
            // It was to end, and ended otherwise than well: what it was asked to end as is the
            // truth.
            (Some(code), Some(stop)) if code != stop => {
                self.end_stopped(slot, stop, Some(end), None, out);
                Reported::Dropped
            }
            (Some(code), None) if code.retried_by_default() && self.may_retry(slot) => {
                match self.delay_asked_for(slot, end.retry_after_ms) {
                    Some(delay_us) if self.in_time(slot, delay_us) => {
                        self.retry_later(slot, code, delay_us, out);
                        Reported::Dropped
                    }
                    _ => self.end_reported(slot, end, out),
                }
            }
            (Some(_), _) => self.end_reported(slot, end, out),
        }
    }

    /// The worker must not run another task and is about to exit.
    fn spoil(&mut self, w: WorkerPlace, task: TaskId, code: Option<ErrorCode>) {
        let (cause, why) = match code {
            Some(ErrorCode::Timeout) => (Cause::Deadline, "ran out of time"),
            Some(ErrorCode::Cancelled) => (Cause::Cancelled, "was cancelled"),
            Some(ErrorCode::CpuLimit) => (Cause::CpuLimit, "used up its CPU time"),
            Some(ErrorCode::MemoryLimit) => (Cause::JsHeap, "used up its memory"),
            _ => (Cause::Recycled, "left it unfit for another"),
        };
        let verdict = Verdict { cause, evidence: format!("task {task} {why}") };
        if self.roster[w].was_killed() {
            return;
        }
        self.roster.leave(w, Manner::Spoiled, verdict);
        self.expect_to_leave(w);
    }

    pub(crate) fn on_tasks_returned(
        &mut self,
        worker: WorkerId,
        tasks: &[(TaskId, u32)],
        out: &mut Vec<Action>,
    ) {
        let Some(w) = self.roster.find(worker) else { return };
        for (task, attempt) in tasks {
            // A task that it does not hold: nothing to take, and nothing that it could break.
            let Some(position) = self.roster.position_of(w, &self.tasks, *task, *attempt) else {
                continue;
            };
            if !self.roster[w].held[position].asked_back {
                self.roster.count_given_back(w);
            }
            let (slot, _) = self.let_go(w, position, 0);
            self.requeue(slot, out);
        }
        if self.roster[w].is_ready() && self.roster[w].given_back > MOST_GIVEN_BACK {
            let evidence =
                format!("it gave back {} tasks unasked and ran none", self.roster[w].given_back);
            self.kill(w, Verdict { cause: Cause::ProtocolViolation, evidence }, out);
            return;
        }
        self.after_change(w, out);
    }

    /// A task that was not run, or whose run does not count, waits again where it was; unless it
    /// was to end anyway.
    pub(crate) fn requeue(&mut self, slot: TaskPlace, out: &mut Vec<Action>) {
        if let Some(stop) = self.tasks[slot].stop {
            self.end_stopped(slot, stop, None, None, out);
        } else {
            self.line.count_waiting(self.tasks[slot].project);
            self.line.enqueue_again(&mut self.tasks, &mut self.timers, slot);
            self.end_if_it_cannot_run(slot, out);
        }
    }
}
