//! Any bytes as a question to the webhook.

#![no_main]

#[path = "../properties/admission_review.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    property::check(body);
});
