//! A supervisor in miniature: starts the real worker over a socket pair and speaks the real frames.

#![expect(clippy::disallowed_methods, reason = "real processes and sockets take real time")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of this")]

#[path = "../../../tests/src/executable.rs"]
pub mod executable;
#[path = "../../../tests/src/skip.rs"]
pub mod skip;

pub mod programs;
pub mod server;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pool_protocol::codec;
use pool_protocol::frame::{self, Frame, FrameLimits, Kind, Taken};
use pool_protocol::lane::Lane;
use pool_protocol::layer::{LayerSet, Level};
use pool_protocol::outcome::{Cause, ErrorCode};
use pool_protocol::task::{Realm, TaskKind};
use pool_protocol::version;
use pool_protocol::worker::{
    CancelHead, DoneHead, HttpSetup, IsolationSetup, JsSetup, LastWordsHead, ReadyHead, RunHead,
    Setup, ShellSetup, TaskList,
};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Worker {
    pub child: Child,
    pub socket: UnixStream,
    buffer: BytesMut,
    pub heartbeats: u32,
}

/// How a task ended.
#[derive(Debug)]
pub struct Ended {
    pub id: u64,
    pub head: DoneHead,
    pub body: Vec<u8>,
}

impl Ended {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body[..self.head.result_len as usize]).expect("a body is JSON")
    }

    pub fn logs(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body[self.head.result_len as usize..]).expect("logs are JSON")
    }

    /// The result of a task that must have succeeded.
    pub fn result(&self) -> serde_json::Value {
        assert_eq!(self.head.code, None, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The code and message of a task that must have failed.
    pub fn failure(&self) -> (ErrorCode, String) {
        let code = self
            .head
            .code
            .unwrap_or_else(|| panic!("succeeded: {}", String::from_utf8_lossy(&self.body)));
        (code, self.json()["message"].as_str().expect("an error has a message").to_owned())
    }
}

pub fn setup(lane: Lane) -> Setup {
    Setup {
        lane,
        worker: "w0.1".into(),
        heartbeat_ms: 50,
        body_bytes: 8 << 20,
        result_bytes: 8 << 20,
        open_files: 64,
        memory_bytes: 64 << 20,
        js: JsSetup::default(),
        shell: ShellSetup {
            file_bytes: 1 << 20,
            kill_after_ms: 2000,
            umask: 0o077,
            ..ShellSetup::default()
        },
        http: HttpSetup::default(),
        isolation: IsolationSetup {
            level: Level::Standard,
            namespaced: false,
            readable: Vec::new(),
            writable: vec!["/".into()],
            sockets: Vec::new(),
            covered: Vec::new(),
        },
        probe: None,
    }
}

/// A `Run` frame to be.
#[derive(Clone)]
pub struct Run<'a> {
    pub id: u64,
    pub head: RunHead<'a>,
    pub code: &'a str,
    pub data: &'a str,
}

pub fn task<'a>(id: u64, kind: TaskKind, code: &'a str, data: &'a str) -> Run<'a> {
    let head = RunHead {
        attempt: 1,
        kind,
        project: "default",
        realm: kind.default_realm(),
        timeout_ms: 60_000,
        cpu_ms: 60_000,
        memory_bytes: 64 << 20,
        logs: false,
        stream_logs: false,
        code_len: code.len() as u32,
    };
    Run { id, head, code, data }
}

pub fn code(id: u64, source: &str) -> Run<'_> {
    task(id, TaskKind::Code, source, "")
}

pub fn warm<'a>(id: u64, source: &'a str, args: &'a str) -> Run<'a> {
    let mut run = task(id, TaskKind::Function, source, args);
    run.head.realm = Realm::Warm;
    run
}

/// Starts the worker without a word.
pub fn spawn(args: &[&str], socket: Option<&UnixStream>) -> Child {
    spawn_with(args, socket, &[])
}

fn spawn_with(args: &[&str], socket: Option<&UnixStream>, variables: &[(&str, String)]) -> Child {
    command(args, socket, variables).spawn().expect("the worker was built with this test")
}

