//! The other two parties: a supervisor that answers by a script, and a client that writes bytes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pool_protocol::codec;
use pool_protocol::control::{
    AcceptedHead, ControlRequest, HelloHead, OutcomeHead, RefusedCode, RefusedHead, WelcomeHead,
};
use pool_protocol::frame::{self, Frame, FrameLimits, Kind, Taken};
use pool_protocol::outcome::{ErrorCode, Receipt, Status};
use pool_protocol::task::{OnDisconnect, TaskHead};
use pool_protocol::version;
use pool_supervisor::http::{self, HttpHandle, HttpOptions, Patience};

pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const BODY_BYTES: usize = 64 * 1024;
/// For what must happen soon.
const SOON: Duration = Duration::from_secs(10);

/// The API with a scripted supervisor behind it.
pub(crate) struct Api {
    pub(crate) handle: Option<HttpHandle>,
    pub(crate) addr: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) supervisor: Supervisor,
    _folder: tempfile::TempDir,
}

pub(crate) fn api() -> Api {
    api_with(Patience::default())
}

pub(crate) fn api_with(patience: Patience) -> Api {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("api.sock");
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let options = HttpOptions {
        listen: Some("127.0.0.1:0".parse().expect("an address")),
        unix_socket: Some(socket.clone()),
        key: KEY.to_owned(),
        body_bytes: BODY_BYTES,
    };
    let handle = http::start_with(options, patience, theirs).expect("started");
    let addr = handle.addr.expect("it listens");
    Api { handle: Some(handle), addr, socket, supervisor: Supervisor::start(ours), _folder: folder }
}

impl Api {
    /// A request with the key.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.ask_with(method, path, &format!("X-API-Key: {KEY}\r\n"), body)
    }

    /// A request with these headers besides the necessary ones.
    pub(crate) fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let host = self.addr;
        let length = body.len();
        self.raw(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: \
             {length}\r\n{headers}\r\n{body}"
        ))
    }

    /// These bytes, and everything that comes back.
    pub(crate) fn raw(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).expect("written");
        Reply::read(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("connected");
        stream.set_read_timeout(Some(SOON)).expect("set");
        stream
    }
}

/// What came back until the connection ended.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            Err(e) => panic!("{e}; so far {:?}", String::from_utf8_lossy(&bytes)),
        }
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error in {self:?}")).to_owned()
    }
}

/// Answers the API's requests and remembers them.
pub(crate) struct Supervisor {
    stream: UnixStream,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Supervisor {
    fn start(stream: UnixStream) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = stream.try_clone().expect("cloned");
        let to = Arc::clone(&seen);
        std::thread::spawn(move || run(reader, &to));
        Self { stream, seen }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("sound").clone()
    }

    /// Waits until a request has been seen.
    pub(crate) fn wait_for(&self, what: &str) {
        self.wait_for_start(what, |rest| rest.is_empty());
    }

