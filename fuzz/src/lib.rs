//! Fuzz targets: what a stranger can send, tried with inputs that a coverage-guided engine makes
//! up.
//!
//! Each target is a function of bytes that panics when a promise is broken. It compares with a
//! second opinion written apart from the code it judges, or checks a round trip, a model or a bound
//! on memory; that nothing panics is the least of it. The engine (libFuzzer) is linked into the
//! programs of `src/bin` only, with the feature `engine`: see `scripts/fuzz.sh`. The corpora are
//! replayed by ordinary tests. Must not start a process, open a socket, or link V8.

pub mod allocation;
pub mod input;
pub mod targets;
