//! Attacks that look for other processes, or make some.
#![expect(unsafe_code, reason = "starting a process as no safe wrapper does")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use libc::c_int;
use nix::errno::Errno;
use pool_protocol::lane::Lane;
use pool_protocol::worker::{ProbeReport, Setup};

use super::report::{errno, judge, stopped, succeeded};

/// Programs that every machine has some of, and that do nothing to it.
const HARMLESS: [&str; 6] = [
    "/usr/bin/true",
    "/usr/bin/false",
    "/usr/bin/uname",
    "/usr/bin/id",
    "/usr/bin/whoami",
    "/usr/bin/printenv",
];

pub(super) fn see_parent() -> ProbeReport {
    match rustix::process::getppid() {
        None => stopped("it has no parent that it could see"),
        Some(pid) => succeeded(format!("its parent is {}", pid.as_raw_nonzero())),
    }
}

pub(super) fn see_processes() -> ProbeReport {
    let answer = fs::read_dir("/proc").map_err(|e| errno(&e));
    let entries = match answer {
        Ok(entries) => entries,
        Err(error) => return judge("/proc", Err::<(), _>(error), &[Errno::ENOENT]),
    };
    let is_process = |name: &std::ffi::OsStr| {
        name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    };
    let seen = entries.flatten().filter(|entry| is_process(&entry.file_name())).count();
    let itself = 1;
    if seen > itself {
        succeeded(format!("/proc: {seen} processes"))
    } else {
        stopped("/proc: none but itself")
    }
}

/// A copy of this process that exits at once.
pub(super) fn fork(more_flags: c_int) -> ProbeReport {
    let flags = i64::from(libc::SIGCHLD | more_flags);
    // SAFETY: without a stack of its own the child goes on here, on a copy of this one. It does
    // nothing but exit, by a system call: neither the engine's memory, which it has not got, nor a
    // lock is touched.
    let answer = unsafe {
        let answer = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        if answer == 0 {
            libc::syscall(libc::SYS_exit_group, 0);
        }
        answer
    };
    let answer = Errno::result(answer);
    if let Ok(pid) = answer {
        // SAFETY: a child of ours; its status is not wanted.
        unsafe { libc::waitpid(pid as c_int, std::ptr::null_mut(), 0) };
    }
    let what = if more_flags & libc::CLONE_NEWUSER == 0 { "clone" } else { "clone(CLONE_NEWUSER)" };
    judge(what, answer, &[Errno::EAGAIN])
}

pub(super) fn run_program(setup: &Setup) -> anyhow::Result<ProbeReport> {
    let is_listed =
        |path: &str| setup.shell.allow.iter().any(|p| p.program == path || p.resolved == path);
    let is_opened = |path: &str| {
        setup.isolation.readable.iter().any(|folder| Path::new(path).starts_with(folder))
    };
    let is_allowed = |path: &str| setup.lane == Lane::Io && (is_listed(path) || is_opened(path));
    // Where nothing can be found, the first is as good as any.
    let unlisted = HARMLESS.iter().filter(|path| !is_allowed(path));
    let path = unlisted.clone().find(|path| Path::new(path).exists()).or(unlisted.clone().next());
    let path = path.ok_or_else(|| {
        anyhow::anyhow!("the configuration opens every program that could be tried")
    })?;
    let (inherit, answer) = (Stdio::inherit, Command::new(path));
    let mut command = answer;
    let answer = command.stdin(inherit()).stdout(inherit()).stderr(inherit()).status();
    Ok(judge(path, answer.map_err(|e| errno(&e)), &[Errno::ENOENT, Errno::EAGAIN]))
}
