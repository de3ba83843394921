#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| control_plane::strangers::credential(bytes));
