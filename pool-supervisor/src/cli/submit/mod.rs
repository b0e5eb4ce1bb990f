//! `poolctl submit`: many tasks in, their outcomes out as they come.
//!
//! One thread reads, checks and sends tasks ([`feed`]); this one takes outcomes and prints them;
//! Ctrl-C has a third, and a fourth sends again what a full queue refused. A request's number is
//! its line's, so that an answer needs no table to find its way back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pool_protocol::id::TaskId;
use pool_protocol::outcome::{ErrorCode, Status};
use pool_protocol::render::outcome_json;
use serde::Serialize;

use super::args::Submit;
use super::error::CliError;
use super::exit::Exit;
use super::interrupt::on_interrupt;
use super::run::failure;
use crate::client::{
    Batch, ClientError, Connection, Incoming, Outcome, Receiver, Sender, SubmitOptions, now_ms,
};

mod feed;
mod progress;
mod window;

use feed::{FeedError, Feeder, Rejected};
use progress::{Progress, Tally};
use window::Window;

/// Answers are printed when no more are here, or when so many are gathered.
const PRINT_AFTER: usize = 512;

/// When refused tasks are sent again although none of ours was answered: others' may have been.
const PAUSE: Duration = Duration::from_millis(50);

/// What the threads share.
struct Shared {
    window: Window,
    sender: Mutex<Sender>,
    progress: Progress,
    options: SubmitOptions,
    /// The largest body that the supervisor takes.
    body_bytes: u64,
    no_wait: bool,
    /// It was said that the queue is full.
    told_full: AtomicBool,
    /// How often a task may be tried that does not say so itself.
    attempts: u16,
    /// Lines that were no tasks.
    malformed: AtomicU64,
    /// What ended the feeding early, unless it was the connection: its reader says that better.
    broke: Mutex<Option<CliError>>,
}

/// Submits the tasks of a file.
///
/// # Errors
/// [`CliError`] when the input, the connection or our own output broke.
pub(super) fn submit(
    args: &Submit,
    connect: impl FnOnce() -> Result<Connection, CliError>,
) -> Result<Exit, CliError> {
    let mut lines = feed::open(&args.file)?;
    let connection = connect()?;
    feed::announce(&args.file);
    let body_bytes = connection.welcome().body_bytes;
    let (sender, mut receiver) = connection.split();
    let shared = Arc::new(Shared {
        window: Window::new(args.window as usize),
        sender: Mutex::new(sender),
        progress: Progress::start(&args.file),
        options: if args.no_wait { SubmitOptions::NO_WAIT } else { SubmitOptions::SUBMIT },
        body_bytes,
        no_wait: args.no_wait,
        told_full: AtomicBool::new(false),
        attempts: args.attempts,
        malformed: AtomicU64::new(0),
        broke: Mutex::new(None),
    });
    let interrupted = Arc::clone(&shared);
    on_interrupt(move || interrupted.stop())?;
    let (feeding, path) = (Arc::clone(&shared), args.file.clone());
    let feed = move || {
        if let Err(error) = feeding.feed(&mut lines) {
            feeding.note_broken(error, path);
        }
        feeding.window.end_feeding();
    };
    thread::Builder::new().name("poolctl-feed".into()).spawn(feed).map_err(CliError::Thread)?;
    let refused = Arc::clone(&shared);
    let send_again = move || refused.send_refused_again();
    thread::Builder::new()
        .name("poolctl-again".into())
        .spawn(send_again)
        .map_err(CliError::Thread)?;

    let mut tally = Tally::default();
    let collected = collect(&shared, &mut receiver, &mut tally);
    tally.rejected += shared.malformed.load(Ordering::Relaxed);
    shared.progress.finish(&tally, args.no_wait);
    collected?;
    if let Some(error) = shared.broke.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    Ok(match () {
        () if shared.window.is_stopped() => Exit::Cancelled,
        () if tally.all_succeeded() => Exit::Ok,
        () => Exit::Failed,
    })
}

impl Shared {
    fn feed(&self, lines: &mut feed::Lines<std::fs::File>) -> Result<(), FeedError> {
        let reject = |rejected: &Rejected| self.reject(rejected);
        let (window, sender, options, attempts) =
            (&self.window, &self.sender, self.options, self.attempts);
        Feeder { window, sender, options, attempts, reject: &reject }.feed(lines, self.body_bytes)
    }

    /// A line that is no task: named on standard error, and an outcome like the others. Where ids
    /// are printed, an outcome would not be one.
    fn reject(&self, rejected: &Rejected) -> Result<(), CliError> {
        #[derive(Serialize)]
        struct Shown<'a> {
            status: &'static str,
            line: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            tag: Option<&'a str>,
            error: Error,
        }
        #[derive(Serialize)]
        struct Error {
            code: &'static str,
            message: String,
        }
        let Rejected { line, invalid, tag } = rejected;
        self.malformed.fetch_add(1, Ordering::Relaxed);
        self.progress.complain(&format!("line {line}: {invalid}"));
        if self.no_wait {
            return Ok(());
        }
        let error = Error { code: ErrorCode::InvalidTask.name(), message: invalid.to_string() };
        let shown =
            Shown { status: Status::Rejected.name(), line: *line, tag: tag.as_deref(), error };
        let mut json = serde_json::to_vec(&shown).expect("strings and numbers serialise");
        json.push(b'\n');
        self.progress.print(&json)
    }

    /// Sends what the queue had no place for, until it has.
    fn send_refused_again(&self) {
        let mut batch = Batch::with_limit(self.body_bytes);
        while self.window.wait_for_refused(PAUSE) {
            // INVARIANT: taken under the sender's lock, as when it was sent first: Ctrl-C finds a
            // task in flight or refused.
            let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
            self.window.take_refused(|number, task| {
                batch
                    .submit(number, task, now_ms(), self.options)
                    .expect("it was not too long the first time");
            });
            if sender.send(&mut batch).is_err() {
                // The collecting thread says why.
                return;
            }
        }
    }

    /// Says, once, why nothing more is sent for now.
    fn tell_full(&self, refusal: Option<&Outcome>) -> Result<(), CliError> {
        let Some(refusal) = refusal else { return Ok(()) };
        if !self.told_full.swap(true, Ordering::Relaxed) {
            let why = failure(&refusal.head()?, &refusal.body);
            self.progress.complain(&format!(
                "line {} and those after it wait for room: {why}",
                refusal.request
            ));
        }
        Ok(())
    }

    fn note_broken(&self, error: FeedError, path: std::path::PathBuf) {
        let error = match error {
            FeedError::Connection => return,
            FeedError::Input(reason) => CliError::File { what: "the tasks in", path, reason },
            FeedError::Report(error) => error,
        };
        *self.broke.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Ctrl-C: sends nothing more, and cancels what is in flight unless it was handed over for
    /// good.
    fn stop(&self) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        for number in self.window.stop() {
            if !self.no_wait {
                batch.cancel(number);
            }
        }
        // With the connection lost, the collecting thread says so.
        let _ = sender.send(&mut batch);
    }
}

