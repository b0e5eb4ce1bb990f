//! The socket to the supervisor, shared by the thread that runs tasks and the one that watches it.
//!
//! Owns the socket, what has been read from it and what is to be written to it. The running thread
//! reads while it is idle; the watching thread reads while a task runs, so that a cancel is seen.
//! Neither wakes the other for a task: a tiny task costs two locks nobody else wants, and its
//! result goes out with those of its neighbours.
//!
//! INVARIANT: locks are taken in the order reader, inbox, outbox; and a frame is handed to the
//! inbox under the reader's lock, so that frames keep their order whoever reads them.

mod outbox;
mod reader;
mod rhythm;
mod watch;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::Thread;
use std::time::Instant;

use pool_protocol::frame::{self, Kind};
use pool_protocol::worker::{DoneHead, HeartbeatHead, LogHead};
use pool_worker_core::inbox::{Inbox, Violation};
use rustix::io::Errno;

pub(crate) use pool_worker_core::inbox::{Job, Running, StopOrder, StopReason};
pub(crate) use reader::{ReadError, Reader};
pub(crate) use rhythm::Rhythm;
pub(crate) use watch::{EndTask, Watch};

use outbox::Outbox;
use rhythm::MOMENT;

/// Streamed console lines are sent when this much has come together; before that, with the watch's
/// next look.
const LOG_BYTES: usize = 16 * 1024;
/// How often the dying engine tries for the outbox, yielding in between: whoever holds it never
/// waits while holding it.
const LAST_TRIES: u32 = 10_000;

/// Why the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Nothing can be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The supervisor broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Nothing can be written.
    #[error("failed to send to the supervisor: {0}")]
    Send(Errno),
}

impl From<Errno> for LinkError {
    fn from(error: Errno) -> Self {
        Self::Send(error)
    }
}

impl LinkError {
    /// Whether the supervisor simply went away.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Self::Read(ReadError::Closed) | Self::Send(Errno::PIPE | Errno::CONNRESET))
    }
}

/// What one read gave.
struct Received {
    stop: Option<StopOrder>,
    came: bool,
}

/// What the watch saw.
struct Look {
    stop: Option<StopOrder>,
    beat_taken: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    reader: Mutex<Reader>,
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    /// Why the watch gave up.
    broken: Mutex<Option<LinkError>>,
    /// Whether the watch sleeps until it is woken.
    watch_asleep: AtomicBool,
    watch_thread: OnceLock<Thread>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic ends the process")
}

