//! The fuzzer of `asynchrotron_fuzz::timers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchrotron_fuzz::timers::run(input));
