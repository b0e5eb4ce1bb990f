//! The JavaScript engine of the worker, against the contract's sentences. Each test makes its own
//! engine.

#![expect(clippy::disallowed_methods, reason = "real processes and sockets take real time")]

mod atomics;
mod bench;
mod code;
mod console;
mod differential;
mod ending;
mod frozen;
mod function;
mod hostile;
mod memory;
mod module;
mod module_interop;
mod module_names;
mod module_order;
mod project;
mod result;
mod startup;
mod support;
mod thrown;
mod waiting;
mod warm;
