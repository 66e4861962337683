//! Frames that a peer should not send.

use bytes::Bytes;
use restpipe_pipe::pb::{CancelReason, GoAway, GoAwayReason, Header, Hello, RequestHead};
use restpipe_pipe::session::{Command, Output};
use restpipe_pipe::{CallError, Outcome, Role, Why};
use restpipe_proto::{Kind, MAX_PAYLOAD, VERSION, head};

use crate::harness::zeros;
use crate::raw::{Raw, cancel, hello, reply, request};

fn head_of(noun: &str) -> RequestHead {
    RequestHead { noun: noun.into(), ..RequestHead::default() }
}

fn failed(outputs: Vec<Output>) -> Vec<(u64, Outcome)> {
    let failed = outputs.into_iter().filter_map(|output| match output {
        Output::Failed { stream, error } => Some((stream, error.outcome())),
        _ => None,
    });
    failed.collect()
}

fn header(kind: u8, flags: u8, class: u8, reserved: u8, len: usize) -> Vec<u8> {
    let mut out = vec![(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags, class];
    out.extend([0, reserved, 0, 0, 0, 0, 0, 0, 0, 1]);
    out
}

#[test]
fn unknown_types_flags_classes_and_reserved_bytes_end_the_pipe_naming_the_byte() {
    for (bytes, word) in [
        (header(0, 0, 0, 0, 0), "0x00"),
        (header(11, 0, 0, 0, 0), "0x0b"),
        (header(0x7f, 0, 0, 0, 0), "0x7f"),
        (header(255, 0, 0, 0, 0), "0xff"),
        (header(7, 4, 0, 0, 0), "0x04"),
        (header(7, 0, 7, 0, 0), "class 7"),
        (header(7, 0, 0, 3, 0), "0x0003"),
    ] {
        let error = Raw::protocol_error(Raw::opened(Role::Acceptor).feed_bytes(&bytes));
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_length_over_16_kib_ends_the_pipe_before_the_payload_has_come() {
    for len in [MAX_PAYLOAD + 1, 0xff_ffff] {
        let error =
            Raw::protocol_error(Raw::opened(Role::Acceptor).feed_bytes(&header(4, 0, 2, 0, len)));
        assert!(error.contains(&len.to_string()), "{error}");
    }
}

#[test]
fn payloads_of_a_wrong_size_end_the_pipe() {
    for (kind, payload) in [
        (Kind::Credit, zeros(3)),
        (Kind::Credit, zeros(0)),
        (Kind::Ping, zeros(0)),
        (Kind::Pong, zeros(9)),
        (Kind::Cancel, Bytes::from_static(&[0x0a, 5])),
        (Kind::GoAway, Bytes::from_static(&[0xff])),
        (Kind::Limits, Bytes::from_static(&[0xff])),
    ] {
        Raw::protocol_error(Raw::opened(Role::Acceptor).feed(kind, 0, false, payload));
    }
}

#[test]
fn a_head_that_cannot_be_read_is_refused_and_the_pipe_goes_on() {
    let deep = std::iter::repeat_n(0x0b_u8, 200).collect::<Vec<_>>();
    let heads: [&[u8]; 5] = [
        &[5, 1],                                                          // Points past its frame.
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], // No varint.
        &[2, 0x12, 9],                                                    // A string past the head.
        &[2, 0x10, 1], // A number where a string is due.
        &[],
    ];
    let mut framed = vec![200_u8, 1];
    framed.extend(deep);
    let mut raw = Raw::opened(Role::Acceptor);
    let all = heads.iter().copied().chain([&framed[..]]);
    for (at, bytes) in all.enumerate() {
        let stream = 2 * at as u64 + 1;
        raw.feed(Kind::Req, stream, true, Bytes::copy_from_slice(bytes)).expect("the pipe goes on");
        assert_eq!(
            Raw::cancels(&raw.sent()),
            [(stream, CancelReason::RefusedInvalid)],
            "{bytes:?}"
        );
    }
    let refused = |output: &Output| matches!(output, Output::Refused(CancelReason::RefusedInvalid));
    let outputs = raw.outputs();
    assert!(outputs.len() == 6 && outputs.iter().all(refused), "each is told: {outputs:?}");
    assert!(raw.session.is_idle());
}

#[test]
fn unknown_and_repeated_fields_of_a_head_are_no_error() {
    let mut bytes = request(&head_of("a"), b"");
    let mut longer = bytes.split_off(1).to_vec();
    longer.extend(request(&head_of("b"), b"").split_off(1)); // The last one counts.
    longer.extend([0xf8, 0x07, 1]); // Field 127, a number.
    let mut payload = vec![longer.len() as u8];
    payload.extend(longer);
    let mut raw = Raw::opened(Role::Acceptor);
    raw.feed(Kind::Req, 1, true, payload.into()).expect("fine");
    assert!(matches!(&raw.outputs()[..], [Output::Request { head, .. }] if head.noun == "b"));
}

#[test]
fn a_head_of_very_many_parts_is_refused_as_each_costs_more_memory_than_bytes() {
    let many = RequestHead { headers: vec![Header::default(); 6_000], ..head_of("x") };
    let args = RequestHead { args: vec![String::new(); 8_000], ..head_of("x") };
    let mut raw = Raw::opened(Role::Acceptor);
    raw.feed(Kind::Req, 1, true, request(&many, b"")).expect("the pipe goes on");
    raw.feed(Kind::Req, 3, true, request(&args, b"")).expect("the pipe goes on");
    assert!(raw.outputs().iter().all(|output| matches!(output, Output::Refused(_))));
    let cancels = Raw::cancels(&raw.sent());
    assert_eq!(cancels, [(1, CancelReason::RefusedInvalid), (3, CancelReason::RefusedInvalid)]);
}

#[test]
fn a_bad_reply_fails_its_call_as_unknown_and_the_pipe_goes_on() {
    let mut raw = Raw::opened(Role::Dialer);
    raw.call(1, true);
    raw.sent();
    raw.feed(Kind::Rep, 1, true, Bytes::from_static(&[9])).expect("the pipe goes on");
    assert_eq!(failed(raw.outputs()), [(1, Outcome::Unknown)]);
    raw.sent();
    assert!(raw.session.is_idle());
}

#[test]
fn a_reply_to_a_stream_that_never_left_ends_the_pipe() {
    let mut raw = Raw::opened(Role::Dialer);
    Raw::protocol_error(raw.feed(Kind::Rep, 1, true, reply(b"")));
    raw.call(1, true);
    // Queued, not sent.
    Raw::protocol_error(raw.feed(Kind::Rep, 1, true, reply(b"")));
    raw.session.end(&Why::Eof);
    assert_eq!(failed(raw.outputs()), [(1, Outcome::NotSent)]);
}

#[test]
fn words_about_a_call_that_has_not_left_yet_change_nothing() {
    for (kind, payload) in [
        (Kind::Cancel, cancel(CancelReason::BodyUnwanted)),
        (Kind::Cancel, cancel(CancelReason::RefusedBusy)),
        (Kind::Credit, head::credit_payload(u32::MAX)),
    ] {
        let mut raw = Raw::opened(Role::Dialer);
        raw.call(1, false);
        raw.feed(kind, 1, false, payload).expect("ignored");
        raw.outputs();
        let sent = raw.sent();
        assert_eq!(sent.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [Kind::Req]);
        raw.session
            .on_command(raw.now, Command::Data { stream: 1, chunk: Bytes::new(), end: true });
        assert_eq!(raw.sent().len(), 1, "the body's end follows");
    }
}

#[test]
fn a_reply_to_the_peer_s_own_stream_ends_the_pipe() {
    let mut raw = Raw::opened(Role::Acceptor);
    raw.feed(Kind::Req, 1, true, request(&head_of("x"), b"")).expect("an event");
    Raw::protocol_error(raw.feed(Kind::Rep, 1, true, reply(b"")));
}

#[test]
fn an_id_used_twice_ends_the_pipe_and_so_does_a_falling_one() {
    for second in [5, 3] {
        let mut raw = Raw::opened(Role::Acceptor);
        raw.feed(Kind::Req, 5, true, request(&head_of("x"), b"")).expect("ids may skip");
        let error =
            Raw::protocol_error(raw.feed(Kind::Req, second, true, request(&head_of("x"), b"")));
        assert!(error.contains("used before"), "{error}");
    }
}

#[test]
fn the_highest_id_there_is_can_be_used() {
    let mut raw = Raw::opened(Role::Acceptor);
    raw.feed(Kind::Req, u64::MAX, true, request(&head_of("x"), b"")).expect("an event");
    assert!(matches!(&raw.outputs()[..], [Output::Request { stream: u64::MAX, .. }]));
}

#[test]
fn a_request_with_this_side_s_parity_or_id_zero_ends_the_pipe() {
    for (role, stream) in [(Role::Acceptor, 2), (Role::Dialer, 1), (Role::Acceptor, 0)] {
        let error = Raw::protocol_error(Raw::opened(role).feed(
            Kind::Req,
            stream,
            true,
            request(&head_of("x"), b""),
        ));
        assert!(error.contains("not the peer's"), "{error}");
    }
}

#[test]
fn data_beyond_the_granted_credit_ends_the_pipe() {
    let mut raw = Raw::opened(Role::Acceptor);
    raw.feed(Kind::Req, 1, false, request(&head_of("x"), b"")).expect("an event");
    let granted = restpipe_proto::INITIAL_CREDIT
        + raw
            .sent()
            .into_iter()
            .filter(|frame| frame.kind == Kind::Credit)
            .fold(0, |sum, frame| sum + head::credit(frame.payload).expect("own frame"));
    for _ in 0..granted / 1024 {
        raw.feed(Kind::Data, 1, false, zeros(1024)).expect("granted");
    }
    let error = Raw::protocol_error(raw.feed(Kind::Data, 1, false, zeros(1)));
    assert!(error.contains("granted"), "{error}");
    raw.session.end(&Why::Eof);
    assert!(raw.session.is_idle());
    assert_eq!(raw.budget.left(), crate::harness::PROCESS_BUDGET);
}

#[test]
fn credit_without_end_does_not_overflow() {
    let mut raw = Raw::opened(Role::Acceptor);
    let head = RequestHead { reply_credit: u32::MAX, ..head_of("x") };
    raw.feed(Kind::Req, 1, true, request(&head, b"")).expect("an event");
    let command =
        Command::Reply { stream: 1, head: Default::default(), body: Bytes::new(), end: false };
    raw.session.on_command(raw.now, command);
    for _ in 0..1_000 {
        raw.feed(Kind::Credit, 1, false, head::credit_payload(u32::MAX)).expect("taken");
    }
    raw.sent();
    let room: usize = raw
        .outputs()
        .iter()
        .map(|output| if let Output::Room { bytes, .. } = output { *bytes } else { 0 })
        .sum();
    assert!(room <= restpipe_pipe::limits::SEND_QUEUE, "{room}");
}

#[test]
fn anything_but_goaway_before_hello_ends_the_pipe() {
    for kind in [
        Kind::Req,
        Kind::Rep,
        Kind::Data,
        Kind::Credit,
        Kind::Cancel,
        Kind::Ping,
        Kind::Pong,
        Kind::Limits,
    ] {
        let error =
            Raw::protocol_error(Raw::silent(Role::Acceptor).feed(kind, 1, false, Bytes::new()));
        assert!(error.contains("before HELLO"), "{error}");
    }
}

#[test]
fn a_second_hello_ends_the_pipe() {
    let error = Raw::protocol_error(Raw::opened(Role::Dialer).feed(Kind::Hello, 0, false, hello()));
    assert!(error.contains("second HELLO"), "{error}");
}

#[test]
fn another_version_is_told_so_and_the_words_fit_a_frame() {
    for (min, max) in [(3, 4), (0, 1), (3, 2), (0, 0)] {
        let mut raw = Raw::silent(Role::Acceptor);
        let software = "x".repeat(16_000);
        let other = Hello { min_version: min, max_version: max, software, ..Hello::default() };
        let why =
            raw.feed(Kind::Hello, 0, false, head::to_bytes(&other)).expect_err("no common version");
        assert_eq!(why.reason(), "version");
        raw.session.say_why(&why);
        raw.session.end(&why);
        let sent = raw.sent();
        assert_eq!(
            sent.iter().map(|frame| frame.kind).collect::<Vec<_>>(),
            [Kind::Hello, Kind::GoAway]
        );
        let away: GoAway = head::whole(sent[1].payload.clone()).expect("own frame");
        assert_eq!(away.reason(), GoAwayReason::Version);
    }
    let wide = Hello { min_version: 1, max_version: VERSION + 7, ..Hello::default() };
    Raw::silent(Role::Dialer)
        .feed(Kind::Hello, 0, false, head::to_bytes(&wide))
        .expect("2 is among them");
}

#[test]
fn a_hello_without_limits_allows_no_stream_until_limits_come() {
    let mut raw = Raw::silent(Role::Dialer);
    let bare = Hello { min_version: 2, max_version: 2, ..Hello::default() };
    raw.feed(Kind::Hello, 0, false, head::to_bytes(&bare)).expect("fine");
    assert!(matches!(&raw.outputs()[..], [Output::Opened(hello)] if hello.limits.is_none()));
}

#[test]
fn a_cancel_with_very_many_words_still_fits_a_frame() {
    let mut raw = Raw::opened(Role::Acceptor);
    raw.feed(Kind::Req, 1, true, request(&head_of("x"), b"")).expect("an event");
    let reason = CancelReason::HandlerLost;
    let detail = "ä".repeat(20_000);
    raw.session.on_command(raw.now, Command::Cancel { stream: 1, reason, detail });
    assert_eq!(Raw::cancels(&raw.sent()), [(1, reason)]);
}

#[test]
fn a_peer_that_lets_answers_pile_up_and_reads_none_is_let_go() {
    let mut raw = Raw::opened(Role::Acceptor);
    let mut stream = 1;
    let error = loop {
        match raw.feed(Kind::Req, stream, true, Bytes::new()) {
            Ok(()) => stream += 2,
            error => break Raw::protocol_error(error),
        }
        assert!(stream < 20_000, "the queue has no bound");
    };
    assert!(error.contains("does not read"), "{error}");
}

#[test]
fn a_cancel_with_an_unknown_reason_is_an_unknown_outcome() {
    let mut raw = Raw::opened(Role::Dialer);
    raw.call(1, true);
    raw.sent();
    raw.feed(Kind::Cancel, 1, false, Bytes::from_static(&[8, 99])).expect("a cancel");
    let outputs = raw.outputs();
    assert!(matches!(&outputs[..], [Output::Failed { error: CallError::Failed { .. }, .. }]));
    assert!(raw.session.is_idle());
}
