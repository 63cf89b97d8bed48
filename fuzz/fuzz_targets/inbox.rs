//! The fuzzer of `asynchrotron_fuzz::inbox`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchrotron_fuzz::inbox::run(input));
