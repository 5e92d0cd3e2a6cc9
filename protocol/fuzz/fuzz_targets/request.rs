//! Fuzzes [`checks::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::request(data));
