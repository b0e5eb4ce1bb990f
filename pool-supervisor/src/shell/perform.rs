//! Action → calls, exhaustively. No decision is made here.

use std::sync::Arc;

use bytes::Bytes;
use pool_core::action::{Action, EndText, Ended, PoolEvent};
use pool_core::event::Event;
use pool_core::place::TaskPlace;
use pool_core::settings::Lane;
use pool_protocol::control::{AcceptedHead, DeadWorkerRow, OutcomeHead};
use pool_protocol::frame::Kind;
use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::outcome::{ErrorCode, Receipt, Verdict};
use pool_protocol::render::{error_body, error_but, verdict_reply};
use pool_protocol::task::TaskKind;
use pool_protocol::worker as wire;
use pool_protocol::worker::{CancelHead, RunHead, TaskList};

use super::buffers::Body;
use super::clock::{Clock, rfc3339};
use super::events::What;
use super::outcomes::Outcome;
use super::reactor::Pool;
use super::tasks::{Submitted, Waiter};
use super::waits::TagOf;

/// Bytes of bodies that are compared with those set aside in one turn: about a millisecond.
const CHECKED_BYTES: usize = 1 << 20;
/// What one comparison counts for besides its bytes: the core's part of it.
const CHECK_BYTES: usize = 4 << 10;

/// Bytes that came with the event being handled, for the actions that follow from it.
pub(super) enum Carried {
    Nothing,
    /// A task at the door; taken by the action that accepts it.
    Submit(Option<Submitted>),
    /// A worker's result.
    Done {
        body: Bytes,
        result_len: u32,
    },
}

