//! Golden bytes of every wire message, in `golden.json`. A change there is a change of the wire: it
//! needs a constant in `version.rs` in the same commit.

use bytes::BytesMut;
use pool_protocol::codec;
use pool_protocol::control::{
    AcceptedHead, ControlRequest, HelloHead, OutcomeHead, RefusedCode, RefusedHead, WelcomeHead,
};
use pool_protocol::frame::{self, Frame, FrameLimits, Kind, Taken};
use pool_protocol::id::WorkerId;
use pool_protocol::lane::Lane;
use pool_protocol::layer::{Layer, LayerSet, Level};
use pool_protocol::outcome::{Cause, ErrorCode, Receipt, Status};
use pool_protocol::policy::RetryPolicy;
use pool_protocol::task::{OnDisconnect, Realm, TaskHead, TaskKind};
use pool_protocol::version;
use pool_protocol::worker::{
    AllowedProgram, CancelHead, DoneHead, HeartbeatHead, HttpSetup, IsolationSetup, JsSetup,
    LastWordsHead, LogHead, LogLevel, ProbeSetup, PublicAddresses, ReadyHead, RunHead, Setup,
    ShellSetup, TaskList,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of a frame of `golden.json`.
fn stored(name: &str) -> String {
    let all: serde_json::Value =
        serde_json::from_str(include_str!("../golden.json")).expect("a list");
    let entries = all.as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["name"] == name);
    let frame = entry.unwrap_or_else(|| panic!("golden.json has no {name}"))["frame"].as_str();
    frame.expect("a text").to_owned()
}

fn frame_of(bytes: &[u8]) -> Frame {
    match frame::take(&mut BytesMut::from(bytes), FrameLimits { body_bytes: 1024 })
        .expect("well formed")
    {
        Taken::Frame(frame) => frame,
        Taken::Needs(n) => panic!("{n} bytes wanted, {} given", bytes.len()),
    }
}

/// The bytes of a frame, and that they read back.
fn golden<T>(name: &str, kind: Kind, id: u64, head: &T, body: &[u8])
where
    T: bincode::Encode + PartialEq + std::fmt::Debug + for<'a> bincode::BorrowDecode<'a, ()>,
{
    let mut wire = Vec::new();
    frame::put(&mut wire, kind, id, head, body);
    assert_eq!(hex(&wire), stored(name), "{name}");
    let frame = frame_of(&wire);
    assert_eq!((frame.kind, frame.id, &frame.body[..]), (kind, id, body));
    assert_eq!(&codec::decode::<T>("golden", &frame.head).expect("it reads back"), head);
}

/// For heads that borrow: reading back is shown by the caller.
fn written<T: bincode::Encode>(name: &str, kind: Kind, id: u64, head: &T, body: &[u8]) -> Frame {
    let mut wire = Vec::new();
    frame::put(&mut wire, kind, id, head, body);
    assert_eq!(hex(&wire), stored(name), "{name}");
    frame_of(&wire)
}

#[test]
fn the_version_is_the_one_that_tells_a_worker_how_modules_are_found() {
    assert_eq!(version::CURRENT, 7);
}

