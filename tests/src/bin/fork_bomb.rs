//! A fork bomb that a test survives: `fork_bomb COUNT [leave]`.
//!
//! Every process leaves the session it is in, ignores what it can ignore, keeps the pipes open and
//! forks on as fast as it can. For the machine's sake there are no more than COUNT of them in all,
//! counted in memory that all share, and each dies after a minute by a timer of its own. With
//! `leave` the first one ends at once, and the rest is left behind.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

/// Seconds until a process that nobody ended ends by itself.
const LONGEST_SECS: u32 = 60;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(count) = arguments.next().and_then(|n| n.parse().ok()) else {
        eprintln!("fork_bomb COUNT [leave]: test tool; forks COUNT times");
        return ExitCode::from(2);
    };
    let forked = shared_counter();
    if arguments.next().as_deref() == Some("leave") && fork_one() {
        // As soon as there are some.
        while forked.load(Ordering::Relaxed) < count / 2 {
            std::hint::spin_loop();
        }
        return ExitCode::SUCCESS;
    }
    burst(forked, count)
}

#[expect(unsafe_code, reason = "fork has no safe form")]
fn burst(forked: &AtomicU32, count: u32) -> ExitCode {
    loop {
        // SAFETY: these calls take no pointers; this process has one thread.
        unsafe {
            libc::alarm(LONGEST_SECS);
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGINT, libc::SIG_IGN);
            libc::setsid();
        }
        while forked.fetch_add(1, Ordering::Relaxed) < count {
            if fork_one() {
                continue;
            }
            break;
        }
        if forked.load(Ordering::Relaxed) >= count {
            // SAFETY: it takes nothing.
            unsafe { libc::pause() };
        }
    }
}

/// True in the parent.
#[expect(unsafe_code, reason = "fork has no safe form")]
fn fork_one() -> bool {
    // SAFETY: this process has one thread, so that the copy is whole.
    unsafe { libc::fork() != 0 }
}

#[expect(unsafe_code, reason = "memory that is shared over forks")]
fn shared_counter() -> &'static AtomicU32 {
    // SAFETY: a new mapping of a page, never unmapped; zeroes are a valid counter.
    unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
        assert_ne!(page, libc::MAP_FAILED, "a page of memory");
        &*page.cast::<AtomicU32>()
    }
}
