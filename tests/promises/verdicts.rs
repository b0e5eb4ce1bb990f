//! Why a worker ended: each cause, from what really brings it about, and told alike in all places
//! where a person may look.

use std::path::PathBuf;

use pool_tests::tasks::{code, error, hold, program, with};
use pool_tests::{Pool, Value, json, proc, skip, until, until_some};
use rustix::process::Signal;

const BAD_WORKER: &str = env!("CARGO_BIN_EXE_bad_worker");

/// One worker, whose places are all to be looked at.
fn pool(more: Value) -> Pool {
    let mut config = json!({"pool": {"minWorkers": 1, "maxWorkers": 1}});
    for (section, settings) in more.as_object().expect("a table") {
        match config[section].as_object_mut() {
            Some(known) => known.extend(settings.as_object().expect("a table").clone()),
            None => config[section] = settings.clone(),
        }
    }
    Pool::with_http(config)
}

/// The first worker that ended of this is told in the list of the dead, in its event, by `poolctl`,
/// in the log and in the metrics; and with the same evidence everywhere. Gives its row.
#[track_caller]
fn is_told(pool: &Pool, cause: &str, evidence: &str) -> Value {
    let dead = until_some(&format!("a worker ends of {cause}"), || {
        pool.dead_workers().into_iter().find(|row| row["verdict"]["cause"] == cause)
    });
    let name = dead["workerId"].as_str().expect("a name");
    let said = dead["verdict"]["evidence"].as_str().expect("evidence");
    assert!(said.contains(evidence), "{dead}");
    let event = pool.events_named("worker-terminated").into_iter().find(|e| e["workerId"] == name);
    assert_eq!(event.expect("its event")["verdict"], dead["verdict"]);
    let table = pool.ctl(&["workers", "--dead"]).stdout;
    let told = table
        .lines()
        .any(|line| line.starts_with(name) && line.contains(cause) && line.contains(said));
    assert!(told, "{cause}: {said}\n{table}");
    let log = pool.log();
    let told = log
        .lines()
        .any(|line| line.contains("worker ended") && line.contains(name) && line.contains(cause));
    assert!(told, "{log}");
    let metrics = pool.api().call("GET", "/metrics", None).text;
    let counter = format!("process_pool_workers_ended_total{{cause=\"{cause}\"}} ");
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&counter))
        .and_then(|n| n.parse::<u64>().ok());
    assert!(count.is_some_and(|n| n >= 1), "{metrics}");
    dead
}

/// The outcome of a task that died with its worker names the worker's verdict.
#[track_caller]
fn died_of(outcome: &Value, cause: &str) {
    assert_eq!(error(outcome), "WORKER_CRASHED", "{outcome}");
    assert_eq!(outcome["error"]["verdict"]["cause"], cause, "{outcome}");
    assert!(
        !outcome["error"]["verdict"]["evidence"].as_str().expect("evidence").is_empty(),
        "{outcome}"
    );
}

fn once(task: Value) -> Value {
    with(task, json!({"maxAttempts": 1}))
}

/// The process of the first worker, when it is ready.
fn first(pool: &Pool) -> i32 {
    pool.until_idle("js", 1);
    pool.pid_of(&json!("w0.1")).expect("it lives")
}

/// Submits a task that holds its worker, and signals that worker.
fn signalled_under_a_task(pool: &Pool, signal: Signal) -> Value {
    let mut client = pool.client();
    let request = client.submit(&once(hold()));
    let busy = pool.busy_worker("js");
    assert!(proc::signal(
        i32::try_from(busy["pid"].as_i64().expect("a pid")).expect("a pid"),
        signal
    ));
    client.outcome(request)
}

#[test]
fn recycled() {
    let pool = pool(json!({"pool": {"maxTasksPerWorker": 1}}));
    assert_eq!(pool.run(code("1"))["status"], "succeeded");
    is_told(&pool, "recycled", "");
}

#[test]
fn idle() {
    let pool = pool(
        json!({"pool": {"workerIdleTimeout": 100}, "shell": {"allow": [{"program": "/bin/true"}]}}),
    );
    assert_eq!(pool.run(program("/bin/true", &[]))["status"], "succeeded");
    is_told(&pool, "idle", "");
}

#[test]
fn cancelled() {
    let pool = pool(json!({}));
    let id = pool.submit(code("for(;;);"));
    let _running = pool.busy_worker("js");
    pool.cancel(&id);
    assert_eq!(error(&pool.outcome(&id)), "CANCELLED");
    is_told(&pool, "cancelled", "was cancelled");
}

#[test]
fn deadline() {
    let pool = pool(json!({}));
    assert_eq!(error(&pool.run(with(code("for(;;);"), json!({"timeout": 50})))), "TIMEOUT");
    is_told(&pool, "deadline", "ran out of time");
}

#[test]
fn deadline_by_force() {
    let pool = pool(json!({}));
    let stuck = "Array.prototype.includes.call({length: 2**53-1}, 1)";
    let outcome = pool.run(with(code(stuck), json!({"timeout": 50})));
    assert_eq!(error(&outcome), "TIMEOUT", "{outcome}");
    is_told(&pool, "deadline", "");
}

