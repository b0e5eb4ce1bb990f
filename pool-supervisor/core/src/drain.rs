//! The end of the pool.
//!
//! Drain: no new tasks; those that run or wait may finish until the drain's timeout, then all are cancelled; when no task is
//! left the workers retire; when no worker is left the shell exits. Shutdown: everything is cancelled and killed at once.
//! Either way the end is bounded, also if the system does not end a process.

use alloc::vec::Vec;

use pool_protocol::limits::CANCEL_GRACE_MS;
use pool_protocol::outcome::{Cause, ErrorCode, Verdict};

use crate::Core;
use crate::action::Action;
use crate::recycle::RETIRE_GRACE_MS;
use crate::settings::Lane;
use crate::task::TaskState;
use crate::timers::{TimerKey, Timers};

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

    pub(crate) fn on_drain(&mut self) {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Draining;
                self.timers.arm(TimerKey::Drain, self.now.plus_ms(self.settings.drain_timeout_ms));
            }
            Phase::Draining | Phase::Closing | Phase::Killing | Phase::Closed => {}
        }
    }

    /// The drain's time is over: what is left is cancelled.
    pub(crate) fn on_drain_over(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Draining {
            self.stop_all(out);
            let stop_ms = Lane::ALL.map(|lane| self.stop_grace_ms(lane)).into_iter().max().unwrap_or(0);
            self.timers.arm(TimerKey::GiveUp, self.now.plus_ms(stop_ms + CANCEL_GRACE_MS + REAP_MS));
        }
    }

    fn stop_all(&mut self, out: &mut Vec<Action>) {
        let tasks: Vec<u32> = self.tasks.iter().map(|(slot, _)| slot).collect();
        for slot in tasks {
            self.stop(slot, ErrorCode::Cancelled, out);
        }
    }

    pub(crate) fn on_shutdown(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Killing | Phase::Closed => return,
            Phase::Open | Phase::Draining | Phase::Closing => self.phase = Phase::Killing,
        }
        for w in self.workers.places() {
            let evidence = "the pool was shut down".into();
            self.kill(w, Verdict { cause: Cause::Idle, evidence }, out);
        }
        self.stop_all(out);
        for lane in Lane::ALL {
            self.pace[lane].want = 0;
        }
        self.timers.arm(TimerKey::GiveUp, self.now.plus_ms(REAP_MS));
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
        self.workers_changed = true;
        self.timers.arm(TimerKey::GiveUp, self.now.plus_ms(RETIRE_GRACE_MS + REAP_MS));
    }

    /// The last worker of a stopping pool is gone: that was it.
    pub(crate) fn exit_when_no_worker_is_left(&mut self, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Closing | Phase::Killing) && self.workers.living() == 0 {
            self.phase = Phase::Closed;
            self.timers = Timers::default();
            out.push(Action::Exit);
        }
    }

    /// Workers are still there long after they should have ended.
    pub(crate) fn on_give_up(&mut self, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Draining | Phase::Closing => self.on_shutdown(out),
            Phase::Killing => {
                // The system does not end them. Their tasks end here, so that everybody gets an outcome.
                for w in self.workers.places() {
                    let seen = Verdict { cause: Cause::Idle, evidence: "it did not end when it was killed".into() };
                    let id = self.workers[w].id;
                    self.on_worker_gone(id, seen, None, out);
                }
            }
            Phase::Open | Phase::Closed => {}
        }
        debug_assert!(!self.tasks.iter().any(|(_, task)| task.state == TaskState::LetGo));
    }
}
