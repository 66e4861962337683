//! Going away, from either side and from both.

use std::time::Duration;

use restpipe_pipe::pb::{CancelReason, GoAwayReason, RequestHead};
use restpipe_pipe::session::{Command, Output};
use restpipe_pipe::{CallError, Outcome, Role, Why};
use restpipe_proto::Kind;

use crate::harness::{A, D, Pair};
use crate::raw::{Raw, go_away, request};

fn away(reason: GoAwayReason) -> Command {
    Command::GoAway { reason, detail: "stopping".into(), retry_after: Duration::ZERO }
}

const HOP: Duration = Duration::from_millis(3);

fn slow_pair() -> Pair {
    let mut pair = Pair::opened();
    pair.links.iter_mut().for_each(|link| link.delay = HOP);
    pair
}

#[test]
fn what_is_open_is_finished_and_both_sides_end_as_drained() {
    let mut pair = slow_pair();
    let open = pair.call(D, "stream/300000", 0, None);
    pair.advance(2 * HOP);
    pair.command(A, away(GoAwayReason::Draining));
    pair.advance(100 * HOP);
    assert_eq!(pair.outcomes(D, open), [Outcome::Executed]);
    assert!(pair.sides.iter().all(|side| side.ended == Some(Why::Drained)));
    pair.assert_whole();
}

#[test]
fn both_sides_drain_at_once_with_calls_in_flight_each_way_and_every_call_knows_its_fate() {
    for wait in 0..8_u32 {
        let mut pair = slow_pair();
        let mut calls =
            vec![(D, pair.call(D, "echo", 9, None)), (A, pair.call(A, "echo", 9, None))];
        pair.advance(HOP * wait / 2);
        calls.push((D, pair.call(D, "echo", 9, Some(40_000))));
        calls.push((A, pair.call(A, "stream/40000", 0, None)));
        pair.command(D, away(GoAwayReason::Draining));
        pair.command(A, away(GoAwayReason::Draining));
        pair.advance(100 * HOP);
        for (side, call) in calls {
            let starts = pair.sides[1 - side].app.starts.get(&call).copied().unwrap_or(0);
            let expected = if starts == 1 { Outcome::Executed } else { Outcome::Refused };
            assert_eq!(pair.outcomes(side, call), [expected], "wait {wait}, {side} {call}");
        }
        assert!(pair.sides.iter().all(|side| side.ended == Some(Why::Drained)));
        pair.assert_whole();
    }
}

#[test]
fn a_request_queued_behind_this_side_s_own_goaway_is_still_answered() {
    let mut pair = slow_pair();
    // Two batches: the GOAWAY arrives first and alone.
    pair.links[D].capacity = Some(1);
    let call = pair.call(D, "echo", 9, None);
    let late = pair.call(D, "echo", 16_000, None);
    pair.command(D, away(GoAwayReason::Draining));
    pair.advance(100 * HOP);
    assert_eq!(pair.outcomes(D, call), [Outcome::Executed]);
    assert_eq!(pair.outcomes(D, late), [Outcome::Executed]);
}

#[test]
fn who_only_heard_a_goaway_does_not_close_as_requests_may_still_be_under_way() {
    let mut raw = Raw::opened(Role::Acceptor);
    raw.feed(Kind::GoAway, 0, false, go_away(GoAwayReason::Draining, 0)).expect("fine");
    assert!(raw.session.is_drained() && !raw.session.may_close());
    raw.feed(Kind::Req, 1, true, request(&RequestHead::default(), b"")).expect("still served");
    assert!(raw.outputs().iter().any(|output| matches!(output, Output::Request { .. })));
}

#[test]
fn a_request_that_waits_when_the_goaway_comes_was_not_sent_and_one_above_the_last_was_refused() {
    let mut raw = Raw::opened(Role::Dialer);
    raw.call(1, true);
    raw.call(3, true);
    raw.sent();
    raw.call(5, true);
    raw.feed(Kind::GoAway, 0, false, go_away(GoAwayReason::Draining, 1)).expect("fine");
    assert_eq!(fates(&mut raw), [(3, Outcome::Refused), (5, Outcome::NotSent)]);
    assert!(raw.sent().is_empty(), "the waiting request never leaves");
    raw.call(7, true);
    assert_eq!(fates(&mut raw), [(7, Outcome::NotSent)]);
    raw.session.end(&Why::Eof);
    assert_eq!(fates(&mut raw), [(1, Outcome::Unknown)]);
}

fn fates(raw: &mut Raw) -> Vec<(u64, Outcome)> {
    let fates = raw.outputs().into_iter().filter_map(|output| match output {
        Output::Failed { stream, error } => Some((stream, error.outcome())),
        _ => None,
    });
    fates.collect()
}