impl Pool {
    pub(super) fn perform(&mut self, action: Action, carried: &mut Carried) {
        match action {
            Action::Accept { client, request, task, slot } => {
                self.accept(Waiter { client, request }, task, slot, carried)
            }
            Action::AcceptKnown { client, request, task, slot } => {
                self.accept_known(Waiter { client, request }, task, slot, carried);
            }
            Action::AcceptEnded { client, request, task } => {
                self.accept_ended(Waiter { client, request }, task, carried)
            }
            Action::Refuse { client, request, code, message } => {
                let Carried::Submit(Some(task)) = carried else {
                    unreachable!("only a submission is refused")
                };
                let tag = task.tag.take();
                let wanted = task.ack || task.want_outcome;
                self.refuse_task(
                    Waiter { client, request },
                    wanted,
                    code,
                    &message,
                    tag.as_deref(),
                );
            }
            Action::Assign { worker, task, slot, attempt, timeout_ms, cpu_ms, memory_bytes } => {
                let limits = Limits { attempt, timeout_ms, cpu_ms, memory_bytes };
                self.assign(worker, task, slot, limits);
            }
            Action::TakeBack { worker, tasks } => {
                let tasks = tasks.into_iter().map(|(task, attempt)| (task.0, attempt)).collect();
                self.tell(worker, Kind::TakeBack, 0, &TaskList { tasks });
            }
            Action::Interrupt { worker, task, attempt, code } => {
                self.tell(worker, Kind::Cancel, task.0, &CancelHead { attempt, code });
            }
            Action::End { task, slot, ended } => self.end(task, slot, ended, carried),
            Action::Suspect { slot, verdict, certain } => self.hash_body(slot, verdict, certain),
            Action::CheckBody { task, slot } => self.to_check.push_back((task, slot)),
            Action::CancelAnswer { client, request, task, found } => {
                self.answer_cancel(client, request, task, found)
            }
            Action::Spawn { worker, lane } => self.spawn(worker, lane),
            Action::Retire { worker } => {
                self.is_given_no_more_tasks(worker);
                self.tell(worker, Kind::Retire, 0, &());
            }
            Action::Kill { worker } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.kill();
                }
            }
            Action::Emit(event) => self.emit(event),
            Action::Exit => self.exiting = true,
        }
    }

    fn accept(&mut self, from: Waiter, task: TaskId, slot: TaskPlace, carried: &mut Carried) {
        let Carried::Submit(submitted) = carried else {
            unreachable!("only a submission is accepted")
        };
        let submitted = submitted.take().expect("a submission is accepted once");
        let ack = submitted.ack;
        if submitted.want_outcome
            && let Some(client) = self.clients.get_mut(from.client)
        {
            client.awaited += 1;
        }
        self.tasks.put(slot, submitted.hold(task, from, &mut self.buffers));
        if ack {
            self.acknowledge(from, task);
        }
    }

    fn accept_known(&mut self, from: Waiter, task: TaskId, slot: TaskPlace, carried: &mut Carried) {
        let Carried::Submit(submitted) = carried else {
            unreachable!("only a submission is accepted")
        };
        let again = submitted.take().expect("a submission is accepted once");
        self.tasks.get_mut(slot).keep |= again.keep;
        if again.ack {
            self.acknowledge(from, task);
        }
        if again.want_outcome {
            self.add_wait(from, slot, task, TagOf::Submission(again.tag));
        }
    }

    fn accept_ended(&mut self, from: Waiter, task: TaskId, carried: &mut Carried) {
        let Carried::Submit(submitted) = carried else {
            unreachable!("only a submission is accepted")
        };
        let again = submitted.take().expect("a submission is accepted once");
        if again.ack {
            self.acknowledge(from, task);
        }
        if again.want_outcome {
            self.deliver_kept(from, task, TagOf::Submission(again.tag));
        }
    }

    fn acknowledge(&mut self, to: Waiter, task: TaskId) {
        let head = AcceptedHead { task: task.0 };
        self.post(to.client, |peer| peer.send(Kind::Accepted, to.request, &head, &Bytes::new()));
    }

    /// An outcome of the supervisor's own, for a task that never became one. Whoever wants neither
    /// the acceptance nor the outcome is told nothing: it may read nothing either.
    pub(super) fn refuse_task(
        &mut self,
        to: Waiter,
        wanted: bool,
        code: ErrorCode,
        message: &str,
        tag: Option<&str>,
    ) {
        self.error_counts[code as usize] += 1;
        if !wanted {
            return;
        }
        let body = Bytes::from(error_body(message, None));
        let head = OutcomeHead {
            task: 0,
            status: code.status(),
            code: Some(code),
            attempts: 0,
            worker: None,
            receipt: Receipt::default(),
            missing_layers: pool_protocol::layer::LayerSet::NONE,
            tag,
            result_len: u32::try_from(body.len()).expect("a sentence is short"),
        };
        self.post(to.client, |peer| peer.send(Kind::Outcome, to.request, &head, &body));
    }

    fn assign(&mut self, id: WorkerId, task: TaskId, slot: TaskPlace, limits: Limits) {
        let held = self.tasks.get(slot);
        debug_assert_eq!(held.id, task, "the core and the shell agree on places");
        let head = RunHead {
            attempt: limits.attempt,
            kind: held.kind,
            project: &held.project,
            realm: held.realm,
            timeout_ms: limits.timeout_ms,
            cpu_ms: limits.cpu_ms,
            memory_bytes: limits.memory_bytes,
            logs: held.logs,
            stream_logs: self.clients.has_subscribers(),
            code_len: held.code_len,
        };
        if let Some(worker) = self.workers.get_mut(id) {
            worker.seen.runs_program = held.kind == TaskKind::Shell;
            worker.peer.send_kept(Kind::Run, task.0, &head, &held.body);
        }
        self.mark_worker(id);
    }

    fn tell<T: bincode::Encode>(&mut self, id: WorkerId, kind: Kind, frame_id: u64, head: &T) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.peer.send(kind, frame_id, head, &Bytes::new());
            self.mark_worker(id);
        }
    }

    pub(super) fn is_given_no_more_tasks(&mut self, id: WorkerId) {
        if let Some(told) =
            self.workers.get_mut(id).and_then(|worker| worker.told_body_bytes.take())
        {
            self.body_limit.leaves(told);
        }
    }

    fn end(&mut self, task: TaskId, slot: TaskPlace, ended: Ended, carried: &mut Carried) {
        if let Some(code) = ended.code {
            self.error_counts[code as usize] += 1;
        }
        let mut held = self.tasks.take(slot);
        self.buffers.recycle(std::mem::take(&mut held.body));
        let (body, result_len) = match (ended.text, &*carried) {
            (EndText::Worker, Carried::Done { body, result_len }) => {
                (self.outcomes.body(body), *result_len)
            }
            (EndText::WorkerBut { message }, Carried::Done { body, result_len }) => {
                let (error, logs) = body.split_at(body.len().min(*result_len as usize));
                let mut body = error_but(error, &message);
                let len = u32::try_from(body.len()).expect("an error is short");
                body.extend_from_slice(logs);
                (Body::Small(body), len)
            }
            (
                EndText::Worker | EndText::WorkerBut { .. },
                Carried::Nothing | Carried::Submit(_),
            ) => {
                unreachable!("a worker's text ends a task while its result is handled")
            }
            (EndText::Core { message, verdict }, _) => {
                let body = error_body(&message, verdict.as_ref());
                let len = u32::try_from(body.len()).expect("a sentence is short");
                (Body::Small(body), len)
            }
        };
        let outcome = Outcome {
            task,
            status: ended.code.map_or(pool_protocol::outcome::Status::Succeeded, ErrorCode::status),
            code: ended.code,
            attempts: ended.attempts,
            worker: ended.worker,
            receipt: ended.receipt,
            missing_layers: self.workers.lacking(ended.worker, held.kind.lane()),
            tag: held.tag.take(),
            result_len,
            body,
        };
        self.hand_out(held, outcome);
    }

    fn hash_body(&mut self, slot: TaskPlace, verdict: Verdict, certain: bool) {
        let held = self.tasks.get(slot);
        tracing::warn!(
            task = held.id.0,
            certain,
            "a worker ended under a task, perhaps by its doing"
        );
        let body = self.bodies.hash(&held.project, held.kind, held.code_len, held.body.bytes());
        let body_bytes = u32::try_from(held.body.len()).expect("a frame's length is 32 bits");
        self.follow_ups.push_back(Event::BodyHashed { body, body_bytes, verdict, certain });
    }

    /// Says what the bodies of tasks are whose turn has come, as many as a turn has time for.
    pub(super) fn check_bodies(&mut self) {
        let mut left = CHECKED_BYTES;
        while let Some((task, slot)) = self.to_check.pop_front() {
            // It may have ended meanwhile, and another may be in its place.
            let Some(held) = self.tasks.find(slot).filter(|held| held.id == task) else { continue };
            let body = self.bodies.hash(&held.project, held.kind, held.code_len, held.body.bytes());
            left = left.saturating_sub(held.body.len() + CHECK_BYTES);
            self.feed(Event::BodyChecked { task, body }, &mut Carried::Nothing);
            if left == 0 {
                return;
            }
        }
    }

    fn spawn(&mut self, id: WorkerId, lane: Lane) {
        let event = match self.try_spawn(id, lane) {
            Ok(()) => Event::WorkerSpawned { worker: id },
            Err(reason) => {
                tracing::warn!(worker = %id, "{reason}");
                self.exiting |= self.confinement.fatal().is_some();
                Event::SpawnFailed { worker: id, reason }
            }
        };
        self.follow_ups.push_back(event);
    }

    fn emit(&mut self, event: PoolEvent) {
        let project = match &event {
            PoolEvent::TaskQueued { slot, .. }
            | PoolEvent::TaskStarted { slot, .. }
            | PoolEvent::TaskComplete { slot, .. }
            | PoolEvent::TaskError { slot, .. }
            | PoolEvent::TaskRetry { slot, .. } => Some(Arc::clone(&self.tasks.get(*slot).project)),
            PoolEvent::WorkerTerminated { worker, verdict, lived_us, tasks, lane } => {
                self.bury(*worker, *lane, verdict, *lived_us, *tasks);
                None
            }
            PoolEvent::Degraded { reason } => {
                tracing::warn!("the pool is degraded: {reason}");
                None
            }
            PoolEvent::Recovered => {
                tracing::info!("the pool has recovered");
                None
            }
            PoolEvent::WorkerStarted { .. }
            | PoolEvent::WorkerError { .. }
            | PoolEvent::ScaledUp { .. }
            | PoolEvent::ScaledDown { .. }
            | PoolEvent::QueueFull
            | PoolEvent::Reloaded => None,
        };
        self.events.push(self.clock.wall_moment_us(), project, What::Pool(event));
    }

    fn bury(&mut self, id: WorkerId, lane: Lane, verdict: &Verdict, lived_us: u64, tasks: u64) {
        let pid = self.workers.get(id).map_or(0, |w| w.pid.as_raw_nonzero().get().unsigned_abs());
        tracing::info!(worker = %id, pid, cause = %verdict.cause, "worker ended: \
            {}", verdict.evidence);
        self.workers.count_end(verdict.cause);
        self.workers.bury(DeadWorkerRow {
            worker_id: id.to_string(),
            pid,
            lane: lane_name(lane).to_owned(),
            time: rfc3339(Clock::wall_us()),
            tasks,
            age: lived_us as f64 / 1e6,
            verdict: verdict_reply(verdict),
        });
    }

    fn answer_cancel(&mut self, client: ClientId, request: u64, task: TaskId, found: bool) {
        if found {
            self.reply_done(client, request, &format!("task {task} is being cancelled"));
        } else if self.outcomes.get(task).is_some() {
            self.reply_done(client, request, &format!("task {task} had ended already"));
        } else {
            self.refuse_unknown(client, request, task);
        }
    }
}

/// What an attempt may use.
struct Limits {
    attempt: u32,
    timeout_ms: u64,
    cpu_ms: u64,
    memory_bytes: u64,
}

pub(super) fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Js => wire::Lane::Js.name(),
        Lane::Io => wire::Lane::Io.name(),
    }
}
