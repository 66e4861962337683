//! Any bytes from a peer.

#![no_main]

#[path = "../properties/hello.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    property::check(bytes);
});
