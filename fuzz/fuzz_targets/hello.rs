//! Any bytes as a peer's first ones, or as those behind its HELLO: the first byte decides.

#![no_main]

#[path = "../../sidecar/pipe/tests/properties/any_peer.rs"]
mod property;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    property::any_peer(rest, first & 1 == 1, usize::from(first >> 1));
});
