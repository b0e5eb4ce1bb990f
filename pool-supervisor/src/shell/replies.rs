//! Answers to administrative requests, and events to those who listen.

use std::collections::BTreeMap;
use std::fmt::Write;

use pool_core::stats::{TaskStatus, WorkerStatus};
use pool_protocol::control::{
    Done, IsolationReply, LaneLayers, ProjectRow, ReadyReply, Stats, StatusReply, TaskCounts,
    TaskReply, TrustReply, WorkerCounts, WorkerRow,
};
use pool_protocol::frame::Kind;
use pool_protocol::id::{ClientId, TaskId};
use pool_protocol::outcome::{Cause, ErrorCode};
use serde::Serialize;

use super::clock::{Clock, rfc3339};
use super::reactor::Pool;
use super::tasks::Waiter;
use crate::config::Implied;

impl Pool {
    pub(super) fn reply<T: Serialize>(&mut self, id: ClientId, request: u64, value: &T) {
        let body = serde_json::to_vec(value).expect("replies are strings and numbers");
        self.reply_bytes(id, request, &body);
    }

    pub(super) fn reply_text(&mut self, id: ClientId, request: u64, text: &str) {
        self.reply_bytes(id, request, text.as_bytes());
    }

    fn reply_bytes(&mut self, id: ClientId, request: u64, body: &[u8]) {
        self.post(id, |peer| peer.send_plain(Kind::Reply, request, body));
    }

    pub(super) fn reply_done(&mut self, id: ClientId, request: u64, message: &str) {
        self.reply(id, request, &Done { message: message.to_owned() });
    }

    pub(super) fn stats(&self) -> Stats {
        let figures = self.core.stats();
        let project_usage = self
            .core
            .usage()
            .into_iter()
            .map(|(name, running)| (name.to_owned(), running))
            .collect();
        Stats {
            workers: WorkerCounts {
                total: figures.workers,
                available: figures.available,
                busy: figures.busy,
                spawning: figures.spawning,
            },
            tasks: TaskCounts {
                queued: u64::from(figures.queued),
                running: u64::from(figures.running),
                total: figures.accepted,
                completed: figures.completed,
                failed: figures.failed,
                avg_time: figures.avg_run_us / 1000.0,
            },
            load: figures.load,
            project_usage,
            uptime: self.clock.now().0 as f64 / 1e6,
        }
    }

    pub(super) fn status(&self) -> StatusReply {
        let state = if self.stopping {
            "draining"
        } else if self.core.degraded().is_some() {
            "degraded"
        } else {
            "running"
        };
        StatusReply {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: state.to_owned(),
            degraded: self.core.degraded().map(str::to_owned),
            min_workers: self.config.pool.min_workers,
            max_workers: self.config.pool.max_workers,
            http: self.http.as_ref().and_then(|h| h.addr).map(|a| a.to_string()),
            trust: self.trust(),
            isolation: self.isolation(),
            set_aside: self.core.stats().set_aside,
            stats: self.stats(),
        }
    }

    fn trust(&self) -> TrustReply {
        let overridden = self.config.implied().into_iter().filter(Implied::is_overridden);
        TrustReply {
            value: self.config.trust.name().to_owned(),
            overridden: overridden
                .map(|setting| (setting.key.to_owned(), setting.actual.to_owned()))
                .collect(),
        }
    }

    fn isolation(&self) -> IsolationReply {
        let lanes = self.workers.confined().iter().map(|(lane, confined)| {
            let on = confined.layers.names().into_iter().map(str::to_owned).collect();
            ((*lane).to_owned(), LaneLayers { on, missing: confined.missing.clone() })
        });
        IsolationReply { level: self.config.isolation.name().to_owned(), lanes: lanes.collect() }
    }

    pub(super) fn living_workers(&self) -> Vec<WorkerRow> {
        let now = self.clock.now();
        self.core
            .workers()
            .map(|view| WorkerRow {
                worker_id: view.id.to_string(),
                pid: self
                    .workers
                    .get(view.id)
                    .map_or(0, |w| w.pid.as_raw_nonzero().get().unsigned_abs()),
                lane: view.lane.name().to_owned(),
                state: match view.state {
                    WorkerStatus::Spawning => "spawning",
                    WorkerStatus::Idle => "idle",
                    WorkerStatus::Busy => "busy",
                    WorkerStatus::Stopping => "stopping",
                }
                .to_owned(),
                tasks: view.tasks_ended,
                memory_bytes: view.rss_bytes,
                cpu_ms: view.cpu_us as f64 / 1000.0,
                age: now.since(view.started) as f64 / 1e6,
                task_id: view.running.map(|(task, _)| task.to_string()),
                project_id: view.running.map(|(_, project)| project.to_owned()),
            })
            .collect()
    }

    pub(super) fn project_rows(&self) -> BTreeMap<String, ProjectRow> {
        self.core
            .projects()
            .map(|p| {
                let row = ProjectRow {
                    used: p.running,
                    limit: p.limit,
                    available: p.limit.map(|l| l.saturating_sub(p.running)),
                    queued: u64::from(p.queued),
                    weight: p.weight,
                    ended: p.ended,
                };
                (p.name.to_owned(), row)
            })
            .collect()
    }