    /// Waits until a request has been seen that begins so; gives the rest of it.
    pub(crate) fn wait_for_start(&self, start: &str, is_meant: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + SOON;
        loop {
            let seen = self.seen();
            if let Some(rest) =
                seen.iter().filter_map(|seen| seen.strip_prefix(start)).find(|rest| is_meant(rest))
            {
                return rest.to_owned();
            }
            assert!(Instant::now() < until, "{start} was not seen, but {seen:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a frame that nobody asked for.
    pub(crate) fn send(&self, kind: Kind, id: u64, body: &[u8]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        frame::put_plain(&mut bytes, kind, id, body);
        (&self.stream).write_all(&bytes)
    }

    pub(crate) fn hang_up(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn run(mut stream: UnixStream, seen: &Mutex<Vec<String>>) {
    let mut buffer = BytesMut::new();
    let mut waits = Waits::new();
    let mut piece = vec![0; 64 * 1024];
    while let Ok(len) = stream.read(&mut piece) {
        if len == 0 {
            return;
        }
        buffer.extend_from_slice(&piece[..len]);
        while let Taken::Frame(frame) =
            frame::take(&mut buffer, FrameLimits { body_bytes: BODY_BYTES }).expect("sound frames")
        {
            let mut out = Vec::new();
            let what = answer(&frame, &mut waits, &mut out);
            seen.lock().expect("sound").push(what);
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    }
}

/// Tasks by the number under which somebody waits for them.
type Waits = std::collections::HashMap<u64, u64>;

fn answer(frame: &Frame, waits: &mut Waits, out: &mut Vec<u8>) -> String {
    match frame.kind {
        Kind::Hello => {
            let head: HelloHead<'_> = codec::decode("hello", &frame.head).expect("a hello");
            let welcome = WelcomeHead { release: "0", pid: 1, body_bytes: BODY_BYTES as u64 };
            frame::put(out, Kind::Welcome, u64::from(version::CURRENT), &welcome, b"");
            format!("hello {}", head.program)
        }
        Kind::Submit => submit(frame, out),
        Kind::Control => control(frame, waits, out),
        Kind::CancelSubmitted => {
            match waits.get(&frame.id) {
                Some(task) if task & (3 << 32) == SLOW => {
                    frame::put_plain(
                        out,
                        Kind::Reply,
                        frame.id,
                        br#"{"message":"no longer waiting"}"#,
                    );
                }
                Some(task) if task & (3 << 32) == CLOSE => {
                    put_outcome(out, frame.id, *task, None, b"42")
                }
                Some(_) | None => {}
            }
            format!("end {}", frame.id)
        }
        other => panic!("a client sent {other:?}"),
    }
}

/// Ids of tasks that do not end, that end while their wait is taken back, and that have large
/// results.
const SLOW: u64 = 1 << 32;
const CLOSE: u64 = 2 << 32;
const LARGE: u64 = 3 << 32;
/// A large result.
pub(crate) const LARGE_BYTES: usize = 4 << 20;

/// The project says what becomes of a task.
fn submit(frame: &Frame, out: &mut Vec<u8>) -> String {
    let head: TaskHead<'_> = codec::decode("submit", &frame.head).expect("a task");
    assert!(head.check(frame.body.len()).is_ok());
    assert_eq!(
        (head.ack, head.want_outcome, head.on_disconnect),
        (true, false, OnDisconnect::Keep)
    );
    let refusal = match head.project {
        "full" => Some(ErrorCode::QueueFull),
        "quota" => Some(ErrorCode::ProjectQuota),
        "closing" => Some(ErrorCode::ShuttingDown),
        "late" => Some(ErrorCode::DeadlineUnreachable),
        _ => None,
    };
    if let Some(code) = refusal {
        put_outcome(out, frame.id, 0, Some(code), br#"{"message":"refused at the door"}"#);
    } else {
        // The id says what becomes of it.
        let class = match head.project {
            "slow" => SLOW,
            "close" => CLOSE,
            "large" => LARGE,
            _ => 0,
        };
        frame::put(
            out,
            Kind::Accepted,
            frame.id,
            &AcceptedHead { task: class + 1000 + frame.id },
            b"",
        );
    }
    format!("submit {} {}", head.project, frame.id)
}

fn put_outcome(out: &mut Vec<u8>, id: u64, task: u64, code: Option<ErrorCode>, body: &[u8]) {
    let head = OutcomeHead {
        task,
        status: code.map_or(Status::Succeeded, ErrorCode::status),
        code,
        attempts: 1,
        worker: None,
        receipt: Receipt::default(),
        missing_layers: pool_protocol::layer::LayerSet::NONE,
        tag: None,
        result_len: body.len() as u32,
    };
    frame::put(out, Kind::Outcome, id, &head, body);
}

fn put_refused(out: &mut Vec<u8>, id: u64, code: RefusedCode) {
    let body = format!("{{\"error\":\"{code:?} it is\"}}");
    frame::put(out, Kind::Refused, id, &RefusedHead { code }, body.as_bytes());
}

fn control(frame: &Frame, waits: &mut Waits, out: &mut Vec<u8>) -> String {
    let request: ControlRequest<'_> = codec::decode("control", &frame.head).expect("a request");
    let mut reply = |body: &str| frame::put_plain(out, Kind::Reply, frame.id, body.as_bytes());
    match request {
        ControlRequest::Stats => reply(r#"{"load":0.5}"#),
        ControlRequest::Projects => reply(r#"{"p":{"used":1,"limit":5,"available":4,"queued":0}}"#),
        ControlRequest::Ready => reply(r#"{"ready":false,"reason":"no worker is ready yet"}"#),
        ControlRequest::Metrics => reply("process_pool_load 0.5\n"),
        ControlRequest::SetLimit { project, limit } => {
            reply(&format!(r#"{{"message":"set","projectId":"{project}","limit":{limit}}}"#));
        }
        ControlRequest::LiftLimit { project } => {
            reply(&format!(r#"{{"message":"lifted","projectId":"{project}","limit":null}}"#));
        }
        // By id: 1 runs, 2 has ended, 3 is unknown, 4 is no longer kept; 5 is never answered.
        ControlRequest::Task { task: 1 } => reply(r#"{"taskId":"1","state":"running"}"#),
        ControlRequest::Task { task: 2 } => put_outcome(out, frame.id, 2, None, b"\"done\""),
        ControlRequest::Cancel { task: 1 } => reply(r#"{"message":"cancelled"}"#),
        ControlRequest::Task { task: 3 } | ControlRequest::Cancel { task: 3 } => {
            put_refused(out, frame.id, RefusedCode::Unknown);
        }
        ControlRequest::Task { task: 4 } | ControlRequest::Cancel { task: 4 } => {
            put_refused(out, frame.id, RefusedCode::Expired);
        }
        ControlRequest::Task { task: 5 } => {}
        ControlRequest::Task { task } if task & (3 << 32) == SLOW => {
            reply(r#"{"taskId":"s","state":"running"}"#)
        }
        ControlRequest::Wait { task } => {
            match task & (3 << 32) {
                SLOW | CLOSE => {}
                LARGE => {
                    let text = format!("\"{}\"", "x".repeat(LARGE_BYTES));
                    put_outcome(out, frame.id, task, None, text.as_bytes());
                }
                _ => put_outcome(out, frame.id, task, None, b"42"),
            }
            waits.insert(frame.id, task);
        }
        ControlRequest::Events { since, follow: true } => {
            // Three events, of which the second is no longer kept for whoever has seen the first.
            let lost = u64::from(since == Some(1));
            reply(&format!(r#"{{"last":3,"lost":{lost}}}"#));
            for seq in since.unwrap_or(3) + lost + 1..=3 {
                let event = format!(r#"{{"seq":{seq},"time":"t","event":"task-queued"}}"#);
                frame::put_plain(out, Kind::Event, frame.id, event.as_bytes());
            }
            return format!("events {since:?} {}", frame.id);
        }
        other => panic!("the API asked for {other:?}"),
    }
    format!("{request:?}")
}

/// Lines of an event stream, as they come.
pub(crate) struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    pub(crate) fn open(api: &Api, headers: &str) -> Self {
        let mut stream = api.connect();
        let host = api.addr;
        let request = format!(
            "GET /api/events HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("written");
        Self { lines: BufReader::new(stream) }
    }

    /// Reads until a line is as it should be; gives all lines until there.
    pub(crate) fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let len =
                self.lines.read_line(&mut line).unwrap_or_else(|e| panic!("{e} after {lines:?}"));
            assert!(len > 0, "the stream ended before {wanted:?}: {lines:?}");
            lines.push(line.trim_end().to_owned());
            if lines.last().is_some_and(|line| line == wanted) {
                return lines;
            }
        }
    }
}

pub(crate) use pool_protocol::frame::Kind::{Event as EVENT, Reply as REPLY};
