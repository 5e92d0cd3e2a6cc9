//! Fuzzes [`checks::vsock_handshake`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::vsock_handshake(data));