impl Link {
    /// Takes over after the handshake. Frames that came with the last one are taken in.
    pub(crate) fn new(socket: OwnedFd, reader: Reader) -> Result<Self, LinkError> {
        let link = Self {
            socket,
            reader: Mutex::new(reader),
            inbox: Mutex::default(),
            outbox: Mutex::default(),
            broken: Mutex::default(),
            watch_asleep: AtomicBool::new(false),
            watch_thread: OnceLock::new(),
        };
        link.take_in(&mut lock(&link.reader))?;
        Ok(link)
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends one frame made by the caller, before any task runs.
    pub(crate) fn send(&self, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), LinkError> {
        let mut outbox = lock(&self.outbox);
        put(outbox.buffer());
        Ok(outbox.flush(self.socket())?)
    }

    /// The next task with its ticket; nothing when there will be none. The task before it is over.
    /// Waits if it must, and calls `spare_time` before, when everything has been sent, and after
    /// each while that it used the processor for waiting.
    pub(crate) fn next(
        &self,
        rhythm: &mut Rhythm,
        mut spare_time: impl FnMut(),
    ) -> Result<Option<(u64, Job)>, LinkError> {
        rhythm.count();
        if let Some(next) = lock(&self.inbox).begin(Instant::now()) {
            return Ok(Some(next));
        }
        let mut reader = lock(&self.reader);
        loop {
            // INVARIANT: asked again under the reader's lock: what the watch read in between would
            // otherwise be waited for.
            {
                let mut inbox = lock(&self.inbox);
                if let Some(next) = inbox.begin(Instant::now()) {
                    return Ok(Some(next));
                }
                if inbox.is_retiring() {
                    break;
                }
            }
            lock(&self.outbox).flush(self.socket())?;
            if !self.receive(&mut reader, false)?.came {
                spare_time();
                let began = Instant::now();
                if !(rhythm.is_brisk()
                    && self.look_for_a_moment(&mut reader, began, &mut spare_time)?)
                {
                    self.receive(&mut reader, true)?;
                }
                rhythm.waited(began.elapsed());
            }
        }
        if let Some(error) = lock(&self.broken).take() {
            return Err(error);
        }
        lock(&self.outbox).flush(self.socket())?;
        Ok(None)
    }

    /// The running task begins only now: what was done since it was taken is not its doing.
    pub(crate) fn begin_anew(&self) {
        lock(&self.inbox).begin_anew(Instant::now());
    }

    /// Reads again and again for a moment, without sleeping; whether something came.
    fn look_for_a_moment(
        &self,
        reader: &mut Reader,
        began: Instant,
        spare_time: &mut impl FnMut(),
    ) -> Result<bool, LinkError> {
        let mut came = false;
        while !came && began.elapsed() < MOMENT {
            // Who has work goes first, where processors are few.
            std::thread::yield_now();
            came = self.receive(reader, false)?.came;
        }
        spare_time();
        Ok(came)
    }

    /// Reads once and hands what came to the inbox.
    fn receive(&self, reader: &mut Reader, wait: bool) -> Result<Received, LinkError> {
        if !reader.receive(self.socket(), wait)? {
            return Ok(Received { stop: None, came: false });
        }
        let stop = self.take_in(reader)?;
        self.wake_watch();
        Ok(Received { stop, came: true })
    }

    fn take_in(&self, reader: &mut Reader) -> Result<Option<StopOrder>, LinkError> {
        let mut stop = None;
        let mut inbox = lock(&self.inbox);
        while let Some(frame) = reader.take().map_err(ReadError::from)? {
            if let Some(order) = inbox.receive(frame, lock(&self.outbox).buffer())? {
                stop = Some(order);
            }
        }
        Ok(stop)
    }

    /// A task's end; `parts` are the body. It goes out soon, or at once when it is `urgent`.
    pub(crate) fn finish(
        &self,
        id: u64,
        head: &DoneHead,
        parts: [&[u8]; 2],
        now: Instant,
        urgent: bool,
    ) -> Result<(), LinkError> {
        let mut outbox = lock(&self.outbox);
        outbox.put_done(self.socket(), id, head, parts, now)?;
        if urgent {
            outbox.flush(self.socket())?;
        }
        Ok(())
    }

    /// Gives back what waits: to be sent before the end of the task that spoils this worker.
    pub(crate) fn return_waiting(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.return_waiting(lock(&self.outbox).buffer());
    }

    /// A console line of the running task.
    pub(crate) fn log(&self, id: u64, head: &LogHead, text: &str) {
        let mut outbox = lock(&self.outbox);
        frame::put(outbox.buffer(), Kind::Log, id, head, text.as_bytes());
        if outbox.buffer().len() > LOG_BYTES {
            // A supervisor that cannot be reached is noticed by the next read.
            let _ = outbox.flush(self.socket());
        }
    }

    /// Sends what is ready and then a frame that says why the process is about to die. Called in
    /// the middle of a task, by a signal's handler even: allocates nothing, takes no lock that it
    /// could wait for in vain, and rather says nothing than something garbled.
    pub(crate) fn last_words(&self, frame: &[u8]) {
        for _ in 0..LAST_TRIES {
            match self.outbox.try_lock() {
                Ok(mut outbox) => {
                    // The process dies either way.
                    let _ = outbox.flush_with(self.socket(), frame);
                    return;
                }
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                Err(TryLockError::Poisoned(_)) => return,
            }
        }
    }

    fn wake_watch(&self) {
        if self.watch_asleep.load(Ordering::SeqCst)
            && self.watch_asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.watch_thread.get()
        {
            thread.unpark();
        }
    }

    /// The watch's look at the socket: reads what came unless the other thread reads, and sends
    /// what is ready. Nothing when the connection is of no more use: then there will be no more
    /// tasks, and the running thread learns why.
    fn look(&self, beat: Option<&HeartbeatHead>) -> Option<Look> {
        let stop = match self.reader.try_lock() {
            Ok(mut reader) => match self.receive(&mut reader, false) {
                Ok(received) => received.stop,
                // INVARIANT: under the reader's lock, before the running thread can wait for more.
                Err(error) => return self.give_up(error),
            },
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(_)) => unreachable!("a panic ends the process"),
        };
        let mut beat_taken = false;
        match self.outbox.try_lock() {
            Ok(mut outbox) => {
                if let Some(beat) = beat {
                    outbox.put_heartbeat(beat);
                    beat_taken = true;
                }
                if let Err(error) = outbox.flush_some(self.socket()) {
                    drop(outbox);
                    return self.give_up(error.into());
                }
            }
            // The other thread sends.
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Poisoned(_)) => unreachable!("a panic ends the process"),
        }
        Some(Look { stop, beat_taken })
    }

    fn give_up(&self, error: LinkError) -> Option<Look> {
        *lock(&self.broken) = Some(error);
        lock(&self.inbox).retire();
        None
    }

    fn running(&self) -> (Option<Running>, u64) {
        let inbox = lock(&self.inbox);
        (inbox.running(), inbox.begun())
    }

    fn is_busy(&self) -> bool {
        lock(&self.inbox).is_busy()
    }
}
