//! What follows from what clients say: hello, tasks, administrative requests.

use bytes::Bytes;
use nix::sys::epoll::EpollFlags;
use pool_core::event::Event;
use pool_protocol::control::{ControlRequest, Refusal, RefusedCode, RefusedHead, WelcomeHead};
use pool_protocol::frame::{Frame, FrameLimits, Kind};
use pool_protocol::id::{ClientId, TaskId};
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::{self, InvalidTask, TaskHead};
use pool_protocol::version;

use super::clients::Subscription;
use super::outbox::{MAX_READS, Received};
use super::reactor::Pool;
use super::start::Replace;
use super::tasks::{Submitted, Waiter};
use super::waits::TagOf;
use crate::session::client::{self, ClientSays};

/// Subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 256;

/// What a frame takes of its client's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cost {
    /// A share.
    Small,
    /// All that is left: its answer grows with the pool.
    WholeTurn,
}

fn cost_of(request: &ControlRequest<'_>) -> Cost {
    match request {
        ControlRequest::Stats
        | ControlRequest::Status
        | ControlRequest::Workers { .. }
        | ControlRequest::Projects
        | ControlRequest::Metrics
        | ControlRequest::Config
        | ControlRequest::Reload
        | ControlRequest::ReloadModules
        | ControlRequest::Probe { .. } => Cost::WholeTurn,
        ControlRequest::Ready
        | ControlRequest::Task { .. }
        | ControlRequest::Wait { .. }
        | ControlRequest::Cancel { .. }
        | ControlRequest::SetLimit { .. }
        | ControlRequest::LiftLimit { .. }
        | ControlRequest::Events { .. }
        | ControlRequest::Drain
        | ControlRequest::Shutdown { .. } => Cost::Small,
    }
}

