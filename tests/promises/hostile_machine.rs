//! A machine that fails: rows 45 to 50 of what the pool must survive.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pool_protocol::control::ControlRequest;
use pool_tests::apart::{make_read_only, mount_tmpfs, with_own_mounts};
use pool_tests::binaries::binaries;
use pool_tests::faults::Faults;
use pool_tests::pool::supervisor_command;
use pool_tests::tasks::{code, error, hold, program, result, sleep, with};
use pool_tests::wait::{now, pause};
use pool_tests::{Client, Folder, Pool, Value, json, proc, unharmed, until, until_some};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

/// How long the supervisor is watched for spinning.
const WATCHED: Duration = Duration::from_secs(2);

/// It says that it is degraded, tries ever more rarely, and uses next to nothing of a processor
/// meanwhile.
fn is_degraded_and_does_not_spin(pool: &Pool, client: &mut Client) {
    until("it says that it is degraded", || {
        client.ask(&ControlRequest::Status).is_ok_and(|status| status["state"] == "degraded")
    });
    let before = proc::cpu_ms(pool.pid()).expect("it lives");
    pause(WATCHED);
    let used = proc::cpu_ms(pool.pid()).expect("it lives") - before;
    assert!(used <= 300, "{used} ms of processor time in {WATCHED:?}:\n{}", pool.log());
    let names: Vec<Value> =
        client.events(Some(0)).into_iter().map(|event| event["event"].clone()).collect();
    let count = |name: &str| names.iter().filter(|n| **n == name).count();
    assert_eq!(count("pool-degraded"), 1, "it is said once: {names:?}");
    // 100 ms, 200 ms, 400 ms …: by now a handful, and not one for each turn.
    let tries = count("worker-error");
    assert!((1..=20).contains(&tries), "{tries} attempts to start a worker: {names:?}");
}

fn has_recovered(pool: &Pool) {
    until("it has recovered", || pool.status()["state"] == "running");
    assert_eq!(result(pool.run(code("6 * 7"))), 42);
    assert_eq!(pool.events_named("pool-recovered").len(), 1);
}

/// The only worker dies while another cannot be started.
fn lose_the_worker(pool: &Pool, client: &mut Client) {
    let rows = client.ask(&ControlRequest::Workers { dead: false }).expect("granted");
    for row in rows.as_array().expect("a list") {
        proc::kill(row["pid"].as_i64().expect("a pid") as i32);
    }
    until("it is gone", || proc::workers_of(pool.pid()).is_empty());
}

fn one_worker() -> Value {
    json!({"minWorkers": 1, "maxWorkers": 1})
}

/// What the kernel answers is played: its own limits bind no test that runs as root.
#[test]
fn hostile_45_fork_that_fails_with_eagain_or_enomem_is_backed_off_from_and_recovered_from() {
    for errno in [rustix::io::Errno::AGAIN, rustix::io::Errno::NOMEM] {
        let Some(faults) = Faults::new() else { return };
        let pool =
            Pool::start_with(json!({"pool": one_worker()}), |command| faults.load_into(command));
        pool.until_idle("js", 1);
        let mut client = pool.client();
        faults.fail_spawn(errno.raw_os_error());
        lose_the_worker(&pool, &mut client);
        let waiting = client.submit(&code("1 + 1"));
        client.id(waiting);
        is_degraded_and_does_not_spin(&pool, &mut client);
        faults.fail_spawn(0);
        has_recovered(&pool);
        assert_eq!(result(client.outcome(waiting)), 2, "what waited meanwhile is run");
    }
}

#[test]
fn hostile_45_without_descriptors_it_backs_off_does_not_spin_and_recovers() {
    let pool = Pool::start(json!({"pool": one_worker()}));
    pool.until_idle("js", 1);
    let mut client = pool.client();
    let supervisor = Pid::from_raw(pool.pid()).expect("a pid");
    let limit = |soft: u64| {
        let old = prlimit(
            Some(supervisor),
            Resource::Nofile,
            Rlimit { current: Some(soft), maximum: None },
        );
        old.or_else(|_| {
            let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
            prlimit(
                Some(supervisor),
                Resource::Nofile,
                Rlimit { current: Some(soft), maximum: hard },
            )
        })
        .expect("our own child")
    };
    let waiting = client.submit(&hold());
    client.id(waiting);
    let old = limit(4);
    // Newcomers for whom there is no descriptor, and who stay: nobody can be sent away to make
    // room.
    let newcomers: Vec<_> = (0..5)
        .map(|_| std::os::unix::net::UnixStream::connect(pool.socket()).expect("it listens"))
        .collect();
    lose_the_worker(&pool, &mut client);
    is_degraded_and_does_not_spin(&pool, &mut client);
    limit(old.current.expect("it was limited"));
    has_recovered_with(&pool, newcomers);
}

