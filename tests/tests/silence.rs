//! Links that fall silent, and slow ones: packets are dropped by a router
//! between the nodes, both ways and one way, under load. Started by tests/faults/run.sh.

use std::thread;
use std::time::{Duration, Instant};

use restpipe_pipe::Outcome;
use restpipe_tests::binary::{SOON, found_within};
use restpipe_tests::http::{Ask, Connection, get};
use restpipe_tests::network::{Network, SERVER_ADDRESS, Silent};
use restpipe_tests::stage::Stage;
use restpipe_tests::traffic::{Load, Report, Route};

/// Calls of each direction that are executed before and after.
const SOME: usize = 60;

/// How long a long silence is.
const LONG: Duration = Duration::from_secs(30);

/// The first answer comes this soon after a link has healed.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

fn stage(network: &Network, flags: &[(&'static str, &'static str)]) -> Stage {
    let mut stage = Stage::new(SERVER_ADDRESS, flags, network.within());
    stage.start();
    stage
}

/// A silence that ends as soon as both sides have noticed.
fn noticed(silent: Silent) {
    let network = Network::new();
    let stage = stage(&network, &[("--heartbeat", "500ms")]);
    let load = Load { callers: 6, deadline: Duration::from_secs(10), work_ms: 200 };
    let traffic = stage.traffic(load);
    for _ in 0..2 {
        traffic.executes(SOME, 2 * SOON);
        let from = [stage.server(), stage.client()].map(|node| node.log().len());
        network.break_silently(silent);
        let broken = Instant::now();
        for (node, from) in [stage.server(), stage.client()].into_iter().zip(from) {
            node.log().line_since(from, &["pipe has ended"]);
        }
        // Twice the heartbeat, and what a busy machine needs.
        assert!(broken.elapsed() < Duration::from_secs(3), "{:?}", broken.elapsed());
        network.heal();
    }
    traffic.executes(SOME, 2 * SOON);
    let report = traffic.end();
    for route in 0..2 {
        assert!(report.count(route, Outcome::Unknown) > 0, "{:?}", report.summary);
    }
    assert!(report.unanswered.is_empty(), "{report:?}");
}

#[test]
fn a_link_silent_both_ways_is_noticed_under_load() {
    noticed(Silent::Both);
}

#[test]
fn a_link_silent_from_the_client_is_noticed_under_load() {
    noticed(Silent::FromClient);
}

#[test]
fn a_link_silent_from_the_server_is_noticed_under_load() {
    noticed(Silent::FromServer);
}

/// When the first of a route's calls was executed after `healed`.
fn first_answer(report: &Report, route: usize, healed: Instant) -> Duration {
    let of = |call: &&_| {
        let call: &restpipe_tests::traffic::Told = call;
        call.route == route && call.outcome == Outcome::Executed && call.answered > healed
    };
    let first = report.told.iter().find(of).expect("some are executed after it");
    first.answered.duration_since(healed)
}

/// A silence of half a minute with the settings as they come.
fn long(silent: Silent, more: Duration) {
    let network = Network::new();
    let stage = stage(&network, &[]);
    // No request hangs past its deadline, which `Traffic::end` looks after.
    let load = Load { callers: 6, deadline: Duration::from_secs(5), work_ms: 40 };
    let traffic = stage.traffic(load);
    traffic.executes(SOME, 2 * SOON);
    network.break_silently(silent);
    // The silence itself: nothing else is to be waited for.
    thread::sleep(LONG + more);
    network.heal();
    let healed = Instant::now();
    traffic.executes(SOME, 2 * SOON);
    let report = traffic.end();
    let first = [0, 1].map(|route| first_answer(&report, route, healed));
    println!("silent {silent:?} for {:?}: first answers after {first:?}", LONG + more);
    println!("longest call {:?}, {:?}", report.longest(), report.summary);
    assert!(first.iter().all(|first| *first <= FIRST_ANSWER), "{silent:?}: {first:?}");
    assert!(report.unanswered.is_empty(), "{report:?}");
}

#[test]
fn the_first_answer_comes_within_a_second_after_a_long_silence_both_ways() {
    long(Silent::Both, Duration::ZERO);
}

#[test]
fn the_first_answer_comes_within_a_second_after_a_long_silence_from_the_client() {
    long(Silent::FromClient, Duration::from_millis(1700));
}

#[test]
fn the_first_answer_comes_within_a_second_after_a_long_silence_from_the_server() {
    long(Silent::FromServer, Duration::from_millis(3300));
}

/// Bits a second of a slow link.
const SLOW: u32 = 64_000;

/// Bytes that take it 25 s: two and a half times what makes a silent pipe dead.
const BODY: usize = 200_000;

#[test]
fn a_long_body_over_a_slow_link_keeps_its_pipe_and_lets_small_calls_by() {
    let network = Network::new();
    network.slow_down(SLOW);
    let stage = stage(&network, &[]);
    let [Route { at, prefix }, _] = stage.routes();
    let mut download = Connection::open(&at);
    download.send(Ask::new("GET", &format!("{prefix}/big")).bytes());
    let download = thread::spawn(move || download.skip(BODY));
    let mut calls = 0;
    while !download.is_finished() {
        for Route { at, prefix } in stage.routes() {
            // The app has no such path, which is an answer.
            let answer = get(&at, &format!("{prefix}/small"));
            assert_eq!(answer.outcome(), (404, "executed", "-"), "{}", answer.text());
            calls += 1;
        }
    }
    println!("{calls} small calls beside it");
    let logs = [stage.server(), stage.client()].map(|node| node.log().lines());
    let ended = logs.iter().flatten().any(|line| line.contains("pipe has ended"));
    assert!(!ended, "{logs:#?}");
    download.join().expect("it does not panic").expect("the body goes on");
}

#[test]
fn a_link_that_flaps_serves_whenever_it_is_there() {
    let network = Network::new();
    let stage = stage(&network, &[("--heartbeat", "500ms")]);
    let load = Load { callers: 4, deadline: Duration::from_secs(5), work_ms: 40 };
    let traffic = stage.traffic(load);
    for _ in 0..4 {
        traffic.executes(SOME / 2, 2 * SOON);
        let from = stage.client().log().len();
        network.break_silently(Silent::Both);
        let dialled = || {
            let lines = stage.client().log().lines();
            let mut late = lines.iter().skip(from);
            late.any(|line| line.contains("server not reached")).then_some(())
        };
        // Long enough for a dial to fail as well.
        found_within(2 * SOON, "a dial into the silence has ended", dialled);
        network.heal();
    }
    traffic.executes(SOME, 2 * SOON);
    let report = traffic.end();
    assert!(report.unanswered.is_empty(), "{report:?}");
}
