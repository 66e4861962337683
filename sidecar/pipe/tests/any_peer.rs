//! Any bytes from a peer, from its first one on.

#[path = "properties/any_peer.rs"]
mod property;

use bytes::BytesMut;
use property::any_peer;
use proptest::prelude::*;
use restpipe_proto::{Class, Flags, Frame, Kind};

/// Frames that are well-formed outside and anything inside: pure noise seldom
/// gets past the header.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    const KINDS: [Kind; 10] = [
        Kind::Hello,
        Kind::Req,
        Kind::Rep,
        Kind::Data,
        Kind::Credit,
        Kind::Cancel,
        Kind::Ping,
        Kind::Pong,
        Kind::GoAway,
        Kind::Limits,
    ];
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    let frame = (prop::sample::select(&KINDS[..]), any::<bool>(), 0u64..6, payload);
    prop::collection::vec(frame, 0..40).prop_map(|frames| {
        let mut out = BytesMut::new();
        for (kind, end, stream, payload) in frames {
            let (flags, class) = (Flags::end_if(end), Class::Interactive);
            Frame { kind, flags, class, stream, payload: payload.into() }.encode(&mut out);
        }
        out.to_vec()
    })
}

proptest! {
    #[test]
    fn noise_as_a_peer_s_first_bytes_is_an_end_and_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..1_000),
        behind_hello in any::<bool>(),
        part in 1usize..200,
    ) {
        any_peer(&bytes, behind_hello, part);
    }

    #[test]
    fn any_frames_in_any_order_are_an_end_or_taken_and_never_a_panic(
        bytes in frames(),
        behind_hello in any::<bool>(),
        part in 1usize..200,
    ) {
        any_peer(&bytes, behind_hello, part);
    }
}
