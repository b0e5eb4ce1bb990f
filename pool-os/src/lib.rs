//! What several programs of the pool ask of the system in the same way.
//!
//! Owns no state. It must not know what the programs do with it.

pub mod heap;
pub mod socket;
