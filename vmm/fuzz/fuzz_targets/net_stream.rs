//! Fuzzes [`checks::net_stream`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::net_stream(data));
