//! Fuzzes [`checks::listing`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::listing(data));
