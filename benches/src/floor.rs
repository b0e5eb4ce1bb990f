//! The floor: the same closed loop over a relay that does nothing, with frames of the same sizes.
//! No pool whose tasks run in other processes can be faster on this machine.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use pool_protocol::frame::{self, Kind};
use pool_supervisor::client::SubmitOptions;
use serde::Serialize;

use crate::echo;
use crate::figures::{Latency, Round, histogram};
use crate::relay::{self, HEADER_BYTES, Manner};
use crate::usage::{CpuSeconds, of_process, of_this_process};
use crate::workload::Sample;

/// Bytes of the frames that a client and a pool exchange for a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Frames {
    /// The submission.
    pub request_bytes: usize,
    /// The outcome.
    pub reply_bytes: usize,
}

impl Frames {
    /// Those of a task.
    #[must_use]
    pub fn of(sample: &Sample) -> Self {
        let task = sample.task();
        let options = SubmitOptions::RUN;
        let head = task.head(0, options.on_disconnect, options.ack, options.want_outcome);
        let mut request = Vec::new();
        frame::put(&mut request, Kind::Submit, 0, &head, &task.body);
        let mut reply = Vec::new();
        frame::put_head(
            &mut reply,
            Kind::Outcome,
            0,
            &echo::outcome(0, sample.result_bytes()),
            sample.result_bytes(),
        );
        Self { request_bytes: request.len(), reply_bytes: reply.len() + sample.result_bytes() }
    }
}

/// A relay with its echoes, and this process as its client.
#[derive(Debug)]
pub struct Floor {
    stream: UnixStream,
    relay: Child,
    echoes: Vec<u32>,
    frames: Frames,
    request: Vec<u8>,
    payload_bytes: usize,
}

impl Floor {
    /// Starts the processes for frames like those of a task.
    ///
    /// # Errors
    /// When they do not start, or the reply would be longer than the request: an echo answers in
    /// place.
    pub fn start(sample: &Sample, manner: Manner) -> anyhow::Result<Self> {
        let frames = Frames::of(sample);
        ensure!(
            frames.reply_bytes <= frames.request_bytes,
            "failed to relay such tasks: {frames:?}"
        );
        let (stream, mut relay) = relay::start("floor-relay", manner, Stdio::piped())?;
        let echoes = relay::echoes_of(&mut relay)?;
        let request = (0..frames.request_bytes).map(|at| at as u8).collect();
        Ok(Self { stream, relay, echoes, frames, request, payload_bytes: sample.bytes() })
    }

    /// Sends so many frames with so many in flight, and says how it went. The relay counts as the
    /// supervisor, the echoes as the workers.
    ///
    /// # Errors
    /// When the relay goes away, or a reply is not the one right reply of a frame in flight.
    pub fn round(&mut self, tasks: u64, window: usize) -> anyhow::Result<Round> {
        let mut latencies = histogram()?;
        let mut sent =
            Vec::with_capacity(usize::try_from(tasks).context("failed to count the tasks")?);
        let (mut out, mut inbox) = (Vec::new(), Vec::new());
        let before = self.cpu();
        let start = Instant::now();
        self.send(tasks.min(window as u64), &mut sent, &mut out)?;
        let mut ended = 0;
        while ended < tasks {
            ensure!(
                relay::read_into(&self.stream, &mut inbox)?,
                "failed to measure the floor: the relay went away"
            );
            let came = self.take(&mut inbox, &mut sent, &mut latencies)?;
            ended += came;
            self.send(came.min(tasks - sent.len() as u64), &mut sent, &mut out)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu = self.cpu().since(&before);
        Ok(Round::new(tasks, seconds, Some(Latency::of(&latencies)), cpu)
            .with_bytes(self.payload_bytes))
    }

    fn send(
        &mut self,
        count: u64,
        sent: &mut Vec<Option<Instant>>,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        let Frames { request_bytes, reply_bytes } = self.frames;
        out.clear();
        for _ in 0..count {
            relay::put_header(&mut self.request, request_bytes, reply_bytes, sent.len() as u64);
            out.extend_from_slice(&self.request);
            sent.push(Some(now));
        }
        self.stream.write_all(out).context("failed to write to the relay")
    }

    /// Checks and takes the whole replies; how many.
    fn take(
        &self,
        inbox: &mut Vec<u8>,
        sent: &mut [Option<Instant>],
        latencies: &mut Histogram<u64>,
    ) -> anyhow::Result<u64> {
        let now = Instant::now();
        let (bytes, count) = relay::whole_frames(inbox);
        let mut at = 0;
        while at < bytes {
            let (len, _, number) = relay::header(&inbox[at..]).context("failed to read a reply")?;
            let filling = HEADER_BYTES..self.frames.reply_bytes;
            let right = len == self.frames.reply_bytes
                && inbox[at + HEADER_BYTES..at + len] == self.request[filling];
            ensure!(
                right,
                "failed to relay a frame: reply {number} of {len} bytes is not the request's \
                 beginning"
            );
            let sent = sent.get_mut(number as usize).and_then(Option::take);
            let took =
                now.duration_since(sent.context("failed to match a reply with a frame in flight")?);
            latencies
                .record(took.as_nanos() as u64)
                .expect("the histogram grows with what it is given");
            at += len;
        }
        inbox.drain(..bytes);
        Ok(count as u64)
    }

    fn cpu(&self) -> CpuSeconds {
        let own = |pid: u32| of_process(pid).unwrap_or_default().own;
        let workers = self.echoes.iter().map(|pid| own(*pid)).sum();
        CpuSeconds { supervisor: own(self.relay.id()), workers, client: of_this_process() }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // The end of its socket ends the relay, and that of theirs the echoes.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let _ = self.relay.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    #[test]
    fn frames_are_as_long_as_a_pools() {
        let frames = Frames::of(&Workload::Warm.sample(0).expect("a task"));
        assert!(
            (60..200).contains(&frames.request_bytes)
                && (40..frames.request_bytes).contains(&frames.reply_bytes),
            "{frames:?}"
        );
        let large = Frames::of(&Workload::Echo.sample(1 << 20).expect("a task"));
        assert!(
            large.reply_bytes > 1 << 20 && large.reply_bytes < large.request_bytes,
            "{large:?}"
        );
    }
}
