//! V8 in this process: flags, locale data, last words. Set up once, never torn down.
//!
//! Decides that V8 runs on the engine's thread alone: no compiler or collector threads. A worker's
//! CPU time is then the time of one thread, which a budget can be measured on, the process starts
//! faster, and a pool of workers already keeps all cores busy. The price is that optimising a hot
//! function pauses the task for the millisecond it takes.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

/// What V8 died of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There was no memory for V8 and it could not even unwind the task: the JavaScript heap was
    /// full, or the process got no more for another part of V8, such as a compiler.
    JsHeap,
    /// V8 met a condition it does not survive.
    EngineFatal,
}

impl Verdict {
    /// The name used in outcomes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JsHeap => "js-heap",
            Self::EngineFatal => "engine-fatal",
        }
    }
}

/// Called on the dying thread, with what V8 says about the place, or which signal it raised; the
/// process dies when it returns. It may run inside a signal handler, so it must do nothing but
/// write to a descriptor: no allocation, no lock.
pub type LastWords = fn(Verdict, &str);

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();
static SPOKEN: AtomicBool = AtomicBool::new(false);
static INITIALIZED: Once = Once::new();

/// Sets the function that V8's death is reported through. The first call wins; without one, V8's
/// own message on stderr is all there is.
pub fn set_last_words(hook: LastWords) {
    LAST_WORDS.get_or_init(|| {
        // V8 has ends that call no handler of ours, for instance an array longer than it can be.
        for signal in [libc::SIGABRT, libc::SIGTRAP, libc::SIGILL] {
            on_fatal_signal(signal);
        }
        hook
    });
}

/// Says what the process dies of, once: what V8 says first is nearest to the cause.
fn speak(verdict: Verdict, place: &str) {
    if let Some(hook) = LAST_WORDS.get()
        && !SPOKEN.swap(true, Ordering::Relaxed)
    {
        hook(verdict, place);
    }
}

#[expect(unsafe_code, reason = "a signal handler is set through libc")]
fn on_fatal_signal(signal: libc::c_int) {
    extern "C" fn handler(signal: libc::c_int) {
        speak(
            if is_out_of_memory() { Verdict::JsHeap } else { Verdict::EngineFatal },
            match signal {
                libc::SIGABRT => "aborted",
                libc::SIGTRAP => "trapped",
                _ => "illegal instruction",
            },
        );
    }
    let handler: extern "C" fn(libc::c_int) = handler;
    // SAFETY: an all-zero `sigaction` is a valid one; the handler does nothing that is not allowed
    // in one. With SA_RESETHAND the signal that comes again after the handler ends the process as
    // if there had been none.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// Whether the process gets no more memory. Parts of V8 and the libraries in it end the process in
/// the same way then as for a fault of theirs. May be called in a signal's handler.
#[must_use]
pub fn is_out_of_memory() -> bool {
    /// What the parser's list of pointers asks for when it grows beyond four million.
    const PIECE: usize = 64 << 20;
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    #[expect(
        unsafe_code,
        reason = "the kernel is asked without the allocator, which may be what has failed"
    )]
    // SAFETY: a new mapping at an address of the kernel's choice, which is removed untouched.
    unsafe {
        let piece = libc::mmap(std::ptr::null_mut(), PIECE, access, kind, -1, 0);
        piece == libc::MAP_FAILED || libc::munmap(piece, PIECE) != 0
    }
}

/// Version of the linked V8.
#[must_use]
pub fn v8_version() -> &'static str {
    v8::V8::get_version()
}

/// What the WebAssembly format can address.
const MAX_WASM_PAGES: usize = 65536;

/// Brings V8 up; later calls do nothing. `wasm_pages`: how large a WebAssembly memory may grow, in
/// 64 KiB pages.
pub(super) fn initialize(wasm_pages: usize) {
    INITIALIZED.call_once(|| {
        // Archives differ in whether they carry the locale data; setting it twice is harmless.
        v8::icu::set_common_data_78(deno_core_icudata::ICU_DATA)
            .expect("the locale data belongs to the ICU version that V8 was built with");
        // WebAssembly memories are mapped by V8 itself and counted by nobody, so each gets the
        // limit of all buffers.
        let pages = wasm_pages.clamp(1, MAX_WASM_PAGES);
        // A private name on a frozen object would be what a task leaves in the frozen realm:
        // unreadable, but kept for ever.
        let closed = "--js-nonextensible-applies-to-private";
        // Marking in steps would do its steps inside whatever task runs, which then pays for what
        // others left. With a thousand projects that was most of the time of tiny tasks. Without it
        // a collection happens as a whole: between tasks where the worker begins it, and inside a
        // task only for one that fills the heap itself.
        let whole = "--no-incremental-marking";
        v8::V8::set_flags_from_string(&format!(
            "--single-threaded --wasm-max-mem-pages={pages} {closed} {whole}"
        ));
        // V8's own way is to open /dev/urandom, which it would do when there is nothing to open any
        // more.
        v8::V8::set_entropy_source(entropy);
        v8::V8::set_fatal_error_handler(fatal_error);
        v8::V8::initialize_platform(v8::new_single_threaded_default_platform(false).make_shared());
        v8::V8::initialize();
    });
}

pub(super) fn entropy(bytes: &mut [u8]) -> bool {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn fatal_error(_file: &str, _line: i32, message: &str) {
    // File and line are empty in release builds of V8.
    speak(Verdict::EngineFatal, message);
}

/// Registered with each isolate: V8 calls it when an allocation failed for good, and aborts
/// afterwards.
#[expect(unsafe_code, reason = "called by V8 with C strings")]
pub(super) unsafe extern "C" fn out_of_memory(location: *const c_char, _details: &v8::OomDetails) {
    let text = if location.is_null() {
        ""
    } else {
        // SAFETY: V8 passes a static, NUL-terminated name of the place.
        unsafe { CStr::from_ptr(location) }.to_str().unwrap_or_default()
    };
    // V8 says "out of memory" of an array too, that is longer than any heap could hold: that is no
    // matter of the limit. So it does where it counts something, and there are too many.
    let is_impossible = text.starts_with("invalid ") || text.contains("oo many ");
    let verdict = if is_impossible { Verdict::EngineFatal } else { Verdict::JsHeap };
    speak(verdict, text);
}
