//! Attacks on what the process has and may: descriptors, limits, rights.
#![expect(
    unsafe_code,
    reason = "asking the kernel about this very process, as no safe wrapper does"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use libc::c_ulong;
use nix::errno::Errno;
use pool_protocol::worker::{ProbeReport, Setup};
use rlimit::{INFINITY, Resource};

use super::report::{errno, judge, stopped, succeeded};
use crate::clock::process_cpu;
use crate::lockdown::CpuWall;

/// Descriptors that the supervisor hands over: 0 to 3.
const OWN_DESCRIPTORS: i32 = 4;
/// Above the most that a process usually has.
const LOOKED_AT: i32 = 4096;
/// What a limit of descriptors may have beyond the configured number.
const SPARE_DESCRIPTORS: u64 = 64;
/// Mapped at once, never touched.
const MAPPED_BYTES: usize = 64 << 20;
/// CPU time after which the wall, two seconds away at most when it was set, is not there.
const BURN: Duration = Duration::from_secs(4);
/// `nobody` on every Linux.
const NOBODY: libc::uid_t = 65534;

/// This program opens everything close-on-exec. What is not was there before it.
pub(super) fn inherited_descriptors() -> ProbeReport {
    let inherited: Vec<i32> = (OWN_DESCRIPTORS..LOOKED_AT)
        .filter(|fd| {
            // SAFETY: asking about a number that may be no descriptor is harmless.
            let flags = unsafe { libc::fcntl(*fd, libc::F_GETFD) };
            flags >= 0 && flags & libc::FD_CLOEXEC == 0
        })
        .collect();
    if inherited.is_empty() {
        return stopped(format!("none of {OWN_DESCRIPTORS} to {} is there", LOOKED_AT - 1));
    }
    succeeded(format!("these were there: {inherited:?}"))
}

pub(super) fn environment() -> ProbeReport {
    match std::env::vars_os().count() {
        0 => stopped("the environment is empty"),
        n => succeeded(format!("{n} variables")),
    }
}

