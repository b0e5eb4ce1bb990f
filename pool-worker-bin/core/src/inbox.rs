//! What the supervisor wants of this worker: tasks in their order, and second thoughts about them.
//!
//! Decides what each frame means for the waiting and the running task. Must not know sockets,
//! threads or clocks: the answers are appended to a buffer that somebody else sends, and ending the
//! running task is an order handed back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pool_protocol::codec::{self, HeadError};
use pool_protocol::frame::{self, Frame, Kind};
use pool_protocol::limits::MAX_CREDIT;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::{Realm, TaskKind};
use pool_protocol::worker::{CancelHead, DoneHead, RunHead, TaskList};

/// A task that waits its turn. Its bytes are those of the receive buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The task's id.
    pub id: u64,
    /// See [`RunHead::attempt`].
    pub attempt: u32,
    /// See [`RunHead::kind`].
    pub kind: TaskKind,
    /// A part of `head`, as UTF-8.
    project: Bytes,
    /// See [`RunHead::realm`].
    pub realm: Realm,
    /// Wall time of the attempt.
    pub timeout: Duration,
    /// CPU time of the attempt.
    pub cpu: Duration,
    /// See [`RunHead::memory_bytes`].
    pub memory_bytes: u64,
    /// Whether the outcome carries the console's lines.
    pub logs: bool,
    /// Whether the console's lines are sent as they come.
    pub stream_logs: bool,
    /// Where the body's code ends.
    pub code_len: u32,
    /// Code, then data.
    pub body: Bytes,
}

impl Job {
    fn read(frame: Frame) -> Result<Self, HeadError> {
        let head: RunHead<'_> = codec::decode("run", &frame.head)?;
        Ok(Self {
            id: frame.id,
            attempt: head.attempt,
            kind: head.kind,
            project: frame.head.slice_ref(head.project.as_bytes()),
            realm: head.realm,
            timeout: Duration::from_millis(head.timeout_ms),
            cpu: Duration::from_millis(head.cpu_ms),
            memory_bytes: head.memory_bytes,
            logs: head.logs,
            stream_logs: head.stream_logs,
            code_len: head.code_len,
            body: frame.body,
        })
    }

    /// Whose task it is.
    pub fn project(&self) -> &str {
        std::str::from_utf8(&self.project).expect("it was decoded as text")
    }

    fn is(&self, task: (u64, u32)) -> bool {
        (self.id, self.attempt) == task
    }
}

/// Why the running task must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// Its wall time is over.
    Timeout,
    /// Its CPU time is over.
    CpuLimit,
    /// Somebody asked for it.
    Cancelled,
    /// The supervisor is gone: nobody will read the outcome.
    Orphaned,
}

/// "End the task with this ticket."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StopOrder {
    /// The running task's.
    pub ticket: u64,
    /// What its end is called.
    pub reason: StopReason,
}

/// The task that runs now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    /// The worker's own number for this run, from 1: an order for it never reaches the next one.
    pub ticket: u64,
    task: (u64, u32),
    /// When it began.
    pub started: Instant,
    /// When its wall time is over; nothing for a time longer than the clock knows.
    pub deadline: Option<Instant>,
    timeout: Duration,
    /// Its CPU time.
    pub cpu: Duration,
}

/// A frame that no supervisor of this version sends.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// A kind that does not belong here.
    #[error("failed to understand the supervisor: a {0:?} frame is out of place")]
    OutOfPlace(Kind),
    /// A head that does not decode.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// More tasks than a worker may hold.
    #[error("failed to hold another task: {MAX_CREDIT} are waiting already")]
    TooMany,
}

/// Tasks that wait, the one that runs, and whether more will come.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: VecDeque<Job>,
    running: Option<Running>,
    tickets: u64,
    retiring: bool,
}

impl Inbox {
    /// Takes in a frame; answers go to `out`.
    ///
    /// # Errors
    /// [`Violation`]: the connection is of no more use.
    pub fn receive(
        &mut self,
        frame: Frame,
        out: &mut Vec<u8>,
    ) -> Result<Option<StopOrder>, Violation> {
        match frame.kind {
            Kind::Run => {
                let job = Job::read(frame)?;
                if self.retiring {
                    put_returned(out, vec![(job.id, job.attempt)]);
                } else if self.waiting.len() >= MAX_CREDIT {
                    return Err(Violation::TooMany);
                } else {
                    self.waiting.push_back(job);
                }
                Ok(None)
            }
            Kind::TakeBack => {
                let wanted: TaskList = codec::decode("take-back", &frame.head)?;
                self.take_back(&wanted.tasks, out);
                Ok(None)
            }
            Kind::Cancel => {
                let head: CancelHead = codec::decode("cancel", &frame.head)?;
                Ok(self.cancel((frame.id, head.attempt), head.code, out))
            }
            Kind::Retire => {
                self.retiring = true;
                self.return_waiting(out);
                Ok(None)
            }
            other => Err(Violation::OutOfPlace(other)),
        }
    }

