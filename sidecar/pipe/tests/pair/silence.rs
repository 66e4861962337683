//! Heartbeats, and peers that fall silent.

use std::time::Duration;

use restpipe_pipe::limits::{HEARTBEAT, HELLO_TIMEOUT};
use restpipe_pipe::{Outcome, PipeConfig, Role, Why};
use restpipe_proto::{Kind, head};

use crate::harness::{A, D, Pair};
use crate::raw::Raw;

const TICK: Duration = Duration::from_millis(1);

#[test]
fn a_link_silent_both_ways_is_dead_on_both_sides_after_exactly_two_heartbeats() {
    let mut pair = Pair::opened();
    let call = pair.call(D, "hang", 0, None);
    pair.run();
    pair.links[D].swallows = true;
    pair.links[A].swallows = true;
    pair.advance(2 * HEARTBEAT - TICK);
    assert!(pair.sides.iter().all(|side| side.ended.is_none()));
    pair.advance(TICK);
    for side in &pair.sides {
        assert_eq!(side.ended, Some(Why::Silent(2 * HEARTBEAT)));
    }
    assert_eq!(pair.outcomes(D, call), [Outcome::Unknown]);
    pair.assert_whole();
}

#[test]
fn a_link_that_is_silent_one_way_is_dead_after_exactly_two_heartbeats() {
    for mute in [D, A] {
        let mut pair = Pair::opened();
        pair.links[mute].swallows = true;
        pair.advance(2 * HEARTBEAT - TICK);
        assert_eq!(pair.sides[1 - mute].ended, None);
        pair.advance(TICK);
        assert_eq!(pair.sides[1 - mute].ended, Some(Why::Silent(2 * HEARTBEAT)));
        // The mute side still hears the other's end of the connection.
        assert!(pair.sides[mute].ended.is_some());
    }
}

#[test]
fn an_hour_of_idleness_costs_one_ping_for_each_interval() {
    let mut pair = Pair::opened();
    pair.links.iter_mut().for_each(|link| link.delay = TICK);
    pair.advance(Duration::from_secs(3600));
    let intervals = 3600 / HEARTBEAT.as_secs() as usize;
    for side in &pair.sides {
        assert!(side.ended.is_none());
        assert!(side.sent(Kind::Ping) <= intervals, "{} pings", side.sent(Kind::Ping));
    }
    let pings: usize = pair.sides.iter().map(|side| side.sent(Kind::Ping)).sum();
    assert!((intervals - 2..=2 * intervals).contains(&pings), "{pings} pings");
}

#[test]
fn a_peer_heard_in_the_very_moment_of_a_ping_is_pinged_again_later() {
    let mut raw = Raw::opened(Role::Acceptor);
    raw.now += HEARTBEAT;
    raw.session.on_timeout(raw.now).expect("only a ping is due");
    raw.feed(Kind::Pong, 0, false, head::ping_payload(1)).expect("an answer");
    assert_eq!(raw.session.deadline(), raw.now + HEARTBEAT);
    raw.now += HEARTBEAT;
    raw.session.on_timeout(raw.now).expect("a second ping");
    assert_eq!(raw.sent().iter().filter(|frame| frame.kind == Kind::Ping).count(), 2);
}

#[test]
fn half_a_frame_and_then_silence_is_no_life() {
    let mut pair = Pair::new(&PipeConfig::default());
    pair.links[D].cut_after = None;
    pair.run();
    let call = pair.call(D, "stream/100000", 0, None);
    pair.links[A].capacity = Some(1);
    pair.run();
    pair.links[A].swallows = true;
    pair.advance(2 * HEARTBEAT + TICK);
    assert_eq!(pair.sides[D].ended.as_ref().map(Why::reason), Some("silent"));
    assert!(pair.outcomes(D, call).len() == 1);
}

#[test]
fn a_peer_without_hello_is_let_go_after_two_seconds() {
    let mut raw = Raw::silent(Role::Acceptor);
    raw.session.on_bytes(raw.now + HELLO_TIMEOUT, 1, 1);
    assert_eq!(raw.session.on_timeout(raw.now + HELLO_TIMEOUT), Err(Why::NoHello(HELLO_TIMEOUT)));
}

#[test]
fn ten_pings_in_a_second_are_answered_and_the_eleventh_ends_the_pipe() {
    let mut raw = Raw::opened(Role::Acceptor);
    for token in 0..10 {
        raw.feed(Kind::Ping, 0, false, head::ping_payload(token)).expect("allowed");
    }
    assert_eq!(raw.sent().len(), 10);
    let error = Raw::protocol_error(raw.feed(Kind::Ping, 0, false, head::ping_payload(10)));
    assert!(error.contains("pings"), "{error}");
}

#[test]
fn pongs_that_nobody_asked_for_are_ignored() {
    let mut raw = Raw::opened(Role::Dialer);
    for token in 0..1_000 {
        raw.feed(Kind::Pong, 0, false, head::ping_payload(token)).expect("ignored");
    }
    assert!(raw.outputs().is_empty() && raw.sent().is_empty());
}
