//! One thread, one epoll: sockets, pidfds, signals, timers.
//!
//! A turn waits, reads once from each peer that has something, feeds the core, performs its
//! actions, and writes once to each peer that something is for. Nothing here blocks on a peer.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pool_core::Core;
use pool_core::action::Action;
use pool_core::event::Event;
use pool_core::place::TaskPlace;
use pool_core::time::Time;
use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::outcome::ErrorCode;

use super::bodies::BodyHasher;
use super::body_limit::BodyLimit;
use super::buffers::BufferPool;
use super::cgroup::Groups;
use super::clients::Clients;
use super::clock::Clock;
use super::confinement::Confinement;
use super::delivery::Hopes;
use super::events::EventLog;
use super::listener::{Control, Renewed};
use super::oom::OomWatch;
use super::orphans::Orphans;
use super::outcomes::Outcomes;
use super::owed::Owed;
use super::probe::Probes;
use super::pump::Pump;
use super::signals::Signals;
use super::snapshot::Snapshot;
use super::spawn::passed_on;
use super::start::Replace;
use super::systemd::Systemd;
use super::tasks::Tasks;
use super::workers::Workers;
use crate::config::Config;
use crate::http::HttpHandle;

/// Events of one wait.
pub(super) const MAX_READY: usize = 256;
/// Bytes of one read.
pub(super) const READ_BYTES: usize = 256 * 1024;
/// Between two rounds of housekeeping.
const HOUSEKEEPING_US: u64 = 1_000_000;
/// A connection that has not said hello by then is closed.
const HELLO_US: u64 = 10_000_000;
/// How long a client that broke the protocol has to read why.
const PARTING_US: u64 = 1_000_000;
/// Frames of clients in one turn, shared among those that have something. A frame costs a few
/// microseconds.
const FRAMES_OF_TURN: usize = 8192;
/// A client's share of them. The most is what one read brings of small tasks: larger batches save
/// nothing.
const MIN_SHARE: usize = 32;
const MAX_SHARE: usize = 2048;

/// What a descriptor in the epoll set is. Of a client's or worker's generation, a token that was
/// read back has the bits that fit: enough to tell it from whoever had the place before, not enough
/// to look it up by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Listener,
    Stop,
    Reload,
    Client(u32, u32),
    Link(WorkerId),
    Process(WorkerId),
    Output(WorkerId),
    Snapshot,
    ProbeLink(u32),
    ProbeProcess(u32),
    ProbeOutput(u32),
}

/// Bits of a generation that fit into a token, above those of a place and below those of the kind.
const GENERATION_BITS: u32 = 28;
const KIND_SHIFT: u32 = 32 + GENERATION_BITS;

impl Token {
    /// The bits of a generation that a token keeps.
    const fn kept(generation: u32) -> u32 {
        generation & ((1 << GENERATION_BITS) - 1)
    }

    pub(super) fn pack(self) -> u64 {
        let (kind, slot, generation) = match self {
            Self::Listener => (0, 0, 0),
            Self::Stop => (1, 0, 0),
            Self::Reload => (2, 0, 0),
            Self::Client(slot, generation) => (3, slot, generation),
            Self::Link(id) => (4, id.slot, id.generation),
            Self::Process(id) => (5, id.slot, id.generation),
            Self::Output(id) => (6, id.slot, id.generation),
            Self::Snapshot => (7, 0, 0),
            Self::ProbeLink(number) => (8, number, 0),
            Self::ProbeProcess(number) => (9, number, 0),
            Self::ProbeOutput(number) => (10, number, 0),
        };
        let generation = Self::kept(generation);
        (kind << KIND_SHIFT) | (u64::from(generation) << 32) | u64::from(slot)
    }

    pub(super) fn unpack(bits: u64) -> Self {
        let slot = bits as u32;
        let generation = Self::kept((bits >> 32) as u32);
        let worker = WorkerId { slot, generation };
        match bits >> KIND_SHIFT {
            0 => Self::Listener,
            1 => Self::Stop,
            2 => Self::Reload,
            3 => Self::Client(slot, generation),
            4 => Self::Link(worker),
            5 => Self::Process(worker),
            6 => Self::Output(worker),
            7 => Self::Snapshot,
            8 => Self::ProbeLink(slot),
            9 => Self::ProbeProcess(slot),
            10 => Self::ProbeOutput(slot),
            kind => {
                unreachable!("the kernel gives back what `pack` made, and it makes no kind {kind}")
            }
        }
    }
}

