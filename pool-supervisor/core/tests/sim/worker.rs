//! One simulated worker process: it runs what it is given in order, reports, and misbehaves as its
//! dice say.

use std::collections::VecDeque;

use pool_protocol::id::TaskId;
use pool_protocol::outcome::{Cause, ErrorCode};

use crate::rng::Rng;

/// What the supervisor sends to a worker.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Run { task: TaskId, attempt: u32, timeout_ms: u64, tiny: bool },
    TakeBack(Vec<(TaskId, u32)>),
    Interrupt { task: TaskId, attempt: u32, code: ErrorCode },
    Retire,
}

/// What the supervisor learns of a worker.
#[derive(Debug, Clone)]
pub(crate) enum Report {
    SpawnFailed,
    Ready,
    Done { task: TaskId, attempt: u32, code: Option<ErrorCode>, run_us: u64, spoiled: bool },
    Returned(Vec<(TaskId, u32)>),
    Beat { rss_bytes: u64 },
    Broke,
    Gone(Cause),
}

/// What happens to the worker, and after how many microseconds.
#[derive(Debug)]
pub(crate) enum Next {
    /// The task that runs now ends, if this token is still its own.
    Finish(u64),
    /// The process exits.
    Exit(Cause),
    /// A word to the supervisor.
    Say(Report),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Ends(Option<ErrorCode>),
    Spoils(ErrorCode),
    Kills(Cause),
}

#[derive(Debug)]
struct Running {
    task: TaskId,
    attempt: u32,
    token: u64,
    run_us: u64,
    fate: Fate,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) ready: bool,
    /// Its heartbeats have stopped.
    pub(crate) mute: bool,
    /// It does not stop a task when asked to.
    deaf: bool,
    /// It does not exit when it should.
    clings: bool,
    retiring: bool,
    inbox: VecDeque<(TaskId, u32, u64, bool)>,
    running: Option<Running>,
    tokens: u64,
    /// When the last word to and from it arrives: words do not overtake each other.
    pub(crate) last_in: u64,
    pub(crate) last_out: u64,
}

impl Worker {
    pub(crate) fn new(rng: &mut Rng, faults: bool) -> Self {
        Self {
            ready: false,
            mute: false,
            deaf: faults && rng.percent(10),
            clings: faults && rng.percent(10),
            retiring: false,
            inbox: VecDeque::new(),
            running: None,
            tokens: 0,
            last_in: 0,
            last_out: 0,
        }
    }

    /// An order arrives. Returns what follows, each with its delay.
    pub(crate) fn obey(&mut self, order: Order, rng: &mut Rng, faults: bool) -> Vec<(u64, Next)> {
        let mut next = Vec::new();
        match order {
            Order::Run { task, attempt, timeout_ms, tiny } => {
                self.inbox.push_back((task, attempt, timeout_ms, tiny));
                self.start(rng, faults, &mut next);
            }
            Order::TakeBack(tasks) => self.give_back(|task| tasks.contains(task), &mut next),
            Order::Interrupt { task, attempt, code } => {
                let runs_it =
                    self.running.as_ref().is_some_and(|r| r.task == task && r.attempt == attempt);
                if runs_it && !self.deaf {
                    let running = self.running.take().expect("just seen");
                    next.push((0, done(&running, Some(code), true)));
                    self.leave(Cause::Exited, rng, &mut next);
                }
            }
            Order::Retire => {
                self.retiring = true;
                self.give_back(|_| true, &mut next);
                if self.running.is_none() {
                    self.leave(Cause::Exited, rng, &mut next);
                }
            }
        }
        next
    }

