//! The end of a task.
//!
//! Here, and only here, a task leaves: [`Core::end`] takes it out of the table, so that it ends
//! once, and gives back all that it used.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pool_protocol::id::TaskId;
use pool_protocol::outcome::{ErrorCode, Receipt, Verdict};

use crate::Core;
use crate::action::{Action, Ended, PoolEvent, Words};
use crate::answer::Reported;
use crate::event::AttemptEnd;
use crate::place::TaskPlace;
use crate::task::TaskState;
use crate::time::Time;
use crate::timers::TimerKey;

impl Core {
    /// Ends a task that no worker holds and that waits nowhere. `last` is its last attempt, if that
    /// was reported.
    pub(crate) fn end(
        &mut self,
        slot: TaskPlace,
        code: Option<ErrorCode>,
        last: Option<&AttemptEnd>,
        words: Words,
        out: &mut Vec<Action>,
    ) {
        let (task, ended) = self.close(slot, code, last, out);
        out.push(Action::End { task, slot, ended, words });
    }

    /// Takes the task out, gives back all that it used, and tells of its end.
    fn close(
        &mut self,
        slot: TaskPlace,
        code: Option<ErrorCode>,
        last: Option<&AttemptEnd>,
        out: &mut Vec<Action>,
    ) -> (TaskId, Ended) {
        self.owners.remove(&mut self.tasks, slot);
        let task = self.tasks.remove(slot);
        debug_assert_eq!(task.state, TaskState::LetGo, "it was let go of before");
        if task.deadline() != Time::NEVER {
            self.timers.disarm(TimerKey::Deadline(slot));
        }
        self.line.count_ended(task.project, task.body_bytes);

        let began = if task.ran_on.is_some() { task.started } else { self.timers.now() };
        let receipt = Receipt {
            queued_us: began.since(task.accepted),
            run_us: last.map_or(0, |last| last.run_us),
            cpu_us: last.map_or(0, |last| last.cpu_us),
            memory_bytes: last.map_or(0, |last| last.memory_bytes),
        };
        let event = match (code, task.ran_on) {
            (None, Some(worker)) => {
                self.tally.completed += 1;
                PoolEvent::TaskComplete { task: task.id, slot, worker, run_us: receipt.run_us }
            }
            (code, worker) => {
                self.tally.failed += 1;
                let code = code.expect("only a worker reports success");
                PoolEvent::TaskError { task: task.id, slot, worker, code, run_us: receipt.run_us }
            }
        };
        out.push(Action::Emit(event));
        (task.id, Ended { code, attempts: task.attempts, worker: task.ran_on, receipt })
    }

    /// Ends a task as it was asked to end: cancelled, or out of time. `verdict` is its worker's
    /// when it went with it.
    pub(crate) fn end_stopped(
        &mut self,
        slot: TaskPlace,
        code: ErrorCode,
        last: Option<&AttemptEnd>,
        verdict: Option<Verdict>,
        out: &mut Vec<Action>,
    ) {
        let message = self.stop_message(slot, code, last.is_some());
        self.end(slot, Some(code), last, Words { message, verdict }, out);
    }

    /// Ends a task by its worker's report. A timeout that was its deadline is called that.
    pub(crate) fn end_reported(
        &mut self,
        slot: TaskPlace,
        end: &AttemptEnd,
        out: &mut Vec<Action>,
    ) -> Reported {
        let was_deadline = end.code == Some(ErrorCode::Timeout) && self.deadline_came_first(slot);
        let message = was_deadline.then(|| self.deadline_message(slot));
        let (task, ended) = self.close(slot, end.code, Some(end), out);
        Reported::Ended { task, slot, ended, message }
    }

    /// `ran`: whether this ends an attempt. A waiting task has no time to run out but its deadline.
    fn stop_message(&self, slot: TaskPlace, code: ErrorCode, ran: bool) -> String {
        if code == ErrorCode::Cancelled {
            return "the task was cancelled".into();
        }
        if !ran || self.deadline_came_first(slot) {
            return self.deadline_message(slot);
        }
        format!("the task ran longer than its timeout of {} ms", self.tasks[slot].timeout_ms)
    }

    /// Whether the deadline was to end the last attempt, and not the timeout.
    fn deadline_came_first(&self, slot: TaskPlace) -> bool {
        let task = &self.tasks[slot];
        task.started.plus_ms(task.timeout_ms) > task.deadline()
    }

    fn deadline_message(&self, slot: TaskPlace) -> String {
        let task = &self.tasks[slot];
        let after_ms = task.deadline().since(task.accepted) / 1000;
        format!("the task did not end before its deadline, {after_ms} ms after it was accepted")
    }

    /// Ends a task that waits: queued, delayed or between attempts.
    pub(crate) fn end_waiting(&mut self, slot: TaskPlace, code: ErrorCode, out: &mut Vec<Action>) {
        self.stop_waiting(slot);
        self.end_stopped(slot, code, None, None, out);
    }

    pub(crate) fn stop_waiting(&mut self, slot: TaskPlace) {
        match self.tasks[slot].state {
            TaskState::Queued { .. } => {
                self.line.remove(&mut self.tasks, &mut self.timers, slot);
            }
            TaskState::Delayed | TaskState::Retrying => {
                self.timers.disarm(TimerKey::Wake(slot));
                self.tasks[slot].state = TaskState::LetGo;
            }
            TaskState::Checking => {
                self.quarantine.end_check();
                self.tasks[slot].state = TaskState::LetGo;
            }
            TaskState::Held { .. } | TaskState::LetGo => {
                unreachable!("the caller knows that it waits")
            }
        }
        self.line.uncount_waiting(self.tasks[slot].project);
    }
}