/// Takes answers and prints them until none is due.
fn collect(shared: &Shared, receiver: &mut Receiver, tally: &mut Tally) -> Result<(), CliError> {
    let mut answers = Vec::new();
    let mut out = Vec::new();
    while shared.window.wait_for_work() {
        answers.clear();
        let received = receive(receiver, &mut answers);
        let refusals = take_refusals(&mut answers)?;
        shared.tell_full(refusals.first())?;
        // INVARIANT: room is given back before anything is printed, so that a slow reader of ours
        // delays no task.
        let numbers = answers.iter().map(number_of);
        shared.window.note_ended(numbers).map_err(|_| unexpected(&answers))?;
        shared.window.note_refused(refusals.into_iter()).map_err(|_| unexpected(&answers))?;
        out.clear();
        for answer in &answers {
            render(answer, shared, tally, &mut out)?;
        }
        shared.progress.print(&out)?;
        shared.progress.advance(answers.len());
        received.map_err(|error| match error {
            lost if lost.is_lost() => CliError::lost(shared.window.outstanding(), lost),
            other => other.into(),
        })?;
    }
    out.clear();
    let refusals = shared.window.take_refusals();
    let count = refusals.len();
    for refusal in refusals {
        render(&Incoming::Outcome(refusal), shared, tally, &mut out)?;
    }
    shared.progress.print(&out)?;
    shared.progress.advance(count);
    Ok(())
}

/// Takes out the answers that say that the queue is full, or the project's part of it.
fn take_refusals(answers: &mut Vec<Incoming>) -> Result<Vec<Outcome>, CliError> {
    let mut refusals = Vec::new();
    let mut place = 0;
    while let Some(answer) = answers.get(place) {
        let Incoming::Outcome(outcome) = answer else {
            place += 1;
            continue;
        };
        let is_full = match outcome.head()?.code {
            Some(ErrorCode::QueueFull | ErrorCode::ProjectQuota) => true,
            Some(_) | None => false,
        };
        if !is_full {
            place += 1;
        } else if let Incoming::Outcome(outcome) = answers.remove(place) {
            refusals.push(outcome);
        }
    }
    Ok(refusals)
}

/// Waits for one answer and takes those that came with it.
fn receive(receiver: &mut Receiver, answers: &mut Vec<Incoming>) -> Result<(), ClientError> {
    answers.push(receiver.receive()?);
    while answers.len() < PRINT_AFTER
        && let Some(answer) = receiver.receive_here()?
    {
        answers.push(answer);
    }
    Ok(())
}

fn number_of(answer: &Incoming) -> u64 {
    match answer {
        Incoming::Outcome(outcome) => outcome.request,
        Incoming::Accepted { request, .. }
        | Incoming::Reply { request, .. }
        | Incoming::Refused { request, .. }
        | Incoming::Event { request, .. } => *request,
    }
}

fn unexpected(answers: &[Incoming]) -> CliError {
    let kind = answers.last().map_or(pool_protocol::frame::Kind::Outcome, Incoming::kind);
    ClientError::Unexpected { kind, awaited: "the answer to a task in flight" }.into()
}

fn render(
    answer: &Incoming,
    shared: &Shared,
    tally: &mut Tally,
    out: &mut Vec<u8>,
) -> Result<(), CliError> {
    match answer {
        Incoming::Outcome(outcome) => {
            let head = outcome.head()?;
            tally.count(head.status);
            if shared.no_wait {
                // Only a refusal comes as an outcome here.
                shared.progress.complain(&format!(
                    "line {}: {}",
                    outcome.request,
                    failure(&head, &outcome.body)
                ));
            } else {
                out.extend_from_slice(outcome_json(&head, &outcome.body).as_bytes());
                out.push(b'\n');
            }
        }
        Incoming::Accepted { task, .. } if shared.no_wait => {
            tally.count(Status::Succeeded);
            out.extend_from_slice(TaskId(*task).to_string().as_bytes());
            out.push(b'\n');
        }
        Incoming::Refused { code, error, .. } => {
            return Err(ClientError::Refused { code: *code, error: error.clone() }.into());
        }
        Incoming::Accepted { .. } | Incoming::Reply { .. } | Incoming::Event { .. } => {
            return Err(ClientError::Unexpected {
                kind: answer.kind(),
                awaited: "a task's outcome",
            }
            .into());
        }
    }
    Ok(())
}
