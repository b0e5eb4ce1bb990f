//! The decisions of the pool: which task runs where and when, which workers live, how a task ends.
//!
//! A pure state machine: [`Core::handle`] takes the time and one event and appends the actions that follow from it;
//! [`Core::next_deadline`] says when it wants to be woken. It owns every fact about tasks, projects and workers. It must
//! not see a frame, a body, a descriptor or a clock: `no_std` makes the compiler keep them out, and lets a run be replayed
//! from its seed.
#![no_std]

extern crate alloc;

pub mod action;
pub mod event;
pub mod settings;
pub mod time;
