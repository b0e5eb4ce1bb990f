//! An open loop: tasks arrive at a fixed rate, whatever becomes of those before them.
//!
//! A task's time counts from when it should have been sent. A pool that stalls makes everybody
//! behind it late, and a loop that counted from the real sending would measure only the one that it
//! was waiting for.

use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::prctl;
use pool_supervisor::client::{Connection, SubmitOptions};

use crate::clients::{Clients, fitting_window};
use crate::figures::Round;
use crate::usage::CpuSeconds;

const NS: u128 = 1_000_000_000;

/// When each task is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrivals {
    /// Tasks a second.
    pub rate: u32,
}

impl Arrivals {
    /// When a task is due, counted from 0 at the start.
    #[must_use]
    pub fn due(self, number: u64) -> Duration {
        Duration::from_nanos((u128::from(number) * NS / u128::from(self.rate)) as u64)
    }

    /// How many are due at a time since the start.
    #[must_use]
    pub fn count(self, since_start: Duration) -> u64 {
        // The last one that is due by then is the largest number whose own time is not later.
        ((since_start.as_nanos() + 1) * u128::from(self.rate)).div_ceil(NS) as u64
    }
}

/// Submits so many tasks when they are due, in turns over the connections, and says how it went.
/// More than fit on their way are sent late, and count from when they were due.
///
/// # Errors
/// When a connection is lost, or a task has another outcome than its result.
pub fn round(
    clients: &mut Clients,
    tasks: u64,
    arrivals: Arrivals,
    usage: &mut Connection,
) -> anyhow::Result<Round> {
    // The kernel rounds a wait up by 50 µs unless told otherwise, which would count as the pool's.
    prctl::set_timerslack(1).context("failed to ask for exact waits")?;
    clients.begin(tasks)?;
    let most = fitting_window(usize::MAX, clients.count(), clients.sample()) as u64;
    let before = CpuSeconds::now(usage)?;
    let start = Instant::now();
    let (mut sent, mut ended) = (0, 0);
    while ended < tasks {
        let now = start.elapsed();
        let until = arrivals.count(now).min(tasks).min(ended + most);
        send_due(clients, sent..until, start, arrivals)?;
        sent = sent.max(until);
        let full = sent == tasks || sent == ended + most;
        clients.wait((!full).then(|| arrivals.due(sent).saturating_sub(start.elapsed())))?;
        let mut place = 0;
        while let Some(client) = clients.ready(place) {
            ended += clients.receive(client)?.ended;
            place += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = CpuSeconds::now(usage)?.since(&before);
    Ok(Round::new(tasks, seconds, Some(clients.latency()), cpu)
        .with_bytes(clients.sample().bytes()))
}

fn send_due(
    clients: &mut Clients,
    numbers: std::ops::Range<u64>,
    start: Instant,
    arrivals: Arrivals,
) -> anyhow::Result<()> {
    let count = clients.count() as u64;
    let touched = (numbers.start..numbers.end.min(numbers.start + count))
        .map(|number| (number % count) as usize);
    for number in numbers.clone() {
        clients.submit(
            (number % count) as usize,
            1,
            start + arrivals.due(number),
            SubmitOptions::RUN,
        )?;
    }
    touched.into_iter().try_for_each(|client| clients.send(client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo;
    use crate::workload::Workload;

    #[test]
    fn a_task_is_due_at_its_own_time_and_not_before() {
        for rate in [1, 3, 7, 1000, 333_333, 1_000_000] {
            let arrivals = Arrivals { rate };
            assert_eq!(arrivals.count(Duration::ZERO), 1, "the first comes at once");
            for number in [1, 2, 10, 12_345] {
                let due = arrivals.due(number);
                assert_eq!(arrivals.count(due), number + 1, "{rate} a second, task {number}");
                assert_eq!(
                    arrivals.count(due - Duration::from_nanos(1)),
                    number,
                    "{rate} a second, task {number}"
                );
            }
        }
        assert_eq!(Arrivals { rate: 1000 }.due(1500), Duration::from_millis(1500));
    }

    #[test]
    fn every_arrival_is_answered_over_all_connections() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("echo.sock");
        echo::serve(&socket, 4).expect("it listens");
        let mut usage = Connection::open(&socket, "test").expect("connected");
        let sample = Workload::Warm.sample(0).expect("a task");
        let mut clients = Clients::open(&socket, 3, &sample).expect("connected");
        let round =
            round(&mut clients, 200, Arrivals { rate: 100_000 }, &mut usage).expect("42 is right");
        assert_eq!(round.tasks, 200);
    }
}
