//! Peers that go on too slowly: with a frame, or with credit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use restpipe_pipe::limits::{BODY_STALL, CREDIT_STALL, FRAME_PATIENCE, HEARTBEAT, MIN_FRAME_RATE};
use restpipe_pipe::pb::{CancelReason, GoAway, GoAwayReason, RequestHead};
use restpipe_pipe::session::{Command, Output};
use restpipe_pipe::{CallError, PipeConfig, Role, Why};
use restpipe_proto::{Class, Flags, Frame, Kind, MAX_PAYLOAD, head};

use crate::harness::zeros;
use crate::raw::{Raw, reply, request};

const SECOND: Duration = Duration::from_secs(1);

fn frame(kind: Kind, stream: u64, payload: Bytes) -> Bytes {
    let mut out = BytesMut::new();
    let (flags, class) = (Flags::NONE, Class::Control);
    Frame { kind, flags, class, stream, payload }.encode(&mut out);
    out.freeze()
}

/// A peer whose bytes come in parts.
struct Trickle {
    raw: Raw,
    buf: BytesMut,
}

impl Trickle {
    fn new() -> Self {
        Self { raw: Raw::opened(Role::Acceptor), buf: BytesMut::new() }
    }

    /// Lets `time` pass, and then a part comes.
    fn part(&mut self, time: Duration, part: &[u8]) -> Result<(), Why> {
        let until = self.raw.now + time;
        loop {
            let due = self.raw.session.deadline();
            if due > until {
                break;
            }
            self.raw.now = self.raw.now.max(due);
            self.raw.session.on_timeout(self.raw.now)?;
        }
        self.raw.now = until;
        self.buf.extend_from_slice(part);
        while let Some(frame) = Frame::decode(&mut self.buf)? {
            self.raw.session.on_frame(self.raw.now, frame)?;
        }
        self.raw.session.on_bytes(self.raw.now, part.len(), self.buf.len());
        Ok(())
    }
}

#[test]
fn a_frame_that_comes_byte_by_byte_ends_the_pipe_and_the_peer_is_told_why() {
    let mut peer = Trickle::new();
    let start = peer.raw.now;
    let ping = frame(Kind::Ping, 0, head::ping_payload(1));
    let why = ping.chunks(1).find_map(|byte| peer.part(SECOND, byte).err()).expect("an end");
    assert_eq!((&why, why.reason()), (&Why::TooSlow(FRAME_PATIENCE), "too-slow"));
    let took = peer.raw.now - start;
    assert!(took >= FRAME_PATIENCE && took < FRAME_PATIENCE + 2 * SECOND, "{took:?}");
    peer.raw.sent();
    peer.raw.session.say_why(&why);
    let said: GoAway = head::whole(peer.raw.sent()[0].payload.clone()).expect("own frame");
    assert_eq!(said.reason(), GoAwayReason::ProtocolError);
    assert!(said.detail.contains(&format!("slower than {MIN_FRAME_RATE} bytes a second")));
    assert!(why.has_farewell());
}

#[test]
fn whole_frames_do_not_help_a_peer_that_always_owes_the_rest_of_the_next() {
    let mut peer = Trickle::new();
    let pings: Vec<u8> =
        (0..100).flat_map(|n| frame(Kind::Ping, 0, head::ping_payload(n))).collect();
    let ping = pings.len() / 100;
    // Half of one first, then whole ones; each part ends in the middle of one.
    peer.part(SECOND, &pings[..ping / 2]).expect("a part");
    let why = pings[ping / 2..].chunks(ping).find_map(|part| peer.part(SECOND, part).err());
    assert_eq!(why.map(|why| why.reason()), Some("too-slow"));
}

#[test]
fn the_longest_frame_over_a_slow_link_is_taken_whether_it_comes_evenly_or_in_bursts() {
    let body = zeros(MAX_PAYLOAD - head::framed_len(&RequestHead::default()));
    let longest = frame(Kind::Req, 1, request(&RequestHead::default(), &body));
    for seconds in [1_u32, 4, 9] {
        let mut peer = Trickle::new();
        for part in longest.chunks(1024 * seconds as usize) {
            peer.part(SECOND * seconds, part).expect("as fast as it must be");
        }
        let outputs = peer.raw.outputs();
        let taken = |output: &Output| matches!(output, Output::Request { .. });
        assert!(outputs.iter().any(taken), "every {seconds} s: {outputs:?}");
    }
}

#[test]
fn small_frames_however_seldom_end_no_pipe() {
    let mut peer = Trickle::new();
    for n in 0..1_000 {
        let ping = frame(Kind::Ping, 0, head::ping_payload(n));
        // Each comes in two parts, as any frame may.
        peer.part(2 * HEARTBEAT - SECOND, &ping[..20]).expect("it begins");
        peer.part(SECOND, &ping[20..]).expect("it ends");
    }
}

#[test]
fn half_a_frame_and_then_nothing_is_silence() {
    let mut peer = Trickle::new();
    peer.part(SECOND, &frame(Kind::Ping, 0, head::ping_payload(1))[..10]).expect("it begins");
    assert_eq!(peer.part(60 * SECOND, &[]), Err(Why::Silent(2 * HEARTBEAT)));
}

