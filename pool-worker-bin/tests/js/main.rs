//! The JavaScript engine of the worker, against the contract's sentences. Each test makes its own engine.

mod bench;
mod code;
mod function;
mod module;
mod support;
