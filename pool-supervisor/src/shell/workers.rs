//! The children: their sockets, pidfds and last words.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;

use hashbrown::HashMap;
use pool_protocol::control::DeadWorkerRow;
use pool_protocol::frame::FrameLimits;
use pool_protocol::id::WorkerId;
use pool_protocol::lane::Lane;
use pool_protocol::layer::LayerSet;
use pool_protocol::outcome::Cause;
use rustc_hash::FxBuildHasher;
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::cgroup::Group;
use super::outbox::Peer;
use super::verdict::Circumstances;
use crate::session::worker::WorkerSession;

/// Rows of ended workers that are kept.
const MAX_DEAD: usize = 256;
/// Output of a worker that is kept for its verdict.
const MAX_TAIL_BYTES: usize = 1024;

/// One child.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) lane: Lane,
    /// Those that confine it: none before it has said so.
    pub(crate) layers: LayerSet,
    /// Those without which it may run no task.
    pub(crate) promised: LayerSet,
    /// It was started in namespaces of its own.
    pub(crate) namespaced: bool,
    pub(crate) group: Option<Group>,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) peer: Peer,
    pub(crate) stderr: OwnedFd,
    pub(crate) seen: Circumstances,
    pub(crate) session: WorkerSession,
    /// What it may send: by the limits that it was told at its start, whatever is in force now.
    pub(crate) frames: FrameLimits,
    /// The largest body that it takes, by what it was told at its start; `None` when it is given no
    /// more tasks.
    pub(crate) told_body_bytes: Option<u64>,
    /// The last read of its output filled the buffer.
    pub(crate) output_read: bool,
    /// Nothing more is read from it.
    pub(crate) deaf: bool,
    /// It waits in the list of peers to flush.
    pub(crate) dirty: bool,
    /// epoll is asked for room to write.
    pub(crate) wants_room: bool,
}

