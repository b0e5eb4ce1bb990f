//! A supervisor of a test's own: it speaks the wire, and does with tasks what the test says.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::BytesMut;
use pool_protocol::codec;
use pool_protocol::control::{
    AcceptedHead, ControlRequest, HelloHead, OutcomeHead, Refusal, RefusedCode, RefusedHead,
    WelcomeHead,
};
use pool_protocol::frame::{self, Frame, FrameLimits, Kind, Taken};
use pool_protocol::id::WorkerId;
use pool_protocol::outcome::{ErrorCode, Receipt, Status};
use pool_protocol::task::TaskHead;
use pool_protocol::version::CURRENT;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The largest body the fake says it accepts.
pub(crate) const BODY_BYTES: u64 = 4096;

/// One client's connection, in the hands of the test's function.
pub(crate) struct Peer {
    stream: UnixStream,
    buffer: BytesMut,
}

/// A supervisor for one connection.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    _folder: tempfile::TempDir,
    done: Receiver<()>,
}

impl Fake {
    /// Listens, shakes hands with the first client and gives it to `serve`.
    pub(crate) fn serving(serve: impl FnOnce(&mut Peer) + Send + 'static) -> Self {
        Self::with_version(CURRENT, serve)
    }

    pub(crate) fn with_version(
        version: u32,
        serve: impl FnOnce(&mut Peer) + Send + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("pool.sock");
        let listener = UnixListener::bind(&socket).expect("a short path");
        let (finish, done): (Sender<()>, _) = channel();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut peer = Peer { stream, buffer: BytesMut::new() };
            let hello = peer.frame().expect("a hello");
            assert_eq!((hello.kind, hello.id), (Kind::Hello, u64::from(CURRENT)));
            let head: HelloHead<'_> = codec::decode("hello", &hello.head).expect("a hello's head");
            assert_eq!(head.program, "poolctl");
            let welcome = WelcomeHead { release: "0.1.0", pid: 1, body_bytes: BODY_BYTES };
            let mut out = Vec::new();
            frame::put(&mut out, Kind::Welcome, u64::from(version), &welcome, b"");
            peer.write(&out);
            serve(&mut peer);
            let _ = finish.send(());
        });
        Self { socket, _folder: folder, done }
    }

    /// Waits until the test's function has returned; fails if it panicked.
    pub(crate) fn finish(&self) {
        self.done.recv_timeout(PATIENCE).expect("the fake supervisor saw what it expected");
    }
}

impl Peer {
    /// The next frame; `None` once the client is gone.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let limits = FrameLimits { body_bytes: 1 << 20 };
        let mut chunk = [0; 4096];
        loop {
            match frame::take(&mut self.buffer, limits).expect("the client keeps the rules") {
                Taken::Frame(frame) => return Some(frame),
                Taken::Needs(_) => match self.stream.read(&mut chunk) {
                    Ok(0) | Err(_) => return None,
                    Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                },
            }
        }
    }

    /// The next frame, which must be a task.
    pub(crate) fn task(&mut self) -> Frame {
        let frame = self.frame().expect("a task");
        assert_eq!(frame.kind, Kind::Submit);
        frame
    }

    /// Whether nothing more comes for a while.
    pub(crate) fn is_quiet(&mut self) -> bool {
        assert!(self.buffer.is_empty(), "looked at only between frames");
        self.stream.set_read_timeout(Some(Duration::from_millis(60))).expect("not zero");
        let seen = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(None).expect("none is allowed");
        seen.is_err_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        })
    }

    /// The next frame, which must be an administrative request that `wanted` accepts; gives its
    /// number.
    pub(crate) fn request(&mut self, wanted: impl FnOnce(&ControlRequest<'_>) -> bool) -> u64 {
        let frame = self.frame().expect("a request");
        assert_eq!(frame.kind, Kind::Control);
        let request = codec::decode("control", &frame.head).expect("a request's head");
        assert!(wanted(&request), "{request:?}");
        frame.id
    }

    pub(crate) fn accept(&mut self, request: u64, task: u64) {
        let mut out = Vec::new();
        frame::put(&mut out, Kind::Accepted, request, &AcceptedHead { task }, b"");
        self.write(&out);
    }

    pub(crate) fn succeed(&mut self, request: u64, result: &str) {
        self.end(request, None, result, "");
    }

    /// Ends a task; `logs` is a JSON array or nothing.
    pub(crate) fn end(&mut self, request: u64, code: Option<ErrorCode>, body: &str, logs: &str) {
        let head = OutcomeHead {
            task: 32 + request,
            status: code.map_or(Status::Succeeded, ErrorCode::status),
            code,
            attempts: 1,
            worker: Some(WorkerId { slot: 3, generation: 17 }),
            receipt: Receipt { queued_us: 200, run_us: 1100, cpu_us: 900, memory_bytes: 4_194_304 },
            missing_layers: pool_protocol::layer::LayerSet::NONE,
            tag: None,
            result_len: body.len() as u32,
        };
        let mut out = Vec::new();
        frame::put(&mut out, Kind::Outcome, request, &head, format!("{body}{logs}").as_bytes());
        self.write(&out);
    }

    pub(crate) fn reply(&mut self, request: u64, json: &str) {
        self.plain(Kind::Reply, request, json);
    }

    pub(crate) fn event(&mut self, request: u64, json: &str) {
        self.plain(Kind::Event, request, json);
    }

    pub(crate) fn refuse(&mut self, request: u64, code: RefusedCode, error: &str) {
        let body = serde_json::to_vec(&Refusal { error: error.to_owned() }).expect("a string");
        let mut out = Vec::new();
        frame::put(&mut out, Kind::Refused, request, &RefusedHead { code }, &body);
        self.write(&out);
    }

    fn plain(&mut self, kind: Kind, request: u64, json: &str) {
        let mut out = Vec::new();
        frame::put_plain(&mut out, kind, request, json.as_bytes());
        self.write(&out);
    }

    /// A client that is gone is noticed by the next read.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }
}

/// A task's head, to look at.
pub(crate) fn head(frame: &Frame) -> TaskHead<'_> {
    codec::decode("task", &frame.head).expect("a task's head")
}
