//! What clients say: hello, tasks, administrative requests.

use nix::sys::epoll::EpollFlags;
use pool_core::event::{Event, NewTask};
use pool_core::settings::{Lane, RetryPolicy};
use pool_protocol::codec;
use pool_protocol::control::{ControlRequest, HelloHead, Refusal, RefusedCode, RefusedHead, WelcomeHead};
use pool_protocol::frame::{Frame, FrameLimits, Kind};
use pool_protocol::id::{ClientId, TaskId};
use pool_protocol::limits::DEFAULT_MAX_ATTEMPTS;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::{self, InvalidTask, OnDisconnect, TaskHead};
use pool_protocol::version::{self, Mismatch};
use pool_protocol::worker as wire;

use super::clients::Subscription;
use super::outbox::Received;
use super::perform::Carried;
use super::reactor::Pool;
use super::tasks::{Submitted, Waiter};

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
        self.read_client(id);
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
        match frame.kind {
            Kind::Hello if !greeted => self.on_hello(id, &frame),
            Kind::Submit if greeted => self.on_submit(id, frame),
            Kind::CancelSubmitted if greeted => {
                self.cancel_submitted(id, frame.id);
                Ok(())
            }
            Kind::Control if greeted => self.on_control(id, &frame),
            kind => Err(format!(
                "a {kind:?} frame {}",
                if greeted { "is not for a supervisor" } else { "before its hello" }
            )),
        }
    }

    fn on_hello(&mut self, id: ClientId, frame: &Frame) -> Result<(), String> {
        Mismatch::check("supervisor", "client", frame.id).map_err(|e| e.to_string())?;
        let _hello: HelloHead<'_> = codec::decode("hello", &frame.head).map_err(|e| e.to_string())?;
        let body_bytes = self.config.limits.body_bytes;
        if let Some(client) = self.clients.get_mut(id) {
            client.greeted = true;
            let welcome = WelcomeHead { release: env!("CARGO_PKG_VERSION"), pid: std::process::id(), body_bytes };
            client.peer.send(Kind::Welcome, u64::from(version::CURRENT), &welcome, &bytes::Bytes::new());
            self.mark_client(id);
        }
        Ok(())
    }

    fn on_submit(&mut self, id: ClientId, frame: Frame) -> Result<(), String> {
        let head: TaskHead<'_> = codec::decode("submit", &frame.head).map_err(|e| e.to_string())?;
        let from = Waiter { client: id, request: frame.id };
        match self.admit(&head, frame.body.len()) {
            Err(problem) => {
                self.refuse_task(from, ErrorCode::InvalidTask, &problem.to_string(), head.tag);
            }
            Ok(realm) => {
                let project = self.tasks.intern(head.project);
                let mut task = new_task(&head, frame.body.len());
                // Rarely so: hashing every body would cost more than all decisions about it.
                if self.core.suspects_body_of(task.body_bytes) {
                    task.body = Some(self.bodies.hash(head.project, head.kind, head.code_len, &frame.body));
                }
                let submitted = Submitted::new(&head, realm, project, frame.body);
                let event = Event::Submit { client: id, request: frame.id, task };
                self.feed(event, &mut Carried::Submit(Some(submitted)));
            }
        }
        Ok(())
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

    fn on_control(&mut self, id: ClientId, frame: &Frame) -> Result<(), String> {
        let request: ControlRequest<'_> = codec::decode("control", &frame.head).map_err(|e| e.to_string())?;
        let number = frame.id;
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
            ControlRequest::SetLimit { project, limit } => self.set_limit(id, number, project, limit),
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
            self.tasks.get_mut(view.slot).waiters.push(waiter);
        } else if !self.deliver_kept(waiter, task) {
            self.refuse_unknown(id, request, task);
        }
    }

    fn set_limit(&mut self, id: ClientId, request: u64, project: &str, limit: u32) {
        if let Err(problem) = pool_protocol::id::check_project_id(project) {
            let text = InvalidTask::new("projectId", problem.to_string()).to_string();
            return self.refuse(id, request, RefusedCode::Malformed, &text);
        }
        self.feed(Event::SetLimit { project, limit }, &mut Carried::Nothing);
        let message = if limit == 0 {
            format!("project {project} is paused")
        } else {
            format!("project {project} may run {limit} tasks at once")
        };
        self.reply(id, request, &pool_protocol::control::LimitReply { message, project_id: project.to_owned(), limit });
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
            client.peer.send(Kind::Refused, request, &RefusedHead { code }, &bytes::Bytes::from(body));
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

fn new_task<'a>(head: &TaskHead<'a>, body_len: usize) -> NewTask<'a> {
    let retry = head.retry.unwrap_or_default();
    NewTask {
        lane: match head.kind.lane() {
            wire::Lane::Js => Lane::Js,
            wire::Lane::Io => Lane::Io,
        },
        project: head.project,
        priority: head.priority,
        timeout_ms: head.timeout_ms,
        max_attempts: head.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS),
        retry: RetryPolicy {
            initial_delay_ms: retry.initial_delay,
            factor: retry.factor,
            max_delay_ms: retry.max_delay,
            jitter: retry.jitter,
        },
        delay_ms: head.delay_ms,
        deadline_ms: head.deadline_ms,
        idempotency_key: head.idempotency_key,
        cpu_ms: head.cpu_ms,
        memory_bytes: head.memory_bytes,
        body_bytes: u32::try_from(body_len).expect("a frame's length is 32 bits"),
        cancel_with_client: head.on_disconnect == OnDisconnect::Cancel,
        body: None,
    }
}
