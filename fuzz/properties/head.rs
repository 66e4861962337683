//! Any bytes as the payload of a frame: what is read can be written, and reads the same.

use bytes::{Bytes, BytesMut};
use prost::Message;
use restpipe_proto::pb::{Cancel, GoAway, Hello, Limits, ReplyHead, RequestHead};
use restpipe_proto::{MAX_PAYLOAD, head};

/// How much longer a head may be written than it was read: of the number of its one enum the upper
/// half is dropped, and what is negative then takes all of a varint, 10 bytes in place of 5.
const LONGER: usize = 5;

fn with_body<M: Message + Default + PartialEq>(bytes: &Bytes) {
    let Ok((first, body)) = head::split::<M>(bytes.clone()) else { return };
    let mut again = BytesMut::new();
    if head::put(&mut again, &first).is_err() {
        return assert!(
            head::framed_len(&first) > MAX_PAYLOAD && bytes.len() + LONGER > MAX_PAYLOAD
        );
    }
    again.extend_from_slice(&body);
    assert!(again.len() <= bytes.len() + LONGER, "it is written shortest otherwise");
    let (second, rest) = head::split::<M>(again.freeze()).expect("it was just written");
    assert!(first == second && body == rest);
}

fn alone<M: Message + Default + PartialEq>(bytes: &Bytes) {
    if let Ok(first) = head::whole::<M>(bytes.clone()) {
        assert!(head::whole::<M>(head::to_bytes(&first)).is_ok_and(|second| first == second));
    }
}

pub(crate) fn check(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(MAX_PAYLOAD)]);
    with_body::<RequestHead>(&bytes);
    with_body::<ReplyHead>(&bytes);
    alone::<Hello>(&bytes);
    alone::<Cancel>(&bytes);
    alone::<GoAway>(&bytes);
    alone::<Limits>(&bytes);
}
