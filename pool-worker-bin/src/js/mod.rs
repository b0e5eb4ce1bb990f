//! The JavaScript engine of a worker: one V8 isolate, its realms, and everything a task may touch.
//!
//! Owns V8: this is the only folder with `use v8`. Decides how a task's source is compiled, what
//! its globals are, when it has ended and what its result is as JSON. Must not know sockets, the
//! wire protocol, files other than modules below the configured roots, or the clock beyond timers:
//! deadlines and budgets are somebody else's, who ends a task through [`EngineHandle::terminate`].
//!
//! What a task sees: the ECMAScript intrinsics, `console`, `setTimeout`, `setInterval`, their
//! `clear` functions, `queueMicrotask`, `structuredClone`, and in modules `import`, `require`,
//! `module`, `exports`, `__filename`, `__dirname`, `import.meta`, and as much of `process` as
//! bundlers put in its place. Nothing else: no `process` and no `require` in code and functions, no
//! file, no network.
//!
//! Rules that are this engine's own, where the language leaves a choice:
//! - A rejected promise that nobody handles and that is not the task's result is ignored. An
//!   exception thrown by a callback of a timer or of `queueMicrotask` ends the task, as an uncaught
//!   exception ends a program.
//! - Timers that are left when the result is there are dropped, in every realm.
//! - Clean-up callbacks of `FinalizationRegistry` never run: that would be in another task's time.
//!   Where WebAssembly is allowed, the engine must run its queue of posted work, so there it is
//!   taken away instead. `Atomics.waitAsync` is our own, for the same reason.
//! - In a warm realm, what a script declares with `let`, `const` or `class` ends with the task.
//! - What a task's `context` makes global in a warm realm stays there, like everything else the
//!   project leaves.
//! - `import()` works in modules alone, and so does `Function('return this')()`, the old way to the
//!   global object, where code generation is off.
//! - `NaN` and infinities become `null` in a result, dates their text, and `undefined` properties
//!   are left out, as `JSON.stringify` does. What else it would lose is refused.

mod alloc;
mod atomics;
mod cache;
mod clone;
mod code;
mod collections;
mod console;
mod context;
mod engine;
mod errors;
mod escape;
#[cfg(test)]
mod escapes;
mod frozen;
mod held;
mod host;
mod inspect;
mod kinds;
mod lru;
mod memory;
mod method;
mod modules;
mod number;
mod perform;
mod platform;
mod random;
mod serialize;
mod settle;
pub mod snapshot;
mod spot;
mod task;
mod timers;
mod watch;

pub use engine::{Engine, EngineConfig, LogSink};
pub use platform::{LastWords, Verdict, is_out_of_memory, set_last_words, v8_version};
pub use task::{
    FailureKind, Held, HeldCode, HeldError, JsFailure, JsOutcome, JsTask, LogLevel, LogLine, Realm,
    StopReason, Work,
};
pub use watch::EngineHandle;
