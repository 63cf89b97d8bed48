//! The fuzzer of `asynchrotron_fuzz::stream_buffer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchrotron_fuzz::stream_buffer::run(input));
