//! The door: which tasks come in.
//!
//! Decides whether a new task is accepted, refused, or the same as one that is known. Its fields
//! were checked before; here it is about the pool's state: bounds, drain, deadline, keys. Nothing
//! is kept of a refused task.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pool_protocol::id::{ClientId, TaskId};
use pool_protocol::limits::MAX_PRIORITY;
use pool_protocol::outcome::ErrorCode;

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::answer::Submission;
use crate::event::NewTask;
use crate::place::{ProjectPlace, TaskPlace};
use crate::task::{Task, TaskState, Wishes};
use crate::time::Time;
use crate::timers::TimerKey;

impl Core {
    pub(crate) fn on_submit(
        &mut self,
        client: ClientId,
        new: &NewTask<'_>,
        out: &mut Vec<Action>,
    ) -> Submission {
        let project = self.line.find_again(new.project);
        if let Some(key) = new.idempotency_key
            && let Some(task) = project.and_then(|project| self.keys.find(project, key))
        {
            return self.accept_known(client, task, new.cancel_with_client);
        }
        match self.refusal(new, project) {
            Some((code, message)) => {
                if code == ErrorCode::QueueFull && !self.told_queue_full {
                    self.told_queue_full = true;
                    out.push(Action::Emit(PoolEvent::QueueFull));
                }
                Submission::Refused { code, message }
            }
            None => self.accept(client, new, project, out),
        }
    }

    /// The task is known by its key: this client gets its outcome too.
    fn accept_known(
        &mut self,
        client: ClientId,
        task: TaskId,
        cancel_with_client: bool,
    ) -> Submission {
        let Some(slot) = self.tasks.find(task) else { return Submission::KnownEnded { task } };
        // Somebody else wants it as well, or somebody wants it in any case: it does not end with
        // its first client.
        let same_owner = self.owners.owns(&self.tasks, slot, client);
        if !(cancel_with_client && same_owner) {
            self.owners.remove(&mut self.tasks, slot);
        }
        Submission::Known { task, slot }
    }

    /// Why the task cannot come in, if so.
    fn refusal(
        &self,
        new: &NewTask<'_>,
        project: Option<ProjectPlace>,
    ) -> Option<(ErrorCode, String)> {
        if !self.takes_tasks() {
            return Some((
                ErrorCode::ShuttingDown,
                "the pool is stopping and takes no new tasks".into(),
            ));
        }
        if let Some(deadline) = new.deadline_ms {
            if deadline == 0 {
                return Some((ErrorCode::DeadlineUnreachable, "the deadline is past".into()));
            }
            if new.delay_ms >= deadline {
                let message = format!(
                    "the delay of {} ms ends after the deadline, {deadline} ms from now",
                    new.delay_ms
                );
                return Some((ErrorCode::DeadlineUnreachable, message));
            }
        }
        self.no_room_in_the_queue(new).or_else(|| self.no_room_of_the_project(new, project))
    }

    fn no_room_in_the_queue(&self, new: &NewTask<'_>) -> Option<(ErrorCode, String)> {
        let queue_size = self.settings.queue_size;
        if self.line.waiting() >= queue_size {
            return Some((
                ErrorCode::QueueFull,
                format!("{queue_size} tasks are waiting, which is the queue's bound"),
            ));
        }
        let most_bytes = self.settings.queue_bytes;
        if u64::from(new.body_bytes) > most_bytes {
            // There will never be room: whoever waits for it would wait for ever.
            let message = format!(
                "the task has a body of {} bytes; all bodies together may have {most_bytes}",
                new.body_bytes
            );
            return Some((ErrorCode::InvalidTask, message));
        }
        let bytes = self.line.held_bytes() + u64::from(new.body_bytes);
        if bytes > most_bytes {
            let message = format!(
                "with this one the tasks that have not ended would hold {bytes} bytes, more than \
                 the queue's bound of {most_bytes}"
            );
            return Some((ErrorCode::QueueFull, message));
        }
        None
    }

