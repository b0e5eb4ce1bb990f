//! Outcomes of tasks that have ended, kept for whoever asks later.
//!
//! What nobody has received is kept for `resultTtl`: because its task was submitted to be asked
//! about later, or because a client that waits for it has not read it yet. What a client has
//! received already is kept as long as there is room, for `poolctl task ID`. Both are bounded in
//! number and in bytes; the oldest goes first.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hashbrown::HashMap;
use pool_core::time::Time;
use pool_protocol::control::OutcomeHead;
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::layer::LayerSet;
use pool_protocol::outcome::{ErrorCode, Receipt, Status};
use rustc_hash::FxBuildHasher;

use super::buffers::{Body, BufferPool};

/// An outcome with its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) task: TaskId,
    pub(crate) status: Status,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) attempts: u32,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) receipt: Receipt,
    pub(crate) missing_layers: LayerSet,
    pub(crate) tag: Option<Box<str>>,
    pub(crate) result_len: u32,
    pub(crate) body: Body,
}

impl Outcome {
    pub(crate) fn head(&self) -> OutcomeHead<'_> {
        OutcomeHead {
            task: self.task.0,
            status: self.status,
            code: self.code,
            attempts: self.attempts,
            worker: self.worker,
            receipt: self.receipt,
            missing_layers: self.missing_layers,
            tag: self.tag.as_deref(),
            result_len: self.result_len,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + self.body.len() + self.tag.as_ref().map_or(0, |t| t.len())
    }
}

/// How much of a kind is kept.
struct Bounds {
    entries: usize,
    bytes: usize,
}

const UNRECEIVED: Bounds = Bounds { entries: 1_000_000, bytes: 192 << 20 };
// The memory of each large result goes round through here: more of it would fall out of the
// processor's caches.
const RECEIVED: Bounds = Bounds { entries: 10_000, bytes: 8 << 20 };

/// Outcomes that a client has, in the order of their coming. They lie in a row, where the oldest,
/// which goes when a new one comes, is near at hand; in a hash table it would have to be fetched
/// from anywhere.
struct Received {
    bytes: usize,
    /// Nothing where one turned out not to have been received.
    kept: VecDeque<Option<(Time, Outcome)>>,
    /// The number of the first of them.
    first: u64,
    numbers: HashMap<TaskId, u64, FxBuildHasher>,
}

impl Received {
    fn new() -> Self {
        Self { bytes: 0, kept: VecDeque::new(), first: 0, numbers: HashMap::default() }
    }

    fn put(&mut self, at: Time, outcome: Outcome, gone: &mut Gone) {
        self.bytes += outcome.bytes();
        let before = self.numbers.insert(outcome.task, self.first + self.kept.len() as u64);
        assert!(before.is_none(), "a task ends once");
        self.kept.push_back(Some((at, outcome)));
        while self.kept.len() > RECEIVED.entries
            || (self.bytes > RECEIVED.bytes && self.kept.len() > 1)
        {
            self.drop_oldest(gone);
        }
    }

    fn get(&self, task: TaskId) -> Option<&Outcome> {
        let number = self.numbers.get(&task)?;
        self.kept.get((number - self.first) as usize)?.as_ref().map(|(_, outcome)| outcome)
    }

    fn take(&mut self, task: TaskId) -> Option<(Time, Outcome)> {
        let number = self.numbers.remove(&task)?;
        let (at, outcome) = self.kept.get_mut((number - self.first) as usize)?.take()?;
        self.bytes -= outcome.bytes();
        Some((at, outcome))
    }

    fn drop_oldest(&mut self, gone: &mut Gone) {
        let Some(oldest) = self.kept.pop_front() else { return };
        self.first += 1;
        let Some((_, outcome)) = oldest else { return };
        self.numbers.remove(&outcome.task);
        self.bytes -= outcome.bytes();
        gone.take(outcome);
    }

    fn expire(&mut self, older_than: Time, gone: &mut Gone) {
        while self
            .kept
            .front()
            .is_some_and(|kept| kept.as_ref().is_none_or(|(at, _)| *at < older_than))
        {
            self.drop_oldest(gone);
        }
    }
}

/// An outcome that nobody has received.
struct Unread {
    at: Time,
    outcome: Outcome,
    /// Its task was submitted to be asked about later.
    keep: bool,
    /// Clients that it is on its way to.
    awaited: u32,
}

