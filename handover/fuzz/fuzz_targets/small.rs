//! See `readers::small`.
#![no_main]

#[allow(dead_code, reason = "each target needs a part of it")]
#[path = "../readers.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::small(bytes);
});
