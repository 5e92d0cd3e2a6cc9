//! Fuzzes [`checks::mmio`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::mmio(data));
