//! What a worker holds, and says of itself.

use alloc::vec::Vec;

use pool_protocol::id::TaskId;

use super::{Held, Roster, Served};
use crate::place::{ProjectPlace, TaskPlace, WorkerPlace};
use crate::task::{Task, Tasks};
use crate::time::Time;

impl Roster {
    /// Puts a task of a project behind those that the worker holds.
    pub(crate) fn hold(
        &mut self,
        w: WorkerPlace,
        task: TaskPlace,
        project: ProjectPlace,
        cost_us: u32,
        now: Time,
    ) {
        if self[w].served != Served::One(project) {
            self.bind(w, project, now);
        }
        let worker = self.places[w.index()].worker.as_deref_mut().expect("a living worker");
        worker.held.push_back(Held { task, cost_us, asked_back: false });
        worker.load_us += u64::from(cost_us);
        match worker.shares.iter_mut().find(|(of, _)| *of == project) {
            Some((_, count)) => *count += 1,
            None => {
                worker.shares.push((project, 1));
                self.tenants.add_holder(project, w);
            }
        }
        self.note_room(w);
    }

    /// The worker lets go of the task at this position, which ran or did not. Returns whether it
    /// was the worker's last one of this project.
    pub(crate) fn let_go(
        &mut self,
        w: WorkerPlace,
        position: usize,
        project: ProjectPlace,
        ran: bool,
        now: Time,
    ) -> bool {
        let worker = self.places[w.index()].worker.as_deref_mut().expect("a living worker");
        let held = worker.held.remove(position).expect("the position was looked up");
        worker.load_us -= u64::from(held.cost_us);
        let share = worker.shares.iter().position(|(of, _)| *of == project);
        let share = share.expect("counted when it was handed over");
        worker.shares[share].1 -= 1;
        let was_last = worker.shares[share].1 == 0;
        if was_last {
            worker.shares.swap_remove(share);
            self.tenants.remove_holder(project, w);
        }
        if ran {
            worker.kill_at = Time::NEVER;
            worker.stalled = false;
        }
        if worker.held.is_empty() {
            worker.idle_since = now;
            // One too many goes as soon as it is idle.
            self.changed |= worker.is_ready() && self.lanes[worker.lane].shedding > 0;
        }
        self.note_room(w);
        was_last
    }

    /// The first task takes longer than expected: nothing is put behind it.
    pub(crate) fn stall(&mut self, w: WorkerPlace) {
        self.at(w).stalled = true;
        self.note_room(w);
    }

    /// The worker is killed if its first task has not ended by then.
    pub(crate) fn set_kill_at(&mut self, w: WorkerPlace, kill_at: Time) {
        self.at(w).kill_at = kill_at;
    }

    /// Marks those of its unstarted tasks that are meant and were not asked for before, and
    /// returns them with their attempts.
    pub(crate) fn ask_back(
        &mut self,
        w: WorkerPlace,
        tasks: &Tasks,
        meant: impl Fn(&Task) -> bool,
    ) -> Vec<(TaskId, u32)> {
        let mut asked = Vec::new();
        for held in self.at(w).held.iter_mut().skip(1) {
            let task = &tasks[held.task];
            if !held.asked_back && meant(task) {
                held.asked_back = true;
                asked.push((task.id, task.attempts + 1));
            }
        }
        asked
    }

    /// The worker has ended a task that kept it busy for so long.
    pub(crate) fn count_ended(&mut self, w: WorkerPlace, busy_us: u64) {
        let worker = self.at(w);
        worker.tasks_ended += 1;
        worker.used_us = worker.used_us.saturating_add(busy_us);
        worker.given_back = 0;
    }

    /// The worker gives back a task that it was not asked for.
    pub(crate) fn count_given_back(&mut self, w: WorkerPlace) {
        self.at(w).given_back += 1;
    }

    pub(crate) fn set_tasks_limit(&mut self, w: WorkerPlace, limit: u64) {
        self.at(w).tasks_limit = limit;
    }

    /// A heartbeat has come. False when there have been too many.
    pub(crate) fn heard(&mut self, w: WorkerPlace, now: Time, rss_bytes: u64, cpu_us: u64) -> bool {
        let worker = self.at(w);
        worker.rss_bytes = rss_bytes;
        worker.cpu_us = cpu_us;
        worker.count_beat(now)
    }
}
