//! Fuzzes [`checks::vfkit`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::vfkit(data));