fn has_recovered_with<T>(pool: &Pool, kept: T) {
    until("it has recovered", || pool.events_named("pool-recovered").len() == 1);
    until("it runs", || pool.status()["state"] == "running");
    drop(kept);
}

fn copy_of_the_worker(folder: &Folder) -> PathBuf {
    folder.copy_program(&binaries().worker, "pool-worker")
}

#[test]
fn hostile_45_a_worker_binary_that_is_missing_or_replaced_is_backed_off_from_and_recovered_from() {
    type Spoil = fn(&Folder, &Path);
    let ways: [(&str, Spoil); 3] = [
        ("missing", |_, _| {}),
        ("no program", |folder, worker| {
            fs::rename(folder.write("other", "no program\n"), worker).expect("our own folder");
        }),
        ("another program", |folder, worker| {
            fs::rename(folder.write_program("other", "#!/bin/sh\nexit 3\n"), worker)
                .expect("our own folder");
        }),
    ];
    for (way, spoil) in ways {
        let folder = Folder::new();
        let worker = copy_of_the_worker(&folder);
        let pool = Pool::start(json!({"pool": one_worker(), "workerPath": worker}));
        pool.until_idle("js", 1);
        let mut client = pool.client();
        fs::rename(&worker, folder.join("kept")).expect("our own folder");
        spoil(&folder, &worker);
        eprintln!("{way}");
        lose_the_worker(&pool, &mut client);
        is_degraded_and_does_not_spin(&pool, &mut client);
        fs::rename(folder.join("kept"), &worker).expect("our own folder");
        has_recovered(&pool);
    }
}

/// There is no journal yet, so nothing can be acknowledged as durable: it is refused. What is
/// written today, the engine's snapshot and what belongs to it, is a help that workers do without.
#[test]
fn hostile_46_on_a_full_or_read_only_disk_the_api_answers_and_tasks_run() {
    with_own_mounts(|| {
        for full in [true, false] {
            let disk = Folder::new();
            mount_tmpfs(&disk.path(), 64 * 1024);
            if full {
                let filled = fs::write(disk.join("filler"), vec![0; 1 << 20]);
                assert!(filled.is_err(), "the disk is full");
            } else {
                make_read_only(&disk.path());
                assert!(fs::write(disk.join("x"), "x").is_err(), "nothing can be written");
            }
            let config = json!({
                "pool": {"minWorkers": 2, "maxWorkers": 2},
                "http": {"listen": "127.0.0.1:0"},
            });
            let pool = Pool::start_with(config, |command| {
                command.env("STATE_DIRECTORY", disk.path()).env("CACHE_DIRECTORY", disk.path());
            });
            pool.until_idle("js", 2);
            unharmed(&pool, || {
                until("it says what it could not write", || pool.log().contains("snapshot"));
                assert_eq!(pool.api().call("GET", "/api/process-pool/stats", None).status, 200);
                let run = pool.api().call("POST", "/api/tasks?wait=30s", Some(&code("6 * 7")));
                assert_eq!((run.status, &run.json()["result"]), (200, &json!(42)), "{run:?}");
                let durable = with(code("1"), json!({"durable": true}));
                let refused = pool.api().call("POST", "/api/tasks", Some(&durable));
                assert_eq!(
                    refused.status, 400,
                    "no acknowledgement without the write: {refused:?}"
                );
                assert!(refused.text.contains("durable"), "{refused:?}");
            });
            drop(pool);
            rustix::mount::unmount(disk.path(), rustix::mount::UnmountFlags::DETACH)
                .expect("mounted above");
        }
    });
}

const DAY: i64 = 24 * 60 * 60;

