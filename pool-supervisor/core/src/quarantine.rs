//! Tasks that end their workers, known again by their bodies.
//!
//! A death that is beyond doubt the task's own doing sets its body aside at once; one that may be
//! the machine's only makes it a suspect, and the next such death under the same body sets it
//! aside, whether that is the task's one retry or another submission. What is set aside is not run
//! for a while: it ends as it would have ended, at the price of no worker.
//!
//! Owns which bodies these are, by hashes that the shell makes, and how many tasks wait for one.

use alloc::collections::VecDeque;

use hashbrown::HashMap;
use pool_protocol::outcome::Verdict;
use rustc_hash::FxBuildHasher;

use crate::event::BodyHash;
use crate::seeds::KeyedHash;
use crate::time::Time;

/// Bodies that are remembered; above it the oldest is forgotten.
const MOST: usize = 4096;
/// Tasks that are looked at at a time. The shell takes its time for large bodies.
const MOST_CHECKING: u32 = 64;

#[derive(Debug)]
struct Body {
    bytes: u32,
    until: Time,
    /// It is not run; else it is under suspicion only.
    set_aside: bool,
    verdict: Verdict,
}

/// The bodies that have ended workers.
#[derive(Debug)]
pub(crate) struct Quarantine {
    bodies: HashMap<BodyHash, Body, FxBuildHasher>,
    /// In the order in which they are forgotten. An entry whose time is not its body's is stale.
    order: VecDeque<(Time, BodyHash)>,
    /// How many of them are set aside; the others are suspects.
    set_aside: u32,
    /// How many bodies there are of each length.
    lengths: HashMap<u32, u32, KeyedHash>,
    /// Tasks whose bodies are being compared with those that are set aside.
    checking: u32,
}

impl Quarantine {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        let lengths = HashMap::with_hasher(hash);
        let (bodies, order) = (HashMap::default(), VecDeque::new());
        Self { bodies, order, set_aside: 0, lengths, checking: 0 }
    }

    /// Whether there is a body of this length.
    pub(crate) fn has_length(&self, bytes: u32) -> bool {
        self.lengths.contains_key(&bytes)
    }

    /// Whether so many tasks are being looked at that the next one has to wait.
    pub(crate) const fn is_busy(&self) -> bool {
        self.checking >= MOST_CHECKING
    }

    /// One more task is being looked at.
    pub(crate) const fn begin_check(&mut self) {
        self.checking += 1;
    }

    /// One has been looked at, or has ended before that.
    pub(crate) const fn end_check(&mut self) {
        self.checking -= 1;
    }

    /// Tasks that are being looked at.
    pub(crate) const fn checking(&self) -> u32 {
        self.checking
    }

    /// All may be tried again.
    pub(crate) fn clear(&mut self) {
        self.bodies.clear();
        self.order.clear();
        self.lengths.clear();
        self.set_aside = 0;
    }

    /// Notes that a worker ended under this body, which may set it aside.
    pub(crate) fn record(
        &mut self,
        until: Time,
        hash: BodyHash,
        bytes: u32,
        verdict: Verdict,
        certain: bool,
    ) {
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

    pub(crate) fn expire(&mut self, now: Time) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    /// Why a body is not run, and until when.
    pub(crate) fn find(&self, now: Time, hash: BodyHash) -> Option<(&Verdict, Time)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use pool_protocol::outcome::Cause;

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut quarantine = Quarantine::new(KeyedHash::default());
        let verdict = || Verdict { cause: Cause::EngineFatal, evidence: "seen".into() };
        for number in 0..10_000 {
            quarantine.record(Time(number + 1000), BodyHash(number.into()), 1, verdict(), true);
            assert!(quarantine.is_consistent());
        }
        assert_eq!(quarantine.count(Time(0)) as usize, MOST);
        assert!(
            quarantine.find(Time(0), BodyHash(0)).is_none()
                && quarantine.find(Time(0), BodyHash(9_999)).is_some()
        );
        quarantine.expire(Time(20_000));
        assert!(quarantine.lengths.is_empty() && quarantine.bodies.is_empty());
    }
}
