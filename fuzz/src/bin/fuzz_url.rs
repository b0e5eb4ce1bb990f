//! Fuzzes `pool_fuzz::targets::url`; see that module.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool_fuzz::targets::url::run(data));
