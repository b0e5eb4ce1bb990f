//! What programs used, as the kernel tells whoever waits for them.

use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

/// CPU time and memory of ended processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    /// User and system time together.
    pub(super) cpu: Duration,
    /// The largest resident set of any of them.
    pub(super) peak_bytes: u64,
}

impl Usage {
    /// Adds another process.
    pub(super) fn add(&mut self, other: &Self) {
        self.cpu += other.cpu;
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
    }
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    /// By itself.
    Code(i32),
    /// Of a signal.
    Signal(i32),
}

/// Takes one ended child, whichever; nothing when none has ended.
pub(super) fn reap_any() -> Result<Option<Usage>, Errno> {
    Ok(wait(-1)?.map(|(_, usage)| usage))
}

/// Takes this child if it has ended.
pub(super) fn reap(pid: Pid) -> Result<Option<(Exit, Usage)>, Errno> {
    wait(pid.as_raw_nonzero().get())
}

fn wait(pid: i32) -> Result<Option<(Exit, Usage)>, Errno> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    #[expect(unsafe_code, reason = "only wait4 gives an ended child's resource usage")]
    // SAFETY: both pointers are to locals that live through the call; zeroes are a valid rusage.
    let (result, usage) = unsafe {
        (libc::wait4(pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()), usage.assume_init())
    };
    if result < 0 {
        let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Errno::from_raw_os_error(code));
    }
    if result == 0 {
        return Ok(None);
    }
    let exit = if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    };
    let kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    let usage = Usage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_bytes: kib.saturating_mul(1024),
    };
    Ok(Some((exit, usage)))
}

fn time(time: libc::timeval) -> Duration {
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(secs) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}
