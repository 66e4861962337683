//! Rows: what is sent behind a good HELLO, and what is answered.

use std::time::Duration;

use bytes::Bytes;
use restpipe_pipe::pb::{Cancel, CancelReason, GoAway, GoAwayReason, ReplyHead};
use restpipe_proto::{Frame, Kind, head};
use restpipe_tests::binary::{SOON, eventually};
use restpipe_tests::wire::{WirePeer, ping};

use crate::stage::Stage;

/// One row: its name, its bytes, its end.
pub(crate) struct Row {
    name: String,
    bytes: Vec<u8>,
    end: End,
}

/// A row.
pub(crate) fn row(name: &str, bytes: impl AsRef<[u8]>, end: End) -> Row {
    Row { name: name.to_owned(), bytes: bytes.as_ref().to_vec(), end }
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// GOAWAY(PROTOCOL_ERROR) whose sentence holds these words, and the end of
    /// the pipe, which is counted as `protocol`.
    Pipe(&'static str),
    /// CANCEL(REFUSED_INVALID) on the stream, whose sentence holds these
    /// words, counted as `invalid`; the pipe goes on.
    Refused(u64, &'static str),
    /// The stream is answered with this body; the pipe goes on.
    Answered(u64, &'static str),
    /// No frame, and the pipe goes on.
    Nothing,
}

const ENDED: (&str, &str) = ("restpipe_pipes_ended_total", "reason=\"protocol\"");
const INVALID: (&str, &str) =
    ("restpipe_events_total", "code=\"invalid\",direction=\"in\",outcome=\"refused\"");

/// A token of no test's own.
const ALIVE: u64 = 0xa11_7e00;

/// Of a pong that answers no ping: the node lets a peer hear that it lives.
const UNASKED: u64 = 0;

impl End {
    /// What counts it.
    fn counter(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Pipe(_) => Some(ENDED),
            Self::Refused(..) => Some(INVALID),
            Self::Answered(..) | Self::Nothing => None,
        }
    }

    async fn check(self, peer: &mut WirePeer) {
        match self {
            Self::Pipe(words) => ends_with(peer, GoAwayReason::ProtocolError, words).await,
            Self::Refused(stream, words) => {
                let frame = answer(peer).await;
                assert_eq!((frame.kind, frame.stream), (Kind::Cancel, stream), "{frame:?}");
                let cancel: Cancel = head::whole(frame.payload).expect("a cancel");
                assert_eq!(cancel.reason(), CancelReason::RefusedInvalid, "{cancel:?}");
                assert!(cancel.detail.contains(words), "{words:?} is missing: {cancel:?}");
                is_alive(peer).await;
            }
            Self::Answered(stream, body) => {
                let frame = answer(peer).await;
                assert_eq!((frame.kind, frame.stream), (Kind::Rep, stream), "{frame:?}");
                assert!(frame.flags.is_end(), "{frame:?}");
                let (said, rest): (ReplyHead, Bytes) = head::split(frame.payload).expect("a reply");
                assert_eq!((said.status, &rest[..]), (200, body.as_bytes()), "{said:?}");
                is_alive(peer).await;
            }
            Self::Nothing => is_alive(peer).await,
        }
    }
}

/// The next frame that is neither credit nor a sign of life.
pub(crate) async fn answer(peer: &mut WirePeer) -> Frame {
    loop {
        let frame = peer.next().await.expect("a frame").expect("a frame and no end");
        let is_sign = match frame.kind {
            Kind::Credit | Kind::Ping => true,
            Kind::Pong => head::ping(frame.payload.clone()) == Ok(UNASKED),
            _ => false,
        };
        if !is_sign {
            return frame;
        }
    }
}

/// The pipe goes on, and nothing was said that was not read.
pub(crate) async fn is_alive(peer: &mut WirePeer) {
    peer.send(&ping(ALIVE)).await.expect("the pipe goes on");
    let frame = answer(peer).await;
    let token = head::ping(frame.payload.clone());
    assert_eq!((frame.kind, token), (Kind::Pong, Ok(ALIVE)), "{frame:?}");
}

/// A GOAWAY with this reason and these words, and the end.
pub(crate) async fn ends_with(peer: &mut WirePeer, reason: GoAwayReason, words: &str) {
    let frame = loop {
        let frame = answer(peer).await;
        // What was sent before is answered before.
        if !matches!(frame.kind, Kind::Pong | Kind::Cancel) {
            break frame;
        }
    };
    assert_eq!(frame.kind, Kind::GoAway, "{frame:?}");
    let away: GoAway = head::whole(frame.payload).expect("a goaway");
    assert_eq!(away.reason(), reason, "{away:?}");
    assert!(away.detail.contains(words), "{words:?} is missing: {away:?}");
    assert!(peer.has_ended().await);
}

impl Stage {
    /// Sends each row over a pipe of its own, one after another.
    pub(crate) async fn check(&self, rows: Vec<Row>) {
        for (number, row) in rows.into_iter().enumerate() {
            let Row { name, bytes, end } = row;
            eprintln!("{name}: {end:?}");
            let counted =
                |stage: &Self| end.counter().map(|(name, label)| stage.counted(name, label));
            let before = counted(self);
            let mut peer = self.peer(&format!("bad-{number}")).await;
            // Who is refused in the middle of it finds the connection closed.
            let _ = peer.send(&bytes).await;
            let checked = tokio::time::timeout(SOON, end.check(&mut peer)).await;
            checked.unwrap_or_else(|_| panic!("{name}: no answer within {SOON:?}"));
            if let Some(before) = before {
                let once = || counted(self) == Some(before + 1.0);
                eventually(&format!("{name} is counted once"), once);
            }
            drop(peer);
            self.good.goes_on();
        }
    }

    /// Runs `what` to its end, which comes soon.
    pub(crate) async fn within<T>(&self, time: Duration, what: impl Future<Output = T>) -> T {
        let result = tokio::time::timeout(time, what).await;
        let result = result.unwrap_or_else(|_| panic!("no end within {time:?}"));
        self.good.goes_on();
        result
    }
}