/// Outcomes that nobody has received, in the order of their coming. They leave from anywhere.
#[derive(Default)]
struct Unreceived {
    bytes: usize,
    kept: BTreeMap<u64, Unread>,
    next: u64,
    numbers: HashMap<TaskId, u64, FxBuildHasher>,
}

impl Unreceived {
    fn put(&mut self, unread: Unread, gone: &mut Gone) {
        self.bytes += unread.outcome.bytes();
        let before = self.numbers.insert(unread.outcome.task, self.next);
        assert!(before.is_none(), "a task ends once");
        self.kept.insert(self.next, unread);
        self.next += 1;
        while self.kept.len() > UNRECEIVED.entries
            || (self.bytes > UNRECEIVED.bytes && self.kept.len() > 1)
        {
            self.drop_oldest(gone);
        }
    }

    fn get(&self, task: TaskId) -> Option<&Unread> {
        self.kept.get(self.numbers.get(&task)?)
    }

    fn get_mut(&mut self, task: TaskId) -> Option<&mut Unread> {
        self.kept.get_mut(self.numbers.get(&task)?)
    }

    fn take(&mut self, task: TaskId) -> Option<Unread> {
        let number = self.numbers.remove(&task)?;
        let unread = self.kept.remove(&number)?;
        self.bytes -= unread.outcome.bytes();
        Some(unread)
    }

    fn drop_oldest(&mut self, gone: &mut Gone) {
        let Some((_, unread)) = self.kept.pop_first() else { return };
        self.numbers.remove(&unread.outcome.task);
        self.bytes -= unread.outcome.bytes();
        gone.take(unread.outcome);
    }

    fn expire(&mut self, older_than: Time, gone: &mut Gone) {
        while self.kept.first_key_value().is_some_and(|(_, unread)| unread.at < older_than) {
            self.drop_oldest(gone);
        }
    }
}

/// What is left of outcomes that are no longer kept.
#[derive(Default)]
struct Gone {
    tasks: Vec<TaskId>,
    buffers: BufferPool,
}

impl Gone {
    fn take(&mut self, outcome: Outcome) {
        self.tasks.push(outcome.task);
        self.buffers.recycle(outcome.body);
    }
}

/// The store.
pub(crate) struct Outcomes {
    unreceived: Unreceived,
    received: Received,
    gone: Gone,
}

impl Outcomes {
    pub(crate) fn new() -> Self {
        Self { unreceived: Unreceived::default(), received: Received::new(), gone: Gone::default() }
    }

    /// A body for an outcome.
    pub(crate) fn body(&mut self, bytes: &Bytes) -> Body {
        self.gone.buffers.keep(bytes)
    }

    /// Keeps an outcome that a client has, or is about to have within this turn.
    pub(crate) fn put_received(&mut self, now: Time, outcome: Outcome) {
        self.received.put(now, outcome, &mut self.gone);
    }

    /// Keeps an outcome that is on its way to so many clients. `keep`: for whoever asks later, too.
    pub(crate) fn put_unreceived(&mut self, now: Time, outcome: Outcome, keep: bool, awaited: u32) {
        self.unreceived.put(Unread { at: now, outcome, keep, awaited }, &mut self.gone);
    }

    /// What was put as received has not left.
    pub(crate) fn not_received(&mut self, task: TaskId, keep: bool) {
        if let Some((at, outcome)) = self.received.take(task) {
            self.unreceived.put(Unread { at, outcome, keep, awaited: 1 }, &mut self.gone);
        }
    }

    /// A kept outcome is on its way to one more client.
    pub(crate) fn await_one_more(&mut self, task: TaskId) {
        if let Some(unread) = self.unreceived.get_mut(task) {
            unread.awaited += 1;
        }
    }

    /// One of the clients that it was on its way to has it.
    pub(crate) fn note_received(&mut self, now: Time, task: TaskId) {
        if let Some(unread) = self.unreceived.take(task) {
            self.received.put(now, unread.outcome, &mut self.gone);
        }
    }

    /// One of the clients that it was on its way to is gone without it.
    pub(crate) fn note_missed(&mut self, task: TaskId) {
        let Some(unread) = self.unreceived.get_mut(task) else { return };
        unread.awaited = unread.awaited.saturating_sub(1);
        if unread.awaited == 0
            && !unread.keep
            && let Some(unread) = self.unreceived.take(task)
        {
            self.gone.take(unread.outcome);
        }
    }

