//! The decisions of the pool.
#![no_std]
