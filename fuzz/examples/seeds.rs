//! Writes the seeds that are bytes of the wire, anew: `cargo run -p pool-fuzz --example seeds`,
//! after the wire has changed.

use std::path::Path;

use pool_protocol::control::{ControlRequest, HelloHead};
use pool_protocol::frame::{self, Kind};
use pool_protocol::layer::LayerSet;
use pool_protocol::outcome::{Cause, ErrorCode};
use pool_protocol::task::{OnDisconnect, parse};
use pool_protocol::version;
use pool_protocol::worker::{
    CancelHead, DoneHead, HeartbeatHead, LastWordsHead, ReadyHead, TaskList,
};

const TASKS: &[(&str, &str)] = &[
    ("submit", r#"{"type":"execute-code","code":"return 1","priority":3,"tag":"t"}"#),
    (
        "submit-with-all",
        r#"{"type":"execute-function","fn":"x => x","args":[1],"projectId":"a/b","timeout":1,"maxAttempts":5,
            "retry":{"initialDelay":0,"factor":100,"maxDelay":2592000000,"jitter":1},"delay":10,"deadline":2592000000,
            "idempotencyKey":"k","realm":"warm","limits":{"cpuMs":1,"memoryBytes":4194304},"logs":true}"#,
    ),
    (
        "submit-at-the-bounds",
        r#"{"type":"execute-module","modulePath":"/m","timeout":2592000000,"delay":2592000000,"deadline":0,"priority":10,
            "retry":{"initialDelay":2592000000,"factor":1,"jitter":0},"limits":{"cpuMs":2592000000,"memoryBytes":4194304}}"#,
    ),
    ("submit-command", r#"{"type":"shell-command","command":"wc -l","maxAttempts":1000}"#),
];

fn main() -> std::io::Result<()> {
    let current = u64::from(version::CURRENT);
    for (name, json) in TASKS {
        let task = parse(json.as_bytes()).expect("written above");
        write("control", name, &[], |out| {
            frame::put(out, Kind::Hello, current, &HelloHead { program: "seed" }, &[]);
            frame::put(
                out,
                Kind::Submit,
                1,
                &task.head(0, OnDisconnect::Cancel, true, true),
                &task.body,
            );
            frame::put_plain(out, Kind::CancelSubmitted, 1, &[]);
        })?;
    }
    write("control", "requests", &[], |out| {
        frame::put(out, Kind::Hello, current, &HelloHead { program: "seed" }, &[]);
        for request in [
            ControlRequest::Stats,
            ControlRequest::Workers { dead: true },
            ControlRequest::Task { task: 300 },
            ControlRequest::SetLimit { project: "p", limit: 3 },
            ControlRequest::Events { since: Some(7), follow: true },
            ControlRequest::Shutdown { now: true },
        ] {
            frame::put(out, Kind::Control, 2, &request, &[]);
        }
    })?;
    write("control", "too-early", &[], |out| {
        frame::put(out, Kind::Control, 1, &ControlRequest::Drain, &[])
    })?;
    // In pieces of 7 bytes, with bodies of up to 300; then one at a time, with no body at all.
    write("frame", "worker", &[7, 2], |out| {
        frame::put(
            out,
            Kind::Ready,
            current,
            &ReadyHead { start_us: 900, layers: LayerSet::NONE },
            b"{}",
        );
        let head = DoneHead {
            attempt: 1,
            code: Some(ErrorCode::JsException),
            run_us: 70_000,
            cpu_us: 5,
            busy_us: 5,
            memory_bytes: 1 << 33,
            retry_after_ms: 0,
            result_len: 4,
            spoiled: false,
        };
        frame::put(out, Kind::Done, 1 << 40, &head, b"nullline");
        frame::put(out, Kind::Heartbeat, 0, &HeartbeatHead { rss_bytes: 1 << 20, cpu_us: 9 }, &[]);
        frame::put(out, Kind::Returned, 0, &TaskList { tasks: vec![(1, 1), (2, 300)] }, &[]);
        frame::put(
            out,
            Kind::LastWords,
            0,
            &LastWordsHead { cause: Cause::JsHeap, detail: "full" },
            &[],
        );
    })?;
    write("frame", "supervisor", &[1, 0], |out| {
        frame::put(out, Kind::Cancel, 5, &CancelHead { attempt: 2, code: ErrorCode::Timeout }, &[]);
        frame::put_plain(out, Kind::Retire, 0, &[]);
    })?;
    write("frame", "too-long", &[3, 1], |out| frame::put_plain(out, Kind::Event, 3, &[b'x'; 17]))?;
    write("frame", "announced", &[16, 3], |out| {
        frame::put_plain(out, Kind::Reply, 3, &[]);
        out[6] = 0x0f;
    })
}

fn write(
    target: &str,
    name: &str,
    start: &[u8],
    put: impl FnOnce(&mut Vec<u8>),
) -> std::io::Result<()> {
    let mut bytes = start.to_vec();
    let mut wire = Vec::new();
    put(&mut wire);
    bytes.append(&mut wire);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}
