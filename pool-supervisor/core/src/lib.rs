//! The decisions of the pool: which task runs where and when, which workers live, how a task ends.
//!
//! A pure state machine: [`Core::handle`] takes the time and one event and appends the actions that
//! follow from it; [`Core::next_deadline`] says when it wants to be woken. It owns every fact about
//! tasks, projects and workers. It must not see a frame, a body, a descriptor or a clock: `no_std`
//! makes the compiler keep them out, and lets a run be replayed from its seed.
//!
//! Reading order: a task comes in (`admission`), is given a worker (`assign`, `crowd`, `tenancy`),
//! runs (`running`), is reported (`report`), is tried again (`retry`) or ends (`end`), perhaps
//! because somebody asked (`cancel`). Workers are started (`start`), are as many as the load wants
//! (`scale`), give signs of life (`health`), are replaced (`recycle`), and die (`crash`), which may
//! be a task's doing (`suspect`). `drain` ends it all. These files tell the story: each is a part
//! of `impl Core`. Whatever happened, [`Core::handle`] closes with `settle`: tasks to workers,
//! workers to the wanted number.
//!
//! What they decide on lives in rooms, which own their state and keep it right: `task` (all
//! tasks), `line` (projects, what waits, whose turn it is), `roster` (workers and what they hold),
//! `timers`, `quarantine`, `restart`, `keys`. A room knows nothing of `Core`.
#![no_std]

extern crate alloc;

pub mod action;
pub mod answer;
pub mod event;
pub mod place;
pub mod seeds;
pub mod settings;
pub mod time;

mod admission;
mod assign;
mod cancel;
mod crash;
mod crowd;
mod drain;
mod end;
mod health;
mod ids;
mod invariants;
mod keys;
mod line;
mod list;
mod per_lane;
mod prng;
mod quarantine;
mod recycle;
mod report;
mod restart;
mod retry;
mod roster;
mod running;
mod scale;
mod start;
pub mod stats;
mod suspect;
mod task;
mod tenancy;
mod timers;

use alloc::vec::Vec;

use pool_protocol::id::{ClientId, TaskId};
use pool_protocol::lane::Lane;
use pool_protocol::limits::MAX_CREDIT;

use crate::action::{Action, PoolEvent};
use crate::answer::{Reported, Submission};
use crate::drain::Phase;
use crate::event::{Event, NewTask, Report};
use crate::keys::Keys;
use crate::line::Line;
use crate::per_lane::PerLane;
use crate::place::{ProjectPlace, WorkerPlace};
use crate::prng::Prng;
use crate::quarantine::Quarantine;
use crate::restart::Restart;
use crate::roster::Roster;
use crate::scale::Pace;
use crate::seeds::{KeyedHash, Seeds};
use crate::settings::Settings;
use crate::stats::Tally;
use crate::task::{Owners, Tasks};
use crate::time::Time;
use crate::timers::{TimerKey, Timers};

/// The pool's state and all its decisions.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    phase: Phase,
    tasks: Tasks,
    owners: Owners,
    keys: Keys,
    quarantine: Quarantine,
    line: Line,
    roster: Roster,
    /// The worker where this event may have made room for a project at its limit.
    topped_up: Option<WorkerPlace>,
    pace: PerLane<Pace>,
    restart: Restart,
    timers: Timers,
    prng: Prng,
    /// A refusal for a full queue has been told, and none was accepted since.
    told_queue_full: bool,
    tally: Tally,
}

impl Core {
    /// A pool without workers yet: the first event, for which [`Event::Tick`] will do, orders the
    /// first of `min_workers`, and further ticks the others. Task ids count up from `first_task`.
    #[must_use]
    pub fn new(now: Time, settings: Settings, first_task: TaskId, seeds: Seeds) -> Self {
        let hash = KeyedHash::new(seeds);
        let mut core = Self {
            phase: Phase::Open,
            tasks: Tasks::new(first_task),
            owners: Owners::default(),
            keys: Keys::new(hash),
            quarantine: Quarantine::new(hash),
            line: Line::new(hash, &settings),
            roster: Roster::default(),
            topped_up: None,
            pace: PerLane::default(),
            restart: Restart::default(),
            timers: Timers::new(now),
            prng: Prng::new(seeds.jitter),
            told_queue_full: false,
            tally: Tally::default(),
            settings,
        };
        core.pace[Lane::Js].want = core.settings.min_workers;
        core.roster.look_again();
        core.timers.arm(TimerKey::Respawn, now);
        core
    }

    /// Makes room for a full queue and full workers at once: of addresses, while memory comes with
    /// the tasks. The table would move as it grows, and everything would wait for it. Returns for
    /// how many tasks.
    pub fn reserve_places(&mut self) -> usize {
        let held = (self.settings.max_workers as usize).saturating_mul(MAX_CREDIT);
        let most = (self.settings.queue_size as usize).saturating_add(held);
        self.tasks.reserve(most);
        most
    }

    /// Takes in what happened and appends what is to be done about it, in the order in which it is
    /// to be done.
    ///
    /// The event is a fact and comes first: a report that was in time is not overruled by a
    /// deadline that came while it lay unread, and no action names a worker that the event says is
    /// gone. Then comes what was due by `now`, then what is decided on both. A time before that of
    /// an earlier event counts as that one's.
    pub fn handle(&mut self, now: Time, event: Event<'_>, actions: &mut Vec<Action>) {
        self.timers.advance(now);
        self.on_event(event, actions);
        self.follow_up(actions);
    }

