//! Frames: a 16-byte header and a bounded payload.
//!
//! ```text
//! 0        3    4     5     6        8                16
//! | len u24 |type|flags|class|rsv u16 | stream id u64  | payload[len]
//! ```
//! All numbers are big endian. Header and the longest payload together fill
//! one TLS record of 16,384 bytes exactly (RFC 8446, section 5.1).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::FrameError;

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 16;

/// Bytes of the longest frame: a TLS record. Who reads into buffers of this
/// size keeps no more than that alive with any payload.
pub const MAX_FRAME: usize = 16 * 1024;

/// Bytes of the longest payload.
pub const MAX_PAYLOAD: usize = MAX_FRAME - HEADER_LEN;

/// Payloads below this many bytes are copied out of the read buffer, larger
/// ones are slices of it. A slice keeps the whole buffer alive for as long as
/// somebody holds it, and a peer decides what else is in there: so only what
/// nearly fills a buffer of one frame is worth slicing.
const COPY_BELOW: usize = 14 * 1024;

/// Unknown types from here on may be skipped; below they end the pipe.
const SKIPPABLE: std::ops::RangeInclusive<u8> = 0x80..=0xfe;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First frame of each side: [`crate::pb::Hello`].
    Hello = 1,
    /// Opens a stream: head and inline body.
    Req = 2,
    /// Answers a stream: head and inline body.
    Rep = 3,
    /// More of a body.
    Data = 4,
    /// The receiver may be sent so many bytes more: u32.
    Credit = 5,
    /// Ends a stream early: [`crate::pb::Cancel`].
    Cancel = 6,
    /// Asks for a sign of life: u64 that the answer repeats.
    Ping = 7,
    /// Answers a ping.
    Pong = 8,
    /// No more streams: [`crate::pb::GoAway`].
    GoAway = 9,
    /// New limits: [`crate::pb::Limits`].
    Limits = 10,
    /// News of the sender: [`crate::pb::Notice`]. Nodes that do not know it
    /// skip it.
    Notice = 0x81,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Req,
            3 => Self::Rep,
            4 => Self::Data,
            5 => Self::Credit,
            6 => Self::Cancel,
            7 => Self::Ping,
            8 => Self::Pong,
            9 => Self::GoAway,
            10 => Self::Limits,
            0x81 => Self::Notice,
            _ => return None,
        })
    }
}

/// Flag bits of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The sender's side of the stream ends with this frame.
    pub const END: Self = Self(1);

    /// [`Self::END`] if `end`, else none.
    pub const fn end_if(end: bool) -> Self {
        if end { Self::END } else { Self::NONE }
    }

    /// Whether the sender's side ends here.
    pub const fn is_end(self) -> bool {
        self.0 & Self::END.0 != 0
    }
}

/// How urgent a frame is. The sender orders its queue by it; for the receiver
/// it only informs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Heartbeats, credit, cancels.
    Control = 0,
    /// Heads, with bodies that fit their frame.
    Interactive = 1,
    /// Bodies that do not.
    Bulk = 2,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Flag bits.
    pub flags: Flags,
    /// How urgent it is.
    pub class: Class,
    /// The stream it belongs to; 0 for the pipe itself.
    pub stream: u64,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
}

impl Frame {
    /// Appends the frame's header for a payload of `len` bytes, which the
    /// caller sends right behind it.
    ///
    /// # Panics
    /// If `len` is over [`MAX_PAYLOAD`]: a sender splits before.
    pub fn put_header(
        out: &mut BytesMut,
        kind: Kind,
        flags: Flags,
        class: Class,
        stream: u64,
        len: usize,
    ) {
        assert!(len <= MAX_PAYLOAD, "a sender splits payloads before it frames them");
        // len fits 24 bits, as just asserted.
        out.put_u32(((len as u32) << 8) | kind as u32);
        out.put_u8(flags.0);
        out.put_u8(class as u8);
        out.put_u16(0);
        out.put_u64(stream);
    }

    /// Appends the whole frame.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(HEADER_LEN + self.payload.len());
        let Self { kind, flags, class, stream, payload } = self;
        Self::put_header(out, *kind, *flags, *class, *stream, payload.len());
        out.extend_from_slice(payload);
    }

    /// Takes the next frame off the front of `buf`; `None` until all of it is
    /// there. Unknown frames that may be skipped are.
    ///
    /// # Errors
    /// If the bytes break the protocol. The length is checked before anything
    /// is stored, so a peer cannot make this side allocate.
    pub fn decode(buf: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        loop {
            if buf.len() < HEADER_LEN {
                return Ok(None);
            }
            let header = Header::peek(buf)?;
            if buf.len() < HEADER_LEN + header.len {
                return Ok(None);
            }
            buf.advance(HEADER_LEN);
            let Some(kind) = header.kind else {
                buf.advance(header.len);
                continue;
            };
            let payload = if header.len < COPY_BELOW {
                let copy = Bytes::copy_from_slice(&buf[..header.len]);
                buf.advance(header.len);
                copy
            } else {
                buf.split_to(header.len).freeze()
            };
            let Header { flags, class, stream, .. } = header;
            return Ok(Some(Self { kind, flags, class, stream, payload }));
        }
    }
}