/// Namespaces for what is started, with a process outside of them that waits for it and ends like
/// it.
#[expect(
    unsafe_code,
    reason = "a process between this one and the worker, which can be the first of a namespace"
)]
fn as_init(command: &mut Command) {
    // SAFETY: as below; nothing is allocated after the fork.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let maps = [
        (c"/proc/self/setgroups", "deny".to_owned()),
        (c"/proc/self/uid_map", format!("0 {uid} 1")),
        (c"/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    let steps = move || {
        let failed = || Err(std::io::Error::last_os_error());
        // SAFETY: system calls on numbers and on what was made before the fork.
        unsafe {
            if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) != 0 {
                return failed();
            }
            for (path, text) in &maps {
                let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                if fd < 0 || libc::write(fd, text.as_ptr().cast(), text.len()) < 0 {
                    return failed();
                }
                libc::close(fd);
            }
            match libc::fork() {
                -1 => failed(),
                0 => Ok(()),
                child => {
                    libc::close_range(0, u32::MAX, 0);
                    let mut status = 0;
                    while libc::waitpid(child, &raw mut status, 0) < 0 {}
                    if libc::WIFSIGNALED(status) {
                        libc::signal(libc::WTERMSIG(status), libc::SIG_DFL);
                        libc::raise(libc::WTERMSIG(status));
                    }
                    libc::_exit(libc::WEXITSTATUS(status))
                }
            }
        }
    };
    // SAFETY: the steps are safe after a fork.
    unsafe { command.pre_exec(steps) };
}

