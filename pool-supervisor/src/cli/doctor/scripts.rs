//! JavaScript as hostile code writes it.

use pool_protocol::lane::Lane;
use pool_protocol::limits::MAX_LOG_BYTES;
use serde_json::{Value, json};

use super::super::error::CliError;
use super::Patient;
use super::row::{Finding, Row};
use super::tasks::{Ended, Tasks};

/// Wall time of a task that never ends.
const TIMEOUT_MS: u64 = 200;
const CPU_MS: u64 = 100;
/// Enough for an engine, little for a machine.
const MEMORY_BYTES: u64 = 48 << 20;
/// A result cap above this is not tried: the result would have to be larger.
const LARGEST_RESULT: u64 = 64 << 20;
/// What names a host in other engines' realms.
const HOST_NAMES: &str = "\
    ['process','require','module','exports','fetch','Deno','Bun','Buffer','__dirname',\
    'XMLHttpRequest','WebSocket','Worker','importScripts','d8','load','read','readFile','os',\
    'quit']";

/// A limit, what is tried on it, the code, more of the task, and the codes that mean that it was
/// stopped.
type Simple = (&'static str, &'static str, &'static str, Value, &'static [&'static str]);

pub(super) fn attack(
    tasks: &mut Tasks<'_>,
    patient: &Patient,
    rows: &mut Vec<Row>,
) -> Result<(), CliError> {
    deadline(tasks, rows)?;
    let memory = json!({"limits": {"memoryBytes": MEMORY_BYTES}, "timeout": 30_000});
    let simple: [Simple; 4] = [
        (
            "heap",
            "fill the heap",
            "const a = []; for (;;) a.push({a: 1})",
            memory.clone(),
            &["MEMORY_LIMIT"],
        ),
        (
            "array-buffers",
            "fill array buffers",
            "const a = []; for (let i = 0; i < 1024; i++) a.push(new Uint8Array(1 << 20).fill(1)); \
             a.length",
            memory,
            &["MEMORY_LIMIT", "JS_EXCEPTION"],
        ),
        (
            "cpu-time",
            "use CPU time without end",
            "for (;;);",
            json!({"limits": {"cpuMs": CPU_MS}, "timeout": 30_000}),
            &["CPU_LIMIT"],
        ),
        (
            "promises",
            "wait for what nobody settles",
            "await new Promise(() => {})",
            json!({"timeout": 10_000}),
            &["PROMISE_NEVER_SETTLED"],
        ),
    ];
    for (limit, tried, source, more, codes) in simple {
        let ended = run(tasks, source, more)?;
        rows.push(Row::limit(Lane::Js, limit, tried, ended.stopped_by(codes)));
    }
    rows.push(result_cap(tasks, patient)?);
    rows.push(log_flood(tasks)?);
    rows.push(code_generation(tasks, patient)?);
    rows.push(wasm(tasks, patient)?);
    rows.push(host_names(tasks)?);
    let ended = run(tasks, "await import('fs')", json!({}))?;
    let stopped = ended.stopped_by(&["JS_EXCEPTION", "MODULE_DENIED", "MODULE_NOT_FOUND"]);
    rows.push(Row::limit(
        Lane::Js,
        "modules",
        "import a built-in module of another runtime",
        stopped,
    ));
    Ok(())
}

fn run(tasks: &mut Tasks<'_>, source: &str, more: Value) -> Result<Ended, CliError> {
    let mut task = json!({"type": "execute-code", "code": source, "realm": "fresh"});
    if let (Value::Object(task), Value::Object(more)) = (&mut task, more) {
        task.extend(more);
    }
    tasks.run(task)
}

/// The two ends of the ladder, and what comes after.
fn deadline(tasks: &mut Tasks<'_>, rows: &mut Vec<Row>) -> Result<(), CliError> {
    for (tried, source) in [
        ("loop without end", "for (;;);"),
        (
            "stay in a builtin that does not listen",
            "Array.prototype.includes.call({length: 2 ** 53 - 1}, 1)",
        ),
    ] {
        let ended = run(tasks, source, json!({"timeout": TIMEOUT_MS}))?;
        let (verdict, mut words) = ended.stopped_by(&["TIMEOUT"]);
        if verdict == Finding::Bites {
            let late = ended.run_ms - TIMEOUT_MS as f64;
            words = format!("TIMEOUT, {late:.0} ms after its deadline of {TIMEOUT_MS} ms");
        }
        rows.push(Row::limit(Lane::Js, "deadline", tried, (verdict, words)));
    }
    let ended = run(tasks, "1 + 1", json!({"timeout": 10_000}))?;
    let found = match ended.code {
        None => (Finding::Bites, format!("the next task began after {:.0} ms", ended.queued_ms)),
        Some(_) => (Finding::Leaks, ended.words()),
    };
    rows.push(Row::limit(Lane::Js, "recovery", "leave the pool without a worker", found));
    Ok(())
}

fn result_cap(tasks: &mut Tasks<'_>, patient: &Patient) -> Result<Row, CliError> {
    let (limit, tried) = ("result", "return more than a result may have");
    let bytes = patient.setting("/limits/resultBytes").as_u64().unwrap_or(u64::MAX);
    if bytes > LARGEST_RESULT {
        return Ok(Row::excused(
            Lane::Js,
            limit,
            tried,
            format!("limits.resultBytes is {bytes}, too much to try"),
        ));
    }
    let ended = run(tasks, &format!("'x'.repeat({bytes})"), json!({"timeout": 30_000}))?;
    Ok(Row::limit(Lane::Js, limit, tried, ended.stopped_by(&["OUTPUT_LIMIT"])))
}

fn log_flood(tasks: &mut Tasks<'_>) -> Result<Row, CliError> {
    let source = "for (let i = 0; i < 20000; i++) console.log('x'.repeat(100)); 1";
    let ended = run(tasks, source, json!({"logs": true, "timeout": 30_000}))?;
    // As JSON each line has its level and quotes around it.
    let (len, most) = (ended.logs.len(), 2 * MAX_LOG_BYTES);
    let found = match ended.code {
        Some(_) => (Finding::NotTried, ended.words()),
        None if len > most => (Finding::Leaks, format!("nothing: {len} bytes of log")),
        None => (Finding::Bites, format!("the log was cut at {len} bytes")),
    };
    Ok(Row::limit(Lane::Js, "log", "write 2 MB to the console", found))
}

fn code_generation(tasks: &mut Tasks<'_>, patient: &Patient) -> Result<Row, CliError> {
    let (limit, tried) = ("code-generation", "eval and new Function");
    if patient.setting("/js/allowCodeGeneration") == true {
        return Ok(Row::excused(Lane::Js, limit, tried, "js.allowCodeGeneration is on"));
    }
    let source = "const ways = [() => eval('1'), () => new Function('return 1')(), \
                  () => (function* () {}).constructor('yield 1')]; \
                  const open = ways.filter(way => { try { way(); return true } catch { return \
                  false } }); \
                  open.map(String)";
    let ended = run(tasks, source, json!({"timeout": 10_000}))?;
    Ok(Row::limit(Lane::Js, limit, tried, nothing_found(&ended, "EvalError, each time")))
}

fn wasm(tasks: &mut Tasks<'_>, patient: &Patient) -> Result<Row, CliError> {
    let (limit, tried) = ("webassembly", "compile a module");
    if patient.setting("/js/allowWasm") == true {
        return Ok(Row::excused(Lane::Js, limit, tried, "js.allowWasm is on"));
    }
    let source = "new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])); 1";
    let ended = run(tasks, source, json!({"timeout": 10_000}))?;
    Ok(Row::limit(Lane::Js, limit, tried, ended.stopped_by(&["JS_EXCEPTION"])))
}

fn host_names(tasks: &mut Tasks<'_>) -> Result<Row, CliError> {
    let source = format!("{HOST_NAMES}.filter(name => typeof globalThis[name] !== 'undefined')");
    let ended = run(tasks, &source, json!({"timeout": 10_000}))?;
    let found = nothing_found(&ended, "none of them is there");
    Ok(Row::limit(Lane::Js, "globals", "find process, require, fetch and their like", found))
}

/// For scripts that give a list of what they could do.
fn nothing_found(ended: &Ended, words: &str) -> (Finding, String) {
    match (&ended.code, ended.body.as_array()) {
        (None, Some(list)) if list.is_empty() => (Finding::Bites, words.to_owned()),
        (None, Some(list)) => (Finding::Leaks, format!("nothing: {}", Value::from(list.clone()))),
        _ => (Finding::NotTried, ended.words()),
    }
}
