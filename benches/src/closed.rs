//! A closed loop: a fixed number of tasks is always in flight, and each outcome is followed by the
//! next task.
//!
//! One thread does both directions, and answers whatever came in one read with one write: the
//! generator must cost less than what it measures.

use std::time::Instant;

use pool_supervisor::client::{Connection, SubmitOptions};

use crate::clients::Clients;
use crate::figures::Round;
use crate::usage::CpuSeconds;

/// Runs so many tasks with so many in flight, one for each connection at least, and says how it
/// went. `usage` answers questions about CPU time.
///
/// # Errors
/// When a connection is lost, or a task has another outcome than its result.
pub fn round(
    clients: &mut Clients,
    tasks: u64,
    window: usize,
    usage: &mut Connection,
) -> anyhow::Result<Round> {
    clients.begin(tasks)?;
    let window = window.max(clients.count()) as u64;
    let before = CpuSeconds::now(usage)?;
    let start = Instant::now();
    let count = clients.count() as u64;
    let mut to_send = tasks;
    for client in 0..count {
        let share = (window - client).div_ceil(count).min(to_send);
        to_send -= share;
        follow(clients, client as usize, share)?;
    }
    let mut ended = 0;
    while ended < tasks {
        if count == 1 {
            // The read itself waits: a call less for the only one.
            ended += turn(clients, 0, &mut to_send)?;
            continue;
        }
        clients.wait(None)?;
        let mut place = 0;
        while let Some(client) = clients.ready(place) {
            ended += turn(clients, client, &mut to_send)?;
            place += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = CpuSeconds::now(usage)?.since(&before);
    Ok(Round::new(tasks, seconds, Some(clients.latency()), cpu)
        .with_bytes(clients.sample().bytes()))
}

fn turn(clients: &mut Clients, client: usize, to_send: &mut u64) -> anyhow::Result<u64> {
    let came = clients.receive(client)?.ended;
    let next = came.min(*to_send);
    *to_send -= next;
    follow(clients, client, next)?;
    Ok(came)
}

fn follow(clients: &mut Clients, client: usize, count: u64) -> anyhow::Result<()> {
    clients.submit(client, count, Instant::now(), SubmitOptions::RUN)?;
    clients.send(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo;
    use crate::workload::Workload;

    fn round_of(workload: Workload, tasks: u64, connections: usize) -> anyhow::Result<Round> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("echo.sock");
        echo::serve(&socket, 1 + connections)?;
        let mut usage = Connection::open(&socket, "test")?;
        let mut clients = Clients::open(&socket, connections, &workload.sample(0)?)?;
        round(&mut clients, tasks, 8, &mut usage)
    }

    #[test]
    fn every_task_of_a_round_is_timed() {
        for (tasks, connections) in [(1, 1), (8, 1), (1001, 1), (1, 3), (1001, 3), (100, 20)] {
            let round = round_of(Workload::Warm, tasks, connections).expect("42 is right");
            assert_eq!(round.tasks, tasks);
            let latency = round.latency_us.expect("single tasks are seen");
            assert!(
                latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max,
                "{latency:?}"
            );
        }
    }

    #[test]
    fn a_wrong_result_is_not_counted_as_speed() {
        let error = round_of(Workload::Fresh, 10, 1).expect_err("42 is not 2");
        assert!(error.to_string().contains("\"result\":42"), "{error}");
    }
}