fn command(args: &[&str], socket: Option<&UnixStream>, variables: &[(&str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pool-worker"));
    command
        .args(args)
        .env_clear()
        .envs(variables.iter().map(|(n, v)| (n, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(socket) = socket {
        let fd = socket.as_raw_fd();
        #[expect(unsafe_code, reason = "the worker wants its socket under number 3")]
        // SAFETY: dup2 and fcntl are safe after a fork, and the socket is open until the child has
        // started.
        unsafe {
            command.pre_exec(move || {
                let result =
                    if fd == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(fd, 3) };
                if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
    }
    command
}

impl Worker {
    /// Starts a worker and does nothing more.
    pub fn silent(lane: Lane) -> Self {
        Self::silent_with(lane, &[])
    }

    fn silent_with(lane: Lane, variables: &[(&str, String)]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let args = ["--lane", lane.name(), "--parent", &std::process::id().to_string()];
        let child = spawn_with(&args, Some(&theirs), variables);
        Self { child, socket: ours, buffer: BytesMut::new(), heartbeats: 0 }
    }

    /// Starts a worker and shakes hands.
    pub fn start(setup: &Setup) -> Self {
        Self::start_with(setup, &[])
    }

    /// Starts a worker with an environment and shakes hands.
    pub fn start_with(setup: &Setup, variables: &[(&str, String)]) -> Self {
        let mut worker = Self::silent_with(setup.lane, variables);
        worker.send_setup(setup, u64::from(version::CURRENT));
        let ready = worker.next();
        assert_eq!((ready.kind, ready.id), (Kind::Ready, u64::from(version::CURRENT)), "{ready:?}");
        let head: ReadyHead = codec::decode("ready", &ready.head).unwrap();
        assert!(head.start_us > 0);
        worker
    }

    /// Starts a worker as the root of its own user namespace and the first process of its own
    /// process namespace, and shakes hands. Nothing where the machine does not allow such
    /// namespaces. Its end is told by a process in between, in the same way.
    pub fn start_as_init(setup: &Setup) -> Option<Self> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let args = ["--lane", setup.lane.name(), "--parent", &std::process::id().to_string()];
        let mut command = command(&args, Some(&theirs), &[]);
        as_init(&mut command);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                skip::skipped(skip::USER_NAMESPACES, &error.to_string());
                return None;
            }
        };
        let mut worker = Self { child, socket: ours, buffer: BytesMut::new(), heartbeats: 0 };
        drop(theirs);
        let mut setup = setup.clone();
        setup.isolation.namespaced = true;
        worker.send_setup(&setup, u64::from(version::CURRENT));
        let ready = worker.next();
        assert_eq!(ready.kind, Kind::Ready, "{ready:?}");
        Some(worker)
    }

    /// Starts a worker; what it says of its confinement.
    pub fn start_confined(setup: &Setup) -> (Self, LayerSet, BTreeMap<String, String>) {
        let mut worker = Self::silent(setup.lane);
        worker.send_setup(setup, u64::from(version::CURRENT));
        let ready = worker.next();
        let head: ReadyHead = codec::decode("ready", &ready.head).unwrap();
        (worker, head.layers, serde_json::from_slice(&ready.body).unwrap())
    }

    pub fn js() -> Self {
        Self::start(&setup(Lane::Js))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub fn send_setup(&mut self, setup: &Setup, version: u64) {
        let mut bytes = Vec::new();
        frame::put_plain(&mut bytes, Kind::Setup, version, &serde_json::to_vec(setup).unwrap());
        self.send(&bytes);
    }

    pub fn send_runs(&mut self, runs: &[Run<'_>]) {
        let mut bytes = Vec::new();
        for run in runs {
            let body = [run.code.as_bytes(), run.data.as_bytes()].concat();
            frame::put(&mut bytes, Kind::Run, run.id, &run.head, &body);
        }
        self.send(&bytes);
    }

    pub fn cancel(&mut self, id: u64, attempt: u32, code: ErrorCode) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, Kind::Cancel, id, &CancelHead { attempt, code }, &[]);
        self.send(&bytes);
    }

    pub fn take_back(&mut self, tasks: &[(u64, u32)]) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, Kind::TakeBack, 0, &TaskList { tasks: tasks.to_vec() }, &[]);
        self.send(&bytes);
    }

    pub fn retire(&mut self) {
        let mut bytes = Vec::new();
        frame::put_plain(&mut bytes, Kind::Retire, 0, &[]);
        self.send(&bytes);
    }

    /// The next frame of any kind, or nothing when the worker closed its end.
    pub fn any(&mut self) -> Option<Frame> {
        let end = Instant::now() + PATIENCE;
        loop {
            let limits = FrameLimits { body_bytes: 16 << 20 };
            if let Taken::Frame(frame) = frame::take(&mut self.buffer, limits).unwrap() {
                return Some(frame);
            }
            let left = end
                .checked_duration_since(Instant::now())
                .expect("the worker says something in time");
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut chunk = [0; 64 * 1024];
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // A read with a timeout is not begun again by the kernel when the process was
                // stopped in between.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("failed to read from the worker in time: {error}"),
            }
        }
    }

    /// The next frame that is no heartbeat, or nothing at the end.
    pub fn next_or_end(&mut self) -> Option<Frame> {
        let end = Instant::now() + PATIENCE;
        loop {
            let frame = self.any()?;
            if frame.kind != Kind::Heartbeat {
                return Some(frame);
            }
            self.heartbeats += 1;
            assert!(Instant::now() < end, "the worker says nothing but that it lives");
        }
    }

    pub fn next(&mut self) -> Frame {
        self.next_or_end()
            .unwrap_or_else(|| panic!("the worker closed its end; it says: {}", self.stderr()))
    }

    pub fn done(&mut self) -> Ended {
        let frame = self.next();
        assert_eq!(frame.kind, Kind::Done, "{frame:?}");
        let head = codec::decode("done", &frame.head).unwrap();
        Ended { id: frame.id, head, body: frame.body.to_vec() }
    }

    pub fn returned(&mut self) -> Vec<(u64, u32)> {
        let frame = self.next();
        assert_eq!(frame.kind, Kind::Returned, "{frame:?}");
        codec::decode::<TaskList>("returned", &frame.head).unwrap().tasks
    }

    /// Why it is about to die, after which it says nothing more.
    pub fn last_words(&mut self) -> (Cause, String) {
        let frame = self.next();
        assert_eq!(frame.kind, Kind::LastWords, "{frame:?}");
        let words: LastWordsHead<'_> = codec::decode("last words", &frame.head).unwrap();
        let said = (words.cause, words.detail.to_owned());
        assert_eq!(self.next_or_end(), None);
        said
    }

    /// Runs one task.
    pub fn outcome(&mut self, run: &Run<'_>) -> Ended {
        self.send_runs(std::slice::from_ref(run));
        let ended = self.done();
        assert_eq!((ended.id, ended.head.attempt), (run.id, run.head.attempt));
        ended
    }

    /// Sends code as task 1 and waits until it has begun.
    pub fn send_started(&mut self, source: &str) {
        let source = format!("console.log('begun'); {source}");
        let mut run = code(1, &source);
        run.head.stream_logs = true;
        self.send_runs(&[run]);
        let frame = self.next();
        assert_eq!((frame.kind, &frame.body[..]), (Kind::Log, &b"begun"[..]));
    }

    /// Waits for the next heartbeat, with what comes before it thrown away.
    pub fn heartbeat(&mut self) -> pool_protocol::worker::HeartbeatHead {
        loop {
            let frame = self.any().expect("the worker lives");
            if frame.kind == Kind::Heartbeat {
                return codec::decode("heartbeat", &frame.head).unwrap();
            }
        }
    }

    /// Waits for the process to end.
    pub fn exit(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// All of stderr, once the process has ended.
    pub fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            let _ = self.child.kill();
            let _ = pipe.read_to_string(&mut text);
        }
        text
    }

    pub fn hang_up(&mut self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a process to end, not for ever.
pub fn wait(child: &mut Child) -> ExitStatus {
    until("the process ends", || child.try_wait().unwrap())
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
