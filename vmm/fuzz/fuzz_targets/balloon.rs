//! Fuzzes [`checks::balloon`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::balloon(data));