impl Pool {
    pub(super) fn on_client_ready(&mut self, id: ClientId, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.mark_client(id);
        }
        let Some(client) = self.clients.get(id) else { return };
        if client.paused || client.closing.is_some() {
            // Its requests wait, but not its end.
            if flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
                self.drop_client(id, "it hung up");
            }
            return;
        }
        // What was read before is handled first.
        if client.backlog
            || !flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
        {
            return;
        }
        for _ in 0..MAX_READS {
            self.read_client(id);
            if !self.clients.open_mut(id).is_some_and(|c| !c.backlog && c.peer.awaits_large()) {
                return;
            }
        }
    }

    fn read_client(&mut self, id: ClientId) {
        let now = self.clock.moment();
        let mut scratch = self.scratch();
        let received = self.clients.get_mut(id).map_or(Received::Nothing, |client| {
            client.heard = now;
            client.peer.receive(&mut scratch)
        });
        self.put_scratch_back(scratch);
        match received {
            Received::Nothing => {}
            Received::Closed => self.drop_client(id, "it hung up"),
            Received::Bytes => self.hear_client(id),
        }
    }

    /// Handles what has come from a client: while there is room for the answers, and no more in a
    /// turn than its share.
    fn hear_client(&mut self, id: ClientId) {
        let mut share = self.share;
        while let Some(client) = self.clients.open_mut(id) {
            if share == 0 || !client.has_room() {
                client.backlog = true;
                return self.put_off(id);
            }
            let body_bytes = if client.greeted {
                client.body_bytes
            } else {
                self.body_limit.for_clients() as usize
            };
            match client.peer.next_frame(FrameLimits { body_bytes }) {
                Ok(None) => {
                    client.backlog = false;
                    return;
                }
                Ok(Some(frame)) => {
                    share = share.saturating_sub(1);
                    match self.on_client_frame(id, frame) {
                        Ok(Cost::Small) => {}
                        Ok(Cost::WholeTurn) => share = 0,
                        Err(problem) => self.close_with(id, &problem),
                    }
                }
                Err(error) => self.close_with(id, &error.to_string()),
            }
        }
    }

    /// The rest of a client's inbox is handled in the next turn, unless there is no room for
    /// answers: then once there is.
    pub(super) fn put_off(&mut self, id: ClientId) {
        if let Some(client) = self.clients.open_mut(id)
            && client.backlog
            && !client.queued
            && client.has_room()
        {
            client.queued = true;
            self.backlog.push(id);
        }
    }

    /// Handles what was put off, one share for each client.
    pub(super) fn hear_backlog(&mut self) {
        for id in std::mem::take(&mut self.backlog) {
            if let Some(client) = self.clients.get_mut(id) {
                client.queued = false;
                self.hear_client(id);
            }
        }
    }

    /// A client that breaks the protocol is told why, and parted with.
    fn close_with(&mut self, id: ClientId, problem: &str) {
        tracing::warn!(client = id.slot, "a client broke the protocol: {problem}");
        self.refuse(id, 0, RefusedCode::Malformed, problem);
        let now = self.clock.moment();
        if let Some(client) = self.clients.open_mut(id) {
            client.closing = Some(now);
        }
    }

    fn on_client_frame(&mut self, id: ClientId, frame: Frame) -> Result<Cost, String> {
        let greeted = self.clients.get(id).is_some_and(|c| c.greeted);
        match client::hear(greeted, frame.kind, frame.id, &frame.head)? {
            ClientSays::Hello(_) => self.welcome(id),
            ClientSays::Submit(head) => {
                self.on_submit(Waiter { client: id, request: frame.id }, &head, frame.body)
            }
            ClientSays::CancelSubmitted => self.cancel_submitted(id, frame.id),
            ClientSays::Control(request) => {
                let cost = cost_of(&request);
                self.on_control(id, frame.id, request)?;
                return Ok(cost);
            }
        }
        Ok(Cost::Small)
    }

    fn welcome(&mut self, id: ClientId) {
        let body_bytes = self.body_limit.for_clients();
        if let Some(client) = self.clients.get_mut(id) {
            client.greeted = true;
            // It is judged by this for as long as it is connected, whatever a reload says.
            client.body_bytes = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        }
        let welcome =
            WelcomeHead { release: env!("CARGO_PKG_VERSION"), pid: std::process::id(), body_bytes };
        self.post(id, |peer| {
            peer.send(Kind::Welcome, u64::from(version::CURRENT), &welcome, &Bytes::new())
        });
    }

    fn on_submit(&mut self, from: Waiter, head: &TaskHead<'_>, body: Bytes) {
        match self.admit(head, body.len()) {
            Err(problem) => {
                let wanted = head.ack || head.want_outcome;
                self.refuse_task(
                    from,
                    wanted,
                    ErrorCode::InvalidTask,
                    &problem.to_string(),
                    head.tag,
                );
            }
            Ok(realm) => {
                let project = self.tasks.intern(head.project);
                let mut task = client::new_task(head, realm, body.len());
                // Rarely so: hashing every body would cost more than all decisions about it.
                if self.core.suspects_body_of(task.body_bytes) {
                    task.body =
                        Some(self.bodies.hash(head.project, head.kind, head.code_len, &body));
                }
                let submitted = Submitted::new(head, realm, project, body);
                self.submit(from, &task, submitted);
            }
        }
    }

    fn admit(&self, head: &TaskHead<'_>, body_len: usize) -> Result<task::Realm, InvalidTask> {
        head.check(body_len)?;
        if head.durable {
            let problem = "is not available in this version: it keeps no journal, and would lose \
                the task with the machine";
            return Err(InvalidTask::new("durable", problem.to_owned()));
        }
        self.config.realm_for(head.project, head.kind, head.realm)
    }

    fn on_control(
        &mut self,
        id: ClientId,
        number: u64,
        request: ControlRequest<'_>,
    ) -> Result<(), String> {
        match request {
            ControlRequest::Stats => self.reply(id, number, &self.stats()),
            ControlRequest::Status => self.reply(id, number, &self.status()),
            ControlRequest::Workers { dead: false } => {
                self.reply(id, number, &self.living_workers())
            }
            ControlRequest::Workers { dead: true } => {
                let rows: Vec<_> = self.workers.dead().iter().cloned().collect();
                self.reply(id, number, &rows);
            }
            ControlRequest::Projects => self.reply(id, number, &self.project_rows()),
            ControlRequest::Metrics => self.reply_text(id, number, &self.metrics()),
            ControlRequest::Ready => self.reply(id, number, &self.readiness()),
            ControlRequest::Task { task } => self.reply_task(id, number, TaskId(task)),
            ControlRequest::Wait { task } => self.wait_for(id, number, TaskId(task)),
            ControlRequest::Cancel { task } => {
                self.cancel(TaskId(task), Some(Waiter { client: id, request: number }));
            }
            ControlRequest::SetLimit { project, limit } => {
                self.set_limit(id, number, project, Some(limit))
            }
            ControlRequest::LiftLimit { project } => self.set_limit(id, number, project, None),
            ControlRequest::Events { since, follow } => {
                self.subscribe(id, number, since, follow)?
            }
            ControlRequest::Drain | ControlRequest::Shutdown { now: false } => {
                self.reply_done(
                    id,
                    number,
                    "draining: running and waiting tasks may finish, new ones are refused",
                );
                if !self.stopping {
                    self.stop("client");
                }
            }
            ControlRequest::Shutdown { now: true } => {
                self.reply_done(id, number, "stopping now");
                self.stopping = true;
                self.stop("client");
            }
            ControlRequest::Reload => {
                let done = self.reload(Replace::AsNeeded);
                self.reply_reloaded(id, number, done, "the new configuration is in force");
            }
            ControlRequest::ReloadModules => {
                let done = self.reload(Replace::Always);
                let message = "the configuration is in force; new workers, which load every module \
                    anew, take over as \
                               they are ready";
                self.reply_reloaded(id, number, done, message);
            }
            ControlRequest::Probe { lane, attack } => self.start_probe(id, number, lane, attack),
            ControlRequest::Config => self.reply_text(id, number, &self.config.effective_json()),
        }
        Ok(())
    }

    fn reply_reloaded(
        &mut self,
        id: ClientId,
        number: u64,
        done: Result<(), String>,
        message: &str,
    ) {
        match done {
            Ok(()) => self.reply_done(id, number, message),
            Err(reason) => self.refuse(id, number, RefusedCode::Conflict, &reason),
        }
    }

    fn wait_for(&mut self, id: ClientId, request: u64, task: TaskId) {
        let waiter = Waiter { client: id, request };
        if let Some(slot) = self.core.task(task).map(|view| view.slot) {
            self.add_wait(waiter, slot, task, TagOf::Task);
        } else if !self.deliver_kept(waiter, task, TagOf::Task) {
            self.refuse_unknown(id, request, task);
        }
    }

    fn set_limit(&mut self, id: ClientId, request: u64, project: &str, limit: Option<u32>) {
        if let Err(problem) = pool_protocol::id::check_project_id(project) {
            let text = InvalidTask::new("projectId", problem.to_string()).to_string();
            return self.refuse(id, request, RefusedCode::Malformed, &text);
        }
        if limit.is_some() && !self.core.may_set_limit(project) {
            let text = "too many projects have a limit that was set at run time; lift some, or put \
                limits into the configuration";
            return self.refuse(id, request, RefusedCode::Conflict, text);
        }
        self.feed(Event::SetLimit { project, limit });
        let now = self.core.limit_of(project);
        let message = match now {
            None => format!("project {project} has no limit"),
            Some(0) => format!("project {project} is paused"),
            Some(limit) => format!("project {project} may run {limit} tasks at once"),
        };
        let reply = pool_protocol::control::LimitReply {
            message,
            project_id: project.to_owned(),
            limit: now,
        };
        self.reply(id, request, &reply);
    }

    fn subscribe(
        &mut self,
        id: ClientId,
        request: u64,
        since: Option<u64>,
        follow: bool,
    ) -> Result<(), String> {
        let count = self.clients.get(id).map_or(0, |c| c.subscriptions.len());
        if count >= MAX_SUBSCRIPTIONS {
            return Err(format!("more than {MAX_SUBSCRIPTIONS} subscriptions on one connection"));
        }
        let last = self.events.last();
        let wanted = match since {
            Some(number) => number.min(last) + 1,
            None if follow => last + 1,
            None => self.events.first(),
        };
        let next = wanted.max(self.events.first());
        self.reply(id, request, &pool_protocol::control::EventsStart { last, lost: next - wanted });
        let until = (!follow).then_some(last);
        self.clients.subscribe(id, Subscription { request, next, until });
        Ok(())
    }

    /// A failed administrative request.
    pub(super) fn refuse(&mut self, id: ClientId, request: u64, code: RefusedCode, error: &str) {
        let body =
            serde_json::to_vec(&Refusal { error: error.to_owned() }).expect("strings serialise");
        self.post(id, |peer| {
            peer.send(Kind::Refused, request, &RefusedHead { code }, &Bytes::from(body))
        });
    }

    pub(super) fn refuse_unknown(&mut self, id: ClientId, request: u64, task: TaskId) {
        if self.core.task_known(task) {
            let text = format!("task {task} has ended and its outcome is no longer kept");
            self.refuse(id, request, RefusedCode::Expired, &text);
        } else {
            self.refuse(id, request, RefusedCode::Unknown, &format!("there is no task {task}"));
        }
    }
}
