//! The JavaScript lane: one engine on this thread, one task after the other.
//!
//! Translates between the wire and the engine. Deadlines, budgets and cancels are the watch's; this
//! thread only runs.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use pool_protocol::limits::MAX_LOG_BYTES;
use pool_protocol::outcome::{Cause, ErrorCode};
use pool_protocol::task::{Body, ModuleData, Realm, TaskKind};
use pool_protocol::worker::{LogHead, LogLevel, Setup};
use pool_worker::js;
use serde::Serialize;

use super::end::TaskEnd;
use super::footprint::{self, Bearable, Footprint};
use super::js_error::explained;
use super::last_words;
use crate::clock::{Meter, ThreadClock};
use crate::link::{EndTask, Job, Link, LinkError, Rhythm, StopOrder, StopReason, Watch};
use crate::lockdown::CpuWall;

/// The process's memory is looked at after tasks that ran this long together: that takes a
/// microsecond or two, and nobody fills a process in less.
const LOOK_AFTER: Duration = Duration::from_micros(500);

/// Prepares the engine and runs tasks.
pub(super) fn serve(
    link: Link,
    setup: &Setup,
    started: Instant,
) -> anyhow::Result<Result<(), LinkError>> {
    let link = Arc::new(link);
    last_words::announce_on(&link).context("failed to prepare for the engine's death")?;
    let streamed = Rc::new(Cell::new(None));
    let sink = log_sink(Arc::clone(&link), Rc::clone(&streamed));
    let mut engine = js::Engine::new(engine_config(setup)?, sink);
    engine.prepare_spare();
    let clock = ThreadClock::current();
    let end = EndScript(engine.handle());
    let heartbeat = Duration::from_millis(setup.heartbeat_ms);
    let watch =
        Watch::new(Arc::clone(&link), heartbeat, Some(clock), CpuWall::around_this_process(), end)
            .context("failed to open what heartbeats are measured with")?;
    let footprint = Footprint::new(setup).context("failed to open what memory is measured with")?;
    engine.watch_process(
        footprint::room_left(setup).context("failed to open what memory is measured with")?,
    );
    let rhythm = Rhythm::new(processors());
    let (ran, busy) = (Duration::ZERO, WholeMicros::default());
    let mut lane =
        JsLane { engine, footprint, ran, busy, meter: Meter::new(clock), rhythm, streamed };
    let served = super::confine_and_serve(&link, setup, started, watch, || lane.run(&link));
    // Its parts are not taken down: the process ends.
    std::mem::forget(lane);
    served
}

/// Processors that this process may use; one if the system does not say.
fn processors() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count())
}

fn engine_config(setup: &Setup) -> anyhow::Result<js::EngineConfig> {
    let memory = usize::try_from(setup.memory_bytes)?;
    let links = setup.js.module_links.iter();
    Ok(js::EngineConfig {
        heap_limit_bytes: memory,
        array_buffer_limit_bytes: memory,
        kept_limit_bytes: usize::try_from(setup.kept_memory_bytes())?,
        result_limit_bytes: usize::try_from(setup.result_bytes)?,
        log_limit_bytes: MAX_LOG_BYTES,
        allow_code_generation: setup.js.allow_code_generation,
        allow_wasm: setup.js.allow_wasm,
        module_roots: setup.js.module_roots.iter().map(PathBuf::from).collect(),
        module_links: links
            .map(|(link, root)| (PathBuf::from(link), PathBuf::from(root)))
            .collect(),
        conditions: setup.js.conditions.clone(),
        node_env: setup.js.node_env.clone(),
        snapshot: setup.js.snapshot.as_deref().and_then(map_snapshot),
        ..js::EngineConfig::default()
    })
}

