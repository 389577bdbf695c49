//! See `maps::page_list`.
#![no_main]

#[allow(dead_code, reason = "each target needs a part of it")]
#[path = "../maps.rs"]
mod maps;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    maps::page_list(bytes);
});
