#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streambot_runtime::fuzzing::unpack_aggregate(data));