#[test]
fn hello_and_welcome() {
    let hello = HelloHead { program: "poolctl" };
    let frame = written("hello", Kind::Hello, 1, &hello, b"");
    assert_eq!(codec::decode::<HelloHead<'_>>("hello", &frame.head).expect("reads back"), hello);
    let welcome = WelcomeHead { release: "0.1.0", pid: 300, body_bytes: 8_388_608 };
    let frame = written("welcome", Kind::Welcome, 1, &welcome, b"");
    assert_eq!(
        codec::decode::<WelcomeHead<'_>>("welcome", &frame.head).expect("reads back"),
        welcome
    );
}

#[test]
fn submit_with_every_field() {
    let head = TaskHead {
        kind: TaskKind::Module,
        project: "p",
        priority: 5,
        timeout_ms: Some(30_000),
        max_attempts: Some(3),
        retry: Some(RetryPolicy {
            initial_delay_ms: 1000,
            factor: 2.0,
            max_delay_ms: 300_000,
            jitter: 0.1,
        }),
        delay_ms: 1,
        deadline_ms: Some(2),
        idempotency_key: Some("k"),
        durable: false,
        realm: Some(Realm::Warm),
        tag: Some("t"),
        cpu_ms: Some(4),
        memory_bytes: Some(5),
        logs: true,
        on_disconnect: OnDisconnect::Keep,
        ack: true,
        want_outcome: false,
        code_len: 1,
    };
    let frame = written("submit", Kind::Submit, 9, &head, b"m{}");
    assert_eq!(codec::decode::<TaskHead<'_>>("submit", &frame.head).expect("reads back"), head);
}

#[test]
fn accepted_outcome_refused() {
    golden("accepted", Kind::Accepted, 9, &AcceptedHead { task: 7 }, b"");
    golden("refused", Kind::Refused, 9, &RefusedHead { code: RefusedCode::Expired }, b"{}");
    let outcome = OutcomeHead {
        task: 7,
        status: Status::TimedOut,
        code: Some(ErrorCode::Timeout),
        attempts: 1,
        worker: Some(WorkerId { slot: 3, generation: 17 }),
        receipt: Receipt { queued_us: 1, run_us: 2, cpu_us: 3, memory_bytes: 4 },
        missing_layers: LayerSet::of(&[Layer::Cgroup]),
        tag: None,
        result_len: 2,
    };
    let frame = written("outcome", Kind::Outcome, 9, &outcome, b"{}[]");
    assert_eq!(
        codec::decode::<OutcomeHead<'_>>("outcome", &frame.head).expect("reads back"),
        outcome
    );
}

#[test]
fn control_requests() {
    for (name, request) in [
        ("stats", ControlRequest::Stats),
        ("status", ControlRequest::Status),
        ("workers", ControlRequest::Workers { dead: true }),
        ("projects", ControlRequest::Projects),
        ("task", ControlRequest::Task { task: 7 }),
        ("wait", ControlRequest::Wait { task: 7 }),
        ("cancel", ControlRequest::Cancel { task: 7 }),
        ("set-limit", ControlRequest::SetLimit { project: "p", limit: 5 }),
        ("events", ControlRequest::Events { since: Some(3), follow: true }),
        ("drain", ControlRequest::Drain),
        ("reload", ControlRequest::Reload),
        ("shutdown", ControlRequest::Shutdown { now: true }),
        ("metrics", ControlRequest::Metrics),
        ("ready", ControlRequest::Ready),
        ("probe", ControlRequest::Probe { lane: Lane::Io, attack: "x" }),
        ("config", ControlRequest::Config),
        ("lift-limit", ControlRequest::LiftLimit { project: "p" }),
        ("reload-modules", ControlRequest::ReloadModules),
    ] {
        let frame = written(&format!("control-{name}"), Kind::Control, 9, &request, b"");
        assert_eq!(
            codec::decode::<ControlRequest<'_>>("control", &frame.head).expect("reads back"),
            request
        );
    }
}

#[test]
fn to_the_worker() {
    let run = RunHead {
        attempt: 1,
        kind: TaskKind::Code,
        project: "p",
        realm: Realm::Fresh,
        timeout_ms: 100,
        cpu_ms: 50,
        memory_bytes: 10,
        logs: false,
        stream_logs: true,
        code_len: 1,
    };
    let frame = written("run", Kind::Run, 7, &run, b"1");
    assert_eq!(codec::decode::<RunHead<'_>>("run", &frame.head).expect("reads back"), run);
    let frozen = RunHead { realm: Realm::Frozen, ..run };
    let frame = written("run-frozen", Kind::Run, 7, &frozen, b"1");
    assert_eq!(codec::decode::<RunHead<'_>>("run", &frame.head).expect("reads back"), frozen);
    let list = TaskList { tasks: vec![(7, 1), (300, 2)] };
    golden("take-back", Kind::TakeBack, 0, &list, b"");
    let cancel = CancelHead { attempt: 1, code: ErrorCode::Cancelled };
    golden("cancel", Kind::Cancel, 7, &cancel, b"");
    golden("retire", Kind::Retire, 0, &(), b"");
}

/// Its body is JSON: the bytes are the text.
#[test]
fn the_setup_of_a_worker() {
    let program = AllowedProgram {
        program: "/bin/sh".into(),
        resolved: "/usr/bin/dash".into(),
        device: 1,
        inode: 2,
        args: Some("-c".into()),
    };
    let setup = Setup {
        lane: Lane::Io,
        worker: "w3.17".into(),
        heartbeat_ms: 1000,
        body_bytes: 2,
        result_bytes: 3,
        open_files: 64,
        memory_bytes: 4,
        js: JsSetup {
            module_roots: vec!["/srv".into()],
            module_links: [("/link".to_owned(), "/srv".to_owned())].into(),
            conditions: vec!["browser".into()],
            node_env: Some("production".into()),
            allow_code_generation: true,
            allow_wasm: false,
            snapshot: None,
        },
        shell: ShellSetup {
            allow: vec![program],
            env: [("LANG".to_owned(), "C".to_owned())].into(),
            task_env: vec!["APP_*".into()],
            cwd: Some("/tmp".into()),
            file_bytes: 5,
            kill_after_ms: 2000,
            umask: 0o022,
        },
        http: HttpSetup {
            public: PublicAddresses::Deny,
            allow: vec!["a.example:443".into()],
            authorities: "x".into(),
        },
        isolation: IsolationSetup {
            level: Level::Strict,
            namespaced: true,
            readable: vec!["/usr".into()],
            writable: vec![],
            sockets: vec!["/run/db.sock".into()],
            covered: vec!["/run/api.key".into()],
        },
        probe: Some(ProbeSetup {
            attack: "x".into(),
            supervisor: 6,
            control_socket: "/run/pool.sock".into(),
        }),
    };
    let text = serde_json::to_string(&setup).expect("strings and numbers serialise");
    let expected = [
        r#"{"lane":"io","worker":"w3.17","heartbeatMs":1000,"bodyBytes":2,"resultBytes":3,"openFiles":64,"memoryBytes":4,"#,
        r#""js":{"moduleRoots":["/srv"],"moduleLinks":{"/link":"/srv"},"conditions":["browser"],"nodeEnv":"production","#,
        r#""allowCodeGeneration":true,"allowWasm":false,"snapshot":null},"#,
        r#""shell":{"allow":[{"program":"/bin/sh","resolved":"/usr/bin/dash","device":1,"inode":2,"args":"-c"}],"#,
        r#""env":{"LANG":"C"},"taskEnv":["APP_*"],"cwd":"/tmp","fileBytes":5,"killAfterMs":2000,"umask":18},"#,
        r#""http":{"public":"deny","allow":["a.example:443"],"authorities":"x"},"#,
        r#""isolation":{"level":"strict","namespaced":true,"readable":["/usr"],"writable":[],"#,
        r#""sockets":["/run/db.sock"],"covered":["/run/api.key"]},"#,
        r#""probe":{"attack":"x","supervisor":6,"controlSocket":"/run/pool.sock"}}"#,
    ];
    assert_eq!(text, expected.concat());
    assert_eq!(serde_json::from_str::<Setup>(&text).expect("it reads back"), setup);
    let older = text.replace(r#""public":"deny","#, "");
    assert!(
        serde_json::from_str::<Setup>(&older).is_err(),
        "nothing is guessed for what was not said"
    );
}

#[test]
fn from_the_worker() {
    golden(
        "ready",
        Kind::Ready,
        1,
        &ReadyHead { start_us: 250, layers: LayerSet::of(&[Layer::Descriptors, Layer::Landlock]) },
        b"{}",
    );
    let done = DoneHead {
        attempt: 1,
        code: Some(ErrorCode::JsException),
        run_us: 2,
        cpu_us: 3,
        busy_us: 5,
        memory_bytes: 4,
        retry_after_ms: 6,
        result_len: 2,
        spoiled: true,
    };
    golden("done", Kind::Done, 7, &done, b"{}");
    let heartbeat = HeartbeatHead { rss_bytes: 1, cpu_us: 2 };
    golden("heartbeat", Kind::Heartbeat, 0, &heartbeat, b"");
    golden("log", Kind::Log, 7, &LogHead { level: LogLevel::Warn }, b"hi");
    golden("returned", Kind::Returned, 0, &TaskList { tasks: vec![] }, b"");
    let words = LastWordsHead { cause: Cause::JsHeap, detail: "x" };
    let frame = written("last-words", Kind::LastWords, 0, &words, b"");
    assert_eq!(
        codec::decode::<LastWordsHead<'_>>("last words", &frame.head).expect("reads back"),
        words
    );
}

#[test]
fn a_head_with_trailing_bytes_or_too_few_is_refused() {
    assert!(codec::decode::<HeartbeatHead>("heartbeat", &[1, 2, 3]).is_err());
    assert!(codec::decode::<HeartbeatHead>("heartbeat", &[1]).is_err());
}

#[test]
fn a_head_that_announces_a_huge_list_reserves_nothing() {
    let mut head = vec![0xfd];
    head.extend_from_slice(&u64::MAX.to_le_bytes());
    assert!(codec::decode::<TaskList>("returned", &head).is_err());
    let mut nearly = vec![0xfc];
    nearly.extend_from_slice(&100_000_000u32.to_le_bytes());
    assert!(codec::decode::<TaskList>("returned", &nearly).is_err());
}

#[test]
fn the_order_of_codes_and_causes_is_part_of_the_wire() {
    assert_eq!(ErrorCode::ALL.len(), 22);
    assert_eq!(Cause::ALL.len(), 15);
    for (index, code) in ErrorCode::ALL.iter().enumerate() {
        let mut bytes = Vec::new();
        codec::encode_into(code, &mut bytes);
        assert_eq!(bytes, [u8::try_from(index).expect("few")], "{code}");
    }
}
