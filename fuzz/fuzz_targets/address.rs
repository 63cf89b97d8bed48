//! The fuzzer of `asynchrotron_fuzz::address`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchrotron_fuzz::address::run(input));
