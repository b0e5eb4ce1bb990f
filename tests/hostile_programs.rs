//! Programs of the list that turn against the pool that runs them: row 73 of what the pool must
//! survive.

use pool_tests::tasks::{code, error, program, result, with};
use pool_tests::{Pool, json, proc, until, until_some};
use rustix::process::Signal;

/// Whoever sent the signal: nobody can tell a program's from somebody else's.
#[test]
fn hostile_73_a_task_under_whose_program_workers_are_killed_is_tried_once_more_and_set_aside() {
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 3},
        "shell": {"allow": [{"program": "/bin/sleep", "args": "[0-9]+"}]},
    }));
    let task = with(program("/bin/sleep", &["100"]), json!({"maxAttempts": 40, "retry": {"initialDelay": 1}}));
    let mut client = pool.client();
    let request = client.submit(&task);
    let id = client.id(request);
    for attempt in 1..=2 {
        let running = until_some("the attempt runs", || {
            Some(pool.task(&id)).filter(|row| row["attempts"] == attempt && row["state"] == "running")
        });
        let pid = pool.pid_of(&running["workerId"]).expect("it runs a task that does not end");
        assert!(proc::signal(pid, Signal::KILL));
        until("it is gone", || !proc::alive(pid));
    }
    let outcome = client.outcome(request);
    assert_eq!((error(&outcome), &outcome["attempts"]), ("WORKER_CRASHED", &json!(2)), "{outcome}");
    assert_eq!(outcome["error"]["verdict"]["cause"], "killed-from-outside", "{outcome}");
    assert_eq!(pool.status()["setAside"], 1);
    let again = pool.run(task);
    assert_eq!((error(&again), &again["attempts"]), ("WORKER_CRASHED", &json!(0)), "{again}");
    assert_eq!(result(pool.run(code("1"))), 1);
}
