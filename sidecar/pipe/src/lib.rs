//! One RestPipe session over any byte stream.
//!
//! [`session::Session`] is the protocol without sockets or a clock: bytes,
//! commands and the time go in, frames and outputs come out, so two of them
//! can be run against each other on a virtual clock. [`Driver`] is the one
//! task that owns a stream and turns its readiness into calls of the session.
//! [`PipeHandle`] is what everybody else holds. [`dial`] and [`tls`] are how a
//! pipe comes to be over TCP and TLS, with the pauses of [`backoff`] between dials; the rest
//! knows of neither. [`listen`] is for all who take connections.
//!
//! After TLS both sides are alike: who dialled shows only in the stream ids.

mod ask;
pub mod backoff;
mod body;
pub mod budget;
mod call;
pub mod clock;
pub mod dial;
mod driver;
pub mod error;
mod handle;
mod inbox;
mod incoming;
pub mod limits;
pub mod listen;
mod notice;
mod room;
pub mod session;
pub mod tls;
mod wire;

pub use body::{BodyTooLarge, ReadError, RecvBody};
pub use budget::Budget;
pub use call::{Call, PendingReply, Reply, StartedCall};
pub use driver::{Driver, NoEvents, Service, open};
pub use error::{CallError, NotSent, Outcome, Why};
pub use handle::{PeerInfo, PipeHandle, PipeState};
pub use incoming::{HeadTooLarge, Incoming, Responder};
pub use limits::PipeConfig;
pub use restpipe_proto::pb;
pub use room::{BodySender, Stopped};
pub use wire::{Heard, Wire};

/// Who dialled: decides nothing but the parity of stream ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opened the connection; its streams are odd.
    Dialer,
    /// Accepted it; its streams are even.
    Acceptor,
}

impl Role {
    /// The first stream id of this side.
    pub const fn first_stream(self) -> u64 {
        match self {
            Self::Dialer => 1,
            Self::Acceptor => 2,
        }
    }

    /// Whether this side opens streams with that id.
    pub const fn owns(self, stream: u64) -> bool {
        stream != 0 && stream % 2 == self.first_stream() % 2
    }
}
