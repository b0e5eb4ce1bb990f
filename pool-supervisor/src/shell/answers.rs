//! What became of a submission, of a worker's report, of a cancel: the bytes that came with it go
//! where the core's answer says.

use bytes::Bytes;
use pool_core::action::Ended;
use pool_core::answer::{Reported, Submission};
use pool_core::event::{NewTask, Report};
use pool_core::place::TaskPlace;
use pool_protocol::control::{AcceptedHead, OutcomeHead};
use pool_protocol::frame::Kind;
use pool_protocol::id::TaskId;
use pool_protocol::outcome::{ErrorCode, Receipt};
use pool_protocol::render::{error_body, error_but};

use super::buffers::Body;
use super::outcomes::Outcome;
use super::reactor::Pool;
use super::tasks::{Submitted, Waiter};
use super::waits::TagOf;

impl Pool {
    /// Gives the core a task at the door.
    pub(super) fn submit(&mut self, from: Waiter, task: &NewTask<'_>, submitted: Submitted) {
        let mut actions = self.take_actions();
        let now = self.clock.moment_of_event();
        let answer = self.core.submit(now, from.client, task, &mut actions);
        // INVARIANT: before the actions, which speak of the task in its place.
        match answer {
            Submission::Accepted { task, slot } => self.accept(from, task, slot, submitted),
            Submission::Known { task, slot } => self.accept_known(from, task, slot, submitted),
            Submission::KnownEnded { task } => self.accept_ended(from, task, submitted),
            Submission::Refused { code, message } => {
                let wanted = submitted.ack || submitted.want_outcome;
                self.refuse_task(from, wanted, code, &message, submitted.tag.as_deref());
            }
        }
        self.perform_all(actions);
    }

    /// Gives the core a worker's report; `body` is its result or error, then its console lines.
    pub(super) fn report(&mut self, report: &Report, body: &Bytes, result_len: u32) {
        let mut actions = self.take_actions();
        let reported = self.core.report(self.clock.moment_of_event(), report, &mut actions);
        self.perform_each(actions);
        match reported {
            Reported::Ended { task, slot, ended, message: None } => {
                let body = self.outcomes.body(body);
                self.end(task, slot, ended, body, result_len);
            }
            Reported::Ended { task, slot, ended, message: Some(message) } => {
                let (error, logs) = body.split_at(body.len().min(result_len as usize));
                let mut body = error_but(error, &message);
                let len = u32::try_from(body.len()).expect("an error is short");
                body.extend_from_slice(logs);
                self.end(task, slot, ended, Body::Small(body), len);
            }
            Reported::Dropped => {}
        }
        self.follow_up();
    }

    /// Has a task ended that somebody does not want any more, and answers who asked for it.
    pub(super) fn cancel(&mut self, task: TaskId, asked_by: Option<Waiter>) {
        let mut actions = self.take_actions();
        let found = self.core.cancel(self.clock.moment_of_event(), task, &mut actions);
        if let Some(Waiter { client, request }) = asked_by {
            if found {
                self.reply_done(client, request, &format!("task {task} is being cancelled"));
            } else if self.outcomes.get(task).is_some() {
                self.reply_done(client, request, &format!("task {task} had ended already"));
            } else {
                self.refuse_unknown(client, request, task);
            }
        }
        self.perform_all(actions);
    }

    fn accept(&mut self, from: Waiter, task: TaskId, slot: TaskPlace, submitted: Submitted) {
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

    fn accept_known(&mut self, from: Waiter, task: TaskId, slot: TaskPlace, again: Submitted) {
        self.tasks.get_mut(slot).keep |= again.keep;
        if again.ack {
            self.acknowledge(from, task);
        }
        if again.want_outcome {
            self.add_wait(from, slot, task, TagOf::Submission(again.tag));
        }
    }

    fn accept_ended(&mut self, from: Waiter, task: TaskId, again: Submitted) {
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

    /// A task has ended: its place is free, and whoever wants its outcome gets it.
    pub(super) fn end(
        &mut self,
        task: TaskId,
        slot: TaskPlace,
        ended: Ended,
        body: Body,
        result_len: u32,
    ) {
        if let Some(code) = ended.code {
            self.error_counts[code as usize] += 1;
        }
        let mut held = self.tasks.take(slot);
        self.buffers.recycle(std::mem::take(&mut held.body));
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
}
