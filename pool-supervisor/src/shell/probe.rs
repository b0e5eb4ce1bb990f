//! Probes: processes that attack their own confinement instead of serving tasks.
//!
//! Owns the processes of running probes. Each is started, told and watched as a worker of its lane,
//! but it is none: the core does not know it, it counts in no figure, and it is in no event. Only a
//! client of the control socket can ask for one, and only for an attack of the closed list. At most
//! [`MAX_PROBES`] run at once; each has [`DEADLINE_US`].

use std::collections::HashSet;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use pool_core::time::Time;
use pool_protocol::codec;
use pool_protocol::control::{ProbeReply, RefusedCode};
use pool_protocol::frame::{Frame, FrameLimits, Kind};
use pool_protocol::id::{ClientId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::layer::LayerSet;
use pool_protocol::outcome::{Cause, Verdict};
use pool_protocol::probe::{Attack, abstract_socket, message_queue};
use pool_protocol::render::verdict_reply;
use pool_protocol::version::Mismatch;
use pool_protocol::worker::{ProbeReport, ProbeSetup, ReadyHead};
use rustix::process::Pid;

use super::cgroup::Group;
use super::outbox::Received;
use super::reactor::{Pool, Token};
use super::verdict;
use super::workers::Worker;
use crate::session::worker::read_last_words;

/// Probes at once; further ones are refused.
const MAX_PROBES: usize = 2;
/// From its start to its end. The longest attack takes four seconds of CPU time and ends by itself
/// after that; a machine that has much to do takes a minute to give them.
const DEADLINE_US: u64 = 120_000_000;
/// A report, a list of missing layers, last words.
const BODY_BYTES: usize = 64 * 1024;
/// No worker has such a place: what a probe's process calls itself is no worker's name.
const PROBE_SLOT: u32 = u32::MAX;

/// One process.
struct Probe {
    client: ClientId,
    request: u64,
    attack: Attack,
    process: Worker,
    report: Option<ProbeReport>,
    /// Why the supervisor ended it.
    ended: Option<Verdict>,
    due: Time,
    /// What the attack tries to reach.
    _target: Target,
}

impl Probe {
    fn end(&mut self, cause: Cause, evidence: impl Into<String>) {
        if self.ended.is_none() {
            self.ended = Some(Verdict { cause, evidence: evidence.into() });
            self.process.kill();
        }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Probes {
    running: Vec<(u32, Probe)>,
    next: u32,
}

impl Probes {
    fn get_mut(&mut self, number: u32) -> Option<&mut Probe> {
        self.running.iter_mut().find(|(n, _)| *n == number).map(|(_, probe)| probe)
    }

    fn take(&mut self, number: u32) -> Option<Probe> {
        let at = self.running.iter().position(|(n, _)| *n == number)?;
        Some(self.running.swap_remove(at).1)
    }

    /// Their processes, which are children of ours and no orphans.
    pub(crate) fn pids(&self) -> impl Iterator<Item = Pid> {
        self.running.iter().map(|(_, probe)| probe.process.pid)
    }

    /// When the first of them must have ended.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.running
            .iter()
            .filter(|(_, probe)| probe.ended.is_none())
            .map(|(_, probe)| probe.due)
            .min()
    }

    /// Ends those that take too long.
    pub(crate) fn end_late(&mut self, now: Time) {
        for (_, probe) in self.running.iter_mut().filter(|(_, probe)| probe.due <= now) {
            probe.end(Cause::Unresponsive, format!("no end within {} s", DEADLINE_US / 1_000_000));
        }
    }

    /// Whether a client waits for one.
    pub(crate) fn has_client(&self, client: ClientId) -> bool {
        self.running.iter().any(|(_, probe)| probe.client == client)
    }

    /// Ends those whose client is gone.
    pub(crate) fn end_of_client(&mut self, client: ClientId) {
        for (_, probe) in self.running.iter_mut().filter(|(_, probe)| probe.client == client) {
            probe.end(Cause::Cancelled, "whoever asked for it is gone");
        }
    }

    /// Ends the one that was asked for under this number.
    pub(crate) fn end_of_request(&mut self, client: ClientId, request: u64) {
        let is_meant = |probe: &Probe| probe.client == client && probe.request == request;
        for (_, probe) in self.running.iter_mut().filter(|(_, probe)| is_meant(probe)) {
            probe.end(Cause::Cancelled, "whoever asked for it has taken the wish back");
        }
    }

    /// Ends all, and gives their control groups.
    pub(crate) fn end_all(&mut self) -> Vec<Group> {
        for (_, probe) in &mut self.running {
            probe.end(Cause::Cancelled, "the supervisor stops");
        }
        self.running.iter_mut().filter_map(|(_, probe)| probe.process.group.take()).collect()
    }
}

impl Pool {
    /// Processes that are ours and no orphans.
    pub(super) fn own_pids(&self) -> HashSet<Pid> {
        let mut pids = self.workers.pids();
        pids.extend(self.probes.pids());
        pids
    }

    pub(super) fn start_probe(&mut self, client: ClientId, request: u64, lane: Lane, name: &str) {
        if let Err((code, reason)) = self.try_start_probe(client, request, lane, name) {
            self.refuse(client, request, code, &reason);
        }
    }

    fn try_start_probe(
        &mut self,
        client: ClientId,
        request: u64,
        lane: Lane,
        name: &str,
    ) -> Result<(), (RefusedCode, String)> {
        let attack = Attack::by_name(name)
            .filter(|attack| attack.exists_here() && attack.layer(lane).is_some())
            .ok_or_else(|| {
                (
                    RefusedCode::Malformed,
                    format!("there is no attack {name:?} on the lane {}", lane.name()),
                )
            })?;
        let conflict = |reason: String| (RefusedCode::Conflict, reason);
        if self.stopping {
            return Err(conflict("failed to probe: the pool is stopping".to_owned()));
        }
        if self.probes.running.len() >= MAX_PROBES {
            return Err(conflict(format!(
                "failed to probe: {MAX_PROBES} probes run already; try again when they have ended"
            )));
        }
        let order = ProbeSetup {
            attack: name.to_owned(),
            supervisor: std::process::id(),
            control_socket: self.control.path.to_string_lossy().into_owned(),
        };
        let number = self.probes.next;
        self.probes.next = number.wrapping_add(1);
        let id = WorkerId { slot: PROBE_SLOT, generation: number };
        let process = self.launch(id, lane, Some(order)).map_err(conflict)?;
        let target = Target::of(attack);
        let due = self.clock.now().plus_us(DEADLINE_US);
        let probe = Probe {
            client,
            request,
            attack,
            process,
            report: None,
            ended: None,
            due,
            _target: target,
        };
        tracing::debug!(
            attack = name,
            lane = lane.name(),
            pid = probe.process.pid.as_raw_nonzero(),
            "probing"
        );
        if let Err(error) = self.watch_probe(number, &probe) {
            self.abandon(probe.process);
            return Err(conflict(format!("failed to watch a probe: {error}")));
        }
        self.probes.running.push((number, probe));
        self.flush_probe(number);
        Ok(())
    }

    fn watch_probe(&self, number: u32, probe: &Probe) -> std::io::Result<()> {
        let process = &probe.process;
        self.watch(&process.peer.stream, Token::ProbeLink(number))?;
        self.watch(&process.pidfd, Token::ProbeProcess(number))?;
        self.watch(&process.stderr, Token::ProbeOutput(number))
    }

    /// Writes the rest of the setup, which a full socket may hold up.
    fn flush_probe(&mut self, number: u32) {
        let Some(probe) = self.probes.get_mut(number) else { return };
        // A broken socket shows itself through the pidfd.
        let drained = probe.process.peer.flush().unwrap_or(true);
        let mut interest = EpollFlags::EPOLLIN;
        interest.set(EpollFlags::EPOLLOUT, !drained);
        let mut event = EpollEvent::new(interest, Token::ProbeLink(number).pack());
        let _is_watched = self.epoll.modify(&probe.process.peer.stream, &mut event);
    }

    pub(super) fn on_probe_link(&mut self, number: u32, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.flush_probe(number);
        }
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.read_probe(number);
        }
    }

    /// Reads once and takes every whole frame. False when nothing was there.
    fn read_probe(&mut self, number: u32) -> bool {
        let mut scratch = self.scratch();
        let received = match self.probes.get_mut(number) {
            Some(probe) if !probe.process.deaf => probe.process.peer.receive(&mut scratch),
            _ => Received::Nothing,
        };
        self.put_scratch_back(scratch);
        let Some(probe) = self.probes.get_mut(number) else { return false };
        match received {
            Received::Nothing => return false,
            Received::Closed => {
                probe.process.deaf = true;
                let _was_watched = self.epoll.delete(&probe.process.peer.stream);
                return false;
            }
            Received::Bytes => {}
        }
        let limits = FrameLimits { body_bytes: BODY_BYTES };
        loop {
            let problem = match probe.process.peer.next_frame(limits) {
                Ok(None) => return true,
                Ok(Some(frame)) => match take_frame(probe, &frame) {
                    Ok(()) => continue,
                    Err(problem) => problem,
                },
                Err(error) => error.to_string(),
            };
            probe.end(Cause::ProtocolViolation, problem);
            return false;
        }
    }

    pub(super) fn on_probe_output(&mut self, number: u32) {
        let Some(probe) = self.probes.get_mut(number) else { return };
        if !probe.process.read_stderr() {
            let _was_watched = self.epoll.delete(&probe.process.stderr);
        }
    }

    /// INVARIANT: as with workers, what it sent before it ended is read first.
    pub(super) fn on_probe_ended(&mut self, number: u32) {
        let Some(probe) = self.probes.get_mut(number) else { return };
        let status = match verdict::reap(&probe.process.pidfd) {
            Ok(None) => return,
            Ok(Some(status)) => Some(status),
            Err(error) => {
                tracing::error!("failed to reap a probe: {error}");
                None
            }
        };
        while self.read_probe(number) {}
        let Some(mut probe) = self.probes.take(number) else { return };
        while probe.process.read_stderr_rest() {}
        probe.process.seen.memory = probe.process.group.as_ref().and_then(Group::memory_events);
        let judged = verdict::judge(status.as_ref(), &probe.process.seen, || self.oom.look());
        let verdict = probe.ended.take().unwrap_or(judged);
        let reply = ProbeReply {
            lane: probe.process.lane.name().to_owned(),
            attack: probe.attack.name().to_owned(),
            layers: probe.process.layers.names().into_iter().map(str::to_owned).collect(),
            report: probe.report.take(),
            verdict: verdict_reply(&verdict),
        };
        let evidence = &verdict.evidence;
        tracing::info!(
            attack = reply.attack,
            lane = reply.lane,
            cause = %verdict.cause,
            "probed: {evidence}",
        );
        self.reply(probe.client, probe.request, &reply);
        self.release_group(probe.process.group.take());
        self.orphans.look_at(self.clock.now());
    }
}