#[test]
fn a_goaway_that_ends_the_pipe_also_says_what_never_ran() {
    for reason in [GoAwayReason::Suspended, GoAwayReason::ProtocolError, GoAwayReason::Identity] {
        let mut raw = Raw::opened(Role::Dialer);
        raw.call(1, true);
        raw.call(3, true);
        raw.sent();
        let why = raw.feed(Kind::GoAway, 0, false, go_away(reason, 1)).expect_err("it is over");
        raw.session.end(&why);
        assert_eq!(fates(&mut raw), [(3, Outcome::Refused), (1, Outcome::Unknown)]);
    }
}

#[test]
fn of_two_goaways_the_lowest_last_stream_stands() {
    let mut raw = Raw::opened(Role::Dialer);
    for stream in [1, 3, 5] {
        raw.call(stream, true);
    }
    raw.sent();
    raw.feed(Kind::GoAway, 0, false, go_away(GoAwayReason::Draining, 3)).expect("fine");
    raw.feed(Kind::GoAway, 0, false, go_away(GoAwayReason::Draining, 5)).expect("fine");
    assert_eq!(fates(&mut raw), [(5, Outcome::Refused)]);
    raw.feed(Kind::GoAway, 0, false, go_away(GoAwayReason::Draining, 1)).expect("fine");
    assert_eq!(fates(&mut raw), [(3, Outcome::Refused)]);
}

#[test]
fn a_call_that_is_being_answered_is_not_called_refused_whatever_a_goaway_says() {
    let mut raw = Raw::opened(Role::Dialer);
    raw.call(1, true);
    raw.sent();
    raw.feed(Kind::Rep, 1, false, crate::raw::reply(b"")).expect("the answer begins");
    raw.feed(Kind::GoAway, 0, false, go_away(GoAwayReason::Draining, 0)).expect("odd, but fine");
    assert_eq!(fates(&mut raw), []);
}

#[test]
fn this_side_s_second_goaway_never_names_a_higher_stream() {
    let mut raw = Raw::opened(Role::Acceptor);
    raw.feed(Kind::Req, 3, true, request(&RequestHead::default(), b"")).expect("an event");
    raw.session.on_command(raw.now, away(GoAwayReason::Draining));
    raw.feed(Kind::Req, 5, true, request(&RequestHead::default(), b"")).expect("refused");
    raw.session.on_command(raw.now, away(GoAwayReason::Replaced));
    let sent = raw.sent();
    assert_eq!(Raw::cancels(&sent), [(5, CancelReason::RefusedGoingAway)]);
    for frame in sent.iter().filter(|frame| frame.kind == Kind::GoAway) {
        let away: restpipe_pipe::pb::GoAway =
            restpipe_proto::head::whole(frame.payload.clone()).expect("own frame");
        assert_eq!(away.last_stream, 3);
    }
}

#[test]
fn replace_is_a_notice_and_calls_go_on() {
    let mut pair = slow_pair();
    pair.command(A, away(GoAwayReason::Replace));
    pair.advance(10 * HOP);
    assert_eq!(pair.sides[D].app.aways.len(), 1);
    for side in [D, A] {
        let call = pair.call(side, "echo", 1, None);
        pair.advance(10 * HOP);
        assert_eq!(pair.outcomes(side, call), [Outcome::Executed]);
    }
}

#[test]
fn a_request_reported_as_not_sent_does_not_leave_with_the_farewell() {
    for why in [Why::ClosedHere("done".into()), Why::Protocol("bad".into())] {
        let mut raw = Raw::opened(Role::Dialer);
        raw.call(1, true);
        raw.call(3, false);
        raw.session.say_why(&why);
        raw.session.end(&why);
        assert_eq!(fates(&mut raw), [(1, Outcome::NotSent), (3, Outcome::NotSent)]);
        assert!(raw.sent().iter().all(|frame| frame.kind == Kind::GoAway));
    }
}

#[test]
fn the_end_right_after_a_goaway_leaves_no_call_without_an_answer() {
    let mut pair = slow_pair();
    let calls: Vec<_> = (0..3).map(|_| pair.call(D, "hang", 0, None)).collect();
    pair.advance(HOP);
    pair.command(A, away(GoAwayReason::Draining));
    pair.run();
    pair.links[A].closed = true;
    pair.advance(2 * HOP);
    for call in calls {
        assert_eq!(pair.outcomes(D, call), [Outcome::Unknown]);
    }
}

#[test]
fn an_answer_in_hand_survives_the_goaway_that_ends_the_pipe_behind_it() {
    let mut raw = Raw::opened(Role::Dialer);
    raw.call(1, true);
    raw.sent();
    raw.feed(Kind::Rep, 1, true, crate::raw::reply(b"x")).expect("the answer");
    let last = go_away(GoAwayReason::Suspended, 0);
    let why = raw.feed(Kind::GoAway, 0, false, last).expect_err("it is over");
    raw.session.end(&why);
    let outputs = raw.outputs();
    assert!(matches!(&outputs[..], [Output::Reply { stream: 1, .. }]), "{outputs:?}");
    let lost = |output: &Output| matches!(output, Output::Failed { error: CallError::Lost(_), .. });
    assert!(!outputs.iter().any(lost));
}
