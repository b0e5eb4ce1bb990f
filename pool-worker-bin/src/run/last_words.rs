//! The engine's last words: why the process is about to die, told before it does.
//!
//! Two ways lead here. The engine calls its hook when memory or an assertion fails; where it gives up without asking,
//! or hits a hole in its own memory, a signal's handler speaks for it. Either way the words are spoken once, after every
//! result that is ready, and the process then dies of its signal.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use pool_protocol::frame::{self, Kind};
use pool_protocol::outcome::Cause;
use pool_protocol::worker::LastWordsHead;
use pool_worker::js;

use crate::link::Link;

/// Words are no longer.
const MAX_BYTES: usize = 1024;
/// What a failing engine dies of.
const DEADLY: [Signal; 6] =
    [Signal::SIGABRT, Signal::SIGTRAP, Signal::SIGILL, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE];

/// What the engine's hook and the handlers find: both are plain functions.
static MOUTH: OnceLock<Mouth> = OnceLock::new();
static SPOKEN: AtomicBool = AtomicBool::new(false);

struct Mouth {
    link: Arc<Link>,
    /// For each deadly signal a whole frame, written ahead: a handler must not allocate.
    frames: Vec<Vec<u8>>,
}

/// From now on the engine's death is announced on the link.
pub(super) fn announce_on(link: &Arc<Link>) -> io::Result<()> {
    let frames = DEADLY.iter().map(|s| words(Cause::EngineFatal, &format!("the engine ended with {s}"))).collect();
    MOUTH.get_or_init(|| Mouth { link: Arc::clone(link), frames });
    js::set_last_words(|verdict, detail| {
        let cause = match verdict {
            js::Verdict::JsHeap => Cause::JsHeap,
            js::Verdict::EngineFatal => Cause::EngineFatal,
        };
        let detail = &detail[..detail.floor_char_boundary(MAX_BYTES)];
        speak(|mouth| mouth.link.last_words(&words(cause, detail)));
    });
    // After the handler the signal has its default action: the instruction that failed fails again, `abort` raises again.
    let flags = SaFlags::SA_RESETHAND | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::Handler(handle), flags, SigSet::empty());
    for signal in DEADLY {
        #[expect(unsafe_code, reason = "installing a signal's handler")]
        // SAFETY: the handler does nothing but what is allowed in one: atomics, a lock it only tries, and `send`.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Says why the process is about to leave of its own accord, as far as its last result does not say it.
pub(super) fn say(link: &Link, cause: Cause, detail: &str) {
    if !SPOKEN.swap(true, Ordering::SeqCst) {
        link.last_words(&words(cause, detail));
    }
}

extern "C" fn handle(number: i32) {
    speak(|mouth| {
        let at = DEADLY.iter().position(|s| *s as i32 == number);
        if let Some(frame) = at.and_then(|at| mouth.frames.get(at)) {
            mouth.link.last_words(frame);
        }
    });
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