#[test]
fn cpu_limit() {
    let pool = pool(json!({"limits": {"cpuMs": 50}}));
    assert_eq!(error(&pool.run(code("for(;;);"))), "CPU_LIMIT");
    is_told(&pool, "cpu-limit", "used up its CPU time");
}

#[test]
fn cpu_limit_by_the_kernel() {
    // What the kernel sends at RLIMIT_CPU, without the minutes until then. Without namespaces: see
    // the test of SIGTERM.
    let pool = pool(json!({"isolation": "off"}));
    died_of(&signalled_under_a_task(&pool, Signal::XCPU), "cpu-limit");
    is_told(&pool, "cpu-limit", "SIGXCPU");
}

#[test]
fn js_heap() {
    let pool = pool(json!({"limits": {"memoryBytes": "32MiB"}}));
    assert_eq!(error(&pool.run(code("const a = []; for (;;) a.push({})"))), "MEMORY_LIMIT");
    is_told(&pool, "js-heap", "");
}

#[test]
fn array_buffers() {
    let pool = pool(json!({"limits": {"memoryBytes": "32MiB"}}));
    // Buffers that can grow are the engine's own to map: they cannot be refused one by one, only
    // counted.
    let grow = "const kept = []; for (;;) { const b = new ArrayBuffer(1 << 20, {maxByteLength: 8 \
        << 20}); b.resize(8 << 20); \
                new Uint8Array(b).fill(1); kept.push(b); }";
    assert_eq!(error(&pool.run(once(code(grow)))), "MEMORY_LIMIT");
    is_told(&pool, "array-buffers", "array buffers reached their limit");
}

#[test]
fn engine_fatal() {
    let pool = pool(json!({}));
    died_of(&pool.run(once(code("'a'.repeat(2**28).split('')"))), "engine-fatal");
    is_told(&pool, "engine-fatal", "");
}

#[test]
fn sandbox_violation() {
    // As the kernel ends a process whose filter forbids a call.
    let pool = pool(json!({"isolation": "off"}));
    died_of(&signalled_under_a_task(&pool, Signal::SYS), "sandbox-violation");
    is_told(&pool, "sandbox-violation", "SIGSYS");
}

#[test]
fn unresponsive() {
    let pool = pool(json!({"pool": {"heartbeatInterval": 500}}));
    assert!(proc::signal(first(&pool), Signal::STOP));
    is_told(&pool, "unresponsive", "no heartbeat for ");
}

#[test]
fn protocol_violation() {
    let pool = pool(json!({"workerPath": BAD_WORKER}));
    died_of(&pool.run(once(code("unknown-kind"))), "protocol-violation");
    is_told(&pool, "protocol-violation", "");
}

#[test]
fn spawn_failed() {
    let folder = pool_tests::Folder::new();
    let dies = folder.write_program("dies", "#!/bin/sh\necho out of order >&2\nexit 3\n");
    let pool = pool(json!({"workerPath": dies}));
    is_told(&pool, "spawn-failed", "out of order");
}

#[test]
fn killed_from_outside() {
    let pool = pool(json!({}));
    died_of(&signalled_under_a_task(&pool, Signal::KILL), "killed-from-outside");
    is_told(&pool, "killed-from-outside", "SIGKILL");
}

#[test]
fn exited() {
    let pool = pool(json!({"workerPath": BAD_WORKER}));
    died_of(&pool.run(once(code("exit"))), "exited");
    is_told(&pool, "exited", "exit status 0");
}

/// A control group for memory, of whichever version the machine has, that holds less than a task
/// may.
struct SmallGroup(PathBuf);

impl SmallGroup {
    fn new() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let v1 = text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            fields.next()?.split(',').any(|name| name == "memory").then(|| fields.next())?
        })?;
        let parent = PathBuf::from("/sys/fs/cgroup/memory").join(v1.trim_start_matches('/'));
        let path = parent.join(format!("pool-test-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let group = Self(path);
        std::fs::write(group.0.join("memory.limit_in_bytes"), (160 << 20).to_string()).ok()?;
        Some(group)
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        until("the group is empty", || std::fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn kernel_oom() {
    let Some(group) = SmallGroup::new() else {
        return skip::skipped(skip::CGROUP_V1_MEMORY, "");
    };
    let config = json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1},
        "limits": {"memoryBytes": "1GiB"},
        "http": {"listen": "127.0.0.1:0"},
    });
    let pool = Pool::start_with(config, |command| {
        let mut inside = std::process::Command::new("/bin/sh");
        inside.args([
            "-c",
            &format!("echo 0 > {}/cgroup.procs && exec \"$0\" \"$@\"", group.0.display()),
        ]);
        inside.arg(command.get_program()).args(command.get_args());
        inside
            .env_clear()
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside.current_dir("/").stdin(std::process::Stdio::null());
        *command = inside;
    });
    let bomb = "const kept = []; for (;;) kept.push(new Uint8Array(16 << 20).fill(1))";
    let outcome = pool.run(once(code(bomb)));
    died_of(&outcome, "kernel-oom");
    is_told(&pool, "kernel-oom", "oom_kill");
    drop(pool);
}