/// The clock that jumps is the supervisor's; this machine's own must not be touched.
#[test]
fn hostile_47_when_the_clock_jumps_by_a_day_deadlines_timeouts_retries_and_kept_results_hold() {
    for jump in [DAY, -DAY] {
        let Some(faults) = Faults::new() else { return };
        let config = json!({
            "pool": {
                "minWorkers": 3, "maxWorkers": 3, "resultTtl": "60s", "heartbeatInterval": 800,
            },
            "projects": {"paused": {"limit": 0}},
        });
        let pool = Pool::start_with(config, |command| faults.load_into(command));
        pool.until_idle("js", 3);
        let before = pool.submit(code("'kept'"));
        assert_eq!(result(pool.outcome(&before)), "kept");
        let mut client = pool.client();
        let start = now();
        let times_out = client.submit(&with(sleep(60_000), json!({"timeout": 3000})));
        let retried = client.submit(&with(
            code("throw 1"),
            json!({"maxAttempts": 2, "retry": {"initialDelay": 3000, "jitter": 0}}),
        ));
        let delayed = client.submit(&with(code("'late'"), json!({"delay": 3000})));
        let hurried =
            client.submit(&with(code("1"), json!({"projectId": "paused", "deadline": 3000})));
        let patient =
            client.submit(&with(sleep(200), json!({"timeout": 30_000, "deadline": 30_000})));
        client.id(hurried);
        let at = wall_s(&pool.client().events(Some(0)));
        faults.shift_clock(jump);
        assert_eq!(result(client.outcome(patient)), "slept", "nothing ends because of the jump");
        assert_eq!(client.outcome(times_out)["status"], "timed-out");
        let again = client.outcome(retried);
        assert_eq!((error(&again), &again["attempts"]), ("JS_EXCEPTION", &json!(2)), "{again}");
        assert_eq!(result(client.outcome(delayed)), "late");
        assert_eq!(client.outcome(hurried)["status"], "timed-out");
        assert!(start.elapsed() >= Duration::from_millis(2900), "none of them came early");
        assert!(start.elapsed() < Duration::from_secs(30), "and none a day late");
        assert_eq!(
            result(pool.task(&before)),
            "kept",
            "a result is kept for a minute, not until the clock says so"
        );
        let jumped = wall_s(&pool.client().events(Some(0))) - at;
        assert!(jumped.abs() > DAY / 2, "the supervisor did see the jump: {jumped} s");
        assert!(
            pool.dead_workers().iter().all(|w| w["verdict"]["cause"] == "deadline"),
            "nobody was held for dead"
        );
    }
}

/// The time of the last event, in seconds.
fn wall_s(events: &[Value]) -> i64 {
    let text =
        events.last().expect("workers have started")["time"].as_str().expect("a time").to_owned();
    text.parse::<jiff::Timestamp>().expect("in RFC 3339").as_second()
}

#[test]
fn hostile_48_a_supervisor_that_is_killed_leaves_no_worker_and_no_grandchild_and_starts_again() {
    let folder = Folder::new();
    let mut pool = Pool::start(json!({
        "pool": {"minWorkers": 2, "maxWorkers": 4},
        "shell": {
            "allow": [{"program": "/bin/sh", "args": "(?s).*"}],
            "env": {"PATH": "/usr/bin:/bin"},
        },
    }));
    let deepest = format!("echo > {}/up; sleep 100; :", folder.text());
    let script =
        format!("setsid sh -c 'trap \"\" TERM HUP; sh -c \"{deepest}\"; :' & sleep 100; :");
    for task in [hold(), code("for (;;);"), program("/bin/sh", &["-c", &script])] {
        let _id = pool.submit(task);
    }
    until("the tree is up", || folder.join("up").exists());
    until("all of them run", || pool.status()["tasks"]["running"] == 3);
    let io = i32::try_from(pool.busy_worker("io")["pid"].as_i64().expect("a pid")).expect("a pid");
    let tree = until_some("three shells and two sleeps are up", || {
        Some(proc::descendants(io)).filter(|tree| tree.len() == 5)
    });
    let workers = proc::workers_of(pool.pid());
    pool.signal(Signal::KILL);
    pool.wait();
    until("no worker is left", || workers.iter().all(|pid| !proc::alive(*pid)));
    until("no grandchild is left", || tree.iter().all(|process| !process.lives()));
    let mut again = supervisor_command(pool.folder())
        .arg("--config")
        .arg(pool.config_path())
        .arg("--socket")
        .arg(pool.socket())
        .spawn()
        .expect("it starts");
    until("it listens again", || Client::open(pool.socket()).is_ok());
    assert_eq!(result(pool.run(code("6 * 7"))), 42);
    proc::signal(again.id() as i32, Signal::TERM);
    until("it ends", || again.try_wait().expect("our own child").is_some());
}

