//! Fuzzes [`checks::vsock`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::vsock(data));