    /// As [`Self::handle`]: a client submits a task. The task's bytes belong into the place that
    /// is answered before any action is performed.
    pub fn submit(
        &mut self,
        now: Time,
        client: ClientId,
        task: &NewTask<'_>,
        actions: &mut Vec<Action>,
    ) -> Submission {
        self.timers.advance(now);
        let submission = self.on_submit(client, task, actions);
        self.follow_up(actions);
        submission
    }

    /// As [`Self::handle`]: a worker says that an attempt ended. What is answered follows after
    /// the actions.
    pub fn report(&mut self, now: Time, report: &Report, actions: &mut Vec<Action>) -> Reported {
        self.timers.advance(now);
        let reported = self.on_report(report, actions);
        self.follow_up(actions);
        reported
    }

    /// As [`Self::handle`]: somebody wants a task ended. False when it is not there to be.
    pub fn cancel(&mut self, now: Time, task: TaskId, actions: &mut Vec<Action>) -> bool {
        self.timers.advance(now);
        let found = self.on_cancel(task, actions);
        self.follow_up(actions);
        found
    }

    /// What was due by now, then what is decided on all of it.
    fn follow_up(&mut self, actions: &mut Vec<Action>) {
        while let Some((at, key)) = self.timers.pop_due() {
            self.on_timer(at, key, actions);
        }
        self.settle(actions);
    }

    /// When [`Self::handle`] wants to be called next, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| at)
    }

    fn on_event(&mut self, event: Event<'_>, out: &mut Vec<Action>) {
        match event {
            Event::ClientGone { client } => self.on_client_gone(client, out),
            Event::SetLimit { project, limit } => self.on_set_limit(project, limit, out),
            Event::Reload(settings) => self.on_reload(*settings, out),
            Event::RecycleWorkers => self.on_recycle_workers(),
            Event::Forget { task } => self.on_forget(task),
            Event::Drain => self.on_drain(out),
            Event::Shutdown => self.on_shutdown(out),
            Event::SpawnFailed { worker, reason } => self.on_spawn_failed(worker, reason, out),
            Event::WorkerReady { worker } => self.on_worker_ready(worker, out),
            Event::TasksReturned { worker, tasks } => self.on_tasks_returned(worker, tasks, out),
            Event::Heartbeat { worker, rss_bytes, cpu_us } => {
                self.on_heartbeat(worker, rss_bytes, cpu_us, out)
            }
            Event::WorkerBroke { worker, reason } => self.on_worker_broke(worker, reason, out),
            Event::WorkerUnfit { worker, reason } => self.on_worker_unfit(worker, reason, out),
            Event::WorkerGone { worker, verdict, blame, body } => {
                self.on_worker_gone(worker, verdict, blame, body, out)
            }
            Event::BodyChecked { task, body } => self.on_body_checked(task, body, out),
            Event::Tick => self.restart.on_tick(),
        }
    }

    /// A deadline has come, the one that was set for the moment `at`.
    fn on_timer(&mut self, at: Time, key: TimerKey, out: &mut Vec<Action>) {
        match key {
            TimerKey::Wake(slot) => self.on_wake(slot),
            TimerKey::Deadline(slot) => self.on_deadline(slot, out),
            TimerKey::Ageing(lane, project) => {
                self.line.on_ageing(&self.tasks, &mut self.timers, lane, project);
            }
            TimerKey::Spawn(w) => self.on_spawn_timeout(w, out),
            TimerKey::Heartbeat(w) => self.on_heartbeat_check(w, at, out),
            TimerKey::Running(w) => self.on_running_check(w, out),
            TimerKey::Leave(w) => self.on_leave_check(w, out),
            TimerKey::Idle(w) => self.on_idle_check(w, out),
            TimerKey::Age(w) => self.on_age(w),
            // Settling looks at both lanes, whatever woke it.
            TimerKey::Scale(_) => {}
            TimerKey::Respawn => self.roster.look_again(),
            TimerKey::Drain => self.on_drain_over(out),
            TimerKey::GiveUp => self.on_give_up(out),
        }
    }

    /// After every event: waiting tasks to workers with room, workers to the wanted number, and the
    /// end when all is over.
    fn settle(&mut self, out: &mut Vec<Action>) {
        loop {
            for lane in Lane::ALL {
                self.assign_from(lane, out);
            }
            self.topped_up = None;
            self.close_when_no_task_is_left();
            self.scale(out);
            if !self.roster.has_changed() {
                break;
            }
            self.reconcile(out);
            if !self.has_new_places() {
                break;
            }
        }
        self.exit_when_no_worker_is_left(out);
    }

    fn on_reload(&mut self, settings: Settings, out: &mut Vec<Action>) {
        self.settings = settings;
        // A person has changed something, and may want to try again.
        self.quarantine.clear();
        self.line.configure(&self.settings, &self.tasks, &mut self.timers);
        let projects: Vec<ProjectPlace> = self.line.projects().map(|(place, _)| place).collect();
        for project in projects {
            self.take_back_over_limit(project, out);
        }
        self.rearm_workers();
        self.evict(out);
        self.fit_to_bounds(out);
        self.end_what_cannot_run(out);
        out.push(Action::Emit(PoolEvent::Reloaded));
    }
}