impl Worker {
    /// SIGKILL to all of its group, or to it through the pidfd: never to another process with the
    /// same number.
    pub(crate) fn kill(&mut self) {
        self.seen.killed = true;
        if self.group.as_ref().is_some_and(Group::kill) {
            return;
        }
        // The only error left is that it has ended already.
        let _already_gone = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// After its end: whether more may be there. At most what the pipe held is read.
    pub(crate) fn read_stderr_rest(&mut self) -> bool {
        self.output_read = false;
        self.read_stderr() && self.output_read
    }

    /// Takes what the process wrote to descriptor 2. False at its end.
    pub(crate) fn read_stderr(&mut self) -> bool {
        let mut bytes = [0u8; 4096];
        // One read a turn: the pipe's own size bounds what a talkative child can hand over.
        match rustix::io::read(&self.stderr, &mut bytes) {
            Ok(0) => false,
            Ok(n) => {
                self.output_read = n == bytes.len();
                let text = String::from_utf8_lossy(&bytes[..n]);
                // As one quoted line: a worker must not write lines of its own into the log.
                tracing::debug!(worker = %self.id, output = ?text.trim_end(), "worker output");
                self.seen.stderr_tail.push_str(&text);
                trim_front(&mut self.seen.stderr_tail, MAX_TAIL_BYTES);
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            Err(_) => false,
        }
    }
}

fn trim_front(text: &mut String, max: usize) {
    if text.len() > max {
        let cut = (text.len() - max..text.len())
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(text.len());
        text.drain(..cut);
    }
}

/// All of them, and what is remembered of the ended ones.
#[derive(Default)]
pub(crate) struct Workers {
    living: HashMap<WorkerId, Worker, FxBuildHasher>,
    places: Places,
    dead: VecDeque<DeadWorkerRow>,
    /// Workers that ended with each cause of `Cause::ALL`.
    ended: [u64; Cause::ALL.len()],
    /// What the last worker of each lane said when it became ready.
    confined: BTreeMap<&'static str, Confined>,
}

/// Who lives in which place.
#[derive(Default)]
struct Places(Vec<Option<WorkerId>>);

impl Places {
    fn take(&mut self, id: WorkerId) {
        let index = id.slot as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some(id);
    }

    /// The worker leaves its place, unless another has it already.
    fn leave(&mut self, id: WorkerId) {
        if self.find(id.slot) == Some(id) {
            self.0[id.slot as usize] = None;
        }
    }

    fn find(&self, slot: u32) -> Option<WorkerId> {
        self.0.get(slot as usize).copied().flatten()
    }
}

/// The layers of a lane's workers.
#[derive(Clone, Default, Debug)]
pub(crate) struct Confined {
    pub(crate) layers: LayerSet,
    /// Why others are missing, by name.
    pub(crate) missing: BTreeMap<String, String>,
}

impl Workers {
    pub(crate) fn insert(&mut self, worker: Worker) {
        self.places.take(worker.id);
        let before = self.living.insert(worker.id, worker);
        assert!(before.is_none(), "a worker's id is given once");
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.living.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.living.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        self.places.leave(id);
        self.living.remove(&id)
    }

    /// Who lives in this place.
    pub(crate) fn id_at(&self, slot: u32) -> Option<WorkerId> {
        self.places.find(slot)
    }

    /// The largest body that each takes which may be given tasks.
    pub(crate) fn told_body_bytes(&self) -> impl Iterator<Item = u64> {
        self.living.values().filter_map(|worker| worker.told_body_bytes)
    }

    /// Those of workers that have not ended.
    pub(crate) fn take_groups(&mut self) -> Vec<Group> {
        self.living.values_mut().filter_map(|worker| worker.group.take()).collect()
    }

    pub(crate) fn pids(&self) -> HashSet<Pid> {
        self.living.values().map(|w| w.pid).collect()
    }

    /// Notes which layers confine a worker that has become ready.
    pub(crate) fn confine(&mut self, id: WorkerId, confined: Confined) {
        let Some(worker) = self.living.get_mut(&id) else { return };
        worker.layers = confined.layers;
        self.confined.insert(worker.lane.name(), confined);
    }

    /// By lane, as far as workers have been started.
    pub(crate) const fn confined(&self) -> &BTreeMap<&'static str, Confined> {
        &self.confined
    }

    /// The layers that a task's last worker lacked. One that is gone had what its lane has.
    pub(crate) fn lacking(&self, ran_on: Option<WorkerId>, lane: Lane) -> LayerSet {
        let Some(id) = ran_on else { return LayerSet::NONE };
        let of_lane = || self.confined.get(lane.name()).map_or(LayerSet::NONE, |c| c.layers);
        let layers = self.living.get(&id).map_or_else(of_lane, |worker| worker.layers);
        layers.lacking(lane)
    }

    pub(crate) fn remember_dead(&mut self, row: DeadWorkerRow) {
        self.dead.push_back(row);
        if self.dead.len() > MAX_DEAD {
            self.dead.pop_front();
        }
    }

    pub(crate) fn count_end(&mut self, cause: Cause) {
        self.ended[cause as usize] += 1;
    }

    /// Ended workers by cause, in the order of `Cause::ALL`.
    pub(crate) fn ended(&self) -> &[u64] {
        &self.ended
    }

    pub(crate) fn dead(&self) -> &VecDeque<DeadWorkerRow> {
        &self.dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 66: more workers have lived in a place than a token's bits can count.
    #[test]
    fn hostile_66_a_worker_is_found_by_its_place_whatever_its_generation_is() {
        let worker = |generation| WorkerId { slot: 7, generation };
        let mut places = Places::default();
        assert_eq!(places.find(7), None);
        for generation in [1, (1 << 28) - 1, 1 << 28, (1 << 28) + 1, u32::MAX] {
            places.take(worker(generation));
            assert_eq!(places.find(7), Some(worker(generation)));
        }
        places.leave(worker(1));
        assert_eq!(
            places.find(7),
            Some(worker(u32::MAX)),
            "who left before does not take it along"
        );
        places.leave(worker(u32::MAX));
        assert_eq!((places.find(7), places.find(6)), (None, None));
    }

    #[test]
    fn the_end_of_the_output_is_kept_and_stays_utf_8() {
        let mut text = "ä".repeat(10);
        trim_front(&mut text, 5);
        assert_eq!(text, "ää");
    }
}
