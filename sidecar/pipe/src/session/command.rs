//! What goes into a session and comes out of it, frames apart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use restpipe_proto::head::RequestTail;
use restpipe_proto::pb::{
    CancelReason, GoAway, GoAwayReason, Hello, Notice, ReplyHead, RequestHead,
};

use crate::error::CallError;

/// What callers and handlers ask of the session.
#[derive(Debug)]
pub enum Command {
    /// Opens a stream. Ids come in rising order and are never used twice.
    Request(Box<Request>),
    /// Answers a stream of the peer.
    Reply {
        /// The stream.
        stream: u64,
        /// Fits a frame.
        head: Box<ReplyHead>,
        /// The first bytes of the body, at most 16 KiB.
        body: Bytes,
        /// Whether they are all.
        end: bool,
    },
    /// Sends more of a body, within the [`Output::Room`] it was offered.
    Data {
        /// The stream.
        stream: u64,
        /// Bytes of the body.
        chunk: Bytes,
        /// Whether they are the last.
        end: bool,
    },
    /// A received body's consumer took so many bytes.
    Consumed {
        /// The stream.
        stream: u64,
        /// Bytes.
        bytes: usize,
    },
    /// A received request's body is not wanted any further.
    Unwanted {
        /// The stream.
        stream: u64,
    },
    /// Ends a stream early.
    Cancel {
        /// The stream.
        stream: u64,
        /// Why.
        reason: CancelReason,
        /// A sentence for the peer's people.
        detail: String,
    },
    /// The handler of a stream of the peer has ended, whatever it did.
    HandlerDone {
        /// The stream.
        stream: u64,
    },
    /// Tells the peer to open no more streams.
    GoAway {
        /// Why. Reasons other than draining and replacing end the pipe.
        reason: GoAwayReason,
        /// A sentence for the peer's people.
        detail: String,
        /// What the peer should wait before it dials again.
        retry_after: Duration,
    },
    /// Tells the peer how many streams it may have open from now on.
    Limit {
        /// Streams.
        max_streams: u32,
    },
    /// Tells the peer how this node's own renewals go.
    Notice {
        /// Why the newest files are not taken, in a word; empty if they are.
        reload_failed: String,
    },
}

/// A call of this side.
#[derive(Debug)]
pub struct Request {
    /// An id that this side owns.
    pub stream: u64,
    /// Fits a frame together with its tail.
    pub head: Arc<RequestHead>,
    /// Filled in by the session.
    pub tail: RequestTail,
    /// The first bytes of the body, at most 16 KiB.
    pub body: Bytes,
    /// Whether they are all.
    pub end: bool,
    /// When the answer is due.
    pub deadline: Instant,
}

/// What the session asks of its surroundings.
#[derive(Debug)]
pub enum Output {
    /// The peer's HELLO came and fits.
    Opened(Box<Hello>),
    /// A handler is to be started.
    Request {
        /// The stream.
        stream: u64,
        /// What is asked.
        head: Box<RequestHead>,
        /// The first bytes of the body.
        body: Bytes,
        /// Whether they are all.
        end: bool,
        /// When the caller's deadline passes.
        deadline: Option<Instant>,
    },
    /// An event of the peer was refused before any handler saw it.
    Refused(CancelReason),
    /// The handler of a stream is to be stopped.
    Abort {
        /// The stream.
        stream: u64,
    },
    /// A call was answered.
    Reply {
        /// The stream.
        stream: u64,
        /// The answer.
        head: Box<ReplyHead>,
        /// The first bytes of the body.
        body: Bytes,
        /// Whether they are all.
        end: bool,
    },
    /// More of a received body.
    Data {
        /// The stream.
        stream: u64,
        /// Bytes of the body.
        chunk: Bytes,
        /// Whether they are the last.
        end: bool,
    },
    /// A call or a received body will not be finished.
    Failed {
        /// The stream.
        stream: u64,
        /// Why.
        error: CallError,
    },
    /// A body's source may queue so many bytes more.
    Room {
        /// The stream.
        stream: u64,
        /// Bytes.
        bytes: usize,
    },
    /// Nobody wants more of a body that is being sent.
    StopBody {
        /// The stream.
        stream: u64,
    },
    /// A ping was answered after this time.
    HeartbeatRtt(Duration),
    /// The peer takes no more streams, or asks for another pipe.
    GoingAway(GoAway),
    /// The peer takes so many streams at once from now on.
    Limit(u32),
    /// The peer tells of itself.
    Notice(Notice),
}
