//! Any bytes as a peer's first ones, or as those behind its HELLO: the first byte decides.

#[path = "../../sidecar/pipe/tests/properties/any_peer.rs"]
mod any_peer;

pub(crate) fn check(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    any_peer::any_peer(rest, first & 1 == 1, usize::from(first >> 1));
}
