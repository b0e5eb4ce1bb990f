//! Last words: why the process is about to die, told before it does.
//!
//! Three ways lead here. The engine calls its hook when memory or an assertion fails; where it
//! gives up without asking, or hits a hole in its own memory, a signal's handler speaks for it; and
//! so it does when the kernel caught a system call that nobody makes by mistake. Either way the
//! words are spoken once, after every result that is ready, and the process then dies.
//!
//! Of its signal, if it can. The first process of a namespace cannot: a signal of the default
//! action does nothing to it, unless the kernel forces it, as for an instruction that fails. So
//! whoever raises one here makes sure of the end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use pool_protocol::frame::{self, Kind};
use pool_protocol::outcome::Cause;
use pool_protocol::worker::LastWordsHead;
use pool_worker::js;

use crate::link::Link;
use crate::lockdown;

/// Words are no longer.
const MAX_BYTES: usize = 1024;
/// What a failing engine dies of. After the handler the signal has its default action: the
/// instruction that failed fails again, `abort` goes on to one that does.
const FAILURES: [Signal; 6] = [
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
];
/// What the kernel sends whose CPU time is over, which would do nothing to the first process of a
/// namespace.
const CPU_WALL: Signal = Signal::SIGXCPU;

/// What the engine's hook and the handlers find: both are plain functions.
static MOUTH: OnceLock<Mouth> = OnceLock::new();
static SPOKEN: AtomicBool = AtomicBool::new(false);

struct Mouth {
    link: Arc<Link>,
    /// For each signal a whole frame, written ahead: a handler must not allocate.
    signals: Vec<(i32, Vec<u8>)>,
    /// For an engine that ends with one of them because there is no memory.
    no_memory: Vec<u8>,
    /// The same for each system call that ends the process.
    calls: Vec<(i64, Vec<u8>)>,
    /// And for any other.
    unnamed_call: Vec<u8>,
}

impl Mouth {
    fn new(link: &Arc<Link>) -> Self {
        let failed = |s: Signal| {
            (s as i32, words(Cause::EngineFatal, &format!("the engine ended with {s}")))
        };
        let wall =
            (CPU_WALL as i32, words(Cause::CpuLimit, "the kernel's limit of CPU time was reached"));
        let violation = |what: &str| {
            words(Cause::SandboxViolation, &format!("system call {what} is forbidden"))
        };
        let forbidden =
            |(number, name): (i64, &str)| (number, violation(&format!("{name} ({number})")));
        Self {
            link: Arc::clone(link),
            signals: FAILURES.map(failed).into_iter().chain([wall]).collect(),
            no_memory: words(Cause::JsHeap, "the engine found no memory for one of its parts"),
            calls: lockdown::deadly_calls().map(forbidden).collect(),
            unnamed_call: words(Cause::SandboxViolation, "a system call is forbidden"),
        }
    }
}

/// From now on the process's death is announced on the link.
pub(super) fn announce_on(link: &Arc<Link>) -> io::Result<()> {
    MOUTH.get_or_init(|| Mouth::new(link));
    js::set_last_words(|verdict, detail| {
        let cause = match verdict {
            js::Verdict::JsHeap => Cause::JsHeap,
            js::Verdict::EngineFatal => Cause::EngineFatal,
        };
        let detail = &detail[..detail.floor_char_boundary(MAX_BYTES)];
        speak(|mouth| mouth.link.last_words(&words(cause, detail)));
    });
    let flags = SaFlags::SA_RESETHAND | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    let failures = FAILURES.map(|s| (s, SigHandler::Handler(on_failure)));
    let others = [
        (CPU_WALL, SigHandler::Handler(on_cpu_wall)),
        (Signal::SIGSYS, SigHandler::SigAction(on_forbidden_call)),
    ];
    for (signal, handler) in failures.into_iter().chain(others) {
        let action = SigAction::new(handler, flags, SigSet::empty());
        #[expect(unsafe_code, reason = "installing a signal's handler")]
        // SAFETY: the handlers do nothing but what is allowed in one: atomics, a lock they only
        // try, and system calls.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Says why the process is about to leave of its own accord, as far as its last result does not say
/// it.
pub(super) fn say(link: &Link, cause: Cause, detail: &str) {
    if !SPOKEN.swap(true, Ordering::SeqCst) {
        link.last_words(&words(cause, detail));
    }
}

extern "C" fn on_failure(number: i32) {
    if js::is_out_of_memory() {
        speak(|mouth| mouth.link.last_words(&mouth.no_memory));
    }
    speak_of(number);
}

extern "C" fn on_cpu_wall(number: i32) {
    speak_of(number);
    die_of(number);
}

extern "C" fn on_forbidden_call(_number: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    #[expect(unsafe_code, reason = "libc does not name the fields of a SIGSYS")]
    // SAFETY: the kernel gives a siginfo of 128 bytes to a handler of this kind. In that of a
    // SIGSYS the call's number follows the three integers that all have, four bytes of padding, and
    // the address of the instruction.
    let (code, call) = unsafe { ((*info).si_code, info.cast::<i32>().add(6).read()) };
    /// Of `si_code`: a filter's doing. Anything else is a signal that somebody sent.
    const SYS_SECCOMP: i32 = 1;
    speak(|mouth| {
        let known = mouth
            .calls
            .iter()
            .find(|(number, _)| *number == i64::from(call) && code == SYS_SECCOMP);
        mouth.link.last_words(known.map_or(&mouth.unnamed_call, |(_, frame)| frame));
    });
    #[expect(unsafe_code, reason = "a forbidden call, to die of it")]
    // SAFETY: the signal has its default action again, so that this call does not return; without a
    // filter it would fail for its pointers.
    unsafe {
        libc::syscall(
            libc::SYS_execve,
            std::ptr::null::<u8>(),
            std::ptr::null::<u8>(),
            std::ptr::null::<u8>(),
        );
    }
    die_of(libc::SIGSYS);
}

fn speak_of(number: i32) {
    speak(|mouth| {
        if let Some((_, frame)) = mouth.signals.iter().find(|(signal, _)| *signal == number) {
            mouth.link.last_words(frame);
        }
    });
}

/// The signal has its default action again; where that does nothing, the exit code says what a
/// shell says of it.
fn die_of(number: i32) -> ! {
    #[expect(
        unsafe_code,
        reason = "raising a signal and leaving without destructors, in a signal's handler"
    )]
    // SAFETY: both take a number; the second does not return.
    unsafe {
        libc::raise(number);
        libc::_exit(128 + number)
    }
}

fn speak(say: impl FnOnce(&Mouth)) {
    if let Some(mouth) = MOUTH.get()
        && !SPOKEN.swap(true, Ordering::SeqCst)
    {
        say(mouth);
    }
}

fn words(cause: Cause, detail: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put(&mut bytes, Kind::LastWords, 0, &LastWordsHead { cause, detail }, &[]);
    bytes
}
