//! Any bytes as the files of a node.

#![no_main]

#[path = "../properties/pem_reload.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    property::check(bytes);
});
