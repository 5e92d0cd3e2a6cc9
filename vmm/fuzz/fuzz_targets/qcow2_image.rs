//! Fuzzes [`checks::qcow2_image`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::qcow2_image(data));
