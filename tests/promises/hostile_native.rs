//! Native code let loose in a worker: what it may not do is refused by the kernel, and a death of
//! it is explained. The code is the worker's own, which attacks its confinement instead of serving
//! tasks when an administrator asks for it.

use pool_protocol::control::{ControlRequest, RefusedCode};
use pool_protocol::lane::Lane;
use pool_supervisor::client::ClientError;
use pool_tests::tasks::{code, result};
use pool_tests::{Pool, Value, json, proc, skip, until};

fn pool(isolation: &str) -> Pool {
    let pool =
        Pool::start(json!({"isolation": isolation, "pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.until_idle("js", 1);
    pool
}

fn probe(pool: &Pool, lane: Lane, attack: &str) -> Value {
    pool.ask(&ControlRequest::Probe { lane, attack })
}

fn has(reply: &Value, layer: &str) -> bool {
    reply["layers"].as_array().is_some_and(|layers| layers.iter().any(|on| on == layer))
}

/// Whether the attack was stopped: by an answer of the kernel, or by a death that names the call.
fn is_stopped(reply: &Value) -> bool {
    match reply["report"]["succeeded"].as_bool() {
        Some(succeeded) => !succeeded,
        None => reply["verdict"]["cause"] == "sandbox-violation",
    }
}

#[test]
fn hostile_17_native_code_let_loose_is_refused_by_the_kernel_with_verdict_sandbox_violation() {
    let pool = pool("standard");
    let first = probe(&pool, Lane::Js, "execve");
    if !has(&first, "seccomp") {
        return skip::skipped(
            skip::SECCOMP,
            &pool.status()["isolation"]["lanes"]["js"]["missing"]["seccomp"].to_string(),
        );
    }
    for attack in [
        "execve",
        "open-passwd",
        "socket-inet",
        "ptrace",
        "signal-supervisor",
        "prlimit-supervisor",
    ] {
        let reply = probe(&pool, Lane::Js, attack);
        assert!(is_stopped(&reply), "{attack}: {reply}");
        assert_eq!((&reply["lane"], &reply["attack"]), (&json!("js"), &json!(attack)));
    }
    for (attack, number) in [("execve", libc::SYS_execve), ("ptrace", libc::SYS_ptrace)] {
        let reply = probe(&pool, Lane::Js, attack);
        assert_eq!(reply["verdict"]["cause"], "sandbox-violation", "{reply}");
        let evidence = reply["verdict"]["evidence"].as_str().expect("an evidence");
        assert!(evidence.contains(&format!("{attack} ({number})")), "{evidence}");
    }
    for attack in ["ptrace", "prlimit-supervisor"] {
        let reply = probe(&pool, Lane::Io, attack);
        assert!(is_stopped(&reply), "{attack}: {reply}");
    }
    // The core has seen none of it, and the pool goes on.
    assert_eq!(pool.dead_workers(), Vec::<Value>::new());
    assert_eq!(pool.workers().len(), 1);
    assert_eq!(result(pool.run(code("40 + 2"))), 42);
}

#[test]
fn only_attacks_of_the_list_can_be_asked_for() {
    let pool = pool("standard");
    for (lane, attack) in [(Lane::Js, "rm -rf"), (Lane::Js, ""), (Lane::Io, "execve")] {
        match pool.try_ask(&ControlRequest::Probe { lane, attack }) {
            Err(ClientError::Refused { code: RefusedCode::Malformed, error }) => {
                assert!(error.contains("there is no attack"), "{error}");
            }
            other => panic!("{attack:?}: {other:?}"),
        }
    }
}

/// Processes that the supervisor started, besides its workers.
fn probes(pool: &Pool) -> usize {
    proc::workers_of(pool.pid()).len().saturating_sub(pool.workers().len())
}

#[test]
fn probes_are_few_end_with_their_client_and_never_block_the_pool() {
    let mut pool = pool("standard");
    let slow = |pool: &Pool| {
        let mut client = pool.client();
        client.send(&ControlRequest::Probe { lane: Lane::Js, attack: "cpu-wall" });
        client
    };
    let two = [slow(&pool), slow(&pool)];
    until("both run", || probes(&pool) == 2);
    match pool.try_ask(&ControlRequest::Probe { lane: Lane::Js, attack: "execve" }) {
        Err(ClientError::Refused { code: RefusedCode::Conflict, .. }) => {}
        other => panic!("a third one at once: {other:?}"),
    }
    assert_eq!(result(pool.run(code("40 + 2"))), 42, "tasks run beside them");
    drop(two);
    until("both ended", || probes(&pool) == 0);
    // Ended, and reaped, so that there is room for another.
    until("one is granted again", || {
        pool.try_ask(&ControlRequest::Probe { lane: Lane::Js, attack: "environment" }).is_ok()
    });
    // One that runs at the end of the supervisor ends with it: what is left behind fails when the
    // pool is dropped.
    let _last = slow(&pool);
    until("it runs", || probes(&pool) == 1);
    pool.ask(&ControlRequest::Shutdown { now: true });
    assert!(pool.wait().success());
}