    pub(crate) fn get(&self, task: TaskId) -> Option<&Outcome> {
        self.unreceived.get(task).map(|unread| &unread.outcome).or_else(|| self.received.get(task))
    }

    /// Drops what is older than `ttl_ms`.
    pub(crate) fn expire(&mut self, now: Time, ttl_ms: u64) {
        let older_than = Time(now.0.saturating_sub(ttl_ms.saturating_mul(1000)));
        self.unreceived.expire(older_than, &mut self.gone);
        self.received.expire(older_than, &mut self.gone);
    }

    /// Tasks whose outcomes are no longer kept, for the core's memory of keys.
    pub(crate) fn drain_gone(&mut self) -> Option<TaskId> {
        self.gone.tasks.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: u64, len: usize) -> Outcome {
        Outcome {
            task: TaskId(id),
            status: Status::Succeeded,
            code: None,
            attempts: 1,
            worker: None,
            receipt: Receipt::default(),
            missing_layers: LayerSet::NONE,
            tag: None,
            result_len: 0,
            body: BufferPool::default().keep(&Bytes::from(vec![0; len])),
        }
    }

    #[test]
    fn outcomes_expire_after_their_time_and_not_before() {
        let mut kept = Outcomes::new();
        kept.put_unreceived(Time(0), outcome(1, 1), true, 0);
        kept.put_received(Time(5_000), outcome(2, 1));
        kept.expire(Time(10_000), 10);
        assert!(kept.get(TaskId(1)).is_some());
        kept.expire(Time(10_001), 10);
        assert!(kept.get(TaskId(1)).is_none() && kept.get(TaskId(2)).is_some());
        assert_eq!(kept.drain_gone(), Some(TaskId(1)));
    }

    #[test]
    fn what_was_received_makes_room_first_and_bytes_are_bounded() {
        let mut kept = Outcomes::new();
        kept.put_unreceived(Time(0), outcome(1, 10), true, 0);
        for id in 2..12 {
            kept.put_received(Time(id), outcome(id, 2 << 20));
        }
        assert!(kept.received.bytes <= RECEIVED.bytes);
        assert!(kept.get(TaskId(1)).is_some(), "an outcome nobody has received stays");
        assert!(kept.get(TaskId(11)).is_some() && kept.get(TaskId(2)).is_none());
    }

    #[test]
    fn an_outcome_is_received_once_its_bytes_have_left_and_missed_when_its_last_client_goes() {
        let mut kept = Outcomes::new();
        kept.put_received(Time(0), outcome(1, 10));
        kept.not_received(TaskId(1), false);
        assert!(kept.unreceived.get(TaskId(1)).is_some() && kept.received.get(TaskId(1)).is_none());
        kept.await_one_more(TaskId(1));
        kept.note_missed(TaskId(1));
        assert!(kept.get(TaskId(1)).is_some(), "another client still waits for it");
        kept.note_received(Time(9), TaskId(1));
        assert!(kept.received.get(TaskId(1)).is_some() && kept.unreceived.get(TaskId(1)).is_none());
        kept.note_missed(TaskId(1));
        assert!(kept.get(TaskId(1)).is_some(), "what was received is not missed");

        kept.put_unreceived(Time(0), outcome(2, 10), false, 1);
        kept.put_unreceived(Time(0), outcome(3, 10), true, 1);
        kept.note_missed(TaskId(2));
        kept.note_missed(TaskId(3));
        assert!(kept.get(TaskId(2)).is_none(), "nobody wants it");
        assert!(kept.get(TaskId(3)).is_some(), "it was to be kept");
        assert_eq!((kept.drain_gone(), kept.drain_gone()), (Some(TaskId(2)), None));
    }

    #[test]
    fn places_that_outcomes_left_in_the_row_count_against_its_bound() {
        let mut kept = Outcomes::new();
        for id in 1..=3 * RECEIVED.entries as u64 {
            kept.put_received(Time(id), outcome(id, 0));
            kept.not_received(TaskId(id), false);
            kept.note_missed(TaskId(id));
        }
        assert!(kept.received.kept.len() <= RECEIVED.entries);
        assert_eq!((kept.received.bytes, kept.unreceived.bytes), (0, 0));
    }
}