    /// The running task ends by itself.
    pub(crate) fn finish(&mut self, token: u64, rng: &mut Rng, faults: bool) -> Vec<(u64, Next)> {
        let mut next = Vec::new();
        if self.running.as_ref().is_none_or(|running| running.token != token) {
            return next;
        }
        let running = self.running.take().expect("just seen");
        match running.fate {
            Fate::Kills(cause) => next.push((0, Next::Exit(cause))),
            Fate::Spoils(code) => {
                if rng.percent(50) {
                    self.give_back(|_| true, &mut next);
                }
                next.push((0, done(&running, Some(code), true)));
                self.leave(Cause::Exited, rng, &mut next);
            }
            Fate::Ends(code) => {
                // A report may lie in the outbox for a while.
                let late = if faults && rng.percent(5) { rng.between(0, 10_000) } else { 0 };
                next.push((late, done(&running, code, false)));
                if self.retiring {
                    self.leave(Cause::Exited, rng, &mut next);
                } else {
                    self.start(rng, faults, &mut next);
                }
            }
        }
        next
    }

    /// Words that no honest worker says.
    pub(crate) fn lie(&mut self, others: &[(TaskId, u32)], rng: &mut Rng) -> Vec<(u64, Next)> {
        let said = match (rng.between(0, 4), &self.running) {
            (0, _) if !others.is_empty() => {
                let (task, attempt) = *rng.pick(others);
                Report::Done { task, attempt, code: None, run_us: 1, spoiled: false }
            }
            (1, Some(running)) => Report::Done {
                task: running.task,
                attempt: running.attempt + 1,
                code: None,
                run_us: u64::MAX,
                spoiled: false,
            },
            (2, _) => Report::Ready,
            _ => Report::Broke,
        };
        vec![(0, Next::Say(said))]
    }

    fn start(&mut self, rng: &mut Rng, faults: bool, next: &mut Vec<(u64, Next)>) {
        if self.running.is_some() || self.retiring {
            return;
        }
        let Some((task, attempt, timeout_ms, tiny)) = self.inbox.pop_front() else { return };
        self.tokens += 1;
        let mut run_us = if tiny { rng.between(1, 60) } else { rng.between(100, 60_000) };
        let mut fate = Fate::Ends(None);
        let mut stuck = false;
        if faults {
            match rng.between(0, 100) {
                0..3 => {
                    fate = Fate::Kills(*rng.pick(&[
                        Cause::EngineFatal,
                        Cause::KernelOom,
                        Cause::Exited,
                    ]))
                }
                3..5 => fate = Fate::Spoils(ErrorCode::MemoryLimit),
                5..15 => fate = Fate::Ends(Some(ErrorCode::JsException)),
                15..17 => fate = Fate::Ends(Some(ErrorCode::JsSyntax)),
                17..20 => stuck = true,
                20..24 => run_us += rng.between(1_000, 3_000_000),
                _ => {}
            }
        }
        if run_us >= timeout_ms * 1000 || (stuck && !self.deaf) {
            run_us = timeout_ms * 1000;
            fate = Fate::Spoils(ErrorCode::Timeout);
        }
        let token = self.tokens;
        self.running = Some(Running { task, attempt, token, run_us, fate });
        // A task that never ends in a worker that does not even enforce its timeout.
        if !(stuck && self.deaf) {
            next.push((run_us, Next::Finish(token)));
        }
    }

    fn give_back(&mut self, meant: impl Fn(&(TaskId, u32)) -> bool, next: &mut Vec<(u64, Next)>) {
        let (back, kept) =
            self.inbox.drain(..).partition(|(task, attempt, ..)| meant(&(*task, *attempt)));
        self.inbox = kept;
        let back: VecDeque<(TaskId, u32, u64, bool)> = back;
        let back: Vec<(TaskId, u32)> =
            back.into_iter().map(|(task, attempt, ..)| (task, attempt)).collect();
        if !back.is_empty() {
            next.push((0, Next::Say(Report::Returned(back))));
        }
    }

    /// It exits after a while, unless it clings to life. It starts nothing more either way.
    fn leave(&mut self, cause: Cause, rng: &mut Rng, next: &mut Vec<(u64, Next)>) {
        self.retiring = true;
        if !self.clings {
            next.push((rng.between(10, 30_000), Next::Exit(cause)));
        }
    }
}

fn done(running: &Running, code: Option<ErrorCode>, spoiled: bool) -> Next {
    let Running { task, attempt, run_us, .. } = *running;
    Next::Say(Report::Done { task, attempt, code, run_us, spoiled })
}
