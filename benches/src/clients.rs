//! Connections to one supervisor with tasks on their way, from one thread.
//!
//! Owns what was submitted and has not been answered: each outcome must be the one right outcome of
//! a task in flight, on the connection that it was submitted on. When to submit is the loops'
//! decision, [`crate::closed`] and [`crate::open`].

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use pool_protocol::task::TaskHead;
use pool_supervisor::client::{
    Batch, Connection, Incoming, Outcome, Receiver, Sender, SubmitOptions, now_ms,
};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::figures::{Latency, histogram};
use crate::workload::Sample;

/// Bytes of results that may wait for one connection. With more the supervisor reads nothing from
/// it until it reads, and this thread may be about to write.
const WAITING_BYTES: usize = 4 * 1024 * 1024;
/// What the wire adds to a result.
const FRAME_BYTES: usize = 160;

/// The window for so many connections: one task each at least, and no more than whose results may
/// wait.
#[must_use]
pub fn fitting_window(wanted: usize, connections: usize, sample: &Sample) -> usize {
    let most_of_each = WAITING_BYTES / (sample.result_bytes() + FRAME_BYTES);
    wanted.min(most_of_each.saturating_mul(connections)).max(connections)
}

/// What one read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Came {
    /// Tasks that are queued now; only those that were submitted with the wish to know.
    pub accepted: u64,
    /// Tasks that ended.
    pub ended: u64,
}

struct Client {
    sender: Sender,
    receiver: Receiver,
    batch: Batch,
}

struct Sent {
    at: Instant,
    client: usize,
}

/// The connections.
pub struct Clients {
    sample: Sample,
    clients: Vec<Client>,
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    /// The round's tasks; one slot for each, because a slow task outlives many windows. Empty once
    /// answered.
    sent: Vec<Option<Sent>>,
    /// The number of the round's first task. Numbers are request numbers too, and go on from
    /// microseconds since 1970: what is new in each task is new to a pool that was measured before.
    first: u64,
    in_flight: u64,
    latencies: Histogram<u64>,
}

