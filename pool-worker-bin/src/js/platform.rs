//! V8 in this process: flags, locale data, last words. Set up once, never torn down.
//!
//! Decides that V8 runs on the engine's thread alone: no compiler or collector threads. A worker's CPU time is then the
//! time of one thread, which a budget can be measured on, the process starts faster, and a pool of workers already
//! keeps all cores busy. The price is that optimising a hot function pauses the task for the millisecond it takes.

use std::ffi::{CStr, c_char};
use std::sync::{Once, OnceLock};

/// What V8 died of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The JavaScript heap is full and V8 could not even unwind the task.
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

/// Called on the dying thread, with what V8 says about the place; the process aborts when it returns. It must not
/// allocate much: memory may be what ran out.
pub type LastWords = fn(Verdict, &str);

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();
static INITIALIZED: Once = Once::new();

/// Sets the function that V8's death is reported through. The first call wins; without one, V8's own message on stderr
/// is all there is.
pub fn set_last_words(hook: LastWords) {
    LAST_WORDS.get_or_init(|| hook);
}

/// Version of the linked V8.
#[must_use]
pub fn v8_version() -> &'static str {
    v8::V8::get_version()
}

/// Brings V8 up; later calls do nothing. `wasm_pages`: how large a WebAssembly memory may grow, in 64 KiB pages.
pub(super) fn initialize(wasm_pages: usize) {
    INITIALIZED.call_once(|| {
        // Archives differ in whether they carry the locale data; setting it twice is harmless.
        v8::icu::set_common_data_78(deno_core_icudata::ICU_DATA)
            .expect("the locale data belongs to the ICU version that V8 was built with");
        v8::V8::set_flags_from_string("--single-threaded");
        if wasm_pages > 0 {
            v8::V8::set_flags_from_string(&format!("--wasm-max-mem-pages={wasm_pages}"));
        }
        v8::V8::set_fatal_error_handler(fatal_error);
        v8::V8::initialize_platform(v8::new_single_threaded_default_platform(false).make_shared());
        v8::V8::initialize();
    });
}

fn fatal_error(file: &str, line: i32, message: &str) {
    if let Some(hook) = LAST_WORDS.get() {
        // "file:line" is empty in release builds of V8.
        if file.is_empty() {
            hook(Verdict::EngineFatal, message);
        } else {
            hook(Verdict::EngineFatal, &format!("{message} ({file}:{line})"));
        }
    }
}

/// Registered with each isolate: V8 calls it when an allocation failed for good, and aborts afterwards.
#[expect(unsafe_code, reason = "called by V8 with C strings")]
pub(super) unsafe extern "C" fn out_of_memory(location: *const c_char, details: &v8::OomDetails) {
    let Some(hook) = LAST_WORDS.get() else {
        return;
    };
    let text = if location.is_null() {
        ""
    } else {
        // SAFETY: V8 passes a static, NUL-terminated name of the place.
        unsafe { CStr::from_ptr(location) }.to_str().unwrap_or_default()
    };
    let verdict = if details.is_heap_oom { Verdict::JsHeap } else { Verdict::EngineFatal };
    hook(verdict, text);
}