pub(super) fn open_files(setup: &Setup) -> anyhow::Result<ProbeReport> {
    let configured = setup.open_files.saturating_add(setup.shell.allow.len() as u64);
    let (soft, hard) = rlimit::getrlimit(Resource::NOFILE)?;
    if hard > configured.saturating_add(SPARE_DESCRIPTORS) {
        return Ok(succeeded(format!("RLIMIT_NOFILE is {hard}, configured are {configured}")));
    }
    let mut held = Vec::new();
    let answer = loop {
        // SAFETY: a copy of standard error that nothing uses.
        match Errno::result(unsafe { libc::dup(2) }) {
            // SAFETY: just made, and nobody else's.
            Ok(fd) => held.push(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(error) => break error,
        }
        if held.len() as u64 > soft {
            return Ok(succeeded(format!(
                "{} more were opened under a limit of {soft}",
                held.len()
            )));
        }
    };
    Ok(judge(
        &format!("{} more under a limit of {soft}", held.len()),
        Err::<(), _>(answer),
        &[Errno::EMFILE],
    ))
}

pub(super) fn limit_above_zero(resource: Resource) -> anyhow::Result<ProbeReport> {
    let (soft, hard) = rlimit::getrlimit(resource)?;
    let name = resource.as_name();
    Ok(match (soft, hard) {
        (0, 0) => stopped(format!("{name} is 0")),
        (soft, hard) => succeeded(format!("{name} is {soft}, at most {hard}")),
    })
}

pub(super) fn data_limit() -> anyhow::Result<ProbeReport> {
    let (soft, _) = rlimit::getrlimit(Resource::DATA)?;
    if soft == INFINITY {
        return Ok(succeeded("RLIMIT_DATA is unlimited"));
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let mut mapped = Vec::new();
    let mut answer = Ok(());
    while mapped.len() * MAPPED_BYTES <= usize::try_from(soft)? && answer.is_ok() {
        // SAFETY: new memory at an address of the kernel's choice, never touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPED_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED { answer = Err(Errno::last()) } else { mapped.push(start) }
    }
    let what = format!(
        "{} MiB more under a limit of {} MiB",
        (mapped.len() * MAPPED_BYTES) >> 20,
        soft >> 20
    );
    for start in mapped {
        // SAFETY: mapped above, and nobody knows of it.
        unsafe { libc::munmap(start, MAPPED_BYTES) };
    }
    Ok(judge(&what, answer, &[Errno::ENOMEM]))
}

/// As behind a task that has just begun, whose budget is nothing.
pub(super) fn cpu_wall() -> ProbeReport {
    CpuWall::around_this_process().move_behind(Duration::ZERO);
    let until = process_cpu() + BURN;
    while process_cpu() < until {
        std::hint::spin_loop();
    }
    succeeded(format!("{} s of CPU time were used", BURN.as_secs()))
}

fn prctl(option: libc::c_int) -> io::Result<i32> {
    let zero: c_ulong = 0;
    // SAFETY: these options take no address.
    let answer = unsafe { libc::prctl(option, zero, zero, zero, zero) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

pub(super) fn gain_privileges() -> anyhow::Result<ProbeReport> {
    Ok(match prctl(libc::PR_GET_NO_NEW_PRIVS)? {
        1 => stopped("no_new_privs is 1"),
        other => succeeded(format!("no_new_privs is {other}")),
    })
}

pub(super) fn be_dumped() -> anyhow::Result<ProbeReport> {
    Ok(match prctl(libc::PR_GET_DUMPABLE)? {
        0 => stopped("dumpable is 0"),
        other => succeeded(format!("dumpable is {other}")),
    })
}

/// `capget` and `capset` of version 3: which process, then two halves of effective, permitted,
/// inheritable.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

type CapData = [u32; 6];

const CAP_VERSION: u32 = 0x2008_0522;

fn capget() -> Result<CapData, Errno> {
    let mut header = CapHeader { version: CAP_VERSION, pid: 0 };
    let mut data: CapData = [0; 6];
    // SAFETY: both have the size that version 3 has.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    Errno::result(answer).map(|_| data)
}

pub(super) fn capabilities_left() -> anyhow::Result<ProbeReport> {
    let data = match capget() {
        Ok(data) => data,
        Err(error) => return Err(anyhow::Error::from(error).context("capget")),
    };
    let left = |half: usize| data[half] | data[half + 1] | data[half + 2];
    Ok(match (left(3), left(0)) {
        (0, 0) => stopped("no capability is left"),
        (high, low) => succeeded(format!("capabilities {high:08x}{low:08x}")),
    })
}

pub(super) fn regain_capability() -> ProbeReport {
    let mut header = CapHeader { version: CAP_VERSION, pid: 0 };
    // CAP_SYS_ADMIN and CAP_SYS_PTRACE, effective and permitted.
    let wanted = (1 << 21) | (1 << 19);
    let data: CapData = [wanted, wanted, 0, 0, 0, 0];
    // SAFETY: both have the size that version 3 has.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    judge("capset(CAP_SYS_ADMIN, CAP_SYS_PTRACE)", Errno::result(answer), &[])
}

pub(super) fn become_another() -> ProbeReport {
    // SAFETY: numbers only. The system call itself: the library's function would change the other
    // threads too.
    let answer = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    // EINVAL: its namespace knows no such user.
    judge("setresuid(nobody)", Errno::result(answer), &[Errno::EINVAL])
}

pub(super) fn raise_limits() -> anyhow::Result<ProbeReport> {
    let (soft, hard) = rlimit::getrlimit(Resource::NOFILE)?;
    let answer = rlimit::setrlimit(Resource::NOFILE, soft, hard.saturating_add(1));
    Ok(judge(
        &format!("RLIMIT_NOFILE from {hard} to {}", hard + 1),
        answer.map_err(|e| errno(&e)),
        &[],
    ))
}