    /// Answers even when it is too late for all of them: the supervisor counts on an answer per
    /// question.
    fn take_back(&mut self, wanted: &[(u64, u32)], out: &mut Vec<u8>) {
        let mut given = Vec::new();
        self.waiting.retain(|job| {
            let back = wanted.contains(&(job.id, job.attempt));
            if back {
                given.push((job.id, job.attempt));
            }
            !back
        });
        put_returned(out, given);
    }

    fn cancel(
        &mut self,
        task: (u64, u32),
        code: ErrorCode,
        out: &mut Vec<u8>,
    ) -> Option<StopOrder> {
        if let Some(at) = self.waiting.iter().position(|job| job.is(task)) {
            self.waiting.remove(at);
            put_unstarted(out, task, code);
            return None;
        }
        let running = self.running.as_ref().filter(|r| r.task == task)?;
        let reason =
            if code == ErrorCode::Timeout { StopReason::Timeout } else { StopReason::Cancelled };
        Some(StopOrder { ticket: running.ticket, reason })
    }

    /// Gives back what waits, because this worker will not run it.
    pub fn return_waiting(&mut self, out: &mut Vec<u8>) {
        if self.waiting.is_empty() {
            return;
        }
        let tasks = self.waiting.drain(..).map(|job| (job.id, job.attempt)).collect();
        put_returned(out, tasks);
    }

    /// The running task is over; the next one starts, if there is one.
    pub fn begin(&mut self, now: Instant) -> Option<(u64, Job)> {
        self.running = None;
        let job = self.waiting.pop_front()?;
        self.tickets += 1;
        self.running = Some(Running {
            ticket: self.tickets,
            task: (job.id, job.attempt),
            started: now,
            deadline: now.checked_add(job.timeout),
            timeout: job.timeout,
            cpu: job.cpu,
        });
        Some((self.tickets, job))
    }

    /// The running task's time begins only now.
    pub fn begin_anew(&mut self, now: Instant) {
        if let Some(running) = &mut self.running {
            running.started = now;
            running.deadline = now.checked_add(running.timeout);
        }
    }

    /// No more tasks, and nobody to give the waiting ones back to.
    pub fn retire(&mut self) {
        self.waiting.clear();
        self.retiring = true;
    }

    /// The task that runs now.
    pub fn running(&self) -> Option<Running> {
        self.running
    }

    /// Tasks begun so far.
    pub fn begun(&self) -> u64 {
        self.tickets
    }

    /// Whether there is or will be something to run at once.
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// Whether no more tasks will be taken.
    pub fn is_retiring(&self) -> bool {
        self.retiring
    }
}

fn put_returned(out: &mut Vec<u8>, tasks: Vec<(u64, u32)>) {
    frame::put(out, Kind::Returned, 0, &TaskList { tasks }, &[]);
}

