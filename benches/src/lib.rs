//! The load generator: how many tasks a second the pool runs, how long one takes, and what it costs in CPU time.
//!
//! Owns measuring and nothing else: it checks every result, because a wrong one costs nothing to produce. Two loops:
//! [`closed`] speaks the wire itself, so that the pool is what is measured; [`submit`] runs `poolctl submit` over a file
//! from end to end, so that what a person waits for is measured. [`spinners`] measures what tasks without end cost the others. [`echo`] stands in for the pool where poolctl alone is.

pub mod closed;
pub mod echo;
pub mod figures;
pub mod isolation;
pub mod pool;
pub mod spinners;
pub mod submit;
pub mod usage;
pub mod workload;
