//! Workers that die, or are killed, and what becomes of the tasks that they held.
//!
//! A crash loses no task and ends none twice. Who is to blame decides how often a task is tried
//! again:
//! - The worker held one task: that one is charged with an attempt. If the death was its own doing,
//!   it is not tried again; if it may have been, it is tried once more at most, alone and after its
//!   back-off; if it came from outside, up to its `maxAttempts`, at once. Bodies of the first two
//!   kinds are remembered (`quarantine`).
//! - The worker held several: the first was running, as far as the core knows, but a report may
//!   have been lost with the worker. So nobody is charged; all are marked to run *alone*, and the
//!   next death has one suspect. The first one has had its second chance with that.
//! - The core killed it for the sake of one task (cancel, timeout): that one ends as it was asked
//!   to, the others are not charged.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pool_protocol::id::WorkerId;
use pool_protocol::outcome::{Blame, Cause, ErrorCode, Verdict};

use crate::Core;
use crate::action::{Action, PoolEvent, Words};
use crate::event::{AttemptEnd, BodyHash};
use crate::place::{TaskPlace, WorkerPlace};
use crate::restart::PROOF_US;
use crate::roster::{Leaving, Manner, Worker, WorkerState};
use crate::task::TaskState;
use crate::timers::TimerKey;

impl Core {
    /// Sends SIGKILL; the worker holds its tasks until it is gone.
    pub(crate) fn kill(&mut self, w: WorkerPlace, verdict: Verdict, out: &mut Vec<Action>) {
        if self.roster[w].was_killed() {
            return;
        }
        // One that is not ready and is not merely one too many could not be started.
        if self.roster[w].is_spawning() && verdict.cause != Cause::Idle {
            self.spawn_failed(w, &verdict.evidence, out);
        }
        self.roster.leave(w, Manner::Killed, verdict);
        out.push(Action::Kill { worker: self.roster[w].id });
    }

    pub(crate) fn on_worker_broke(
        &mut self,
        worker: WorkerId,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        let Some(w) = self.roster.find(worker) else { return };
        self.kill(w, Verdict { cause: Cause::ProtocolViolation, evidence: reason }, out);
    }

    pub(crate) fn on_worker_gone(
        &mut self,
        worker: WorkerId,
        seen: Verdict,
        blame: Option<Blame>,
        body: Option<BodyHash>,
        out: &mut Vec<Action>,
    ) {
        let Some(w) = self.roster.find(worker) else { return };
        let cause_seen = seen.cause;
        let verdict = self.judge(w, seen, out);
        let blame = blame.filter(|_| verdict.cause == cause_seen).unwrap_or(verdict.cause.blame());
        // The worker was about to leave because of a task that had ended: none of those that it
        // still held can be to blame.
        let blameless = self.roster[w].spoiled;
        let tasks = self.let_go_of_all(w, blameless);
        let stopped = tasks.iter().any(|(slot, _)| self.tasks[*slot].stop.is_some());
        let died_under =
            tasks.iter().find(|(_, started)| *started).map(|(slot, _)| self.tasks[*slot].id);
        if is_error(verdict.cause) || (!tasks.is_empty() && !blameless && !stopped) {
            out.push(Action::Emit(PoolEvent::WorkerError {
                worker,
                task: died_under,
                verdict: verdict.clone(),
            }));
        }
        self.remove_worker(w, verdict.clone(), out);

        let alone = tasks.len() == 1;
        let any_ran = tasks.iter().any(|(_, started)| *started);
        for (slot, started) in tasks {
            if let Some(code) = self.tasks[slot].stop {
                self.tasks[slot].attempts += u32::from(started);
                let last = started.then(|| self.cut_short(slot));
                self.end_stopped(slot, code, last.as_ref(), started.then(|| verdict.clone()), out);
            } else if blameless || !any_ran || (stopped && !started) {
                // A task that had not started has nothing to do with the death: it is not charged,
                // nor even suspected.
                self.requeue(slot, out);
            } else if alone {
                self.charge(slot, &verdict, (blame, body), out);
            } else {
                let task = &mut self.tasks[slot];
                task.solo = true;
                task.crashes += u8::from(started && blame != Blame::Outside);
                self.requeue(slot, out);
            }
        }
    }

    /// Removes a worker that is gone, and tells.
    fn remove_worker(&mut self, w: WorkerPlace, verdict: Verdict, out: &mut Vec<Action>) {
        let worker = self.discard(w);
        out.push(Action::Emit(PoolEvent::WorkerTerminated {
            worker: worker.id,
            lane: worker.lane,
            verdict,
            lived_us: self.timers.now().since(worker.ordered_at),
            tasks: worker.tasks_ended,
        }));
    }

    /// Removes a worker that is gone or never was, with all its timers.
    pub(crate) fn discard(&mut self, w: WorkerPlace) -> Box<Worker> {
        for key in [
            TimerKey::Spawn(w),
            TimerKey::Heartbeat(w),
            TimerKey::Running(w),
            TimerKey::Leave(w),
            TimerKey::Idle(w),
            TimerKey::Age(w),
        ] {
            self.timers.disarm(key);
        }
        self.topped_up = None;
        self.roster.remove(w)
    }

