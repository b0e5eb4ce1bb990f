//! The lane of HTTP requests and programs. No engine is ever started in it.
//!
//! Translates between the wire and the two kinds of task. A request runs on a thread of its own,
//! because nothing ends a blocking exchange from outside: when the task must end the thread is left
//! to itself, and the process ends with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::{Body, HttpData, ShellData, TaskKind};
use pool_protocol::worker::Setup;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::end::{TaskEnd, why_stopped};
use crate::clock::ThreadClock;
use crate::http::{self, HttpFailure};
use crate::link::{EndTask, Job, Link, LinkError, Rhythm, StopOrder, StopReason, Watch};
use crate::lockdown::{self, CpuWall};
use crate::shell::{self, ShellFailure, ShellTrouble, Stop, Stopped};

/// Prepares both kinds of task and runs what comes.
pub(super) fn serve(
    link: Link,
    setup: &Setup,
    started: Instant,
) -> anyhow::Result<Result<(), LinkError>> {
    let link = Arc::new(link);
    let lane = IoLane {
        client: Arc::new(http::Client::new(&setup.http, setup.result_bytes)?),
        rules: shell::Rules::new(&setup.shell)?.in_time_zone(std::env::var(shell::TIME_ZONE).ok()),
        interrupt: Arc::new(Interrupt::new().context("failed to make a wake-up")?),
        result_bytes: usize::try_from(setup.result_bytes)?,
        apart: lockdown::apart(setup.isolation.level),
    };
    shell::adopt_orphans().context("failed to become the parent of orphans")?;
    let heartbeat = Duration::from_millis(setup.heartbeat_ms);
    let end = EndIo(Arc::clone(&lane.interrupt));
    let watch = Watch::new(Arc::clone(&link), heartbeat, None, CpuWall::none(), end)
        .context("failed to open what heartbeats are measured with")?;
    super::confine_and_serve(&link, setup, started, watch, || lane.run(&link))
}

/// How the running task is told to end.
#[derive(Debug)]
struct Interrupt {
    wake: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ticket: u64,
    order: Option<StopOrder>,
}

impl Interrupt {
    fn new() -> Result<Self, Errno> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { wake, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic ends the process")
    }

    fn begin(&self, ticket: u64) {
        let mut state = self.lock();
        state.ticket = ticket;
        // An order for this very task may have come before it began.
        if state.order.is_none_or(|order| order.ticket != ticket) {
            state.order = None;
            drop(state);
            self.drain();
        }
    }

    fn order(&self, order: StopOrder) {
        let mut state = self.lock();
        // The first order stands, unless nobody is left who gave it.
        let is_news =
            |o: StopOrder| o.ticket < order.ticket || order.reason == StopReason::Orphaned;
        if order.ticket >= state.ticket && state.order.is_none_or(is_news) {
            state.order = Some(order);
            drop(state);
            self.wake();
        }
    }

    /// Why the running task is to end, if it is.
    fn reason(&self) -> Option<StopReason> {
        let state = self.lock();
        state.order.filter(|order| order.ticket == state.ticket).map(|order| order.reason)
    }

    fn wake(&self) {
        // Only a counter that is full refuses, and a full one wakes too.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn drain(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }
}

impl Stopped for Interrupt {
    fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn is_stopped(&self) -> Option<Stop> {
        self.reason().map(|reason| match reason {
            StopReason::Orphaned => Stop::AtOnce,
            StopReason::Timeout | StopReason::CpuLimit | StopReason::Cancelled => Stop::InTime,
        })
    }
}

struct EndIo(Arc<Interrupt>);

impl EndTask for EndIo {
    fn end(&self, order: StopOrder) {
        self.0.order(order);
    }
}

struct IoLane {
    client: Arc<http::Client>,
    rules: shell::Rules,
    interrupt: Arc<Interrupt>,
    result_bytes: usize,
    /// What keeps programs from signalling this process.
    apart: Option<OwnedFd>,
}

impl IoLane {
    fn run(&self, link: &Link) -> Result<(), LinkError> {
        // No task of this lane is so short that a sleep would count.
        let mut rhythm = Rhythm::calm();
        while let Some((ticket, job)) = link.next(&mut rhythm, || ())? {
            let began = Instant::now();
            self.interrupt.begin(ticket);
            let end = self.run_task(&job, began).unwrap_or_else(|end| end);
            let end = self.within_limit(end);
            if !end.send(link, &job, (began, Instant::now()), true)? {
                break;
            }
        }
        Ok(())
    }

    fn run_task(&self, job: &Job, began: Instant) -> Result<TaskEnd, TaskEnd> {
        let invalid = |message: String| TaskEnd::refused(ErrorCode::InvalidTask, message);
        let Body { data, .. } =
            Body::split(&job.body, job.code_len).map_err(|e| invalid(e.to_string()))?;
        match job.kind {
            TaskKind::Http => {
                let data: HttpData<'_> =
                    serde_json::from_slice(data).map_err(|e| invalid(e.to_string()))?;
                let request =
                    http::Request::new(&data).map_err(|bad| failed_request(&bad.into()))?;
                self.run_request(request, job, began)
            }
            TaskKind::Shell => {
                let data = read::<ShellData>(data)?;
                let command =
                    self.rules.command(data).map_err(|refusal| failed_command(&refusal.into()))?;
                self.run_command(&command, job, began)
            }
            TaskKind::Code | TaskKind::Function | TaskKind::Module => Err(invalid(format!(
                "field `type`: a worker for requests and programs does not run {}",
                job.kind.name()
            ))),
        }
    }

