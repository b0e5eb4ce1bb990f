//! The load generator: how many tasks a second the pool runs, how long one takes, and what it costs
//! in CPU time and memory.
//!
//! Owns measuring and nothing else: it checks every result, because a wrong one costs nothing to
//! produce. What each measurement says is in its module and in `benches/README.md`. [`closed`] and
//! [`open`] speak the wire themselves over [`clients`], so that the pool is what is measured;
//! [`submit`] runs `poolctl submit` from end to end, so that what a person waits for is. [`echo`]
//! stands in for the pool where the client alone is measured. [`instructions`] counts what a task
//! costs in [`scenarios`] without a machine's noise, for the guard in CI.

pub mod careless;
pub mod clients;
pub mod closed;
pub mod cold;
pub mod echo;
pub mod figures;
pub mod floor;
pub mod idle;
pub mod instructions;
pub mod isolation;
pub mod memory;
pub mod open;
pub mod pool;
pub mod queued;
pub mod relay;
pub mod scenarios;
pub mod spinners;
pub mod starts;
pub mod submit;
pub mod usage;
pub mod workload;
