//! Any bytes as frames: the same ones whatever the cuts, and the same bytes when they are written again.

use bytes::BytesMut;
use restpipe_proto::{Frame, FrameError, MAX_PAYLOAD};

/// All frames of `bytes`, fed in parts, and what the end was.
fn decode(bytes: &[u8], part: usize) -> (Vec<Frame>, Result<usize, FrameError>) {
    let (mut buf, mut frames) = (BytesMut::new(), Vec::new());
    for part in bytes.chunks(part) {
        buf.extend_from_slice(part);
        loop {
            match Frame::decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(buf.len()))
}

/// The first byte is how many of the others come at once.
pub(crate) fn check(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let (whole, end) = decode(bytes, usize::MAX);
    assert_eq!(decode(bytes, usize::from(*first).max(1)), (whole.clone(), end));

    let mut again = BytesMut::new();
    for frame in &whole {
        assert!(frame.payload.len() <= MAX_PAYLOAD);
        frame.encode(&mut again);
    }
    assert_eq!(decode(&again, usize::MAX), (whole, Ok(0)));
}
