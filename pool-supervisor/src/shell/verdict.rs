//! How and why a child died: exit status and last words, made into a verdict.

use std::os::fd::OwnedFd;

use pool_protocol::outcome::{Blame, Cause, Verdict};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::cgroup::MemoryEvents;

/// What the supervisor knows of the end before it looks at the exit status.
#[derive(Default)]
pub(crate) struct Circumstances {
    /// What the engine said before it ended the process.
    pub(crate) last_words: Option<(Cause, String)>,
    /// The end of what the process wrote to descriptor 2.
    pub(crate) stderr_tail: String,
    /// Whether the shell has signalled the process, on whose order and why.
    pub(crate) closed_link: bool,
    /// Whether the supervisor sent SIGKILL.
    pub(crate) killed: bool,
    /// Whether the handshake was done.
    pub(crate) was_ready: bool,
    /// What its control group has counted, when it limits memory.
    pub(crate) memory: Option<MemoryEvents>,
    /// Whether the last task that it was given runs a program, as the same user as the worker.
    pub(crate) runs_program: bool,
}

impl Circumstances {
    /// Whose doing the end was, where more is known than its cause: a kill for want of memory that
    /// was not the worker's own group's is the machine's, whoever used it up. A signal that nobody
    /// here sent may be the program's own, whatever keeps programs from it: a task that ends its
    /// worker again and again must not go on for ever.
    pub(crate) fn blame(&self, verdict: &Verdict) -> Option<Blame> {
        let own = self.memory.is_some_and(|memory| memory.oom > 0);
        match verdict.cause {
            Cause::KernelOom if !own => Some(Blame::Outside),
            Cause::KilledFromOutside if self.runs_program => Some(Blame::Unclear),
            _ => None,
        }
    }
}

