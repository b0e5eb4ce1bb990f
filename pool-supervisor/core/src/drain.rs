//! The end of the pool.
//!
//! Drain: no new tasks; those that run or wait may finish until the drain's timeout, then all are
//! cancelled; when no task is left the workers retire; when no worker is left the shell exits. A
//! task that could not run before that timeout (its delay is longer, or its project is paused) is
//! not waited for: it is cancelled at once. Shutdown: everything is cancelled and killed at once.
//! Either way the end is bounded, also if the system does not end a process.

use alloc::format;
use alloc::vec::Vec;

use pool_protocol::lane::Lane;
use pool_protocol::limits::CANCEL_GRACE_MS;
use pool_protocol::outcome::{Cause, ErrorCode, Verdict};

use crate::Core;
use crate::action::{Action, Words};
use crate::place::{ProjectPlace, TaskPlace};
use crate::recycle::RETIRE_GRACE_MS;
use crate::task::TaskState;
use crate::time::Time;
use crate::timers::TimerKey;

/// How long killed workers may take to be gone, in milliseconds.
const REAP_MS: u64 = 2_000;

/// Where the pool is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// It takes tasks.
    Open,
    /// It takes none and finishes those it has.
    Draining,
    /// It has no task; its workers leave.
    Closing,
    /// Its workers were killed.
    Killing,
    /// The shell was told to exit.
    Closed,
}

impl Core {
    /// Whether new tasks come in.
    pub(crate) fn takes_tasks(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether there are tasks to run, so that workers are wanted.
    pub(crate) const fn runs_tasks(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
    }

    pub(crate) fn on_drain(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Draining;
                self.timers.arm(
                    TimerKey::Drain,
                    self.timers.now().plus_ms(self.settings.drain_timeout_ms),
                );
                self.end_what_cannot_run(out);
            }
            Phase::Draining | Phase::Closing | Phase::Killing | Phase::Closed => {}
        }
    }

    /// While the pool drains: ends the waiting tasks that it would wait for in vain.
    pub(crate) fn end_what_cannot_run(&mut self, out: &mut Vec<Action>) {
        if self.phase != Phase::Draining {
            return;
        }
        let tasks: Vec<TaskPlace> = self.tasks.iter().map(|(slot, _)| slot).collect();
        for slot in tasks {
            self.end_if_it_cannot_run(slot, out);
        }
    }

    /// As [`Self::end_what_cannot_run`], for one task that waits again.
    pub(crate) fn end_if_it_cannot_run(&mut self, slot: TaskPlace, out: &mut Vec<Action>) {
        let task = &self.tasks[slot];
        let why = match task.state {
            _ if self.phase != Phase::Draining => return,
            TaskState::Delayed if !self.wakes_before_the_end(slot) => {
                "its delay ends only after that"
            }
            TaskState::Retrying if !self.wakes_before_the_end(slot) => {
                "its next attempt is due only after that"
            }
            TaskState::Queued { .. } | TaskState::Delayed | TaskState::Retrying
                if self.line[task.project].limit == Some(0) =>
            {
                "its project is paused"
            }
            TaskState::Queued { .. } | TaskState::Delayed | TaskState::Retrying => return,
            // They run, or are about to.
            TaskState::Checking | TaskState::Held { .. } | TaskState::LetGo => return,
        };
        let message = format!("the task was cancelled: the pool is stopping, and {why}");
        self.stop_waiting(slot);
        self.end(slot, Some(ErrorCode::Cancelled), None, Words { message, verdict: None }, out);
    }

    fn wakes_before_the_end(&self, slot: TaskPlace) -> bool {
        // A timer that is not armed has come already.
        self.timers.armed(TimerKey::Wake(slot)).is_none_or(|at| self.is_before_the_end(at))
    }

    fn is_before_the_end(&self, at: Time) -> bool {
        self.timers.armed(TimerKey::Drain).is_none_or(|end| at < end)
    }

    /// Whether a task of this project could start at this moment: always, unless the pool drains.
    pub(crate) fn could_start(&self, project: ProjectPlace, at: Time) -> bool {
        self.phase != Phase::Draining
            || (self.line[project].limit != Some(0) && self.is_before_the_end(at))
    }

    /// The drain's time is over: what is left is cancelled.
    pub(crate) fn on_drain_over(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Draining {
            self.stop_all(out);
            let stop_ms =
                Lane::ALL.map(|lane| self.stop_grace_ms(lane)).into_iter().max().unwrap_or(0);
            self.timers.arm(
                TimerKey::GiveUp,
                self.timers.now().plus_ms(stop_ms + CANCEL_GRACE_MS + REAP_MS),
            );
        }
    }

    fn stop_all(&mut self, out: &mut Vec<Action>) {
        let tasks: Vec<TaskPlace> = self.tasks.iter().map(|(slot, _)| slot).collect();
        for slot in tasks {
            self.stop(slot, ErrorCode::Cancelled, out);
        }
    }

    pub(crate) fn on_shutdown(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Killing | Phase::Closed => return,
            Phase::Open | Phase::Draining | Phase::Closing => self.phase = Phase::Killing,
        }
        for w in self.roster.places() {
            let evidence = "the pool was shut down".into();
            self.kill(w, Verdict { cause: Cause::Idle, evidence }, out);
        }
        self.stop_all(out);
        for lane in Lane::ALL {
            self.pace[lane].want = 0;
        }
        self.timers.arm(TimerKey::GiveUp, self.timers.now().plus_ms(REAP_MS));
    }

    /// A draining pool whose last task has ended wants no workers any more.
    pub(crate) fn close_when_no_task_is_left(&mut self) {
        if self.phase != Phase::Draining || !self.tasks.is_empty() {
            return;
        }
        self.phase = Phase::Closing;
        for lane in Lane::ALL {
            self.pace[lane].want = 0;
        }
        self.roster.look_again();
        self.timers.arm(TimerKey::GiveUp, self.timers.now().plus_ms(RETIRE_GRACE_MS + REAP_MS));
    }

    /// The last worker of a stopping pool is gone: that was it.
    pub(crate) fn exit_when_no_worker_is_left(&mut self, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Closing | Phase::Killing) && self.roster.living() == 0 {
            self.phase = Phase::Closed;
            self.timers.disarm_all();
            out.push(Action::Exit);
        }
    }

    /// Workers are still there long after they should have ended.
    pub(crate) fn on_give_up(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Draining | Phase::Closing => self.on_shutdown(out),
            Phase::Killing => {
                // The system does not end them. Their tasks end here, so that everybody gets an
                // outcome.
                for w in self.roster.places() {
                    let seen = Verdict {
                        cause: Cause::Idle,
                        evidence: "it did not end when it was killed".into(),
                    };
                    let id = self.roster[w].id;
                    self.on_worker_gone(id, seen, None, None, out);
                }
            }
            Phase::Open | Phase::Closed => {}
        }
        debug_assert!(!self.tasks.iter().any(|(_, task)| task.state == TaskState::LetGo));
    }
}
