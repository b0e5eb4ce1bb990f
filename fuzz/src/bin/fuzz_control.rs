//! Fuzzes `pool_fuzz::targets::control`; see that module.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool_fuzz::targets::control::run(data));
