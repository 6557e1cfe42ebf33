#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| service_registry::serve::fuzzing::headers(data));
