//! Bytes gathered for one write.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use restpipe_proto::{Frame, HEADER_LEN};

/// Payloads below this many bytes are copied into the batch, larger ones go
/// beside it: for a small frame one copy is cheaper than one more I/O vector.
const FLATTEN_BELOW: usize = 4 * 1024;

/// Bytes on their way to the socket, in order.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) flat: BytesMut,
    segments: VecDeque<Bytes>,
    pub(super) len: usize,
}

impl Batch {
    /// The bytes, in order; [`Self::seal`] goes before.
    pub fn segments(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.segments
    }

    /// Bytes put in since the last [`Self::seal`].
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn put(&mut self, frame: &Frame) {
        let Frame { kind, flags, class, stream, payload } = frame;
        Frame::put_header(&mut self.flat, *kind, *flags, *class, *stream, payload.len());
        self.put_bytes(payload.clone());
        self.len += HEADER_LEN;
    }

    pub(super) fn put_bytes(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if bytes.len() < FLATTEN_BELOW {
            self.flat.extend_from_slice(&bytes);
        } else {
            self.segments.push_back(self.flat.split().freeze());
            self.segments.push_back(bytes);
        }
    }

    /// Makes everything put in so far a segment.
    pub fn seal(&mut self) {
        if !self.flat.is_empty() {
            self.segments.push_back(self.flat.split().freeze());
        }
        self.len = 0;
    }

    /// Frees what an idle pipe need not hold.
    pub fn shrink(&mut self) {
        if self.flat.capacity() > FLATTEN_BELOW {
            self.flat = BytesMut::new();
        }
        if self.segments.capacity() > 16 {
            self.segments = VecDeque::new();
        }
    }
}
