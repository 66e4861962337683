//! Any text as a path.

#![no_main]

#[path = "../properties/path.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|rest: &str| {
    property::check(rest);
});
