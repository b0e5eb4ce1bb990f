//! Fuzzes `pool_fuzz::targets::session`; see that module.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool_fuzz::targets::session::run(data));