impl Clients {
    /// Opens so many connections for tasks like this one.
    ///
    /// # Errors
    /// When the supervisor cannot be reached.
    pub fn open(socket: &Path, count: usize, sample: &Sample) -> anyhow::Result<Self> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).context("failed to make an epoll set")?;
        let mut clients = Vec::with_capacity(count);
        for number in 0..count {
            let stream = UnixStream::connect(socket)
                .with_context(|| format!("failed to connect to {}", socket.display()))?;
            epoll::add(
                &epoll,
                &stream,
                epoll::EventData::new_u64(number as u64),
                epoll::EventFlags::IN,
            )
            .context("failed to watch a connection")?;
            let reading = stream.try_clone().context("failed to share a connection")?;
            let connection = Connection::over(stream, reading, "load")?;
            let batch = Batch::with_limit(connection.welcome().body_bytes);
            let (sender, receiver) = connection.split();
            clients.push(Client { sender, receiver, batch });
        }
        let first = u64::try_from(now_ms()).context("failed to read the clock")? * 1000;
        let ready = Vec::with_capacity(count.min(256));
        Ok(Self {
            sample: sample.clone(),
            clients,
            epoll,
            ready,
            sent: Vec::new(),
            first,
            in_flight: 0,
            latencies: histogram()?,
        })
    }

    /// How many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.clients.len()
    }

    /// What is submitted.
    #[must_use]
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// Begins to count anew.
    ///
    /// # Errors
    /// When there are more tasks than can be counted, or some of the last round are in flight.
    pub fn begin(&mut self, tasks: u64) -> anyhow::Result<()> {
        ensure!(
            self.in_flight == 0,
            "failed to begin a round: {} tasks are in flight",
            self.in_flight
        );
        self.first += self.sent.len() as u64;
        self.sent.clear();
        self.sent.reserve(usize::try_from(tasks).context("failed to count the tasks")?);
        self.latencies.reset();
        Ok(())
    }

    /// Puts so many tasks into a connection's batch; they count from `at`.
    ///
    /// # Errors
    /// When the supervisor accepts no such task.
    pub fn submit(
        &mut self,
        client: usize,
        count: u64,
        at: Instant,
        options: SubmitOptions,
    ) -> anyhow::Result<()> {
        for _ in 0..count {
            let number = self.first + self.sent.len() as u64;
            self.sample.number(number);
            let task = self.sample.task();
            // Nothing in these heads depends on the time.
            let head: TaskHead<'_> =
                task.head(0, options.on_disconnect, options.ack, options.want_outcome);
            self.clients[client].batch.submit_parts(number, &head, &task.body)?;
            self.sent.push(Some(Sent { at, client }));
        }
        self.in_flight += count;
        Ok(())
    }

    /// Sends a connection's batch in one write.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn send(&mut self, client: usize) -> anyhow::Result<()> {
        let Client { sender, batch, .. } = &mut self.clients[client];
        if !batch.is_empty() {
            sender.send(batch)?;
        }
        Ok(())
    }

    /// Waits until something came or the time is over; the connections that have something are then
    /// [`Clients::ready`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn wait(&mut self, most: Option<Duration>) -> anyhow::Result<()> {
        self.ready.clear();
        let most = most.map(|most| Timespec {
            tv_sec: most.as_secs() as i64,
            tv_nsec: i64::from(most.subsec_nanos()),
        });
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), most.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("failed to wait for outcomes"),
        }
    }

    /// The connections that had something, by place.
    pub fn ready(&self, place: usize) -> Option<usize> {
        self.ready.get(place).map(|event| event.data.u64() as usize)
    }

    /// Reads from a connection once, waiting for a whole message, and takes all that came.
    ///
    /// # Errors
    /// When the connection is lost, or a message is not about a task in flight there or not its
    /// right outcome.
    pub fn receive(&mut self, client: usize) -> anyhow::Result<Came> {
        let mut came = Came::default();
        let mut incoming = Some(self.clients[client].receiver.receive()?);
        let now = Instant::now();
        while let Some(message) = incoming {
            match message {
                Incoming::Accepted { request, .. } => {
                    self.slot(request, client)?;
                    came.accepted += 1;
                }
                Incoming::Outcome(outcome) => {
                    self.end(client, &outcome, now)?;
                    came.ended += 1;
                }
                other => bail!("failed to run a task: {other:?} came instead"),
            }
            incoming = self.clients[client].receiver.receive_here()?;
        }
        Ok(came)
    }

    fn end(&mut self, client: usize, outcome: &Outcome, now: Instant) -> anyhow::Result<()> {
        self.sample.check(outcome.request, outcome)?;
        let sent = self.slot(outcome.request, client)?.take().expect("it is in flight");
        self.in_flight -= 1;
        let took = now.saturating_duration_since(sent.at).as_nanos();
        self.latencies.record(took as u64).expect("the histogram grows with what it is given");
        Ok(())
    }

    /// The slot of a task that was submitted on this connection and has not ended.
    fn slot(&mut self, request: u64, client: usize) -> anyhow::Result<&mut Option<Sent>> {
        let slot =
            request.checked_sub(self.first).and_then(|index| self.sent.get_mut(index as usize));
        let is_here =
            |slot: &&mut Option<Sent>| slot.as_ref().is_some_and(|sent| sent.client == client);
        slot.filter(is_here)
            .context("failed to match a message with a task in flight on its connection")
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Of the round's tasks.
    #[must_use]
    pub fn latency(&self) -> Latency {
        Latency::of(&self.latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    #[test]
    fn large_tasks_shrink_the_window() {
        let fitting = |wanted, connections, size| {
            fitting_window(wanted, connections, &Workload::Echo.sample(size).expect("a task"))
        };
        assert_eq!(fitting(512, 1, 0), 512);
        assert_eq!(fitting(512, 1, 1 << 20), 3);
        assert_eq!(fitting(512, 1, 8 << 20), 1);
        assert_eq!(fitting(512, 10, 1 << 20), 30);
        assert_eq!(fitting(512, 1000, 0), 1000);
    }
}