/// The end of a task that was cancelled before its turn.
fn put_unstarted(out: &mut Vec<u8>, (id, attempt): (u64, u32), code: ErrorCode) {
    let body: &[u8] = match code {
        ErrorCode::Timeout => br#"{"message":"the task's time was over before it started"}"#,
        _ => br#"{"message":"the task was cancelled before it started"}"#,
    };
    let head = DoneHead {
        attempt,
        code: Some(code),
        run_us: 0,
        cpu_us: 0,
        busy_us: 0,
        memory_bytes: 0,
        retry_after_ms: 0,
        result_len: u32::try_from(body.len()).expect("written above"),
        spoiled: false,
    };
    frame::put(out, Kind::Done, id, &head, body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use pool_protocol::frame::{FrameLimits, Taken};

    fn frames(bytes: &[u8]) -> Vec<Frame> {
        let mut buffer = BytesMut::from(bytes);
        let mut found = Vec::new();
        while let Taken::Frame(frame) =
            frame::take(&mut buffer, FrameLimits { body_bytes: 1024 }).unwrap()
        {
            found.push(frame);
        }
        assert!(buffer.is_empty());
        found
    }

    fn run(id: u64, attempt: u32) -> Frame {
        let head = RunHead {
            attempt,
            kind: TaskKind::Code,
            project: "p",
            realm: Realm::Fresh,
            timeout_ms: 1000,
            cpu_ms: 1000,
            memory_bytes: 1,
            logs: false,
            stream_logs: false,
            code_len: 0,
        };
        one(|out| frame::put(out, Kind::Run, id, &head, b""))
    }

    fn one(put: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let mut bytes = Vec::new();
        put(&mut bytes);
        frames(&bytes).remove(0)
    }

    fn plain(kind: Kind) -> Frame {
        one(|out| frame::put_plain(out, kind, 1, &[]))
    }

    fn take_back(tasks: &[(u64, u32)]) -> Frame {
        one(|out| frame::put(out, Kind::TakeBack, 0, &TaskList { tasks: tasks.to_vec() }, &[]))
    }

    fn cancel(id: u64, attempt: u32, code: ErrorCode) -> Frame {
        one(|out| frame::put(out, Kind::Cancel, id, &CancelHead { attempt, code }, &[]))
    }

    fn inbox(tasks: &[(u64, u32)]) -> Inbox {
        let mut inbox = Inbox::default();
        let mut out = Vec::new();
        for (id, attempt) in tasks {
            assert_eq!(inbox.receive(run(*id, *attempt), &mut out).unwrap(), None);
        }
        assert!(out.is_empty());
        inbox
    }

    fn returned(out: &[u8]) -> Vec<(u64, u32)> {
        let frame = frames(out).remove(0);
        assert_eq!(frame.kind, Kind::Returned);
        codec::decode::<TaskList>("test", &frame.head).unwrap().tasks
    }

    #[test]
    fn tasks_begin_in_the_order_they_came_and_tickets_grow() {
        let mut inbox = inbox(&[(7, 1), (3, 2)]);
        let now = Instant::now();
        let (ticket, job) = inbox.begin(now).unwrap();
        assert_eq!((ticket, job.id, job.attempt, job.project()), (1, 7, 1, "p"));
        let (ticket, job) = inbox.begin(now).unwrap();
        assert_eq!((ticket, job.id), (2, 3));
        assert_eq!(inbox.begin(now), None);
    }

    #[test]
    fn a_task_that_begins_anew_has_all_of_its_time_and_the_same_ticket() {
        let mut inbox = inbox(&[(7, 1)]);
        let now = Instant::now();
        let (ticket, job) = inbox.begin(now).unwrap();
        let later = now + Duration::from_secs(5);
        inbox.begin_anew(later);
        let running = inbox.running().unwrap();
        assert_eq!((running.ticket, running.started), (ticket, later));
        assert_eq!(running.deadline, Some(later + job.timeout));
    }

    #[test]
    fn a_take_back_gives_back_what_waits_and_always_answers() {
        let mut inbox = inbox(&[(1, 1), (2, 1), (3, 1)]);
        inbox.begin(Instant::now()).unwrap();
        let mut out = Vec::new();
        let wanted = take_back(&[(1, 1), (3, 1), (2, 9), (8, 1)]);
        assert_eq!(inbox.receive(wanted, &mut out).unwrap(), None);
        assert_eq!(returned(&out), [(3, 1)]);
        assert_eq!(inbox.begin(Instant::now()).unwrap().1.id, 2);
        out.clear();
        inbox.receive(take_back(&[(2, 1)]), &mut out).unwrap();
        assert_eq!(returned(&out), []);
    }

    #[test]
    fn a_cancel_reaches_the_task_wherever_it_is() {
        let mut inbox = inbox(&[(1, 1), (2, 3)]);
        inbox.begin(Instant::now()).unwrap();
        let mut out = Vec::new();
        let stop = inbox.receive(cancel(1, 1, ErrorCode::Timeout), &mut out).unwrap();
        assert_eq!(stop, Some(StopOrder { ticket: 1, reason: StopReason::Timeout }));
        assert_eq!(inbox.receive(cancel(2, 2, ErrorCode::Cancelled), &mut out).unwrap(), None);
        assert!(out.is_empty(), "an attempt that is not here is nobody's");
        assert_eq!(inbox.receive(cancel(2, 3, ErrorCode::Cancelled), &mut out).unwrap(), None);
        let done = frames(&out).remove(0);
        let head: DoneHead = codec::decode("test", &done.head).unwrap();
        assert_eq!(
            (done.id, head.attempt, head.code, head.spoiled),
            (2, 3, Some(ErrorCode::Cancelled), false)
        );
        assert_eq!(head.result_len as usize, done.body.len());
        assert_eq!(inbox.begin(Instant::now()), None);
    }

    #[test]
    fn a_retiring_worker_gives_back_what_waits_and_what_still_comes() {
        let mut inbox = inbox(&[(1, 1), (2, 1), (3, 1)]);
        inbox.begin(Instant::now()).unwrap();
        let mut out = Vec::new();
        inbox.receive(plain(Kind::Retire), &mut out).unwrap();
        assert_eq!(returned(&out), [(2, 1), (3, 1)]);
        assert!(inbox.is_retiring());
        out.clear();
        inbox.receive(run(4, 1), &mut out).unwrap();
        assert_eq!(returned(&out), [(4, 1)]);
    }

    #[test]
    fn more_tasks_than_a_worker_may_hold_and_foreign_frames_are_violations() {
        let many: Vec<_> = (0..MAX_CREDIT as u64).map(|id| (id, 1)).collect();
        let mut inbox = inbox(&many);
        let mut out = Vec::new();
        assert!(matches!(inbox.receive(run(99, 1), &mut out), Err(Violation::TooMany)));
        assert!(matches!(
            inbox.receive(plain(Kind::Setup), &mut out),
            Err(Violation::OutOfPlace(Kind::Setup))
        ));
        assert!(matches!(inbox.receive(plain(Kind::Cancel), &mut out), Err(Violation::Head(_))));
    }
}