/// The snapshot file's bytes, shared with all workers. Without them the engine starts too, a little
/// slower.
fn map_snapshot(path: &str) -> Option<Cow<'static, [u8]>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let map = || -> std::io::Result<&'static [u8]> {
        let file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
        #[expect(unsafe_code, reason = "mapping a file that many processes read")]
        // SAFETY: the mapping is never removed. The file is replaced by renaming and never written
        // in place, by whoever owns the folder; a folder that others may write to would make them
        // the worker's owners in any case.
        let bytes = unsafe {
            let start =
                mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, &file, 0)?;
            std::slice::from_raw_parts(start.cast::<u8>().cast_const(), len)
        };
        Ok(bytes)
    };
    match map() {
        Ok(bytes) => Some(Cow::Borrowed(bytes)),
        Err(error) => {
            eprintln!(
                "pool-worker: failed to map the snapshot {path}: {error}; starting without it"
            );
            None
        }
    }
}

/// Sends the lines of tasks whose lines are wanted at once.
fn log_sink(link: Arc<Link>, streamed: Rc<Cell<Option<u64>>>) -> js::LogSink {
    Box::new(move |_ticket, level, text| {
        if let Some(id) = streamed.get() {
            link.log(id, &LogHead { level: log_level(level) }, text);
        }
    })
}

fn log_level(level: js::LogLevel) -> LogLevel {
    match level {
        js::LogLevel::Debug => LogLevel::Debug,
        js::LogLevel::Log => LogLevel::Log,
        js::LogLevel::Info => LogLevel::Info,
        js::LogLevel::Warn => LogLevel::Warn,
        js::LogLevel::Error => LogLevel::Error,
    }
}

struct EndScript(js::EngineHandle);

impl EndTask for EndScript {
    fn end(&self, order: StopOrder) {
        let reason = match order.reason {
            StopReason::Timeout => js::StopReason::Timeout,
            StopReason::CpuLimit => js::StopReason::CpuLimit,
            StopReason::Cancelled | StopReason::Orphaned => js::StopReason::Cancelled,
        };
        self.0.terminate(order.ticket, reason);
    }

    fn look(&self) {
        self.0.look_at_memory();
    }
}

/// Times in whole microseconds, as the wire counts them. What is left of one counts with the next:
/// tiny tasks would never be any work.
#[derive(Debug, Default)]
struct WholeMicros {
    rest: Duration,
}

impl WholeMicros {
    fn whole(&mut self, time: Duration) -> Duration {
        let due = time + self.rest;
        self.rest = Duration::from_nanos(u64::from(due.subsec_nanos() % 1000));
        due - self.rest
    }
}

struct JsLane {
    engine: js::Engine,
    footprint: Footprint,
    /// How long tasks have run since the process's memory was looked at.
    ran: Duration,
    busy: WholeMicros,
    meter: Meter,
    rhythm: Rhythm,
    /// The id of the running task if its console lines are sent as they come.
    streamed: Rc<Cell<Option<u64>>>,
}

impl JsLane {
    fn run(&mut self, link: &Link) -> Result<(), LinkError> {
        self.footprint.settle(&mut self.engine);
        loop {
            let (engine, meter) = (&mut self.engine, &mut self.meter);
            let next = link.next(&mut self.rhythm, || {
                engine.prepare_spare();
                meter.rest();
            })?;
            let Some((ticket, job)) = next else {
                return Ok(());
            };
            self.streamed.set(job.stream_logs.then_some(job.id));
            let (mut end, times) = match Parts::of(&job) {
                Ok(parts) => self.run_task(link, &js_task(ticket, &job, &parts), &job),
                Err(end) => (end, (Instant::now(), Instant::now())),
            };
            end.spoiled |= self.engine.must_be_replaced();
            if let Some(detail) = self.engine.buffers_exceeded() {
                // The task's code says that memory was used up; which memory, only this process
                // knows.
                last_words::say(link, Cause::ArrayBuffers, &detail);
            }
            if !end.send(link, &job, times, false)? {
                return Ok(());
            }
        }
    }

