//! Tasks that end their workers, known again by their bodies.
//!
//! A death that is beyond doubt the task's own doing sets its body aside at once; one that may be
//! the machine's only makes it a suspect, and the next such death under the same body sets it
//! aside, whether that is the task's one retry or another submission. What is set aside is not run
//! for a while: it ends as it would have ended, at the price of no worker.
//!
//! Owns which bodies these are, by hashes that the shell makes; it asks for a hash only when it
//! matters (see [`Core::suspects_body_of`]). A reload forgets them all: a person has changed
//! something, and may want to try again.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

use hashbrown::HashMap;
use pool_protocol::id::TaskId;
use pool_protocol::outcome::{Blame, ErrorCode, Verdict};
use rustc_hash::FxBuildHasher;

use crate::Core;
use crate::action::{Action, EndText};
use crate::event::BodyHash;
use crate::place::TaskPlace;
use crate::seeds::KeyedHash;
use crate::task::TaskState;
use crate::time::Time;

/// Bodies that are remembered; above it the oldest is forgotten.
const MOST: usize = 4096;

#[derive(Debug)]
struct Body {
    bytes: u32,
    until: Time,
    /// It is not run; else it is under suspicion only.
    set_aside: bool,
    verdict: Verdict,
}

/// Tasks that are looked at at a time. The shell takes its time for large bodies.
pub(crate) const MOST_CHECKING: u32 = 64;

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

/// The bodies that have ended workers.
#[derive(Debug)]
pub(crate) struct Aside {
    bodies: HashMap<BodyHash, Body, FxBuildHasher>,
    /// In the order in which they are forgotten. An entry whose time is not its body's is stale.
    order: VecDeque<(Time, BodyHash)>,
    /// How many of them are set aside; the others are suspects.
    set_aside: u32,
    /// How many bodies there are of each length.
    lengths: HashMap<u32, u32, KeyedHash>,
}

impl Aside {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        let lengths = HashMap::with_hasher(hash);
        Self { bodies: HashMap::default(), order: VecDeque::new(), set_aside: 0, lengths }
    }

    fn clear(&mut self) {
        self.bodies.clear();
        self.order.clear();
        self.lengths.clear();
        self.set_aside = 0;
    }

    /// Notes that a worker ended under this body, which may set it aside.
    fn record(&mut self, until: Time, hash: BodyHash, bytes: u32, verdict: Verdict, certain: bool) {
        let before = self.bodies.get(&hash).map(|body| body.set_aside);
        if before == Some(true) {
            return;
        }
        let set_aside = certain || before.is_some();
        if before.is_none() {
            *self.lengths.entry(bytes).or_default() += 1;
        }
        self.set_aside += u32::from(set_aside);
        self.bodies.insert(hash, Body { bytes, until, set_aside, verdict });
        self.order.push_back((until, hash));
        while self.bodies.len() > MOST || self.order.len() > 2 * MOST {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((until, hash)) = self.order.pop_front() else { return };
        if self.bodies.get(&hash).is_none_or(|body| body.until != until) {
            return;
        }
        let body = self.bodies.remove(&hash).expect("just seen");
        self.set_aside -= u32::from(body.set_aside);
        let of_length = self.lengths.get_mut(&body.bytes).expect("counted when it came in");
        *of_length -= 1;
        if *of_length == 0 {
            self.lengths.remove(&body.bytes);
        }
    }

    fn expire(&mut self, now: Time) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    /// Why a body is not run, and until when.
    fn find(&self, now: Time, hash: BodyHash) -> Option<(&Verdict, Time)> {
        let body = self.bodies.get(&hash)?;
        (body.set_aside && body.until > now).then_some((&body.verdict, body.until))
    }

    /// Bodies that are not run now.
    pub(crate) fn count(&self, now: Time) -> u32 {
        // Those whose time is over are in front, and are forgotten when something is looked up
        // next.
        let over = self.order.iter().take_while(|(until, _)| *until <= now);
        let over = over
            .filter_map(|(until, hash)| self.bodies.get(hash).filter(|body| body.until == *until));
        self.set_aside - over.filter(|body| body.set_aside).count() as u32
    }

    pub(crate) fn is_consistent(&self) -> bool {
        let counted: u32 = self.lengths.values().sum();
        let set_aside = self.bodies.values().filter(|body| body.set_aside).count();
        self.set_aside as usize == set_aside
            && self.bodies.len() <= MOST
            && counted as usize == self.bodies.len()
            && self.bodies.len() <= self.order.len()
    }
}

