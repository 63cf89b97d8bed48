//! The fuzzer of `asynchrotron_fuzz::registry`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchrotron_fuzz::registry::run(input));
