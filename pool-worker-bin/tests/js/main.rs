//! The JavaScript engine of the worker, against the contract's sentences. Each test makes its own engine.

mod bench;
mod code;
mod console;
mod ending;
mod function;
mod hostile;
mod memory;
mod module;
mod result;
mod startup;
mod support;
mod waiting;
