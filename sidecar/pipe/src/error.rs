//! Why a pipe ended, and what became of a call.

use std::time::Duration;

use restpipe_proto::pb::{CancelReason, GoAwayReason};
use restpipe_proto::{FrameError, HeadError};

use crate::limits::MIN_FRAME_RATE;

/// Why a pipe ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It was drained, by either side, and nothing was open.
    #[error("drained")]
    Drained,
    /// This side closed it: {0}.
    #[error("closed here: {0}")]
    ClosedHere(String),
    /// The stream ended without a word.
    #[error("the peer closed the connection")]
    Eof,
    /// The stream failed.
    #[error("connection failed: {0}")]
    Io(String),
    /// Nothing was received for too long.
    #[error("nothing received for {0:?}, not even answers to pings")]
    Silent(Duration),
    /// The peer does not read.
    #[error("the peer took no byte for {0:?}")]
    WriteStalled(Duration),
    /// The peer began a frame and does not get on with it.
    #[error(
        "the peer sent part of a frame and more of it slower than {MIN_FRAME_RATE} bytes a second, {0:?} behind: the path to it is overloaded, or it does so on purpose"
    )]
    TooSlow(Duration),
    /// The peer sent no HELLO.
    #[error("no HELLO within {0:?} after TLS")]
    NoHello(Duration),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer speaks other versions of it.
    #[error("{0}")]
    Version(String),
    /// The peer said that it would not go on.
    #[error("the peer ended the pipe ({}): {detail}", word(*reason))]
    PeerSaid {
        /// Its reason.
        reason: GoAwayReason,
        /// Its sentence.
        detail: String,
        /// It asks not to be dialled again before this time has passed.
        retry_after: Duration,
    },
}

impl Why {
    /// A fixed word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::ClosedHere(_) => "closed",
            Self::Eof => "eof",
            Self::Io(_) => "io",
            Self::Silent(_) => "silent",
            Self::WriteStalled(_) => "write-stalled",
            Self::TooSlow(_) => "too-slow",
            Self::NoHello(_) => "no-hello",
            Self::Protocol(_) => "protocol",
            Self::Version(_) => word(GoAwayReason::Version),
            Self::PeerSaid { reason, .. } => word(*reason),
        }
    }

    /// Whether the peer is told goodbye. Who cannot be reached any more, or
    /// has said goodbye itself, is not.
    pub fn has_farewell(&self) -> bool {
        match self {
            Self::Drained
            | Self::ClosedHere(_)
            | Self::TooSlow(_)
            | Self::Protocol(_)
            | Self::Version(_) => true,
            Self::Eof
            | Self::Io(_)
            | Self::Silent(_)
            | Self::WriteStalled(_)
            | Self::NoHello(_)
            | Self::PeerSaid { .. } => false,
        }
    }

    /// What its GOAWAY says, if one is due for this.
    pub(crate) fn fault(&self) -> Option<(GoAwayReason, String)> {
        match self {
            Self::Protocol(detail) => Some((GoAwayReason::ProtocolError, detail.clone())),
            Self::TooSlow(_) => Some((GoAwayReason::ProtocolError, self.to_string())),
            Self::Version(detail) => Some((GoAwayReason::Version, detail.clone())),
            _ => None,
        }
    }
}

impl From<FrameError> for Why {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<HeadError> for Why {
    fn from(error: HeadError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// The word for a reason.
pub fn word(reason: GoAwayReason) -> &'static str {
    match reason {
        GoAwayReason::GoAwayUnspecified => "unspecified",
        GoAwayReason::Draining => "draining",
        GoAwayReason::Replace => "replace",
        GoAwayReason::Replaced => "replaced",
        GoAwayReason::ProtocolError => "protocol",
        GoAwayReason::Version => "version",
        GoAwayReason::Identity => "identity",
        GoAwayReason::Suspended => "suspended",
        GoAwayReason::Full => "full",
    }
}

/// What is known of a call that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The handler ran and answered.
    Executed,
    /// No byte of it left this node.
    NotSent,
    /// The peer says that the handler never started, and never will.
    Refused,
    /// The handler may have run.
    Unknown,
}

impl Outcome {
    /// The word of `X-Event-Outcome`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::NotSent => "not-sent",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a call got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It never left.
    #[error("not sent: {0}")]
    NotSent(#[from] NotSent),
    /// The peer refused it before the handler started.
    #[error("refused by the peer ({}): {detail}", cancel_word(*reason))]
    Refused {
        /// Its reason, one of the `Refused…` ones.
        reason: CancelReason,
        /// Its sentence.
        detail: String,
    },
    /// The pipe ended after the call had been handed to it.
    #[error("the pipe broke before the answer: {0}")]
    Lost(Why),
    /// The deadline passed after the call had been sent.
    #[error("no answer within the deadline")]
    Deadline,
    /// The handler may have run, but its answer cannot be had.
    #[error("the peer could not finish the call ({}): {detail}", cancel_word(*reason))]
    Failed {
        /// The peer's reason.
        reason: CancelReason,
        /// Its sentence.
        detail: String,
    },
}

/// Why a call never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The pipe had ended.
    #[error("the pipe has ended")]
    Ended,
    /// The pipe takes no new calls.
    #[error("the pipe is being drained")]
    Draining,
    /// All streams of the pipe were taken until the wait was over.
    #[error("all streams of the pipe are taken")]
    Busy,
    /// The deadline passed while the call waited in the queue.
    #[error("the deadline passed before the call could be sent")]
    Deadline,
    /// The head is larger than a frame.
    #[error("the event's path and headers take more than {max} bytes", max = restpipe_proto::MAX_PAYLOAD)]
    TooLarge,
}

impl CallError {
    /// What the caller may believe of the handler.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(_) => Outcome::NotSent,
            Self::Refused { .. } => Outcome::Refused,
            Self::Lost(_) | Self::Deadline | Self::Failed { .. } => Outcome::Unknown,
        }
    }

    /// What a peer's CANCEL means to the caller.
    pub(crate) fn from_cancel(reason: CancelReason, detail: String) -> Self {
        match reason {
            CancelReason::RefusedBusy
            | CancelReason::RefusedGoingAway
            | CancelReason::RefusedDeadline
            | CancelReason::RefusedByApp
            | CancelReason::RefusedInvalid => Self::Refused { reason, detail },
            CancelReason::HandlerDeadline => Self::Deadline,
            _ => Self::Failed { reason, detail },
        }
    }
}

/// The word for a reason.
pub fn cancel_word(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::CancelUnspecified => "unspecified",
        CancelReason::CallerGone => "caller-gone",
        CancelReason::CallerDeadline => "caller-deadline",
        CancelReason::RefusedBusy => "busy",
        CancelReason::RefusedGoingAway => "going-away",
        CancelReason::RefusedDeadline => "deadline",
        CancelReason::RefusedByApp => "app-refused",
        CancelReason::RefusedInvalid => "invalid",
        CancelReason::HandlerDeadline => "handler-deadline",
        CancelReason::HandlerLost => "handler-lost",
        CancelReason::BadReply => "bad-reply",
        CancelReason::BodyUnwanted => "body-unwanted",
    }
}
