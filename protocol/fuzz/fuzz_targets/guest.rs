//! Fuzzes [`checks::guest`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::guest(data));
