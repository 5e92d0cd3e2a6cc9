//! Fuzzes [`checks::xhyve`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::xhyve(data));
