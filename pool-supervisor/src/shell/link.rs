//! What workers say, and how their ends are noticed.

use nix::sys::epoll::EpollFlags;
use pool_core::event::{AttemptEnd, Event};
use pool_core::time::Time;
use pool_protocol::codec;
use pool_protocol::frame::{Frame, FrameLimits, Kind};
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::limits::{MAX_CREDIT, OUTCOME_OVERHEAD_BYTES};
use pool_protocol::outcome::Cause;
use pool_protocol::version::Mismatch;
use pool_protocol::worker::{DoneHead, HeartbeatHead, LastWordsHead, LogHead, ReadyHead, TaskList};

use super::cgroup::Group;
use super::clock::Clock;
use super::events::{MAX_LINE_BYTES, What};
use super::outbox::Received;
use super::perform::Carried;
use super::reactor::Pool;
use super::verdict;

/// Heartbeats in a second that no honest worker sends.
const MAX_BEATS: u32 = 200;
const BEATS_US: u64 = 1_000_000;
/// From closing its socket to its exit.
const EXIT_US: u64 = 500_000;

impl Pool {
    pub(super) fn on_link_ready(&mut self, id: WorkerId, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.mark_worker(id);
        }
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.read_link(id);
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
        let limits = FrameLimits { body_bytes: self.config.limits.result_bytes as usize + OUTCOME_OVERHEAD_BYTES };
        loop {
            let Some(worker) = self.workers.get_mut(id).filter(|w| !w.deaf) else { return false };
            match worker.peer.next_frame(limits) {
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

    /// A process that ends closes its socket on the way; one that closes its socket and lives on is ended, after it has had
    /// the time to exit by itself and leave its own exit status.
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
        self.feed(Event::WorkerBroke { worker: id, reason }, &mut Carried::Nothing);
    }

    fn on_worker_frame(&mut self, id: WorkerId, frame: &Frame) -> Result<(), String> {
        let ready = self.workers.get(id).is_some_and(|w| w.seen.was_ready);
        match frame.kind {
            Kind::Ready if !ready => self.on_ready(id, frame),
            Kind::LastWords => self.on_last_words(id, frame),
            Kind::Done if ready => self.on_done(id, frame),
            Kind::Heartbeat if ready => self.on_heartbeat(id, frame),
            Kind::Log if ready => self.on_log(frame),
            Kind::Returned if ready => self.on_returned(id, frame),
            kind => {
                Err(format!("a {kind:?} frame {}", if ready { "is not for a supervisor" } else { "before its hello" }))
            }
        }
    }

    fn on_ready(&mut self, id: WorkerId, frame: &Frame) -> Result<(), String> {
        Mismatch::check("supervisor", "worker", frame.id).map_err(|e| e.to_string())?;
        let head: ReadyHead = codec::decode("ready", &frame.head).map_err(|e| e.to_string())?;
        if let Some(worker) = self.workers.get_mut(id) {
            worker.seen.was_ready = true;
        }
        if !self.confine(id, head.layers, &frame.body)? {
            return Ok(());
        }
        tracing::debug!(worker = %id, start_us = head.start_us, "worker ready");
        self.feed(Event::WorkerReady { worker: id }, &mut Carried::Nothing);
        self.systemd.ready();
        Ok(())
    }

    fn on_done(&mut self, id: WorkerId, frame: &Frame) -> Result<(), String> {
        let head: DoneHead = codec::decode("done", &frame.head).map_err(|e| e.to_string())?;
        if head.result_len as usize > frame.body.len() {
            return Err(format!("a result of {} bytes in a body of {}", head.result_len, frame.body.len()));
        }
        let end = AttemptEnd {
            code: head.code,
            run_us: head.run_us,
            cpu_us: head.cpu_us,
            memory_bytes: head.memory_bytes,
            spoiled: head.spoiled,
        };
        let event = Event::TaskDone { worker: id, task: TaskId(frame.id), attempt: head.attempt, end };
        self.feed(event, &mut Carried::Done { body: frame.body.clone(), result_len: head.result_len });
        Ok(())
    }

    fn on_heartbeat(&mut self, id: WorkerId, frame: &Frame) -> Result<(), String> {
        let head: HeartbeatHead = codec::decode("heartbeat", &frame.head).map_err(|e| e.to_string())?;
        let now = self.clock.now();
        if let Some(worker) = self.workers.get_mut(id) {
            if now.since(worker.beats_from) >= BEATS_US {
                (worker.beats_from, worker.beats) = (now, 0);
            }
            worker.beats += 1;
            if worker.beats > MAX_BEATS {
                return Err(format!("more than {MAX_BEATS} heartbeats in a second"));
            }
        }
        let event = Event::Heartbeat { worker: id, rss_bytes: head.rss_bytes, cpu_us: head.cpu_us };
        self.feed(event, &mut Carried::Nothing);
        Ok(())
    }

    fn on_log(&mut self, frame: &Frame) -> Result<(), String> {
        let head: LogHead = codec::decode("log", &frame.head).map_err(|e| e.to_string())?;
        let task = TaskId(frame.id);
        let Some(view) = self.core.task(task) else { return Ok(()) };
        let project = std::sync::Arc::clone(&self.tasks.get(view.slot).project);
        let line = &frame.body[..frame.body.len().min(MAX_LINE_BYTES)];
        let text = String::from_utf8_lossy(line).into_owned().into_boxed_str();
        self.events.push(Clock::wall_us(), Some(project), What::Log { task, level: head.level, text });
        Ok(())
    }

    fn on_returned(&mut self, id: WorkerId, frame: &Frame) -> Result<(), String> {
        let list: TaskList = codec::decode("returned", &frame.head).map_err(|e| e.to_string())?;
        if list.tasks.len() > MAX_CREDIT {
            return Err(format!("{} tasks given back, it can hold {MAX_CREDIT}", list.tasks.len()));
        }
        let tasks: Vec<_> = list.tasks.iter().map(|(task, attempt)| (TaskId(*task), *attempt)).collect();
        self.feed(Event::TasksReturned { worker: id, tasks: &tasks }, &mut Carried::Nothing);
        Ok(())
    }

    fn on_last_words(&mut self, id: WorkerId, frame: &Frame) -> Result<(), String> {
        let words = read_last_words(frame)?;
        if let Some(worker) = self.workers.get_mut(id) {
            worker.seen.last_words = Some(words);
        }
        Ok(())
    }

    /// INVARIANT: what the worker sent before it died is read first. Results in it are results; a task whose result is lost
    /// here would be run again for nothing.
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
        while self.read_link(id) {}
        let Some(worker) = self.workers.get_mut(id) else { return };
        while worker.read_stderr_rest() {}
        worker.seen.memory = worker.group.as_ref().and_then(Group::memory_events);
        let (lane, was_ready, killed) = (worker.lane, worker.seen.was_ready, worker.seen.killed);
        let verdict = verdict::judge(status.as_ref(), &worker.seen, || self.oom.look());
        let blame = worker.seen.blame(&verdict);
        if !was_ready && !killed {
            self.gave_up(lane, &verdict);
        }
        self.feed(Event::WorkerGone { worker: id, verdict, blame }, &mut Carried::Nothing);
        // Closing the descriptors takes them out of the epoll set.
        let gone = self.workers.remove(id);
        self.release_group(gone.and_then(|worker| worker.group));
        self.orphans.look_at(self.clock.now());
    }
}

/// What a process says before it ends itself: the cause and its detail.
pub(super) fn read_last_words(frame: &Frame) -> Result<(Cause, String), String> {
    let head: LastWordsHead<'_> = codec::decode("last words", &frame.head).map_err(|e| e.to_string())?;
    // What the supervisor knows better is not the process's to say.
    let may_say = [Cause::JsHeap, Cause::ArrayBuffers, Cause::EngineFatal, Cause::SandboxViolation, Cause::CpuLimit];
    if !may_say.contains(&head.cause) {
        return Err(format!("last words that name the cause {}", head.cause));
    }
    Ok((head.cause, head.detail.chars().take(1024).collect()))
}
