//! Every limit of a pipe, with its unit and its reason.

use std::time::Duration;

use restpipe_proto::pb;

use crate::budget::Budget;

/// The peer's HELLO is due this long after TLS: it is sent without waiting
/// for anything.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// Default silence after which a side pings. A peer is dead after twice this.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// Bytes in a second that a frame comes with at least, once it has begun. A
/// modem is faster; what is slower holds a read buffer for nothing.
pub const MIN_FRAME_RATE: u32 = 1024;

/// What a peer may be behind [`MIN_FRAME_RATE`], in time, or twice the
/// heartbeat if that is more: silence is the heartbeat's to judge. By default
/// the longest frame is there within 26 s.
pub const FRAME_PATIENCE: Duration = Duration::from_secs(10);

/// A write that moves no byte for this long ends the pipe: the peer's reader
/// never waits for an app, so only a broken peer stops reading. The kernel takes
/// up to 64 KiB before it asks for more, which a link of [`MIN_FRAME_RATE`] needs
/// this long for. A peer whose window stays closed is let go by the kernel long
/// before, by `TCP_USER_TIMEOUT`.
pub const WRITE_STALL: Duration = Duration::from_secs(64);

/// After the last frame this long is waited for the peer's end of stream, so
/// that closing with unread bytes does not reset what it has yet to read.
pub const LINGER: Duration = Duration::from_secs(1);

/// A pipe that a newer one has taken the place of is drained this long after
/// the peer was told so. What the peer sent on it before it heard has come by
/// then: three round trips over a geostationary satellite.
pub const OVERLAP: Duration = Duration::from_secs(2);

/// A body of which the consumer takes no byte for this long is cancelled.
pub const BODY_STALL: Duration = Duration::from_secs(300);

/// A reply for which the peer gives no credit for this long is cancelled: its
/// deadline was that of its head, and a peer that keeps to the protocol has
/// cancelled it by then, since it looks every [`BODY_STALL`].
///
/// A request needs no such timer. Until its answer begins its deadline counts,
/// on both sides; from then on it may go on as long as the answer does, and
/// that its caller has in hand.
pub const CREDIT_STALL: Duration = BODY_STALL.saturating_mul(2);

/// Bytes of credit that one stream gets from the budgets at once.
pub const FIRST_WINDOW: u32 = 256 * 1024;

/// Bytes of the largest window: at 1 MiB a single download on loopback is
/// bound by TLS, not by credit.
pub const MAX_WINDOW: u32 = 1024 * 1024;

/// Bytes that one pipe may make this side hold beyond the floors of credit
/// that every stream has: credit handed out, and requests with their heads and
/// the first part of their bodies. Of 256 requests with 16 KiB each all fit.
pub const PIPE_BUDGET: usize = 5 * 1024 * 1024;

/// Bytes of [`PIPE_BUDGET`] that are never handed out as credit, so that large
/// bodies do not keep small requests out.
pub const REQUEST_RESERVE: usize = PIPE_BUDGET / 2;

/// Bytes of body that one stream may have queued for sending. Two chunks in
/// the queue and two on their way keep the writer busy.
pub const SEND_QUEUE: usize = 64 * 1024;

/// Bytes of body that one pipe has queued for sending before each stream gets
/// less than [`SEND_QUEUE`], down to half a frame: a peer that grants much and
/// reads nothing is not to fill the memory. Of 8 streams each has its full
/// queue; more bytes keep the writer no busier.
pub const PIPE_SEND_QUEUE: usize = 512 * 1024;

/// Bytes handed to TLS at once: rustls buffers 64 KiB, four records.
pub const WRITE_BATCH: usize = 64 * 1024;

/// Unsent bytes in the kernel beyond which the socket takes no more. Nothing
/// passes what is there, so a small call beside downloads waits until it has
/// left: 7 ms at 20 Mbit/s. With less the writer would come too late on a fast
/// link.
pub const NOTSENT_LOWAT: u32 = 16 * 1024;

/// Bytes read before other tasks get their turn; a read is one frame at most.
pub const READ_BATCH: usize = 64 * 1024;

/// Frames handled before other tasks get their turn. What they begin then runs,
/// and wakes whom it asks, while there is more to read: with all that came at
/// once one processor waits for the other. Fewer cost more writes.
pub const FRAME_BATCH: usize = 12;

/// Below this many queued bytes, and with more than one stream open, the
/// writer stands back before it writes, so that frames of calls that are just
/// being made share a record.
pub const STAND_BACK_BELOW: usize = 4 * 1024;

/// Requests and replies, queued for writing, from which the writer does not
/// stand back, however few bytes they are: the peer could begin with them.
pub const STAND_BACK_BELOW_HEADS: usize = 16;

/// Control frames that may wait for the socket. Ours number a few for each
/// stream, so only a peer that provokes them and does not read comes here.
pub const MAX_CONTROL_QUEUE: usize = 4 * 1024;

/// Frames for streams that are over and were not cancelled by this side;
/// a peer that sends more has lost count.
pub const MAX_STRAYS: u32 = 100;

/// One of the [`MAX_STRAYS`] is forgotten each time this has passed: a race now
/// and then must not end a pipe that lives for a year.
pub const STRAY_FORGOTTEN: Duration = Duration::from_secs(1);

/// Streams cancelled by this side whose late frames are expected.
pub const REMEMBERED_STREAMS: usize = 1024;

/// Headers of one head, and arguments of one request: as many fit one frame
/// by the thousand, and in memory each costs far more than on the wire.
pub const MAX_HEADERS: usize = 256;

/// See [`MAX_HEADERS`].
pub const MAX_ARGS: usize = 1024;

/// Bytes of the sentence in a CANCEL or GOAWAY.
pub const MAX_DETAIL: usize = 1024;

/// Pings that a peer may send in a second.
pub const MAX_PINGS_PER_SECOND: u32 = 10;

/// Settings of one pipe.
#[derive(Clone, Debug)]
pub struct PipeConfig {
    /// What this side says of itself in HELLO.
    pub hello: pb::Hello,
    /// Streams that the peer may have open at once.
    pub max_streams: u32,
    /// Silence after which this side pings; twice this and the peer is dead.
    pub heartbeat: Duration,
    /// Bytes that all pipes of the process may hold for bodies.
    pub budget: Budget,
}

impl Default for PipeConfig {
    fn default() -> Self {
        Self {
            hello: pb::Hello::default(),
            max_streams: restpipe_proto::DEFAULT_MAX_STREAMS,
            heartbeat: HEARTBEAT,
            budget: Budget::new(64 * 1024 * 1024),
        }
    }
}