#[test]
fn hostile_49_sigterm_while_workers_are_started_drains_once_and_reaps_all() {
    for times in [1, 2, 20] {
        let mut pool = Pool::launch(json!({"pool": {"minWorkers": 8, "maxWorkers": 8}}), |_| {});
        until("a worker is being started", || {
            !proc::workers_of(pool.pid()).is_empty() || Client::open(pool.socket()).is_ok()
        });
        for _ in 0..times {
            // It may have ended of the first already.
            proc::signal(pool.pid(), Signal::TERM);
        }
        assert_eq!(pool.wait().code(), Some(0), "{}", pool.log());
        until("no worker is left", || {
            proc::workers_of(pool.pid()).iter().all(|pid| !proc::alive(*pid))
        });
        assert!(pool.log().matches("supervisor ended").count() <= 1);
    }
}

#[test]
fn hostile_49_a_storm_of_sighup_is_survived() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    pool.until_idle("js", 2);
    unharmed(&pool, || {
        for _ in 0..500 {
            pool.signal(Signal::HUP);
        }
        until("at least one was heard", || !pool.events_named("config-reloaded").is_empty());
        assert_eq!(result(pool.run(code("1"))), 1);
    });
}

/// Small programs that speak the protocol: five hundred engines would be a test of the machine.
#[test]
fn hostile_49_five_hundred_workers_that_die_at_once_are_reaped_and_replaced() {
    const MANY: usize = 500;
    let pool = Pool::start(json!({
        "workerPath": env!("CARGO_BIN_EXE_bad_worker"),
        "pool": {
            "minWorkers": MANY,
            "maxWorkers": MANY,
            "autoScale": false,
            "heartbeatInterval": 10_000,
            "spawnTimeout": 60_000,
        },
    }));
    let all_are_ready = || {
        // Each fifty have a deadline of their own: a busy machine takes its time for five hundred.
        for count in (50..=MANY).step_by(50) {
            until("fifty more are ready", || pool.workers_that_are("js", "idle").len() >= count);
        }
        pool.until_idle("js", MANY);
    };
    all_are_ready();
    let first: Vec<i32> = proc::children(pool.pid());
    assert_eq!(first.len(), MANY);
    for pid in &first {
        proc::kill(*pid);
    }
    until("all of them are reaped", || {
        first.iter().all(|pid| proc::stat(*pid).is_none_or(|s| s.parent != pool.pid()))
    });
    all_are_ready();
    assert_eq!(result(pool.run(code("fine"))), "ok");
    let zombies = proc::children(pool.pid()).iter().filter(|pid| !proc::alive(**pid)).count();
    assert_eq!(zombies, 0);
    assert_eq!(proc::children(pool.pid()).len(), MANY);
}

/// All files in and below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .expect("the repository's own")
        .map(|entry| entry.expect("readable").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A number of a process may name another one when a signal is sent; a pidfd never does. So no
/// signal goes by number, but to one's own child that has not been reaped, to oneself, or to all
/// others in a process namespace of one's own.
#[test]
fn hostile_50_only_pidfds_are_signalled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let by_number =
        ["kill_process(", "kill_process_group(", "libc::kill(", "signal::kill(", "Child::kill"];
    let mut found = Vec::new();
    for file in ["pool-supervisor/src", "pool-worker-bin/src"]
        .into_iter()
        .flat_map(|folder| files(&root.join(folder)))
    {
        let text = fs::read_to_string(&file).expect("a source file");
        // A call may go over several lines; whom it means stands within the next one.
        let lines: Vec<&str> = text.lines().collect();
        let calls = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| by_number.iter().any(|call| line.contains(call)));
        found.extend(calls.map(|(at, line)| {
            let next = lines.get(at + 1).map_or("", |next| next.trim());
            format!("{}: {} {next}", file.display(), line.trim())
        }));
    }
    assert!(!found.is_empty(), "the places below are found, so others would be");
    found.retain(|line| {
        let to_itself = line.contains("getpid()");
        let own_child = line.contains("shell/child.rs") || line.contains("shell/capture.rs");
        let own_namespace = line.contains("shell/tree.rs") && line.contains("Pid::from_raw(-1)");
        !to_itself && !own_child && !own_namespace && !line.contains("use ")
    });
    assert_eq!(found, Vec::<String>::new(), "signalled by number");
}