fn take_frame(probe: &mut Probe, frame: &Frame) -> Result<(), String> {
    let ready = probe.process.seen.was_ready;
    match frame.kind {
        Kind::Ready if !ready => {
            Mismatch::check("supervisor", "worker", frame.id).map_err(|e| e.to_string())?;
            let head: ReadyHead = codec::decode("ready", &frame.head).map_err(|e| e.to_string())?;
            probe.process.seen.was_ready = true;
            // What is put around a process is not the process's to claim.
            let around = probe.process.group.as_ref().map_or(LayerSet::NONE, Group::layers);
            probe.process.layers = head.layers.without(LayerSet::CGROUP).with(around);
            Ok(())
        }
        Kind::LastWords => {
            probe.process.seen.last_words = Some(read_last_words(frame)?);
            Ok(())
        }
        Kind::Probed if ready && probe.report.is_none() => {
            let report = serde_json::from_slice(&frame.body)
                .map_err(|e| format!("a report that is none: {e}"))?;
            probe.report = Some(report);
            Ok(())
        }
        Kind::Heartbeat if ready => Ok(()),
        kind => Err(format!("a {kind:?} frame from a probe")),
    }
}

/// Something outside of the worker's namespaces, which an attack is to find. Another probe's may
/// have the name or the key: then that one is found.
enum Target {
    Nothing,
    Socket(#[expect(dead_code, reason = "held, so that somebody listens")] UnixListener),
    Queue(i32),
}

impl Target {
    fn of(attack: Attack) -> Self {
        let supervisor = std::process::id();
        let made = match attack {
            Attack::ConnectAbstract => {
                let address = SocketAddr::from_abstract_name(abstract_socket(supervisor));
                address.and_then(|address| UnixListener::bind_addr(&address)).ok().map(Self::Socket)
            }
            Attack::MessageQueue => {
                let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
                #[expect(unsafe_code, reason = "nobody wraps msgget")]
                // SAFETY: numbers only.
                let queue = unsafe { libc::msgget(message_queue(supervisor), flags) };
                (queue >= 0).then_some(Self::Queue(queue))
            }
            _ => None,
        };
        made.unwrap_or(Self::Nothing)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Self::Queue(queue) = self {
            #[expect(unsafe_code, reason = "nobody wraps msgctl")]
            // SAFETY: a queue of ours; with this command no buffer is used.
            unsafe {
                libc::msgctl(*queue, libc::IPC_RMID, std::ptr::null_mut());
            }
        }
    }
}