impl Core {
    /// Whether a new task with a body of this length may be one that is set aside: then its hash is
    /// wanted with it.
    #[must_use]
    pub fn suspects_body_of(&self, bytes: u32) -> bool {
        self.aside.lengths.contains_key(&bytes)
    }

    /// Asks for the hash of a task's body whose worker ended under it.
    pub(crate) fn suspect(
        &self,
        slot: TaskPlace,
        verdict: &Verdict,
        blame: Blame,
        out: &mut Vec<Action>,
    ) {
        if self.settings.set_aside_ms == 0 || blame == Blame::Outside {
            return;
        }
        let task = &self.tasks[slot];
        // A second death in the same task's life leaves no doubt either.
        let certain = blame == Blame::Task || task.crashes > 1;
        out.push(Action::Suspect { slot, verdict: verdict.clone(), certain });
    }

    pub(crate) fn on_body_hashed(
        &mut self,
        body: BodyHash,
        bytes: u32,
        verdict: Verdict,
        certain: bool,
    ) {
        self.aside.expire(self.now);
        let for_ms = self.settings.set_aside_ms;
        // The death may have been that of the last worker: then there is no task to look for, and
        // nothing is said after the end.
        if for_ms > 0 && self.runs_tasks() {
            self.aside.record(self.now.plus_ms(for_ms), body, bytes, verdict, certain);
        }
    }

    /// Whether the task, whose turn has come, may run as far as its body is concerned.
    ///
    /// Tasks that wait are looked at when it is their turn, and not when a body like theirs is set
    /// aside: a death would cost a look at everything that waits.
    pub(crate) fn look_at_body(&mut self, slot: TaskPlace, out: &mut Vec<Action>) -> Look {
        if self.aside.lengths.is_empty() {
            return Look::Runs;
        }
        let task = &self.tasks[slot];
        if task.checked || !self.suspects_body_of(task.body_bytes) {
            return Look::Runs;
        }
        if self.checking >= MOST_CHECKING {
            return Look::Later;
        }
        let (id, project, lane) = (task.id, task.project, task.lane);
        self.unlink(slot);
        self.tasks[slot].state = TaskState::Checking;
        self.checking += 1;
        self.rerank(project, lane);
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
            self.checking -= 1;
            self.tasks[slot].checked = true;
            self.enqueue_again(slot);
        }
    }

    /// What a person reads of a task with this body, if it is not run.
    pub(crate) fn why_set_aside(&mut self, body: BodyHash) -> Option<EndText> {
        self.aside.expire(self.now);
        let (verdict, until) = self.aside.find(self.now, body)?;
        let message = format!(
            "the task was not run: this very task has ended its worker before ({}: {}), and is set \
             aside for another {} s",
            verdict.cause,
            verdict.evidence,
            until.since(self.now).div_ceil(1_000_000)
        );
        Some(EndText::Core { message, verdict: Some(verdict.clone()) })
    }

    /// All may be tried again.
    pub(crate) fn forget_set_aside(&mut self) {
        self.aside.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_protocol::outcome::Cause;

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut aside = Aside::new(KeyedHash::default());
        let verdict = || Verdict { cause: Cause::EngineFatal, evidence: "seen".into() };
        for number in 0..10_000 {
            aside.record(Time(number + 1000), BodyHash(number.into()), 1, verdict(), true);
            assert!(aside.is_consistent());
        }
        assert_eq!(aside.count(Time(0)) as usize, MOST);
        assert!(
            aside.find(Time(0), BodyHash(0)).is_none()
                && aside.find(Time(0), BodyHash(9_999)).is_some()
        );
        aside.expire(Time(20_000));
        assert!(aside.lengths.is_empty() && aside.bodies.is_empty());
    }
}