#[test]
fn a_stretch_in_which_this_side_stood_still_is_not_the_peer_s_fault() {
    let mut peer = Trickle::new();
    let ping = frame(Kind::Ping, 0, head::ping_payload(1));
    peer.part(SECOND, &ping[..10]).expect("it begins");
    // No timer ran meanwhile, and what came then is read first.
    peer.raw.now += 300 * SECOND;
    peer.part(Duration::ZERO, &[]).expect_err("silence, if nothing came");
    let mut peer = Trickle::new();
    peer.part(SECOND, &ping[..10]).expect("it begins");
    peer.raw.now += 300 * SECOND;
    peer.raw.session.on_bytes(peer.raw.now, 5_000, 20);
    peer.part(SECOND, &ping[10..]).expect("it goes on");
}

/// An event whose answer has begun and goes on without credit.
fn answering(credit: u32) -> Raw {
    let mut raw = Raw::opened(Role::Acceptor);
    let head = RequestHead { reply_credit: credit, ..RequestHead::default() };
    raw.feed(Kind::Req, 1, true, request(&head, b"")).expect("an event");
    let command =
        Command::Reply { stream: 1, head: Default::default(), body: Bytes::new(), end: false };
    raw.session.on_command(raw.now, command);
    let chunk = zeros(credit as usize + 1);
    raw.session.on_command(raw.now, Command::Data { stream: 1, chunk, end: false });
    raw.sent();
    raw.outputs();
    raw
}

/// Lets `time` pass, with a peer that is alive.
fn pass(raw: &mut Raw, time: Duration) {
    let until = raw.now + time;
    while raw.now < until {
        raw.now += SECOND;
        raw.session.on_bytes(raw.now, 1, 0);
        raw.session.on_timeout(raw.now).expect("the peer is alive");
    }
}

#[test]
fn an_answer_for_which_credit_never_comes_is_given_up_and_its_handler_stopped() {
    for credit in [0, 10_000] {
        let mut raw = answering(credit);
        // In figures, as docs/bad-input.md says it: looked at every ten minutes.
        pass(&mut raw, Duration::from_secs(20 * 60) - SECOND);
        assert!(Raw::cancels(&raw.sent()).is_empty(), "a peer that looks after it is first");
        pass(&mut raw, SECOND);
        assert_eq!(Raw::cancels(&raw.sent()), [(1, CancelReason::HandlerDeadline)]);
        assert!(raw.outputs().iter().any(|output| matches!(output, Output::Abort { stream: 1 })));
        raw.session.on_command(raw.now, Command::HandlerDone { stream: 1 });
        assert!(raw.session.is_idle());
    }
}

#[test]
fn an_answer_that_gets_credit_now_and_then_or_has_some_left_goes_on_for_ever() {
    let mut raw = answering(0);
    for _ in 0..20 {
        raw.feed(Kind::Credit, 1, false, head::credit_payload(1)).expect("credit");
        let chunk = zeros(1);
        raw.session.on_command(raw.now, Command::Data { stream: 1, chunk, end: false });
        raw.sent();
        pass(&mut raw, CREDIT_STALL);
    }
    raw.feed(Kind::Credit, 1, false, head::credit_payload(100)).expect("credit");
    raw.sent();
    pass(&mut raw, 5 * CREDIT_STALL);
    assert!(Raw::cancels(&raw.sent()).is_empty());
    raw.session.on_command(raw.now, Command::Data { stream: 1, chunk: Bytes::new(), end: true });
    raw.sent();
    raw.session.on_command(raw.now, Command::HandlerDone { stream: 1 });
    assert!(raw.session.is_idle());
}

#[test]
fn whoever_looks_after_its_streams_gives_up_before_the_sender_does() {
    assert!(CREDIT_STALL >= 2 * BODY_STALL);
    assert!(FRAME_PATIENCE >= 2 * PipeConfig::default().heartbeat);
}

#[test]
fn calls_that_ended_long_before_they_were_due_leave_the_others_their_time() {
    let mut raw = Raw::opened(Role::Dialer);
    let start = raw.now;
    let mut failed = Vec::new();
    for second in 0..80 {
        raw.now = start + second * SECOND;
        raw.session.on_bytes(raw.now, 1, 0);
        raw.session.on_timeout(raw.now).expect("the peer is alive");
        // Each is due after 60 s, and all but one are answered at once.
        let stream = 2 * u64::from(second) + 1;
        raw.call(stream, true);
        raw.sent();
        if second != 10 {
            raw.feed(Kind::Rep, stream, true, reply(b"")).expect("an answer");
        }
        assert!(raw.session.deadline() > raw.now);
        let over = raw.outputs().into_iter().filter_map(|output| match output {
            Output::Failed { stream, error } => Some((second, stream, error)),
            _ => None,
        });
        failed.extend(over);
    }
    assert_eq!(failed, [(70, 21, CallError::Deadline)]);
}
