//! Answers that nobody waits for.

use std::time::Duration;

use restpipe_pipe::Role;
use restpipe_pipe::limits::{MAX_STRAYS, STRAY_FORGOTTEN};
use restpipe_pipe::pb::CancelReason;
use restpipe_pipe::session::Command;
use restpipe_proto::Kind;

use crate::harness::zeros;
use crate::raw::{Raw, reply};

#[test]
fn a_reply_nobody_waits_for_is_counted_and_a_hundred_end_the_pipe() {
    let mut raw = Raw::opened(Role::Dialer);
    raw.call(1, true);
    raw.sent();
    raw.feed(Kind::Rep, 1, true, reply(b"")).expect("the answer");
    for _ in 0..100 {
        raw.feed(Kind::Rep, 1, true, reply(b"")).expect("dropped and counted");
    }
    assert_eq!(raw.outputs().len(), 1, "only the first is delivered");
    let error = Raw::protocol_error(raw.feed(Kind::Rep, 1, true, reply(b"")));
    assert!(error.contains("100"), "{error}");
}

#[test]
fn a_reply_now_and_then_that_nobody_waits_for_does_not_end_a_pipe_in_a_year() {
    let mut raw = Raw::opened(Role::Dialer);
    raw.call(1, true);
    raw.sent();
    raw.feed(Kind::Rep, 1, true, reply(b"")).expect("the answer");
    let year = Duration::from_secs(365 * 24 * 3600);
    let end = raw.now + year;
    while raw.now < end {
        raw.now += year / 50_000;
        raw.feed(Kind::Rep, 1, true, reply(b"")).expect("dropped, and forgotten later");
    }
    // A burst is too much as ever.
    for _ in 1..MAX_STRAYS {
        raw.feed(Kind::Rep, 1, true, reply(b"")).expect("dropped and counted");
    }
    Raw::protocol_error(raw.feed(Kind::Rep, 1, true, reply(b"")));
    raw.now += STRAY_FORGOTTEN;
    raw.feed(Kind::Rep, 1, true, reply(b"")).expect("one was forgotten");
}

#[test]
fn replies_after_a_cancel_are_dropped_uncounted() {
    let mut raw = Raw::opened(Role::Dialer);
    raw.call(1, true);
    raw.sent();
    let reason = CancelReason::CallerGone;
    raw.session.on_command(raw.now, Command::Cancel { stream: 1, reason, detail: String::new() });
    raw.feed(Kind::Rep, 1, false, reply(b"")).expect("late");
    for _ in 0..1_000 {
        raw.feed(Kind::Data, 1, false, zeros(10)).expect("late");
    }
    assert!(raw.outputs().is_empty());
}