    pub(super) fn readiness(&self) -> ReadyReply {
        let reason = if self.stopping {
            Some("the pool is draining".to_owned())
        } else if let Some(why) = self.core.degraded() {
            Some(why.to_owned())
        } else if !self.core.is_ready() {
            Some("no worker is ready yet".to_owned())
        } else {
            None
        };
        ReadyReply { ready: reason.is_none(), reason }
    }

    pub(super) fn reply_task(&mut self, id: ClientId, request: u64, task: TaskId) {
        if self.show_kept(Waiter { client: id, request }, task) {
            return;
        }
        let Some(view) = self.core.task(task) else {
            return self.refuse_unknown(id, request, task);
        };
        let reply = TaskReply {
            task_id: task.to_string(),
            state: match view.state {
                TaskStatus::Queued => "queued",
                TaskStatus::Delayed => "delayed",
                TaskStatus::Retrying => "retrying",
                TaskStatus::Running => "running",
            }
            .to_owned(),
            project_id: view.project.to_owned(),
            attempts: view.attempts,
            tag: self.tasks.get(view.slot).tag.as_deref().map(str::to_owned),
            worker_id: view.worker.map(|w| w.to_string()),
        };
        self.reply(id, request, &reply);
    }

    /// Prometheus text, <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub(super) fn metrics(&self) -> String {
        let stats = self.stats();
        let figures = self.core.stats();
        let mut out = String::new();
        let mut one = |name: &str, kind: &str, help: &str, rows: &[(&str, f64)]| {
            let _to_memory = writeln!(
                out,
                "# HELP process_pool_{name} {help}\n# TYPE process_pool_{name} {kind}"
            );
            for (labels, value) in rows {
                let _to_memory = writeln!(out, "process_pool_{name}{labels} {value}");
            }
        };
        let w = stats.workers;
        one(
            "workers",
            "gauge",
            "Living workers by state.",
            &[
                ("{state=\"idle\"}", f64::from(w.available)),
                ("{state=\"busy\"}", f64::from(w.busy)),
                ("{state=\"spawning\"}", f64::from(w.spawning)),
                ("{state=\"stopping\"}", f64::from(figures.stopping)),
            ],
        );
        one("tasks_queued", "gauge", "Tasks that wait.", &[("", stats.tasks.queued as f64)]);
        one("tasks_running", "gauge", "Tasks on workers.", &[("", stats.tasks.running as f64)]);
        one(
            "tasks_accepted_total",
            "counter",
            "Tasks ever accepted.",
            &[("", stats.tasks.total as f64)],
        );
        one(
            "tasks_ended_total",
            "counter",
            "Tasks ended.",
            &[
                ("{status=\"succeeded\"}", stats.tasks.completed as f64),
                ("{status=\"other\"}", stats.tasks.failed as f64),
            ],
        );
        one(
            "task_run_seconds_total",
            "counter",
            "Run time of attempts that workers have reported.",
            &[("", figures.run_us as f64 / 1e6)],
        );
        one("load", "gauge", "(running + waiting) / workers.", &[("", stats.load)]);
        one("uptime_seconds", "gauge", "Since the start.", &[("", stats.uptime)]);
        one(
            "degraded",
            "gauge",
            "1 while workers cannot be started.",
            &[("", f64::from(u8::from(self.core.degraded().is_some())))],
        );
        one(
            "set_aside",
            "gauge",
            "Tasks, by their bodies, that are not run for having ended their workers.",
            &[("", f64::from(figures.set_aside))],
        );
        self.verdict_metrics(&mut out);
        out
    }

    fn verdict_metrics(&self, out: &mut String) {
        let _to_memory = writeln!(
            out,
            "# HELP process_pool_workers_ended_total Workers ended, by cause.\n# TYPE \
             process_pool_workers_ended_total counter"
        );
        for (cause, count) in Cause::ALL.iter().zip(self.workers.ended()) {
            let _to_memory =
                writeln!(out, "process_pool_workers_ended_total{{cause=\"{cause}\"}} {count}");
        }
        let _to_memory = writeln!(
            out,
            "# HELP process_pool_task_errors_total Tasks ended otherwise than well, by code.\n# \
             TYPE process_pool_task_errors_total counter"
        );
        for (code, count) in ErrorCode::ALL.iter().zip(&self.error_counts) {
            let _to_memory =
                writeln!(out, "process_pool_task_errors_total{{code=\"{code}\"}} {count}");
        }
    }
}

/// Stands for events that a slow reader missed.
pub(super) fn events_lost(seq: u64, lost: u64) -> Vec<u8> {
    let event = pool_protocol::control::EventJson {
        seq,
        time: &rfc3339(Clock::wall_us()),
        event: "events-lost",
        error: Some(format!("{lost} events were no longer kept when it was their turn")),
        ..Default::default()
    };
    serde_json::to_vec(&event).expect("strings and numbers serialise")
}