/// The owner of everything. Its other methods are in `peers`, `control`, `link`, `perform` and
/// `replies`.
pub(crate) struct Pool {
    pub(super) core: Core,
    pub(super) clock: Clock,
    pub(super) epoll: Epoll,
    pub(super) config: Config,
    pub(super) body_limit: BodyLimit,
    pub(super) config_path: Option<PathBuf>,
    /// `--http` as it was given: it goes before the configuration's on a reload too.
    pub(super) listen_argument: Option<String>,
    pub(super) worker_path: PathBuf,
    /// See [`passed_on`].
    pub(super) worker_environment: Vec<CString>,
    pub(super) snapshot: Snapshot,
    pub(super) http: Option<HttpHandle>,
    pub(super) control: Control,
    /// Whether newcomers are looked at.
    pub(super) listens: bool,
    signals: Signals,
    pub(super) systemd: Systemd,
    pub(super) clients: Clients,
    pub(super) workers: Workers,
    pub(super) probes: Probes,
    pub(super) tasks: Tasks,
    pub(super) bodies: BodyHasher,
    /// Of tasks.
    pub(super) buffers: BufferPool,
    pub(super) outcomes: Outcomes,
    pub(super) events: EventLog,
    /// What happened while actions were performed; fed to the core after them.
    pub(super) follow_ups: VecDeque<Event<'static>>,
    /// Tasks whose bodies the core wants to know of before it lets them run.
    pub(super) to_check: VecDeque<(TaskId, TaskPlace)>,
    actions: Vec<Action>,
    pub(super) orphans: Orphans,
    pub(super) confinement: Confinement,
    pub(super) oom: OomWatch,
    /// Workers that have closed their sockets, and when they must be gone.
    pub(super) closed_links: VecDeque<(Time, WorkerId)>,
    /// Clients that are gone, with the outcomes that they missed, until all that follows is done.
    pub(super) departed: VecDeque<(ClientId, Owed)>,
    /// Clients whose inboxes hold frames for the next turn.
    pub(super) backlog: Vec<ClientId>,
    /// Frames that one client may have handled in this turn.
    pub(super) share: usize,
    pub(super) hopes: Hopes,
    pub(super) pump: Pump,
    pub(super) dirty_clients: Vec<ClientId>,
    pub(super) dirty_workers: Vec<WorkerId>,
    pub(super) scratch: Vec<u8>,
    housekeeping: Time,
    /// Tasks that ended with each code of `ErrorCode::ALL`.
    pub(super) error_counts: Vec<u64>,
    pub(super) stopping: bool,
    pub(super) exiting: bool,
}

/// What the reactor is made of.
pub(crate) struct Parts {
    pub(crate) core: Core,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) config_path: Option<PathBuf>,
    pub(crate) listen_argument: Option<String>,
    pub(crate) worker_path: PathBuf,
    pub(crate) snapshot: Snapshot,
    pub(crate) control: Control,
    pub(crate) signals: Signals,
    /// Control groups, else why there are none.
    pub(crate) groups: Result<Groups, String>,
    pub(crate) oom: OomWatch,
}