    /// Why the worker ended: the core's own reason where it had one, else what the shell saw.
    fn judge(&mut self, w: WorkerPlace, seen: Verdict, out: &mut Vec<Action>) -> Verdict {
        let worker = &self.roster[w];
        match worker.state.clone() {
            WorkerState::Spawning { .. } => {
                let evidence =
                    format!("it ended before it was ready: {} ({})", seen.cause, seen.evidence);
                self.spawn_failed(w, &evidence, out);
                Verdict { cause: Cause::SpawnFailed, evidence }
            }
            WorkerState::Ready { .. } => {
                let idle = worker.held.is_empty() && worker.tasks_ended == 0;
                if idle && self.timers.now().since(worker.ready_at) < PROOF_US {
                    let reason = format!(
                        "ended as soon as it was ready: {} ({})",
                        seen.cause, seen.evidence
                    );
                    self.spawn_failed(w, &reason, out);
                    self.restart.need_proof();
                }
                seen
            }
            WorkerState::Leaving(Leaving { manner: Manner::Killed, verdict }) => verdict,
            WorkerState::Leaving(Leaving { manner: Manner::Spoiled, verdict }) => {
                let over_memory = verdict.cause == Cause::JsHeap;
                // The worker's last words and the kernel know more of what memory it was.
                let knows_more =
                    matches!(seen.cause, Cause::JsHeap | Cause::ArrayBuffers | Cause::KernelOom);
                if over_memory && knows_more { seen } else { verdict }
            }
            // It was told to go, and went; or it died under its last task, which is another matter.
            WorkerState::Leaving(Leaving {
                manner: Manner::Retiring { .. } | Manner::OneTask,
                verdict,
            }) => {
                if worker.held.is_empty() {
                    verdict
                } else {
                    seen
                }
            }
        }
    }

    /// Takes all tasks from a worker that is gone, each with whether it ran. A
    /// project pays for the one whose attempt counts.
    fn let_go_of_all(&mut self, w: WorkerPlace, blameless: bool) -> Vec<(TaskPlace, bool)> {
        let alone = self.roster[w].held.len() == 1;
        let mut tasks = Vec::with_capacity(self.roster[w].held.len());
        while let Some(front) = self.roster[w].held.front() {
            let task = &self.tasks[front.task];
            let ran = matches!(task.state, TaskState::Held { started: true, .. });
            let counts = ran && (task.stop.is_some() || (alone && !blameless));
            let used_us = if counts { self.timers.now().since(task.started) } else { 0 };
            tasks.push(self.let_go(w, 0, used_us));
        }
        tasks
    }

    /// What is known of an attempt that its worker's end cut short.
    fn cut_short(&self, slot: TaskPlace) -> AttemptEnd {
        let run_us = self.timers.now().since(self.tasks[slot].started);
        AttemptEnd {
            code: Some(ErrorCode::WorkerCrashed),
            run_us,
            cpu_us: 0,
            busy_us: run_us,
            memory_bytes: 0,
            retry_after_ms: 0,
            spoiled: true,
        }
    }

    /// The worker died under this task and no other.
    fn charge(
        &mut self,
        slot: TaskPlace,
        verdict: &Verdict,
        (blame, body): (Blame, Option<BodyHash>),
        out: &mut Vec<Action>,
    ) {
        let last = self.cut_short(slot);
        let task = &mut self.tasks[slot];
        task.attempts += 1;
        let (again, delay_us) = match blame {
            Blame::Task => (false, 0),
            Blame::Unclear => {
                task.crashes = task.crashes.saturating_add(1);
                // So that a second death has one suspect, whatever else there is to do.
                task.solo = true;
                let again = task.crashes <= 1 && self.may_retry(slot);
                (again, self.retry_delay_us(slot))
            }
            // It will not happen again for this task's being there: nothing is won by waiting.
            Blame::Outside => (self.may_retry(slot), 0),
        };
        self.suspect(slot, verdict, blame, body);
        if again && self.in_time(slot, delay_us) {
            self.retry_later(slot, ErrorCode::WorkerCrashed, delay_us, out);
            return;
        }
        let message = format!(
            "the worker ended while it ran the task: {} ({})",
            verdict.cause, verdict.evidence
        );
        let words = Words { message, verdict: Some(verdict.clone()) };
        self.end(slot, Some(code_of(verdict.cause)), Some(&last), words, out);
    }
}

/// What a task's end is called whose worker died of this. An engine that has no memory left can
/// mostly end the task and tell; where it cannot, the task has used up its memory all the same.
const fn code_of(cause: Cause) -> ErrorCode {
    match cause {
        Cause::JsHeap | Cause::ArrayBuffers => ErrorCode::MemoryLimit,
        _ => ErrorCode::WorkerCrashed,
    }
}

/// Ends that are errors of the worker, whether or not it held a task.
fn is_error(cause: Cause) -> bool {
    matches!(cause, Cause::SpawnFailed | Cause::ProtocolViolation | Cause::Unresponsive)
}
