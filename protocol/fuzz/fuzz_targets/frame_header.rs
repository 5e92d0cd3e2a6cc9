//! Fuzzes [`checks::frame_header`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::frame_header(data));
