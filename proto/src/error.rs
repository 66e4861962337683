//! What can be wrong with bytes from a peer.

/// A frame that breaks the protocol: the pipe cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is larger than any frame may be.
    #[error("frame of {0} bytes: a payload is at most {max} bytes", max = crate::MAX_PAYLOAD)]
    TooLong(usize),
    /// The type byte is reserved, or unknown and not marked as skippable.
    #[error("frame type {0:#04x} is not known and may not be skipped")]
    UnknownKind(u8),
    /// A flag that this version does not define.
    #[error("frame flags {0:#04x}: undefined bits are set")]
    UnknownFlags(u8),
    /// A class that this version does not define.
    #[error("frame class {0} is not 0, 1 or 2")]
    UnknownClass(u8),
    /// The reserved bytes are not zero.
    #[error("reserved bytes of the frame header hold {0:#06x}, not zero")]
    Reserved(u16),
}

/// A payload that is no head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The length in front of the head is no varint or points past the frame.
    #[error("the head's length does not fit its frame")]
    Length,
    /// The head is not the protobuf message it should be.
    #[error("the head cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The head alone is larger than a frame.
    #[error("a head of {0} bytes does not fit a frame of {max}", max = crate::MAX_PAYLOAD)]
    TooLarge(usize),
    /// A fixed-size payload has another size.
    #[error("a payload of {got} bytes where {want} are due")]
    Size {
        /// Bytes that came.
        got: usize,
        /// Bytes that the frame type has.
        want: usize,
    },
}
