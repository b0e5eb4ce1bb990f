//! What crosses a process border: ids, limits, frames, and the messages between client, supervisor
//! and worker.
//!
//! Owns the byte layout of the wire and the JSON shapes that users see. It must not touch sockets,
//! threads, clocks or files: everything here is a function of its arguments, so that each side and
//! each test gives the same bytes.
//!
//! Without the feature `std` only [`id`], [`lane`], [`limits`], [`policy`] and the plain types of
//! [`outcome`] exist: what the `no_std` core needs.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod id;
pub mod lane;
pub mod limits;
pub mod outcome;
pub mod policy;

#[cfg(feature = "std")]
pub mod buffer;
#[cfg(feature = "std")]
pub mod codec;
#[cfg(feature = "std")]
pub mod control;
#[cfg(feature = "std")]
pub mod frame;
#[cfg(feature = "std")]
pub mod json;
#[cfg(feature = "std")]
pub mod layer;
#[cfg(feature = "std")]
pub mod probe;
#[cfg(feature = "std")]
pub mod render;
#[cfg(feature = "std")]
pub mod task;
#[cfg(feature = "std")]
pub mod units;
#[cfg(feature = "std")]
pub mod version;
#[cfg(feature = "std")]
pub mod worker;
