//! Fuzzes [`checks::console`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::console(data));