    /// Runs a task from when to when it says. What its neighbours left is dealt with before that
    /// time, and what it leaves after it: neither is in its figures.
    fn run_task(
        &mut self,
        link: &Link,
        task: &js::JsTask<'_>,
        job: &Job,
    ) -> (TaskEnd, (Instant, Instant)) {
        if self.engine.make_room(task) {
            link.begin_anew();
            self.meter.rest();
        }
        let began = Instant::now();
        let mut entered = began;
        if self.engine.enter(task) {
            // Its time and its CPU time are counted from here on, by the watch as well.
            link.begin_anew();
            self.meter.rest();
            entered = Instant::now();
        }
        let outcome = self.engine.run(task);
        let ended = Instant::now();
        let was_read = outcome.memory_was_read;
        let (waited, collected, owed) = (outcome.waited, outcome.collected, outcome.owed);
        let mut end = js_end(outcome, job, ended - began);
        end.cpu = self.meter.charge(ended - entered);
        // A new context is a part of what each task of the realm `fresh` costs, but in the others
        // it is made once for many.
        let making = if job.realm == Realm::Fresh { entered - began } else { Duration::ZERO };
        // A short task's CPU time is its wall time, and has the waiting in it.
        let waited = if end.cpu == ended - entered { Duration::ZERO } else { waited };
        // Others left most of the garbage that was collected in its time.
        end.busy =
            Some(self.busy.whole(end.cpu.saturating_sub(collected) + owed + waited + making));
        self.ran += ended - began;
        if was_read && !self.engine.must_be_replaced() {
            end.spoiled |= !self.clear_up();
        }
        (end, (began, ended))
    }

    /// Clears away what tasks left. False when that does not help: then the process is no place for
    /// another one.
    fn clear_up(&mut self) -> bool {
        let has_tidied = self.engine.tidy_up();
        let bearable = if self.ran > LOOK_AFTER {
            self.ran = Duration::ZERO;
            self.footprint.look(&mut self.engine)
        } else {
            Bearable::AsItIs
        };
        if has_tidied || bearable != Bearable::AsItIs {
            self.meter.rest();
        }
        bearable != Bearable::No
    }
}

/// What the engine is asked to run.
struct Parts<'j> {
    code: &'j str,
    data: &'j [u8],
    module: ModuleData<'j>,
}

impl<'j> Parts<'j> {
    /// Takes a task apart, or says what is wrong with it.
    fn of(job: &'j Job) -> Result<Self, TaskEnd> {
        let invalid = |message: String| TaskEnd::refused(ErrorCode::InvalidTask, message);
        let Body { code, data } =
            Body::split(&job.body, job.code_len).map_err(|e| invalid(e.to_string()))?;
        let module = match job.kind {
            TaskKind::Module if !data.is_empty() => serde_json::from_slice(data)
                .map_err(|e| invalid(format!("the module task's data: {e}")))?,
            TaskKind::Code | TaskKind::Function | TaskKind::Module => {
                ModuleData { method: None, args: None }
            }
            TaskKind::Http | TaskKind::Shell => {
                let kind = job.kind.name();
                return Err(invalid(format!(
                    "field `type`: a worker for JavaScript does not run {kind}"
                )));
            }
        };
        Ok(Self { code, data, module })
    }
}

fn js_task<'j>(ticket: u64, job: &'j Job, parts: &'j Parts<'j>) -> js::JsTask<'j> {
    let Parts { code, data, module } = parts;
    let work = match job.kind {
        TaskKind::Code => js::Work::Code { source: code, context_json: data },
        TaskKind::Function => js::Work::Function { source: code, args_json: data },
        TaskKind::Module | TaskKind::Http | TaskKind::Shell => js::Work::Module {
            path: code,
            method: module.method.as_deref(),
            args_json: module.args.map_or(&[], |args| args.get().as_bytes()),
        },
    };
    js::JsTask {
        ticket,
        project: job.project(),
        realm: match job.realm {
            Realm::Fresh => js::Realm::Fresh,
            Realm::Warm => js::Realm::Warm,
            Realm::Frozen => js::Realm::Frozen,
        },
        work,
        memory_limit_bytes: usize::try_from(job.memory_bytes).ok(),
        capture_logs: job.logs,
    }
}

fn js_end(outcome: js::JsOutcome, job: &Job, ran: Duration) -> TaskEnd {
    let logs = if job.logs { logs_json(&outcome.logs, outcome.logs_truncated) } else { Vec::new() };
    let end = match outcome.result {
        Ok(body) => TaskEnd::done(body),
        Err(failure) => js_failure(failure, job, ran),
    };
    TaskEnd { logs, memory_bytes: outcome.memory_bytes, ..end }
}