    /// One project cannot fill the queue for all: without a bound of its own it gets half of the
    /// places, and in any case half of the bytes.
    fn no_room_of_the_project(
        &self,
        new: &NewTask<'_>,
        project: Option<ProjectPlace>,
    ) -> Option<(ErrorCode, String)> {
        let (waiting, held_bytes, own_most) = match project.map(|project| &self.line[project]) {
            Some(project) => (project.waiting, project.held_bytes, project.max_queued),
            None => (
                0,
                0,
                self.settings.projects.get(new.project).and_then(|settings| settings.max_queued),
            ),
        };
        let most = own_most.unwrap_or_else(|| self.settings.queue_size.div_ceil(2));
        if waiting >= most {
            let whose =
                if own_most.is_some() { "its bound" } else { "its share of the queue, one half" };
            let message =
                format!("{waiting} tasks of project {} are waiting, which is {whose}", new.project);
            return Some((ErrorCode::ProjectQuota, message));
        }
        let (bytes, most_bytes) =
            (held_bytes + u64::from(new.body_bytes), self.settings.queue_bytes / 2);
        // A single task is refused by the whole queue only.
        if held_bytes > 0 && bytes > most_bytes {
            let message = format!(
                "with this one the tasks of project {} that have not ended would hold {bytes} \
                 bytes, more than its share \
                 of the queue, {most_bytes}",
                new.project
            );
            return Some((ErrorCode::ProjectQuota, message));
        }
        None
    }

    fn accept(
        &mut self,
        client: ClientId,
        new: &NewTask<'_>,
        project: Option<ProjectPlace>,
        out: &mut Vec<Action>,
    ) -> Submission {
        let id = self.tasks.next_id();
        let project = project
            .unwrap_or_else(|| self.line.make(new.project, &self.settings, &mut self.roster));
        let slot = self.insert(id, new, project);
        if let Some(key) = new.idempotency_key {
            self.keys.insert(project, key, id);
            self.line.count_key(project);
        }
        if new.cancel_with_client {
            self.owners.add(&mut self.tasks, slot, client);
        }
        self.told_queue_full = false;
        self.line.count_accepted(project, new.body_bytes);
        self.tally.accepted += 1;
        out.push(Action::Emit(PoolEvent::TaskQueued { task: id, slot }));

        if let Some(text) = new.body.and_then(|body| self.why_set_aside(body)) {
            self.tasks[slot].state = TaskState::LetGo;
            self.end(slot, Some(ErrorCode::WorkerCrashed), None, text, out);
            return Submission::Accepted { task: id, slot };
        }
        self.line.count_waiting(project);
        let deadline = self.tasks[slot].deadline();
        if deadline != Time::NEVER {
            self.timers.arm(TimerKey::Deadline(slot), deadline);
        }
        if new.delay_ms > 0 {
            self.timers.arm(TimerKey::Wake(slot), self.timers.now().plus_ms(new.delay_ms));
        } else {
            self.line.enqueue(&mut self.tasks, &mut self.timers, slot);
            self.offer_top_up(slot);
        }
        Submission::Accepted { task: id, slot }
    }

    fn insert(&mut self, id: TaskId, new: &NewTask<'_>, project: ProjectPlace) -> TaskPlace {
        let limit = |asked: Option<u64>, most: u64| asked.map_or(most, |asked| asked.min(most));
        let deadline = new.deadline_ms.map_or(Time::NEVER, |ms| self.timers.now().plus_ms(ms));
        self.tasks.insert(Task {
            id,
            project,
            lane: new.lane,
            priority: new.priority.min(MAX_PRIORITY),
            level: 0,
            crashes: 0,
            solo: false,
            checked: false,
            made_ahead: new.made_ahead,
            stop: None,
            max_attempts: new.max_attempts.max(1),
            body_bytes: new.body_bytes,
            attempts: 0,
            charged_us: 0,
            state: TaskState::Delayed,
            ran_on: None,
            owner: None,
            timeout_ms: new.timeout_ms.unwrap_or(self.settings.timeout_ms),
            cpu_ms: limit(new.cpu_ms, self.settings.cpu_ms),
            memory_bytes: limit(new.memory_bytes, self.settings.memory_bytes),
            accepted: self.timers.now(),
            enqueued: self.timers.now(),
            started: self.timers.now(),
            wishes: Wishes { deadline, retry: new.retry }.kept(),
        })
    }

    /// The shell has dropped the outcome of an ended task.
    pub(crate) fn on_forget(&mut self, task: TaskId) {
        // The key of a task that has not ended stands: whoever forgets it early is wrong, and
        // nothing else is affected.
        if self.tasks.find(task).is_some() {
            return;
        }
        if let Some(project) = self.keys.remove(task) {
            self.line.uncount_key(project);
        }
    }
}
