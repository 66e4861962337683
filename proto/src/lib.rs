//! The wire format of RestPipe: frames ([`frame`]) and the heads they carry
//! ([`pb`]), and nothing else: no sockets, no clock, no runtime.
//!
//! `docs/wire-protocol.md` describes the whole protocol for somebody who
//! writes a peer; this crate is its codec.

pub mod error;
pub mod frame;
pub mod head;

pub use error::{FrameError, HeadError};
pub use frame::{Class, Flags, Frame, HEADER_LEN, Kind, MAX_FRAME, MAX_PAYLOAD};

/// Messages generated from `restpipe.proto`; `tests/generated.rs` holds them
/// to it.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::use_self)]
pub mod pb {
    include!("gen/restpipe.v2.rs");
}

/// The only version of the protocol that this code speaks.
pub const VERSION: u32 = 2;

/// The ALPN name of that version.
pub const ALPN: &[u8] = b"restpipe/2";

/// Bytes of body that may follow a request head without being granted: what
/// fits the head's own frame, and this much of DATA beyond it. The floor that
/// every stream gets even where all budgets are spent, so that none starves.
pub const INITIAL_CREDIT: u32 = 16 * 1024;

/// Streams that a side may have open when the peer has named no other limit.
pub const DEFAULT_MAX_STREAMS: u32 = 256;
