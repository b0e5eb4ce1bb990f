//! Another attempt: whether, and after how long.
//!
//! Back-off: initial * factor^(n-1) after the n-th attempt, varied by the task's jitter, never
//! above its maximum. A retry that could not start before the task's deadline is not waited for.
//! Whoever refused the attempt may ask for more time than that, above the maximum too; who asks for
//! more than a day is not asked again.

use alloc::vec::Vec;

use pool_protocol::outcome::ErrorCode;
use pool_protocol::policy::RetryPolicy;

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::place::TaskPlace;
use crate::task::TaskState;
use crate::time::Time;
use crate::timers::TimerKey;

/// The longest time that somebody may ask to be left alone, in milliseconds.
const MOST_ASKED_FOR_MS: u64 = 24 * 3600 * 1000;

/// The delay after this many attempts, without jitter, in milliseconds.
fn backoff_ms(policy: &RetryPolicy, attempts: u32) -> u64 {
    let most = f64::from(policy.max_delay_ms);
    let mut delay = f64::from(policy.initial_delay_ms);
    for _ in 1..attempts {
        if delay >= most || policy.factor <= 1.0 {
            break;
        }
        delay *= policy.factor;
    }
    delay.min(most) as u64
}

impl Core {
    /// Whether the task has an attempt left.
    pub(crate) fn may_retry(&self, slot: TaskPlace) -> bool {
        let task = &self.tasks[slot];
        task.attempts < u32::from(task.max_attempts)
    }

    /// How long the task waits for its next attempt.
    pub(crate) fn retry_delay_us(&mut self, slot: TaskPlace) -> u64 {
        let task = &self.tasks[slot];
        let policy = task.retry();
        let delay_us = backoff_ms(&policy, task.attempts) * 1000;
        self.prng
            .vary(delay_us, policy.jitter.clamp(0.0, 1.0))
            .min(u64::from(policy.max_delay_ms) * 1000)
    }

    /// As [`Self::retry_delay_us`], but no less than somebody asks for; nothing when that is too
    /// much.
    pub(crate) fn delay_asked_for(&mut self, slot: TaskPlace, asked_ms: u64) -> Option<u64> {
        let own_us = self.retry_delay_us(slot);
        (asked_ms <= MOST_ASKED_FOR_MS).then(|| own_us.max(asked_ms * 1000))
    }

    /// Whether an attempt after this delay would start before the task's deadline, and before the
    /// end of a pool that is stopping.
    pub(crate) fn in_time(&self, slot: TaskPlace, delay_us: u64) -> bool {
        let task = &self.tasks[slot];
        let start = self.timers.now().plus_us(delay_us);
        (task.deadline() == Time::NEVER || start < task.deadline())
            && self.could_start(task.project, start)
    }

    /// Lets a task whose attempt failed wait for the next one.
    pub(crate) fn retry_later(
        &mut self,
        slot: TaskPlace,
        code: ErrorCode,
        delay_us: u64,
        out: &mut Vec<Action>,
    ) {
        let task = &mut self.tasks[slot];
        let event =
            PoolEvent::TaskRetry { task: task.id, slot, code, delay_us, attempts: task.attempts };
        out.push(Action::Emit(event));
        task.state = TaskState::Retrying;
        self.line.count_waiting(self.tasks[slot].project);
        if delay_us == 0 {
            self.line.enqueue_again(&mut self.tasks, &mut self.timers, slot);
        } else {
            self.timers.arm(TimerKey::Wake(slot), self.timers.now().plus_us(delay_us));
        }
    }

    /// A delay or a back-off is over.
    pub(crate) fn on_wake(&mut self, slot: TaskPlace) {
        match self.tasks[slot].state {
            // What was delayed on purpose comes now; what failed came when it first did.
            TaskState::Delayed => self.line.enqueue(&mut self.tasks, &mut self.timers, slot),
            TaskState::Retrying => self.line.enqueue_again(&mut self.tasks, &mut self.timers, slot),
            TaskState::Queued { .. }
            | TaskState::Checking
            | TaskState::Held { .. }
            | TaskState::LetGo => {
                unreachable!("its timer was disarmed when it left that state")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_by_the_factor_up_to_the_maximum() {
        let policy =
            RetryPolicy { initial_delay_ms: 1000, factor: 2.0, max_delay_ms: 300_000, jitter: 0.1 };
        let delays: Vec<u64> = (1..=10).map(|n| backoff_ms(&policy, n)).collect();
        assert_eq!(
            delays,
            [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000]
        );
        assert_eq!(backoff_ms(&policy, 1000), 300_000);
    }

    #[test]
    fn a_factor_of_one_keeps_the_delay() {
        let policy =
            RetryPolicy { initial_delay_ms: 50, factor: 1.0, max_delay_ms: 300_000, jitter: 0.0 };
        assert_eq!(backoff_ms(&policy, 900), 50);
    }
}