impl Pool {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let watch = |fd: &dyn AsFd, token: Token| {
            epoll.add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token.pack()))
        };
        watch(&parts.control.listener, Token::Listener)?;
        watch(&parts.signals.stop, Token::Stop)?;
        watch(&parts.signals.reload, Token::Reload)?;
        if let Some(done) = parts.snapshot.watched() {
            watch(done, Token::Snapshot)?;
        }
        let mut core = parts.core;
        let mut tasks = Tasks::default();
        tasks.reserve(core.reserve_places());
        Ok(Self {
            core,
            clock: parts.clock,
            epoll,
            body_limit: BodyLimit::new(parts.config.limits.body_bytes),
            config: parts.config,
            config_path: parts.config_path,
            listen_argument: parts.listen_argument,
            worker_path: parts.worker_path,
            worker_environment: passed_on(),
            snapshot: parts.snapshot,
            http: None,
            control: parts.control,
            listens: true,
            signals: parts.signals,
            systemd: Systemd::new(),
            clients: Clients::default(),
            workers: Workers::default(),
            probes: Probes::default(),
            tasks,
            bodies: BodyHasher::default(),
            buffers: BufferPool::default(),
            outcomes: Outcomes::new(),
            events: EventLog::new(),
            follow_ups: VecDeque::new(),
            to_check: VecDeque::new(),
            actions: Vec::new(),
            orphans: Orphans::default(),
            confinement: Confinement::new(parts.groups),
            oom: parts.oom,
            closed_links: VecDeque::new(),
            departed: VecDeque::new(),
            backlog: Vec::new(),
            share: MAX_SHARE,
            hopes: Hopes::default(),
            pump: Pump::default(),
            dirty_clients: Vec::new(),
            dirty_workers: Vec::new(),
            scratch: vec![0; READ_BYTES],
            housekeeping: Time::default(),
            error_counts: vec![0; ErrorCode::ALL.len()],
            stopping: false,
            exiting: false,
        })
    }

    /// Why it ended, when that is because it could not be what it was configured to be.
    pub(crate) fn fatal(&self) -> Option<&str> {
        self.confinement.fatal()
    }

    /// Runs until the core says that everything has ended.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.feed(Event::Tick);
        let mut ready = [EpollEvent::empty(); MAX_READY];
        loop {
            // INVARIANT: what was written for a peer is sent before the wait, from the first turn
            // on: the first workers get their setup here.
            self.end_turn();
            if self.exiting {
                break;
            }
            let timeout = self.timeout();
            let n = match self.epoll.wait(&mut ready, timeout) {
                Ok(n) => n,
                Err(nix::Error::EINTR) => 0,
                Err(e) => return Err(e.into()),
            };
            let speakers = n + self.backlog.len();
            self.share = (FRAMES_OF_TURN / speakers.max(1)).clamp(MIN_SHARE, MAX_SHARE);
            for event in &ready[..n] {
                self.dispatch(Token::unpack(event.data()), event.events());
            }
            self.hear_backlog();
        }
        self.shutdown_flush();
        Ok(())
    }

    /// Until the next deadline of anybody, rounded up so that a wake-up finds it due.
    fn timeout(&self) -> EpollTimeout {
        if !self.backlog.is_empty() || !self.departed.is_empty() || self.pump.more {
            return EpollTimeout::ZERO;
        }
        let mut next = self.housekeeping.plus_us(HOUSEKEEPING_US);
        next = self.core.next_deadline().map_or(next, |d| d.min(next));
        next = self.systemd.deadline().map_or(next, |d| d.min(next));
        if self.snapshot.watched().is_none() {
            next = self.orphans.deadline().map_or(next, |d| d.min(next));
        }
        next = self.confinement.groups().and_then(Groups::deadline).map_or(next, |d| d.min(next));
        next = self.probes.deadline().map_or(next, |d| d.min(next));
        if !self.to_check.is_empty() {
            return EpollTimeout::ZERO;
        }
        next = self.closed_links.front().map_or(next, |(due, _)| (*due).min(next));
        let us = next.since(self.clock.now());
        EpollTimeout::try_from(us.div_ceil(1000)).unwrap_or(EpollTimeout::ZERO)
    }

    fn dispatch(&mut self, token: Token, flags: EpollFlags) {
        self.clock.tick();
        match token {
            Token::Listener => self.accept_clients(),
            // Its socket closes here, and leaves the epoll set with that.
            Token::Snapshot => self.snapshot.settle(),
            Token::Stop => self.on_stop_signal(),
            Token::Reload => {
                if Signals::count(&self.signals.reload) > 0 {
                    let _reason_is_logged = self.reload(Replace::AsNeeded);
                }
            }
            Token::Client(slot, generation) => {
                let Some(id) = self.clients.id_at(slot) else { return };
                if Token::kept(id.generation) == generation {
                    self.on_client_ready(id, flags);
                }
            }
            Token::Link(kept) => {
                if let Some(id) = self.living(kept) {
                    self.on_link_ready(id, flags);
                }
            }
            Token::Process(kept) => {
                if let Some(id) = self.living(kept) {
                    self.on_process_ended(id);
                }
            }
            Token::ProbeLink(number) => self.on_probe_link(number, flags),
            Token::ProbeProcess(number) => self.on_probe_ended(number),
            Token::ProbeOutput(number) => self.on_probe_output(number),
            Token::Output(kept) => {
                let Some(id) = self.living(kept) else { return };
                let ended = self.workers.get_mut(id).is_some_and(|w| !w.read_stderr());
                if ended && let Some(worker) = self.workers.get(id) {
                    let _was_watched = self.epoll.delete(&worker.stderr);
                }
            }
        }
    }

    /// The worker that a token means, unless it is gone.
    fn living(&self, kept: WorkerId) -> Option<WorkerId> {
        let id = self.workers.id_at(kept.slot)?;
        (Token::kept(id.generation) == kept.generation).then_some(id)
    }

    /// Timers, events for listeners, one write per peer.
    fn end_turn(&mut self) {
        let now = self.clock.tick();
        if self.core.next_deadline().is_some_and(|due| due <= now) {
            self.feed(Event::Tick);
        }
        if now.since(self.housekeeping) >= HOUSEKEEPING_US {
            self.housekeeping = now;
            self.keep_house(now);
        }
        self.check_bodies();
        self.end_lingering(now);
        self.probes.end_late(now);
        // The process that makes the snapshot is no worker either: sweeping waits for it.
        if self.snapshot.watched().is_none()
            && self.orphans.deadline().is_some_and(|due| due <= now)
        {
            let ours = self.own_pids();
            self.orphans.sweep(now, |pid| ours.contains(&pid));
        }
        if let Some(groups) = self.confinement.groups_mut() {
            groups.tend(now);
        }
        self.systemd.ping(now);
        self.pump_events();
        self.flush_dirty();
    }

    fn keep_house(&mut self, now: Time) {
        self.clock.follow_wall();
        self.oom.turn_over();
        if !self.listens {
            self.listen(true);
        }
        self.renew_socket();
        self.outcomes.expire(now, self.config.pool.result_ttl_ms);
        self.forget_outcomes();
        let late: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|c| !c.greeted && !c.is_own() && now.since(c.since) > HELLO_US)
            .map(|c| c.id)
            .collect();
        for id in late {
            self.drop_client(id, "no hello within 10 s");
        }
        let parted = |since: Option<Time>| since.is_some_and(|since| now.since(since) > PARTING_US);
        let parted: Vec<ClientId> =
            self.clients.iter().filter(|c| parted(c.closing)).map(|c| c.id).collect();
        for id in parted {
            self.drop_client(id, "it broke the protocol and does not read why");
        }
    }

    fn renew_socket(&mut self) {
        match self.control.renew() {
            Renewed::Nothing => {}
            // The old listener has left the epoll set with its descriptor.
            Renewed::Again => match self.watch(&self.control.listener, Token::Listener) {
                Ok(()) => tracing::warn!("the control socket was removed, and is made again"),
                Err(error) => tracing::error!("failed to watch for connections: {error}"),
            },
            Renewed::Trouble(error) => tracing::warn!("the control socket was removed: {error}"),
        }
    }

    /// Tells the core of outcomes that are no longer kept, where it matters: nearly every task has
    /// one, and few have keys.
    pub(super) fn forget_outcomes(&mut self) {
        while let Some(task) = self.outcomes.drain_gone() {
            if !self.core.has_key(task) {
                continue;
            }
            self.feed(Event::Forget { task });
        }
    }

    /// Gives the core an event, performs what follows, and what follows from that.
    pub(super) fn feed(&mut self, event: Event<'_>) {
        let mut actions = self.take_actions();
        self.core.handle(self.clock.moment_of_event(), event, &mut actions);
        self.perform_all(actions);
    }

    /// Room for the core's actions; [`Self::perform_all`] gives it back.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Performs the core's actions, and what follows from that.
    pub(super) fn perform_all(&mut self, actions: Vec<Action>) {
        self.perform_each(actions);
        self.follow_up();
    }

    pub(super) fn perform_each(&mut self, mut actions: Vec<Action>) {
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.actions = actions;
    }

    /// Tells the core what happened while actions were performed, and does what follows.
    pub(super) fn follow_up(&mut self) {
        while let Some(event) = self.follow_ups.pop_front() {
            let mut actions = self.take_actions();
            // What was performed may have taken its time: a process was started.
            self.core.handle(self.clock.tick(), event, &mut actions);
            self.perform_each(actions);
        }
    }

    /// New settings for the core, and new workers when what they are told at their start has
    /// changed.
    pub(super) fn feed_reload(
        &mut self,
        settings: pool_core::settings::Settings,
        replace_workers: bool,
    ) {
        self.feed(Event::Reload(Box::new(settings)));
        if replace_workers {
            self.feed(Event::RecycleWorkers);
        }
    }

    fn on_stop_signal(&mut self) {
        for _ in 0..Signals::count(&self.signals.stop) {
            self.stop("signal");
        }
    }

    /// The first time: drain. The second: at once.
    pub(super) fn stop(&mut self, who: &str) {
        let event = if self.stopping { Event::Shutdown } else { Event::Drain };
        tracing::info!(who, now = self.stopping, "stopping");
        self.stopping = true;
        self.systemd.stopping();
        self.feed(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_the_lower_bits_of_a_generation_and_they_are_compared_as_such() {
        for generation in [(1 << GENERATION_BITS) + 5, u32::MAX] {
            let id = WorkerId { slot: 3, generation };
            let Token::Process(kept) = Token::unpack(Token::Process(id).pack()) else {
                panic!("its kind is kept")
            };
            assert_ne!(kept, id, "so many generations do not fit");
            assert_eq!(kept, WorkerId { slot: 3, generation: Token::kept(generation) });
        }
    }

    #[test]
    fn tokens_read_back() {
        let worker = WorkerId { slot: u32::MAX, generation: (1 << GENERATION_BITS) - 1 };
        for token in [
            Token::Listener,
            Token::Stop,
            Token::Reload,
            Token::Client(7, 9),
            Token::Link(worker),
            Token::Process(worker),
            Token::Output(worker),
            Token::Snapshot,
            Token::ProbeLink(u32::MAX),
            Token::ProbeProcess(0),
            Token::ProbeOutput(7),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
