//! Fuzzes [`checks::block`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::block(data));
