//! Attacks on the control group around the process. But for the first, they are made only where the
//! group's limit is on.
#![expect(unsafe_code, reason = "memory that no allocator of this process counts")]

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use pool_protocol::worker::{ProbeReport, Setup};

use super::report::{errno, judge, stopped, succeeded};
use crate::clock::process_cpu;

/// The root of the unified hierarchy, where it is mounted everywhere.
const ROOT: &str = "/sys/fs/cgroup/cgroup.procs";
/// Far above what a group allows, far below what hurts a machine.
const MOST_THREADS: usize = 4096;
/// Touched at once.
const PIECE_BYTES: usize = 1 << 20;
/// What a group may have beyond a task's memory, for the engine and for the bodies.
const SPARE_BYTES: u64 = 1 << 30;
const BURN: Duration = Duration::from_millis(1500);

/// Writing its own number (0) to the root's list of members would move it there.
pub(super) fn leave() -> ProbeReport {
    let answer =
        OpenOptions::new().write(true).open(ROOT).and_then(|mut file| file.write_all(b"0"));
    judge(
        &format!("write({ROOT:?})"),
        answer.map_err(|e| errno(&e)),
        &[Errno::ENOENT, Errno::EROFS],
    )
}

/// Shared memory is not private data, so that `RLIMIT_DATA` does not count it; the group does.
pub(super) fn fill_memory(setup: &Setup) -> anyhow::Result<ProbeReport> {
    let bound = usize::try_from(setup.memory_bytes.saturating_mul(8).saturating_add(SPARE_BYTES))?;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: new memory at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bound, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Ok(judge("mmap(MAP_SHARED)", Err::<(), _>(Errno::last()), &[Errno::ENOMEM]));
    }
    for at in (0..bound).step_by(PIECE_BYTES) {
        // SAFETY: a piece of the mapping just made, which is as long as the bound rounded up to
        // pages.
        unsafe { start.cast::<u8>().add(at).write_bytes(1, PIECE_BYTES.min(bound - at)) };
    }
    Ok(succeeded(format!("{} MiB of shared memory were filled", bound >> 20)))
}

pub(super) fn fill_processes() -> ProbeReport {
    let end = Arc::new(AtomicBool::new(false));
    let mut started = Vec::new();
    let answer = loop {
        if started.len() == MOST_THREADS {
            break succeeded(format!("{MOST_THREADS} threads were started"));
        }
        let end = Arc::clone(&end);
        let body = move || {
            while !end.load(Ordering::Relaxed) {
                thread::park();
            }
        };
        match thread::Builder::new().stack_size(16 << 10).spawn(body) {
            Ok(thread) => started.push(thread),
            Err(error) => {
                let what = format!("thread {}", started.len() + 1);
                break judge(&what, Err::<(), _>(errno(&error)), &[Errno::EAGAIN, Errno::ENOMEM]);
            }
        }
    };
    end.store(true, Ordering::Relaxed);
    for thread in started {
        thread.thread().unpark();
        let _ = thread.join();
    }
    answer
}

/// A thread for each processor, measured by the CPU time that they get in a stretch of wall time.
pub(super) fn burn_processors() -> anyhow::Result<ProbeReport> {
    let processors = thread::available_parallelism()?.get();
    let burn = || {
        let start = Instant::now();
        while start.elapsed() < BURN {
            std::hint::spin_loop();
        }
    };
    let before = process_cpu();
    thread::scope(|scope| {
        for _ in 0..processors {
            thread::Builder::new().spawn_scoped(scope, burn).context("a thread")?;
        }
        anyhow::Ok(())
    })?;
    let used = process_cpu().saturating_sub(before);
    let share = used.as_secs_f64() / (BURN * u32::try_from(processors)?).as_secs_f64();
    let detail = format!("{:.0} % of {processors} processors", share * 100.0);
    Ok(if share > 0.9 { succeeded(detail) } else { stopped(detail) })
}
