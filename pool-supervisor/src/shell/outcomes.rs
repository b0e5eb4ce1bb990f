//! Outcomes of tasks that have ended, kept for whoever asks later.
//!
//! What nobody has received is kept for `resultTtl`. What a client has received already is kept as long as there is room,
//! for `poolctl task ID`. Both are bounded in number and in bytes; the oldest goes first.

use std::collections::VecDeque;

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

    fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + self.body.len() + self.tag.as_ref().map_or(0, |t| t.len())
    }
}

/// How much of a kind is kept.
#[derive(Clone, Copy)]
struct Bounds {
    entries: usize,
    bytes: usize,
}

const UNRECEIVED: Bounds = Bounds { entries: 1_000_000, bytes: 512 << 20 };
// The memory of each large result goes round through here: more of it would fall out of the processor's caches.
const RECEIVED: Bounds = Bounds { entries: 10_000, bytes: 8 << 20 };

/// Outcomes in the order of their coming. Those lie in a row, where the oldest, which goes when a new one comes, is near at hand;
/// in a hash table it would have to be fetched from anywhere.
struct Shelf {
    bounds: Bounds,
    bytes: usize,
    kept: VecDeque<(Time, Outcome)>,
    /// The number of the first of them.
    first: u64,
    numbers: HashMap<TaskId, u64, FxBuildHasher>,
}

impl Shelf {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, bytes: 0, kept: VecDeque::new(), first: 0, numbers: HashMap::default() }
    }

    fn put(&mut self, now: Time, outcome: Outcome, gone: &mut Gone) {
        self.bytes += outcome.bytes();
        let before = self.numbers.insert(outcome.task, self.first + self.kept.len() as u64);
        assert!(before.is_none(), "a task ends once");
        self.kept.push_back((now, outcome));
        while self.kept.len() > self.bounds.entries || (self.bytes > self.bounds.bytes && self.kept.len() > 1) {
            self.drop_oldest(gone);
        }
    }

    fn get(&self, task: TaskId) -> Option<&Outcome> {
        let number = self.numbers.get(&task)?;
        self.kept.get((number - self.first) as usize).map(|(_, outcome)| outcome)
    }

    fn drop_oldest(&mut self, gone: &mut Gone) {
        let Some((_, outcome)) = self.kept.pop_front() else { return };
        self.first += 1;
        self.numbers.remove(&outcome.task);
        self.bytes -= outcome.bytes();
        gone.tasks.push(outcome.task);
        gone.buffers.recycle(outcome.body);
    }

    fn expire(&mut self, older_than: Time, gone: &mut Gone) {
        while self.kept.front().is_some_and(|(at, _)| *at < older_than) {
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

/// The store.
pub(crate) struct Outcomes {
    unreceived: Shelf,
    received: Shelf,
    gone: Gone,
}

impl Outcomes {
    pub(crate) fn new() -> Self {
        Self { unreceived: Shelf::new(UNRECEIVED), received: Shelf::new(RECEIVED), gone: Gone::default() }
    }

    /// A body for an outcome.
    pub(crate) fn body(&mut self, bytes: &Bytes) -> Body {
        self.gone.buffers.keep(bytes)
    }

    /// Keeps an outcome. `received` means that a client has it.
    pub(crate) fn put(&mut self, now: Time, outcome: Outcome, received: bool) {
        let shelf = if received { &mut self.received } else { &mut self.unreceived };
        shelf.put(now, outcome, &mut self.gone);
    }

    pub(crate) fn get(&self, task: TaskId) -> Option<&Outcome> {
        self.unreceived.get(task).or_else(|| self.received.get(task))
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
        kept.put(Time(0), outcome(1, 1), false);
        kept.put(Time(5_000), outcome(2, 1), true);
        kept.expire(Time(10_000), 10);
        assert!(kept.get(TaskId(1)).is_some());
        kept.expire(Time(10_001), 10);
        assert!(kept.get(TaskId(1)).is_none() && kept.get(TaskId(2)).is_some());
        assert_eq!(kept.drain_gone(), Some(TaskId(1)));
    }

    #[test]
    fn what_was_received_makes_room_first_and_bytes_are_bounded() {
        let mut kept = Outcomes::new();
        kept.put(Time(0), outcome(1, 10), false);
        for id in 2..12 {
            kept.put(Time(id), outcome(id, 2 << 20), true);
        }
        assert!(kept.received.bytes <= RECEIVED.bytes);
        assert!(kept.get(TaskId(1)).is_some(), "an outcome nobody has received stays");
        assert!(kept.get(TaskId(11)).is_some() && kept.get(TaskId(2)).is_none());
    }
}