/// Reaps the process if it has ended.
pub(crate) fn reap(pidfd: &OwnedFd) -> rustix::io::Result<Option<WaitIdStatus>> {
    use std::os::fd::AsFd;
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// The verdict. The core's own reason for ending the worker, when it had one, goes before it. `oom`
/// says what shows that the kernel killed somebody of late, and is asked only where that is the
/// question.
pub(crate) fn judge(
    status: Option<&WaitIdStatus>,
    seen: &Circumstances,
    oom: impl FnOnce() -> Option<String>,
) -> Verdict {
    let how = describe(status);
    if let Some(evidence) = seen.memory.and_then(out_of_memory) {
        return Verdict { cause: Cause::KernelOom, evidence };
    }
    if let Some((cause, detail)) = &seen.last_words {
        // The kernel's word goes before the process's: what made a forbidden call may say anything.
        let cause =
            if signal(status) == Some(libc::SIGSYS) { Cause::SandboxViolation } else { *cause };
        return Verdict { cause, evidence: with_tail(&format!("{detail}; {how}"), "") };
    }
    if seen.closed_link && seen.killed {
        let evidence = "closed its socket while it lived on, and was killed".to_owned();
        return Verdict { cause: Cause::ProtocolViolation, evidence };
    }
    if signal(status) == Some(libc::SIGKILL)
        && !seen.killed
        && let Some(evidence) = oom()
    {
        return Verdict { cause: Cause::KernelOom, evidence };
    }
    let cause = match (signal(status), seen.killed) {
        (Some(libc::SIGKILL), false) => Cause::KilledFromOutside,
        (
            Some(
                libc::SIGTERM
                | libc::SIGINT
                | libc::SIGHUP
                | libc::SIGQUIT
                | libc::SIGUSR1
                | libc::SIGUSR2,
            ),
            _,
        ) => Cause::KilledFromOutside,
        (Some(libc::SIGXCPU), _) => Cause::CpuLimit,
        (Some(libc::SIGSYS), _) => Cause::SandboxViolation,
        (
            Some(
                libc::SIGILL
                | libc::SIGABRT
                | libc::SIGTRAP
                | libc::SIGSEGV
                | libc::SIGBUS
                | libc::SIGFPE,
            ),
            _,
        ) => Cause::EngineFatal,
        (None, _) if !seen.was_ready => Cause::SpawnFailed,
        _ => Cause::Exited,
    };
    Verdict { cause, evidence: with_tail(&how, &seen.stderr_tail) }
}

/// What the kernel counted in the worker's own group.
fn out_of_memory(seen: MemoryEvents) -> Option<String> {
    let MemoryEvents { oom, oom_kill, max_bytes } = seen;
    let whose = match (oom_kill, oom) {
        (0, _) => return None,
        (_, 0) => "the memory of a group above it, or of the machine, was used up".to_owned(),
        _ => format!("its group had used up its memory.max of {max_bytes} bytes"),
    };
    Some(format!(
        "killed by the kernel for want of memory: {whose} (memory.events: oom {oom}, oom_kill \
         {oom_kill})"
    ))
}

fn signal(status: Option<&WaitIdStatus>) -> Option<i32> {
    let status = status?;
    status.terminating_signal().or_else(|| stands_for(status.exit_status()?))
}

/// A worker that is the first process of its namespace does not die of signals that it would send
/// itself: it leaves with 128 and the signal's number instead, as shells do.
fn stands_for(exit_status: i32) -> Option<i32> {
    [libc::SIGXCPU, libc::SIGABRT].into_iter().find(|number| exit_status == 128 + number)
}

fn describe(status: Option<&WaitIdStatus>) -> String {
    let Some(status) = status else { return "its exit status is unknown".to_owned() };
    if let Some(number) = status.terminating_signal() {
        let name =
            nix::sys::signal::Signal::try_from(number).map_or("an unnamed signal", |s| s.as_str());
        let core = if status.dumped() { ", core dumped" } else { "" };
        return format!("ended by signal {number} ({name}{core})");
    }
    format!("exit status {}", status.exit_status().unwrap_or(-1))
}

fn with_tail(how: &str, tail: &str) -> String {
    // One line, without what could steer a terminal.
    let tail: String = tail.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if tail.is_empty() { how.to_owned() } else { format!("{how}; its last output: {tail}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::process::{Command, Stdio};

    #[expect(
        clippy::zombie_processes,
        reason = "it is reaped through its pidfd, which is what is tested"
    )]
    fn end_of(script: &str) -> Option<WaitIdStatus> {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .spawn()
            .expect("a shell");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("small")).expect("positive");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it is ours and unreaped");
        waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)), WaitIdOptions::EXITED)
            .expect("it ends")
    }

    #[test]
    fn every_death_is_explained() {
        let ready = || Circumstances { was_ready: true, ..Circumstances::default() };
        let ours = || Circumstances {
            was_ready: true,
            killed: true,
            closed_link: true,
            ..Circumstances::default()
        };
        let words =
            || Circumstances { last_words: Some((Cause::JsHeap, "heap full".into())), ..ready() };
        let group = |oom, oom_kill| {
            let memory = Some(MemoryEvents { oom, oom_kill, max_bytes: 1000 });
            Circumstances { memory, ..ready() }
        };
        let tail =
            || Circumstances { stderr_tail: "bad option\n".into(), ..Circumstances::default() };
        for (script, seen, cause, evidence) in [
            ("kill -KILL $$", ready(), Cause::KilledFromOutside, "SIGKILL"),
            ("kill -KILL $$", group(1, 2), Cause::KernelOom, "memory.max of 1000 bytes"),
            ("kill -KILL $$", group(0, 1), Cause::KernelOom, "a group above it"),
            ("kill -KILL $$", group(0, 0), Cause::KilledFromOutside, "SIGKILL"),
            ("kill -TERM $$", ready(), Cause::KilledFromOutside, "SIGTERM"),
            ("kill -SEGV $$", ready(), Cause::EngineFatal, "SIGSEGV"),
            ("kill -SYS $$", ready(), Cause::SandboxViolation, "SIGSYS"),
            ("kill -XCPU $$", ready(), Cause::CpuLimit, "SIGXCPU"),
            ("exit 7", ready(), Cause::Exited, "exit status 7"),
            ("exit 2", tail(), Cause::SpawnFailed, "bad option"),
            ("kill -KILL $$", ours(), Cause::ProtocolViolation, "closed its socket"),
            ("kill -ABRT $$", words(), Cause::JsHeap, "heap full"),
            ("kill -SYS $$", words(), Cause::SandboxViolation, "SIGSYS"),
            ("exit 152", ready(), Cause::CpuLimit, "exit status 152"),
            ("exit 134", ready(), Cause::EngineFatal, "exit status 134"),
        ] {
            let verdict = judge(end_of(script).as_ref(), &seen, || None);
            assert_eq!(verdict.cause, cause, "{script}: {}", verdict.evidence);
            assert!(verdict.evidence.contains(evidence), "{script}: {}", verdict.evidence);
        }
    }

    #[test]
    fn want_of_memory_is_the_tasks_doing_only_in_its_own_group() {
        let oom = Verdict { cause: Cause::KernelOom, evidence: String::new() };
        let group = |oom| Some(MemoryEvents { oom, oom_kill: 1, max_bytes: 1000 });
        for (memory, blame) in
            [(group(1), None), (group(0), Some(Blame::Outside)), (None, Some(Blame::Outside))]
        {
            assert_eq!(Circumstances { memory, ..Circumstances::default() }.blame(&oom), blame);
        }
        let crash = Verdict { cause: Cause::EngineFatal, evidence: String::new() };
        assert_eq!(Circumstances::default().blame(&crash), None);
    }

    #[test]
    fn a_signal_that_nobody_here_sent_may_be_the_programs_own() {
        let killed = Verdict { cause: Cause::KilledFromOutside, evidence: String::new() };
        for (runs_program, blame) in [(true, Some(Blame::Unclear)), (false, None)] {
            assert_eq!(
                Circumstances { runs_program, ..Circumstances::default() }.blame(&killed),
                blame
            );
        }
    }

    #[test]
    fn a_kill_that_nobody_here_sent_is_the_kernels_only_if_it_says_so() {
        let ready = Circumstances { was_ready: true, ..Circumstances::default() };
        let counted = || Some("the counter rose".to_owned());
        assert_eq!(
            judge(end_of("kill -KILL $$").as_ref(), &ready, counted).cause,
            Cause::KernelOom
        );
        assert_eq!(
            judge(end_of("kill -TERM $$").as_ref(), &ready, counted).cause,
            Cause::KilledFromOutside
        );
        let ours = Circumstances { killed: true, ..ready };
        assert_eq!(judge(end_of("kill -KILL $$").as_ref(), &ours, counted).cause, Cause::Exited);
    }
}