    fn run_request(
        &self,
        request: http::Request,
        job: &Job,
        began: Instant,
    ) -> Result<TaskEnd, TaskEnd> {
        let (sender, receiver) = channel();
        let (client, interrupt) = (Arc::clone(&self.client), Arc::clone(&self.interrupt));
        let exchange = move || {
            let result = client.perform(request);
            // Nobody listens when the task has ended meanwhile.
            let _ = sender.send((result, ThreadClock::current().now()));
            interrupt.wake();
        };
        thread::Builder::new().name("http".into()).spawn(exchange).map_err(|e| {
            TaskEnd::refused(ErrorCode::HttpError, format!("no thread for the request: {e}"))
        })?;
        loop {
            let mut fds = [PollFd::new(&self.interrupt.wake, PollFlags::IN)];
            let _ = poll(&mut fds, None);
            self.interrupt.drain();
            match receiver.try_recv() {
                Ok((result, cpu)) => {
                    let end = match result {
                        Ok(reply) => result_of(&reply),
                        Err(failure) => failed_request(&failure),
                    };
                    return Ok(TaskEnd { cpu, ..end });
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => unreachable!("the thread sends before it ends"),
            }
            if let Some(reason) = self.interrupt.reason() {
                return Err(TaskEnd::stopped(reason, job, began.elapsed()));
            }
        }
    }

    fn run_command(
        &self,
        command: &shell::Command<'_>,
        job: &Job,
        began: Instant,
    ) -> Result<TaskEnd, TaskEnd> {
        let limits = shell::Limits { cpu: job.cpu, memory_bytes: job.memory_bytes };
        let tie = |on| {
            lockdown::die_with_parent(on).map_err(|e| {
                TaskEnd::refused(
                    ErrorCode::CommandFailed,
                    format!("no program can be guarded: {e}"),
                )
            })
        };
        // In a process namespace of its own the kernel ends with this process all that it started.
        let leaves_orphans = !lockdown::is_init();
        if leaves_orphans {
            tie(false)?;
        }
        let ran = shell::run(
            &self.rules,
            command,
            limits,
            self.apart.as_ref().map(AsFd::as_fd),
            &*self.interrupt,
        );
        if leaves_orphans {
            tie(true)?;
        }
        let end = match ran.result {
            Ok(output) => result_of(&output),
            Err(ShellTrouble::Failed(failure)) => failed_command(&failure),
            Err(ShellTrouble::Stopped(remains)) => {
                let reason = self.interrupt.reason().unwrap_or(StopReason::Cancelled);
                let (code, message) =
                    why_stopped(reason, job, remains.at.saturating_duration_since(began));
                failed_command(&remains.failure(code, message))
            }
        };
        let spoiled = end.spoiled || ran.left_behind;
        Ok(TaskEnd { cpu: ran.cpu, memory_bytes: ran.peak_bytes, spoiled, ..end })
    }

    fn within_limit(&self, end: TaskEnd) -> TaskEnd {
        if end.code.is_some() || end.body.len() <= self.result_bytes {
            return end;
        }
        let message = format!(
            "the result is {} bytes of JSON, at most {} are allowed",
            end.body.len(),
            self.result_bytes
        );
        let refused = TaskEnd::refused(ErrorCode::OutputLimit, message);
        TaskEnd { cpu: end.cpu, memory_bytes: end.memory_bytes, ..refused }
    }
}

fn read<T: DeserializeOwned>(data: &[u8]) -> Result<T, TaskEnd> {
    serde_json::from_slice(data)
        .map_err(|e| TaskEnd::refused(ErrorCode::InvalidTask, e.to_string()))
}

fn result_of(result: &impl serde::Serialize) -> TaskEnd {
    TaskEnd::done(serde_json::to_vec(result).expect("results are made of strings and numbers"))
}

fn failed_request(failure: &HttpFailure) -> TaskEnd {
    TaskEnd { retry_after: failure.retry_after, ..TaskEnd::failed(failure.code, failure) }
}

fn failed_command(failure: &ShellFailure) -> TaskEnd {
    TaskEnd::failed(failure.code, failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(ticket: u64) -> StopOrder {
        StopOrder { ticket, reason: StopReason::Cancelled }
    }

    #[test]
    fn an_order_reaches_its_task_and_no_other_whenever_it_comes() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.begin(1);
        assert_eq!(interrupt.reason(), None);
        interrupt.order(order(1));
        assert_eq!(interrupt.reason(), Some(StopReason::Cancelled));
        interrupt.begin(2);
        interrupt.order(order(1));
        assert_eq!(interrupt.reason(), None, "too late for the task before");
        interrupt.order(order(3));
        assert_eq!(interrupt.reason(), None, "too early for the task after");
        interrupt.begin(3);
        assert_eq!(interrupt.reason(), Some(StopReason::Cancelled));
    }

    #[test]
    fn the_first_order_stands_until_nobody_is_left_who_gave_it() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.begin(1);
        interrupt.order(StopOrder { ticket: 1, reason: StopReason::Timeout });
        interrupt.order(order(1));
        assert_eq!(interrupt.reason(), Some(StopReason::Timeout));
        assert_eq!(interrupt.is_stopped(), Some(Stop::InTime));
        interrupt.order(StopOrder { ticket: 1, reason: StopReason::Orphaned });
        assert_eq!(interrupt.is_stopped(), Some(Stop::AtOnce));
    }
}
