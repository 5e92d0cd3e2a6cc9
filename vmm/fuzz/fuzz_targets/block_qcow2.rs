//! Fuzzes [`checks::block_qcow2`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::block_qcow2(data));
