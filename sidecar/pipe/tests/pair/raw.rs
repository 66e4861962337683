//! One session against frames made by hand.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restpipe_pipe::pb::{
    Cancel, CancelReason, GoAway, GoAwayReason, Hello, Limits, ReplyHead, RequestHead,
};
use restpipe_pipe::session::{Batch, Command, Output, Request, Session};
use restpipe_pipe::{Budget, PipeConfig, Role, Why};
use restpipe_proto::{Class, Flags, Frame, Kind, VERSION, head};

#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) session: Session,
    pub(crate) now: Instant,
    pub(crate) budget: Budget,
}

pub(crate) fn hello() -> Bytes {
    let limits = Some(Limits { max_streams: 256 });
    head::to_bytes(&Hello {
        min_version: VERSION,
        max_version: VERSION,
        limits,
        ..Hello::default()
    })
}

/// A head with `body` behind it.
pub(crate) fn request(head: &RequestHead, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    head::put(&mut out, head).expect("fits");
    out.extend_from_slice(body);
    out.freeze()
}

pub(crate) fn reply(body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    head::put(&mut out, &ReplyHead { status: 200, ..ReplyHead::default() }).expect("fits");
    out.extend_from_slice(body);
    out.freeze()
}

pub(crate) fn cancel(reason: CancelReason) -> Bytes {
    head::to_bytes(&Cancel { reason: reason.into(), detail: String::new() })
}

pub(crate) fn go_away(reason: GoAwayReason, last_stream: u64) -> Bytes {
    head::to_bytes(&GoAway { last_stream, reason: reason.into(), ..GoAway::default() })
}

impl Raw {
    /// Before the peer's HELLO.
    pub(crate) fn silent(role: Role) -> Self {
        let now = Instant::now();
        let budget = Budget::new(crate::harness::PROCESS_BUDGET);
        let config = PipeConfig { budget: budget.clone(), ..PipeConfig::default() };
        Self { session: Session::new(role, config, now), now, budget }
    }

    /// The session of an acceptor, or of a dialer.
    pub(crate) fn opened(role: Role) -> Self {
        let mut raw = Self::silent(role);
        raw.feed(Kind::Hello, 0, false, hello()).expect("a good HELLO");
        raw.sent();
        raw.outputs();
        raw
    }

    pub(crate) fn feed(
        &mut self,
        kind: Kind,
        stream: u64,
        end: bool,
        payload: Bytes,
    ) -> Result<(), Why> {
        let frame =
            Frame { kind, flags: Flags::end_if(end), class: Class::Control, stream, payload };
        self.session.on_frame(self.now, frame)
    }

    pub(crate) fn feed_bytes(&mut self, bytes: &[u8]) -> Result<(), Why> {
        let mut buf = BytesMut::from(bytes);
        while let Some(frame) = Frame::decode(&mut buf)? {
            self.session.on_frame(self.now, frame)?;
        }
        Ok(())
    }

    pub(crate) fn sent(&mut self) -> Vec<Frame> {
        let mut batch = Batch::default();
        let mut out = Vec::new();
        while self.session.has_frames() {
            self.session.fill(&mut batch);
        }
        let mut wire = BytesMut::new();
        batch.segments().drain(..).for_each(|segment| wire.extend_from_slice(&segment));
        while let Some(frame) = Frame::decode(&mut wire).expect("own frames") {
            out.push(frame);
        }
        out
    }

    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.next_output()).collect()
    }

    /// A call of this side, queued.
    pub(crate) fn call(&mut self, stream: u64, end: bool) {
        let deadline = self.now + Duration::from_secs(60);
        let head = RequestHead { noun: "x".into(), ..RequestHead::default() };
        let (head, tail, body) = (head.into(), Default::default(), Bytes::new());
        let request = Request { stream, head, tail, body, end, deadline };
        self.session.on_command(self.now, Command::Request(Box::new(request)));
    }

    /// The reasons of the CANCEL frames among `frames`.
    pub(crate) fn cancels(frames: &[Frame]) -> Vec<(u64, CancelReason)> {
        let cancels = frames.iter().filter(|frame| frame.kind == Kind::Cancel);
        cancels
            .map(|frame| {
                let cancel: Cancel = head::whole(frame.payload.clone()).expect("own frame");
                (frame.stream, cancel.reason())
            })
            .collect()
    }

    pub(crate) fn protocol_error(result: Result<(), Why>) -> String {
        match result {
            Err(Why::Protocol(detail)) => detail,
            other => panic!("no protocol error: {other:?}"),
        }
    }
}