fn js_failure(failure: js::JsFailure, job: &Job, ran: Duration) -> TaskEnd {
    let code = match failure.kind {
        js::FailureKind::Syntax => ErrorCode::JsSyntax,
        js::FailureKind::Exception => ErrorCode::JsException,
        js::FailureKind::NotSerializable => ErrorCode::ResultNotSerializable,
        js::FailureKind::ModuleNotFound => ErrorCode::ModuleNotFound,
        js::FailureKind::ModuleDenied => ErrorCode::ModuleDenied,
        js::FailureKind::PromiseNeverSettled => ErrorCode::PromiseNeverSettled,
        js::FailureKind::MemoryLimit => ErrorCode::MemoryLimit,
        js::FailureKind::OutputLimit => ErrorCode::OutputLimit,
        js::FailureKind::InvalidTask => ErrorCode::InvalidTask,
        js::FailureKind::Terminated(reason) => {
            let reason = match reason {
                js::StopReason::Timeout => StopReason::Timeout,
                js::StopReason::CpuLimit => StopReason::CpuLimit,
                js::StopReason::Cancelled => StopReason::Cancelled,
            };
            return TaskEnd::stopped(reason, job, ran);
        }
    };
    explained(code, failure)
}

#[derive(Serialize)]
#[serde(untagged)]
enum LogJson<'a> {
    Line { level: &'static str, text: &'a str },
    Mark { truncated: bool },
}

/// The lines as a JSON array, at most [`MAX_LOG_BYTES`] of it; a last element says that lines are
/// missing.
fn logs_json(lines: &[js::LogLine], truncated: bool) -> Vec<u8> {
    let mark =
        serde_json::to_vec(&LogJson::Mark { truncated: true }).expect("a constant serialises");
    let room = MAX_LOG_BYTES - mark.len() - 2;
    let mut out = vec![b'['];
    let mut cut = truncated;
    for line in lines {
        let line = LogJson::Line { level: log_level(line.level).name(), text: &line.text };
        let line = serde_json::to_vec(&line).expect("strings serialise");
        if out.len() + line.len() > room {
            cut = true;
            break;
        }
        put_element(&mut out, &line);
    }
    if cut {
        put_element(&mut out, &mark);
    }
    out.push(b']');
    out
}

fn put_element(array: &mut Vec<u8>, element: &[u8]) {
    if array.len() > 1 {
        array.push(b',');
    }
    array.extend_from_slice(element);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> js::LogLine {
        js::LogLine { level: js::LogLevel::Warn, text: text.into() }
    }

    #[test]
    fn logs_are_a_json_array_with_a_mark_when_lines_are_missing() {
        assert_eq!(logs_json(&[], false), b"[]");
        let text = String::from_utf8(logs_json(&[line("a\n"), line("b")], true)).unwrap();
        assert_eq!(
            text,
            r#"[{"level":"warn","text":"a\n"},{"level":"warn","text":"b"},{"truncated":true}]"#
        );
    }

    #[test]
    fn parts_of_a_microsecond_add_up() {
        let mut busy = WholeMicros::default();
        let told = |times: &[u64], busy: &mut WholeMicros| {
            times
                .iter()
                .map(|ns| busy.whole(Duration::from_nanos(*ns)).as_nanos())
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&[400, 400, 400, 1_900, 0], &mut busy), [0, 0, 1_000, 2_000, 0]);
        assert_eq!(told(&[1_000_000_900], &mut busy), [1_000_001_000]);
    }

    #[test]
    fn logs_that_grow_by_escaping_are_cut() {
        let lines: Vec<_> = (0..4).map(|_| line(&"\u{1}".repeat(30_000))).collect();
        let bytes = logs_json(&lines, false);
        assert!(bytes.len() <= MAX_LOG_BYTES, "{}", bytes.len());
        let seen: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(seen.as_array().unwrap().last().unwrap()["truncated"], true);
    }
}
