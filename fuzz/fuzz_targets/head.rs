#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hydraneckwebrtc_fuzz::differential::compare(data));
