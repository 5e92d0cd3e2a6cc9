//! Fuzzes [`checks::notice`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::notice(data));
