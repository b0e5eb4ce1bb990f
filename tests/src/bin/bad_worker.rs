//! A worker that keeps the protocol until it is told to break it: by its own file's name at the
//! start, by a task's code later.
//!
//! A task whose code is no command gets the answer `"ok"`. `sleep:MS` answers after that time;
//! `hold` is a task that goes on until it is cancelled; `steal:ID` answers for the task with that
//! number. The other commands are the variants of [`Lie`].

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use bytes::BytesMut;
use pool_protocol::codec;
use pool_protocol::frame::{self, Frame, FrameLimits, Kind, Taken};
use pool_protocol::id::TaskId;
use pool_protocol::layer::{Layer, LayerSet};
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::Body;
use pool_protocol::version::CURRENT;
use pool_protocol::worker::{
    DoneHead, HeartbeatHead, ProbeReport, ReadyHead, RunHead, Setup, TaskList,
};
use pool_tests::wait::pause;

fn main() -> ExitCode {
    // It makes no snapshot, and has no socket when it is asked for one.
    if std::env::args().any(|argument| argument == "--make-snapshot") {
        return ExitCode::FAILURE;
    }
    // One that does not look at its socket would outlive its supervisor, which it may not.
    if rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    let name = std::env::current_exe().ok().and_then(|p| Some(p.file_name()?.to_str()?.to_owned()));
    // SAFETY: the supervisor put the worker's end of the socket pair on descriptor 3, and nothing
    // else here owns it.
    #[expect(unsafe_code, reason = "an inherited descriptor has no owner yet")]
    let stream = unsafe { UnixStream::from_raw_fd(3) };
    match Worker::new(stream)
        .and_then(|mut worker| worker.serve(name.as_deref().unwrap_or_default()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What it can be told to do wrong while a task runs.
#[derive(Clone, Copy, Debug)]
enum Lie {
    HugeLength,
    Announce,
    Empty,
    Zeroes,
    HalfFrame,
    UnknownKind,
    ClientsKind,
    TrailingBytes,
    SecondReady,
    WrongTask,
    SecondReply,
    OldAttempt,
    HeartbeatsOnly,
    Flood,
    Deaf,
    Stop,
    Exit,
    Close,
    Descriptors,
    JunkBody,
}

const LIES: &[(&str, Lie)] = &[
    ("huge-length", Lie::HugeLength),
    ("announce", Lie::Announce),
    ("empty", Lie::Empty),
    ("zeroes", Lie::Zeroes),
    ("half-frame", Lie::HalfFrame),
    ("unknown-kind", Lie::UnknownKind),
    ("clients-kind", Lie::ClientsKind),
    ("trailing-bytes", Lie::TrailingBytes),
    ("second-ready", Lie::SecondReady),
    ("wrong-task", Lie::WrongTask),
    ("second-reply", Lie::SecondReply),
    ("old-attempt", Lie::OldAttempt),
    ("heartbeats-only", Lie::HeartbeatsOnly),
    ("flood", Lie::Flood),
    ("deaf", Lie::Deaf),
    ("stop", Lie::Stop),
    ("exit", Lie::Exit),
    ("close", Lie::Close),
    ("descriptors", Lie::Descriptors),
    ("junk-body", Lie::JunkBody),
];

struct Worker {
    stream: UnixStream,
    buffer: BytesMut,
    /// Tasks that came while another was held.
    waiting: VecDeque<Frame>,
}

impl Worker {
    fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Self { stream, buffer: BytesMut::new(), waiting: VecDeque::new() })
    }

    fn serve(&mut self, name: &str) -> std::io::Result<()> {
        let setup = self.next_with(|_| Ok(()))?;
        let setup: Setup = serde_json::from_slice(&setup.body).map_err(std::io::Error::other)?;
        self.start(name)?;
        if setup.probe.is_some() {
            return self.boast();
        }
        loop {
            let frame = match self.waiting.pop_front() {
                Some(frame) => frame,
                None => self.next()?,
            };
            match frame.kind {
                Kind::Run => self.run(&frame)?,
                Kind::Retire => return Ok(()),
                _ => {}
            }
        }
    }

    /// The handshake, or what the file's name says instead of it.
    #[expect(
        clippy::disallowed_methods,
        reason = "a process that ends without a word is what is tested"
    )]
    fn start(&mut self, name: &str) -> std::io::Result<()> {
        match name {
            "exits-at-start" => std::process::exit(3),
            "silent" => self.idle(false),
            "deaf" => {
                self.ready(u64::from(CURRENT))?;
                self.idle(true)
            }
            "replies-before-ready" => self.done(1, 1, b"1"),
            "old-version" => self.ready(0),
            "new-version" => self.ready(u64::from(CURRENT) + 1),
            "claims-layers" => self.ready_with(u64::from(CURRENT), LayerSet::of(Layer::ALL)),
            _ => self.ready(u64::from(CURRENT)),
        }
    }

    /// Instead of an attack: word that it went through.
    fn boast(&mut self) -> std::io::Result<()> {
        let report =
            ProbeReport { succeeded: true, detail: "done, as nothing is in the way".to_owned() };
        let body = serde_json::to_vec(&report).map_err(std::io::Error::other)?;
        let mut bytes = Vec::new();
        frame::put_plain(&mut bytes, Kind::Probed, 0, &body);
        self.stream.write_all(&bytes)
    }

    /// The next frame; heartbeats go out while there is none.
    fn next(&mut self) -> std::io::Result<Frame> {
        self.next_with(Self::heartbeat)
    }

    /// The next frame; this is done now and then while there is none. No worker sends heartbeats
    /// before it is ready.
    fn next_with(
        &mut self,
        meanwhile: fn(&mut Self) -> std::io::Result<()>,
    ) -> std::io::Result<Frame> {
        let limits = FrameLimits { body_bytes: pool_protocol::limits::MAX_BODY_BYTES };
        let mut scratch = vec![0; 65536];
        loop {
            if let Taken::Frame(frame) =
                frame::take(&mut self.buffer, limits).map_err(std::io::Error::other)?
            {
                return Ok(frame);
            }
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend_from_slice(&scratch[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    meanwhile(self)?
                }
                // A read with a timeout is not begun again by the kernel when the process was
                // stopped in between.
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn run(&mut self, frame: &Frame) -> std::io::Result<()> {
        let head: RunHead<'_> = codec::decode("run", &frame.head).map_err(std::io::Error::other)?;
        let body = Body::split(&frame.body, head.code_len).map_err(std::io::Error::other)?;
        if let Some(ms) = body.code.strip_prefix("sleep:").and_then(|ms| ms.parse().ok()) {
            pause(Duration::from_millis(ms));
        }
        if body.code == "hold" {
            return self.hold(frame.id, head.attempt);
        }
        if let Some(other) =
            body.code.strip_prefix("steal:").and_then(|id| id.parse::<TaskId>().ok())
        {
            return self.done(other.0, 1, b"\"stolen\"");
        }
        match LIES.iter().find(|(name, _)| *name == body.code) {
            Some((_, lie)) => self.lie(*lie, frame.id, head.attempt),
            None => self.done(frame.id, head.attempt, b"\"ok\""),
        }
    }

    /// Keeps the task until it is cancelled, and gives back what comes behind it, as an honest
    /// worker does.
    fn hold(&mut self, task: u64, attempt: u32) -> std::io::Result<()> {
        loop {
            let frame = self.next()?;
            match frame.kind {
                Kind::Run => self.waiting.push_back(frame),
                Kind::TakeBack => {
                    let mut list: TaskList =
                        codec::decode("take back", &frame.head).map_err(std::io::Error::other)?;
                    list.tasks
                        .retain(|(id, _)| self.waiting.iter().any(|waiting| waiting.id == *id));
                    self.waiting
                        .retain(|waiting| list.tasks.iter().all(|(id, _)| waiting.id != *id));
                    let mut bytes = Vec::new();
                    frame::put(&mut bytes, Kind::Returned, 0, &list, b"");
                    self.stream.write_all(&bytes)?;
                }
                Kind::Cancel if frame.id == task => {
                    return self.failed(task, attempt, ErrorCode::Cancelled);
                }
                _ => {}
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a process that ends without a word is what is tested"
    )]
    fn lie(&mut self, lie: Lie, task: u64, attempt: u32) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        match lie {
            Lie::HugeLength => {
                frame::put_header(&mut bytes, Kind::Done, task, 0);
                bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            }
            Lie::Announce => {
                frame::put_header(&mut bytes, Kind::Done, task, 8 << 20);
                self.stream.write_all(&bytes)?;
                return self.idle(false);
            }
            Lie::Empty => frame::put_plain(&mut bytes, Kind::Done, task, b""),
            Lie::Zeroes => bytes = vec![0; 64],
            Lie::HalfFrame => {
                self.stream.write_all(&[Kind::Done as u8, 0, 9])?;
                return self.idle(false);
            }
            Lie::UnknownKind => bytes = [[0xEE; 1].to_vec(), vec![0; 15]].concat(),
            Lie::ClientsKind => frame::put_plain(&mut bytes, Kind::Submit, task, b""),
            Lie::TrailingBytes => frame::put(
                &mut bytes,
                Kind::Done,
                task,
                &(done_head(attempt, 0), 1_u64, 2_u64),
                b"",
            ),
            Lie::SecondReady => return self.ready(u64::from(CURRENT)),
            Lie::WrongTask => return self.done(task + 1_000_000, attempt, b"\"stolen\""),
            Lie::SecondReply => {
                self.done(task, attempt, b"\"once\"")?;
                return self.done(task, attempt, b"\"twice\"");
            }
            Lie::OldAttempt if attempt == 1 => {
                return self.failed(task, attempt, ErrorCode::JsException);
            }
            Lie::OldAttempt => return self.done(task, attempt - 1, b"\"late\""),
            Lie::HeartbeatsOnly => return self.idle(true),
            Lie::Flood => loop {
                self.heartbeat()?;
            },
            Lie::Deaf => loop {
                pause(Duration::from_millis(100));
                self.heartbeat()?;
            },
            Lie::Stop => rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::STOP,
            )?,
            Lie::Exit => std::process::exit(0),
            Lie::Close => {
                self.stream.shutdown(std::net::Shutdown::Both)?;
                pause(Duration::from_secs(1000));
            }
            Lie::Descriptors => return self.done_with_descriptors(task, attempt),
            Lie::JunkBody => return self.done(task, attempt, b"{no json"),
        }
        self.stream.write_all(&bytes)
    }

    /// Reads nothing for ever.
    fn idle(&mut self, heartbeats: bool) -> std::io::Result<()> {
        loop {
            pause(Duration::from_millis(100));
            if heartbeats {
                self.heartbeat()?;
            }
        }
    }

    fn ready(&mut self, version: u64) -> std::io::Result<()> {
        self.ready_with(version, LayerSet::NONE)
    }

    fn ready_with(&mut self, version: u64, layers: LayerSet) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, Kind::Ready, version, &ReadyHead { start_us: 1, layers }, b"{}");
        self.stream.write_all(&bytes)
    }

    fn heartbeat(&mut self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        frame::put(
            &mut bytes,
            Kind::Heartbeat,
            0,
            &HeartbeatHead { rss_bytes: 1 << 20, cpu_us: 1 },
            b"",
        );
        self.stream.write_all(&bytes)
    }

    fn done(&mut self, task: u64, attempt: u32, result: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&done(task, attempt, result))
    }

    fn failed(&mut self, task: u64, attempt: u32, code: ErrorCode) -> std::io::Result<()> {
        let body = br#"{"name":"Error","message":"once more"}"#;
        let head = DoneHead { code: Some(code), ..done_head(attempt, body.len()) };
        let mut bytes = Vec::new();
        frame::put(&mut bytes, Kind::Done, task, &head, body);
        self.stream.write_all(&bytes)
    }

    fn done_with_descriptors(&mut self, task: u64, attempt: u32) -> std::io::Result<()> {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
        let bytes = done(task, attempt, b"\"ok\"");
        let file = std::fs::File::open("/dev/null")?;
        let descriptors = [file.as_fd(); 8];
        let mut space = [const { std::mem::MaybeUninit::uninit() }; 256];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        rustix::net::sendmsg(
            &self.stream,
            &[std::io::IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::empty(),
        )?;
        Ok(())
    }
}

fn done(task: u64, attempt: u32, result: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put(&mut bytes, Kind::Done, task, &done_head(attempt, result.len()), result);
    bytes
}

fn done_head(attempt: u32, len: usize) -> DoneHead {
    let result_len = u32::try_from(len).expect("small");
    DoneHead {
        attempt,
        code: None,
        run_us: 1,
        cpu_us: 1,
        busy_us: 1,
        memory_bytes: 1,
        retry_after_ms: 0,
        result_len,
        spoiled: false,
    }
}
