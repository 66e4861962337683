//! Payloads: heads with the body's first bytes behind them, and numbers.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::MAX_PAYLOAD;
use crate::error::HeadError;

/// Appends `head` behind its length, as REQ and REP carry it; the inline body
/// follows.
///
/// # Errors
/// [`HeadError::TooLarge`] if it would not fit a frame even without a body.
pub fn put(out: &mut BytesMut, head: &impl Message) -> Result<(), HeadError> {
    let start = out.len();
    head.encode_length_delimited(out).expect("a BytesMut grows as needed");
    let framed = out.len() - start;
    if framed > MAX_PAYLOAD {
        out.truncate(start);
        return Err(HeadError::TooLarge(framed));
    }
    Ok(())
}

/// As [`put`], of a head in two parts: protobuf takes fields in any order, and
/// messages that follow one another for one.
///
/// # Errors
/// [`HeadError::TooLarge`] if it would not fit a frame even without a body.
pub fn put_joined(
    out: &mut BytesMut,
    head: &impl Message,
    more: &impl Message,
) -> Result<(), HeadError> {
    let len = head.encoded_len() + more.encoded_len();
    let framed = len + prost::length_delimiter_len(len);
    if framed > MAX_PAYLOAD {
        return Err(HeadError::TooLarge(framed));
    }
    out.reserve(framed);
    let put = prost::encode_length_delimiter(len, out)
        .and_then(|()| head.encode(out))
        .and_then(|()| more.encode(out));
    put.expect("a BytesMut grows as needed");
    Ok(())
}

/// Bytes that [`put`] appends.
pub fn framed_len(head: &impl Message) -> usize {
    framed_len_joined(head, &())
}

/// Bytes that [`put_joined`] appends.
pub fn framed_len_joined(head: &impl Message, more: &impl Message) -> usize {
    let len = head.encoded_len() + more.encoded_len();
    len + prost::length_delimiter_len(len)
}

/// The fields of a [`RequestHead`](crate::pb::RequestHead) that are known when
/// it is sent: they go behind the others, which are shared by all tries.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RequestTail {
    /// Time that is left for the answer, in milliseconds.
    #[prost(uint32, tag = "7")]
    pub deadline_ms: u32,
    /// Bytes of reply body that may be sent at once.
    #[prost(uint32, tag = "9")]
    pub reply_credit: u32,
}

/// Splits a REQ's or REP's payload into head and inline body. The body is
/// sliced, not copied.
///
/// # Errors
/// If the length or the head is not right.
pub fn split<M: Message + Default>(mut payload: Bytes) -> Result<(M, Bytes), HeadError> {
    let len = prost::decode_length_delimiter(&mut payload).map_err(|_| HeadError::Length)?;
    if len > payload.len() {
        return Err(HeadError::Length);
    }
    let head = payload.split_to(len);
    Ok((M::decode(head)?, payload))
}

/// Decodes a payload that is one message and nothing else.
///
/// # Errors
/// If it is not that message.
pub fn whole<M: Message + Default>(payload: Bytes) -> Result<M, HeadError> {
    Ok(M::decode(payload)?)
}

/// Encodes a message as a whole payload.
pub fn to_bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// The number in a CREDIT frame, in bytes.
///
/// # Errors
/// If the payload is not four bytes.
pub fn credit(mut payload: Bytes) -> Result<u32, HeadError> {
    match payload.len() {
        4 => Ok(payload.get_u32()),
        got => Err(HeadError::Size { got, want: 4 }),
    }
}

/// The payload of a CREDIT frame.
pub fn credit_payload(bytes: u32) -> Bytes {
    Bytes::copy_from_slice(&bytes.to_be_bytes())
}

/// The number in a PING or PONG frame.
///
/// # Errors
/// If the payload is not eight bytes.
pub fn ping(mut payload: Bytes) -> Result<u64, HeadError> {
    match payload.len() {
        8 => Ok(payload.get_u64()),
        got => Err(HeadError::Size { got, want: 8 }),
    }
}

/// The payload of a PING or PONG frame.
pub fn ping_payload(token: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(8);
    out.put_u64(token);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pb::{RequestHead, Verb};

    #[test]
    fn head_and_inline_body_come_apart_as_they_were_put_together() {
        let head = RequestHead {
            verb: Verb::Get.into(),
            noun: "time/utc".into(),
            args: vec!["a/b".into(), String::new()],
            ..Default::default()
        };
        let mut out = BytesMut::new();
        put(&mut out, &head).expect("small");
        out.extend_from_slice(b"body");
        let (back, body) = split::<RequestHead>(out.freeze()).expect("our own head");
        assert_eq!((back, &body[..]), (head, &b"body"[..]));
    }

    #[test]
    fn a_head_in_two_parts_is_read_as_one() {
        let mut head = RequestHead { noun: "time".into(), body_len: Some(1), ..Default::default() };
        let tail = RequestTail { deadline_ms: 60_000, reply_credit: u32::MAX };
        let mut out = BytesMut::new();
        put_joined(&mut out, &head, &tail).expect("small");
        assert_eq!(out.len(), framed_len_joined(&head, &tail));
        head.deadline_ms = tail.deadline_ms;
        head.reply_credit = tail.reply_credit;
        assert_eq!(split(out.freeze()), Ok((head, Bytes::new())));
    }

    #[test]
    fn a_head_that_points_past_its_frame_is_refused() {
        assert_eq!(
            split::<RequestHead>(Bytes::from_static(&[9, 1])).err(),
            Some(HeadError::Length)
        );
    }

    #[test]
    fn a_head_larger_than_a_frame_is_refused_before_it_is_sent() {
        let head = RequestHead { query: "x".repeat(MAX_PAYLOAD), ..Default::default() };
        assert!(matches!(put(&mut BytesMut::new(), &head), Err(HeadError::TooLarge(_))));
    }

    #[test]
    fn a_verb_that_nobody_knows_is_read_and_written_as_the_same() {
        // Found by the fuzz target `head`: negative, and longer when it is written.
        let bytes = b"\x08\x08\xff\xf9\xff\xff\xff\xff\x7f\x07";
        for bytes in [&bytes[..], b"\x06\x08\xff\xff\xff\xff\x0f"] {
            let (head, _) = split::<RequestHead>(Bytes::copy_from_slice(bytes)).expect("a head");
            assert!(head.verb < 0 && head.verb() == Verb::default());
            let mut again = BytesMut::new();
            put(&mut again, &head).expect("small");
            assert_eq!(split::<RequestHead>(again.freeze()), Ok((head, Bytes::new())));
        }
    }

    proptest! {
        #[test]
        fn garbage_heads_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = split::<RequestHead>(bytes.clone().into());
            let _ = whole::<crate::pb::Hello>(bytes.into());
        }
    }
}
