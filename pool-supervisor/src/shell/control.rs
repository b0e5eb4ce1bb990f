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
use super::perform::Carried;
use super::reactor::Pool;
use super::tasks::{Submitted, Waiter};
use crate::session::client::{self, ClientSays};

/// Subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 256;

impl Pool {
    pub(super) fn on_client_ready(&mut self, id: ClientId, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.mark_client(id);
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.paused || client.closing {
            // Its requests wait, but not its end.
            if flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
                self.drop_client(id, "it hung up");
            }
            return;
        }
        if !flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return;
        }
        for _ in 0..MAX_READS {
            self.read_client(id);
            if !self.clients.get_mut(id).is_some_and(|c| !c.closing && c.peer.awaits_large()) {
                return;
            }
        }
    }

    fn read_client(&mut self, id: ClientId) {
        let mut scratch = self.scratch();
        let received = self.clients.get_mut(id).map_or(Received::Nothing, |c| c.peer.receive(&mut scratch));
        self.put_scratch_back(scratch);
        match received {
            Received::Nothing => return,
            Received::Closed => return self.drop_client(id, "it hung up"),
            Received::Bytes => {}
        }
        let limits = FrameLimits { body_bytes: self.config.limits.body_bytes as usize };
        while let Some(client) = self.clients.get_mut(id).filter(|c| !c.closing) {
            match client.peer.next_frame(limits) {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    if let Err(problem) = self.on_client_frame(id, frame) {
                        self.close_with(id, &problem);
                    }
                }
                Err(error) => self.close_with(id, &error.to_string()),
            }
        }
    }

    /// A client that breaks the protocol is told why, and parted with.
    fn close_with(&mut self, id: ClientId, problem: &str) {
        tracing::warn!(client = id.slot, "a client broke the protocol: {problem}");
        self.refuse(id, 0, RefusedCode::Malformed, problem);
        if let Some(client) = self.clients.get_mut(id) {
            client.closing = true;
        }
    }

    pub(super) fn drop_client(&mut self, id: ClientId, why: &str) {
        if self.clients.remove(id).is_some() {
            tracing::trace!(client = id.slot, why, "connection closed");
            self.probes.end_of_client(id);
            self.feed(Event::ClientGone { client: id }, &mut Carried::Nothing);
        }
    }

    fn on_client_frame(&mut self, id: ClientId, frame: Frame) -> Result<(), String> {
        let greeted = self.clients.get_mut(id).is_some_and(|c| c.greeted);
        match client::hear(greeted, frame.kind, frame.id, &frame.head)? {
            ClientSays::Hello(_) => self.welcome(id),
            ClientSays::Submit(head) => self.on_submit(Waiter { client: id, request: frame.id }, &head, frame.body),
            ClientSays::CancelSubmitted => self.cancel_submitted(id, frame.id),
            ClientSays::Control(request) => self.on_control(id, frame.id, request)?,
        }
        Ok(())
    }

    fn welcome(&mut self, id: ClientId) {
        let body_bytes = self.config.limits.body_bytes;
        if let Some(client) = self.clients.get_mut(id) {
            client.greeted = true;
            let welcome = WelcomeHead { release: env!("CARGO_PKG_VERSION"), pid: std::process::id(), body_bytes };
            client.peer.send(Kind::Welcome, u64::from(version::CURRENT), &welcome, &Bytes::new());
            self.mark_client(id);
        }
    }

    fn on_submit(&mut self, from: Waiter, head: &TaskHead<'_>, body: Bytes) {
        match self.admit(head, body.len()) {
            Err(problem) => {
                self.refuse_task(from, ErrorCode::InvalidTask, &problem.to_string(), head.tag);
            }
            Ok(realm) => {
                let project = self.tasks.intern(head.project);
                let mut task = client::new_task(head, realm, body.len());
                // Rarely so: hashing every body would cost more than all decisions about it.
                if self.core.suspects_body_of(task.body_bytes) {
                    task.body = Some(self.bodies.hash(head.project, head.kind, head.code_len, &body));
                }
                let submitted = Submitted::new(head, realm, project, body);
                let event = Event::Submit { client: from.client, request: from.request, task };
                self.feed(event, &mut Carried::Submit(Some(submitted)));
            }
        }
    }

    fn admit(&self, head: &TaskHead<'_>, body_len: usize) -> Result<task::Realm, InvalidTask> {
        head.check(body_len)?;
        if head.durable {
            let problem =
                "is not available in this version: it keeps no journal, and would lose the task with the machine";
            return Err(InvalidTask::new("durable", problem.to_owned()));
        }
        self.config.realm_for(head.project, head.kind, head.realm)
    }

    fn cancel_submitted(&mut self, id: ClientId, request: u64) {
        self.clients.unsubscribe(id, request);
        self.probes.end_of_request(id, request);
        if let Some(task) = self.tasks.submitted_as(Waiter { client: id, request }) {
            self.feed(Event::Cancel { task, asked_by: None }, &mut Carried::Nothing);
        }
    }

    fn on_control(&mut self, id: ClientId, number: u64, request: ControlRequest<'_>) -> Result<(), String> {
        match request {
            ControlRequest::Stats => self.reply(id, number, &self.stats()),
            ControlRequest::Status => self.reply(id, number, &self.status()),
            ControlRequest::Workers { dead: false } => self.reply(id, number, &self.living_workers()),
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
                let event = Event::Cancel { task: TaskId(task), asked_by: Some((id, number)) };
                self.feed(event, &mut Carried::Nothing);
            }
            ControlRequest::SetLimit { project, limit } => self.set_limit(id, number, project, Some(limit)),
            ControlRequest::LiftLimit { project } => self.set_limit(id, number, project, None),
            ControlRequest::Events { since, follow } => self.subscribe(id, number, since, follow)?,
            ControlRequest::Drain | ControlRequest::Shutdown { now: false } => {
                self.reply_done(id, number, "draining: running and waiting tasks may finish, new ones are refused");
                if !self.stopping {
                    self.stop("client");
                }
            }
            ControlRequest::Shutdown { now: true } => {
                self.reply_done(id, number, "stopping now");
                self.stopping = true;
                self.stop("client");
            }
            ControlRequest::Reload => match self.reload() {
                Ok(()) => self.reply_done(id, number, "the new configuration is in force"),
                Err(reason) => self.refuse(id, number, RefusedCode::Conflict, &reason),
            },
            ControlRequest::Probe { lane, attack } => self.start_probe(id, number, lane, attack),
            ControlRequest::Config => self.reply_text(id, number, &self.config.effective_json()),
        }
        Ok(())
    }

    fn wait_for(&mut self, id: ClientId, request: u64, task: TaskId) {
        let waiter = Waiter { client: id, request };
        if let Some(view) = self.core.task(task) {
            self.tasks.get_mut(view.slot).add_waiter(waiter);
        } else if !self.deliver_kept(waiter, task) {
            self.refuse_unknown(id, request, task);
        }
    }

    fn set_limit(&mut self, id: ClientId, request: u64, project: &str, limit: Option<u32>) {
        if let Err(problem) = pool_protocol::id::check_project_id(project) {
            let text = InvalidTask::new("projectId", problem.to_string()).to_string();
            return self.refuse(id, request, RefusedCode::Malformed, &text);
        }
        if limit.is_some() && !self.core.may_set_limit(project) {
            let text = "too many projects have a limit that was set at run time; lift some, or put limits into the configuration";
            return self.refuse(id, request, RefusedCode::Conflict, text);
        }
        self.feed(Event::SetLimit { project, limit }, &mut Carried::Nothing);
        let now = self.core.limit_of(project);
        let message = match now {
            None => format!("project {project} has no limit"),
            Some(0) => format!("project {project} is paused"),
            Some(limit) => format!("project {project} may run {limit} tasks at once"),
        };
        let reply = pool_protocol::control::LimitReply { message, project_id: project.to_owned(), limit: now };
        self.reply(id, request, &reply);
    }

    fn subscribe(&mut self, id: ClientId, request: u64, since: Option<u64>, follow: bool) -> Result<(), String> {
        let count = self.clients.get_mut(id).map_or(0, |c| c.subscriptions.len());
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
        let body = serde_json::to_vec(&Refusal { error: error.to_owned() }).expect("strings serialise");
        if let Some(client) = self.clients.get_mut(id) {
            client.peer.send(Kind::Refused, request, &RefusedHead { code }, &Bytes::from(body));
            self.mark_client(id);
        }
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
