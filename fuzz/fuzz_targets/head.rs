//! Any bytes as the payload of a frame.

#![no_main]

#[path = "../properties/head.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    property::check(bytes);
});
