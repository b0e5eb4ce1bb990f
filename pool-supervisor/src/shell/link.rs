//! Entry follows from what workers say, and how their ends are noticed.

use std::collections::BTreeMap;

use nix::sys::epoll::EpollFlags;
use pool_core::event::{BodyHash, Event, Report};
use pool_core::time::Time;
use pool_protocol::frame::Frame;
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::outcome::Blame;
use pool_protocol::worker::{HeartbeatHead, LogLevel, ReadyHead};

use super::cgroup::Group;
use super::events::{Entry, MAX_LINE_BYTES};
use super::outbox::{MAX_READS, Received};
use super::reactor::Pool;
use super::verdict;
use crate::session::worker::WorkerSays;

/// From closing its socket to its exit.
const EXIT_US: u64 = 500_000;

/// Reads of a dead worker's socket, each of 256 KiB or the rest of a large frame: several times
/// what a socket holds.
const LAST_READS: u32 = 64;
/// Reads of its output, each of 4 KiB: twice what a pipe holds.
const LAST_OUTPUT_READS: u32 = 32;

impl Pool {
    pub(super) fn on_link_ready(&mut self, id: WorkerId, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.mark_worker(id);
        }
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            for _ in 0..MAX_READS {
                if !self.read_link(id)
                    || !self.workers.get_mut(id).is_some_and(|w| w.peer.awaits_large())
                {
                    return;
                }
            }
        }
    }

    /// Reads once and handles every whole frame. False when nothing was there.
    fn read_link(&mut self, id: WorkerId) -> bool {
        let mut scratch = self.scratch();
        let received = match self.workers.get_mut(id) {
            Some(worker) if !worker.deaf => worker.peer.receive(&mut scratch),
            _ => Received::Nothing,
        };
        self.put_scratch_back(scratch);
        match received {
            Received::Nothing => return false,
            Received::Closed => {
                self.on_link_closed(id);
                return false;
            }
            Received::Bytes => {}
        }
        loop {
            let Some(worker) = self.workers.get_mut(id).filter(|w| !w.deaf) else { return false };
            match worker.peer.next_frame(worker.frames) {
                Ok(None) => return true,
                Ok(Some(frame)) => {
                    if let Err(reason) = self.on_worker_frame(id, &frame) {
                        self.broke(id, reason);
                    }
                }
                Err(error) => self.broke(id, error.to_string()),
            }
        }
    }

    /// A process that ends closes its socket on the way; one that closes its socket and lives on is
    /// ended, after it has had the time to exit by itself and leave its own exit status.
    fn on_link_closed(&mut self, id: WorkerId) {
        self.deafen(id);
        self.closed_links.push_back((self.clock.now().plus_us(EXIT_US), id));
    }

    /// Ends those that have closed their socket and still live.
    pub(super) fn end_lingering(&mut self, now: Time) {
        while let Some((_, id)) = self.closed_links.pop_front_if(|(due, _)| *due <= now) {
            if let Some(worker) = self.workers.get_mut(id) {
                worker.seen.closed_link = true;
                worker.kill();
            }
        }
    }

    fn broke(&mut self, id: WorkerId, reason: String) {
        tracing::warn!(worker = %id, "a worker broke the protocol: {reason}");
        self.deafen(id);
        self.feed(Event::WorkerBroke { worker: id, reason });
    }

    fn on_worker_frame(&mut self, id: WorkerId, frame: &Frame) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(id) else { return Ok(()) };
        match worker.session.hear(frame)? {
            WorkerSays::Ready { head, missing } => {
                worker.seen.was_ready = true;
                self.on_ready(id, &head, missing);
            }
            WorkerSays::Done { task, attempt, end, result_len } => {
                let report = Report { worker: id, task, attempt, end };
                self.report(&report, &frame.body, result_len);
            }
            WorkerSays::Heartbeat(HeartbeatHead { rss_bytes, cpu_us }) => {
                self.feed(Event::Heartbeat { worker: id, rss_bytes, cpu_us });
            }
            WorkerSays::Log { task, level } => self.on_log(task, level, &frame.body),
            WorkerSays::Returned(tasks) => {
                self.feed(Event::TasksReturned { worker: id, tasks: &tasks });
            }
            WorkerSays::LastWords { cause, detail } => {
                worker.seen.last_words = Some((cause, detail))
            }
        }
        Ok(())
    }

    fn on_ready(&mut self, id: WorkerId, head: &ReadyHead, missing: BTreeMap<String, String>) {
        if self.confine(id, head.layers, missing) {
            tracing::debug!(worker = %id, start_us = head.start_us, "worker ready");
            self.feed(Event::WorkerReady { worker: id });
            self.systemd.ready();
        }
    }

    fn on_log(&mut self, task: TaskId, level: LogLevel, line: &[u8]) {
        let Some(view) = self.core.task(task) else { return };
        let project = std::sync::Arc::clone(&self.tasks.get(view.slot).project);
        let line = &line[..line.len().min(MAX_LINE_BYTES)];
        let text = String::from_utf8_lossy(line).into_owned().into_boxed_str();
        self.events.push(
            self.clock.wall_moment_us(),
            Some(project),
            Entry::Log { task, level, text },
        );
    }

    /// INVARIANT: what the worker sent before it died is read first. Results in it are results; a
    /// task whose result is lost here would be run again for nothing.
    pub(super) fn on_process_ended(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let status = match verdict::reap(&worker.pidfd) {
            Ok(None) => return,
            Ok(Some(status)) => Some(status),
            Err(error) => {
                tracing::error!(worker = %id, "failed to reap a worker: {error}");
                None
            }
        };
        // A process that it left behind may hold the other ends, and write without end.
        for _ in 0..LAST_READS {
            if !self.read_link(id) {
                break;
            }
        }
        let Some(worker) = self.workers.get_mut(id) else { return };
        for _ in 0..LAST_OUTPUT_READS {
            if !worker.read_stderr_rest() {
                break;
            }
        }
        worker.seen.memory = worker.group.as_ref().and_then(Group::memory_events);
        let (lane, was_ready, killed) = (worker.lane, worker.seen.was_ready, worker.seen.killed);
        let verdict = verdict::judge(status.as_ref(), &worker.seen, || self.oom.look());
        let blame = worker.seen.blame(&verdict);
        if !was_ready && !killed {
            self.gave_up(lane, &verdict);
        }
        let body = self.suspected_body(id, blame.unwrap_or(verdict.cause.blame()));
        self.feed(Event::WorkerGone { worker: id, verdict, blame, body });
        // Closing the descriptors takes them out of the epoll set.
        self.is_given_no_more_tasks(id);
        let gone = self.workers.remove(id);
        self.release_group(gone.and_then(|worker| worker.group));
        self.orphans.look_at(self.clock.now());
    }

    /// Entry the body of the task hashes to under which a worker ended, perhaps by its doing.
    fn suspected_body(&self, id: WorkerId, blame: Blame) -> Option<BodyHash> {
        if blame == Blame::Outside || self.core.settings().set_aside_ms == 0 {
            return None;
        }
        let (task, slot) = self.core.running_on(id)?;
        tracing::warn!(task = task.0, "a worker ended under a task, perhaps by its doing");
        let held = self.tasks.get(slot);
        Some(self.bodies.hash(&held.project, held.kind, held.code_len, held.body.bytes()))
    }
}
