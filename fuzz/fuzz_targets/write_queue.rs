//! The fuzzer of `asynchrotron_fuzz::write_queue`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchrotron_fuzz::write_queue::run(input));
