//! The startup snapshot. Made in a child: V8 wants a process of its own for it.

use std::borrow::Cow;
use std::process::Command;

use pool_worker::js::snapshot;

use crate::support::Bench;

const FILE: &str = "POOL_JS_TEST_SNAPSHOT";

/// Runs a test of this file in a child, with a file that the child reads and writes. All isolates
/// of a process share one snapshot or none, and the other tests have taken none.
fn in_child(test: &str, input: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("exchange");
    std::fs::write(&file, input).expect("the file can be written");
    let output = Command::new(std::env::current_exe().expect("a test knows its own file"))
        .args([&format!("startup::{test}"), "--exact", "--nocapture"])
        .env(FILE, &file)
        .output()
        .expect("the test's own program can be started");
    assert!(output.status.success(), "{output:?}");
    std::fs::read(&file).expect("the child has written the file")
}

fn make() -> Vec<u8> {
    in_child("snapshots_are_made_in_a_process_of_their_own", b"")
}

#[test]
fn snapshots_are_made_in_a_process_of_their_own() {
    if let Some(file) = std::env::var_os(FILE) {
        let bytes = snapshot::create().expect("V8 makes a snapshot");
        std::fs::write(file, bytes).expect("the file can be written");
        return;
    }
    assert!(make().len() > 100_000);
}

/// What is asked of both engines.
const QUESTIONS: [&str; 9] = [
    "return Object.getOwnPropertyNames(globalThis).sort()",
    "return Object.getOwnPropertyNames(console).sort()",
    "console.log('x'); return await new Promise(done => setTimeout(done, 1, 'timer'))",
    "return [setTimeout.name, console.log.name, String(structuredClone)]",
    "return structuredClone({a: [1]})",
    "return Math.max(1, 2) + [3].map(x => x)[0]",
    "globalThis.leak = 1; try { eval('1') } catch (e) { return String(e) }",
    "return [typeof leak, typeof WebAssembly]",
    "let n = 0; for (let i = 0; i < 1e5; i++) n += [i].length; return n",
];

fn answers(bench: &mut Bench) -> String {
    let mut lines: Vec<_> =
        QUESTIONS.iter().map(|code| format!("{:?}", bench.code(code))).collect();
    lines.push(format!("{:?}", bench.function("({a}) => a", "[{\"a\":1}]")));
    lines.join("\n")
}

#[test]
fn an_engine_from_a_snapshot_is_like_one_without() {
    if let Some(file) = std::env::var_os(FILE) {
        let bytes = std::fs::read(&file).expect("the parent has written the file");
        let mut bench = Bench::with(|config| config.snapshot = Some(Cow::Owned(bytes)));
        assert!(bench.engine.uses_snapshot());
        std::fs::write(file, answers(&mut bench)).expect("the file can be written");
        return;
    }
    let mut plain = Bench::new();
    assert!(!plain.engine.uses_snapshot());
    let restored = in_child("an_engine_from_a_snapshot_is_like_one_without", &make());
    assert_eq!(String::from_utf8_lossy(&restored), answers(&mut plain));
}

#[test]
fn what_is_not_a_snapshot_is_ignored() {
    let good = make();
    let mut flipped = good.clone();
    flipped[50_000] ^= 1;
    let short = good[..good.len() / 2].to_vec();
    for bytes in [Vec::new(), vec![0; 100], vec![0xFF; 100_000], flipped, short] {
        let mut bench = Bench::with(|config| config.snapshot = Some(Cow::Owned(bytes)));
        assert!(!bench.engine.uses_snapshot());
        assert_eq!(bench.code("1 + 1").as_deref(), Ok("2"));
    }
}

#[test]
fn an_idle_engine_leaves_the_data_limit_to_the_task() {
    if let Some(file) = std::env::var_os(FILE) {
        let data_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("Linux has this file");
            let line =
                status.lines().find(|line| line.starts_with("VmData:")).expect("it has this line");
            let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
            kib.expect("it is a number")
        };
        let before = data_kib();
        let mut bench = Bench::new();
        bench.engine.prepare_spare();
        std::fs::write(file, (data_kib() - before).to_string()).expect("the file can be written");
        return;
    }
    let kib = in_child("an_idle_engine_leaves_the_data_limit_to_the_task", b"");
    let kib: u64 = String::from_utf8_lossy(&kib).parse().expect("the child writes a number");
    assert!(kib < 80 << 10, "{kib} KiB of data before the first task");
}