/// A checked header. `kind` is `None` for a frame that is to be skipped.
struct Header {
    len: usize,
    kind: Option<Kind>,
    flags: Flags,
    class: Class,
    stream: u64,
}

impl Header {
    fn peek(mut bytes: &[u8]) -> Result<Self, FrameError> {
        let word = bytes.get_u32();
        let (len, kind_byte) = ((word >> 8) as usize, (word & 0xff) as u8);
        let (flags, class, reserved) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u16());
        let stream = bytes.get_u64();

        if len > MAX_PAYLOAD {
            return Err(FrameError::TooLong(len));
        }
        let kind = Kind::from_byte(kind_byte);
        if kind.is_none() {
            if SKIPPABLE.contains(&kind_byte) {
                // What its flags and class mean is not for this version to judge.
                return Ok(Self { len, kind, flags: Flags::NONE, class: Class::Control, stream });
            }
            return Err(FrameError::UnknownKind(kind_byte));
        }
        if flags & !Flags::END.0 != 0 {
            return Err(FrameError::UnknownFlags(flags));
        }
        if reserved != 0 {
            return Err(FrameError::Reserved(reserved));
        }
        let class = match class {
            0 => Class::Control,
            1 => Class::Interactive,
            2 => Class::Bulk,
            other => return Err(FrameError::UnknownClass(other)),
        };
        Ok(Self { len, kind, flags: Flags(flags), class, stream })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(len: usize) -> Frame {
        Frame {
            kind: Kind::Data,
            flags: Flags::END,
            class: Class::Bulk,
            stream: 7,
            payload: Bytes::from(vec![9; len]),
        }
    }

    #[test]
    fn the_longest_frame_is_one_tls_record() {
        let mut out = BytesMut::new();
        data(MAX_PAYLOAD).encode(&mut out);
        assert_eq!(out.len(), 16_384);
    }

    #[test]
    fn a_payload_keeps_no_more_than_a_frame_of_its_size_alive() {
        for len in [0, 100, 5_000, COPY_BELOW - 1] {
            let mut buf = BytesMut::with_capacity(4 * MAX_FRAME);
            data(len).encode(&mut buf);
            let frame = Frame::decode(&mut buf).expect("valid").expect("whole");
            assert!(frame.payload.is_empty() || frame.payload.is_unique(), "{len}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_the_header_alone() {
        let mut buf = BytesMut::new();
        buf.put_slice(&[0xff, 0xff, 0xff, Kind::Data as u8, 0, 2, 0, 0]);
        buf.put_u64(1);
        assert_eq!(Frame::decode(&mut buf), Err(FrameError::TooLong(0xff_ffff)));
    }

    #[test]
    fn reserved_types_flags_classes_and_bytes_are_refused_naming_them() {
        let header = |kind: u8, flags: u8, class: u8, reserved: u8| {
            BytesMut::from(&[0, 0, 0, kind, flags, class, 0, reserved, 0, 0, 0, 0, 0, 0, 0, 1][..])
        };
        for (mut bytes, error) in [
            (header(0, 0, 0, 0), FrameError::UnknownKind(0)),
            (header(11, 0, 0, 0), FrameError::UnknownKind(11)),
            (header(255, 0, 0, 0), FrameError::UnknownKind(255)),
            (header(7, 2, 0, 0), FrameError::UnknownFlags(2)),
            (header(7, 0, 3, 0), FrameError::UnknownClass(3)),
            (header(7, 0, 0, 1), FrameError::Reserved(1)),
        ] {
            assert_eq!(Frame::decode(&mut bytes), Err(error));
        }
    }

    #[test]
    fn an_unknown_frame_that_may_be_skipped_is_skipped_whatever_it_holds() {
        let mut buf = BytesMut::from(&[0, 0, 2, 0x90, 0xff, 9, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1][..]);
        buf.put_slice(b"xy");
        data(3).encode(&mut buf);
        assert_eq!(Frame::decode(&mut buf), Ok(Some(data(3))));
        assert!(buf.is_empty());
    }

    proptest! {
        #[test]
        fn frames_survive_any_split_of_their_bytes(lens in prop::collection::vec(0..=MAX_PAYLOAD, 1..5), step in 1usize..40_000) {
            let frames: Vec<_> = lens.into_iter().map(data).collect();
            let mut wire = BytesMut::new();
            frames.iter().for_each(|frame| frame.encode(&mut wire));
            let (mut buf, mut got) = (BytesMut::new(), Vec::new());
            for part in wire.chunks(step) {
                buf.extend_from_slice(part);
                while let Some(frame) = Frame::decode(&mut buf).expect("our own frames are valid") {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn garbage_never_panics_and_is_never_kept(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let mut buf = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = Frame::decode(&mut buf) {
                prop_assert!(frame.payload.len() <= bytes.len());
            }
        }
    }
}
