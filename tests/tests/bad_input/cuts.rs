//! P6: frames that are cut off, at each of their bytes.

use std::time::Instant;

use restpipe_pipe::pb::Verb;
use restpipe_proto::Kind;
use restpipe_tests::binary::{SOON, eventually};
use restpipe_tests::wire::{Cut, reply, request};

use crate::stage::Stage;
use crate::table::answer;

/// Pipes that ended since, by a cut.
fn cut_off(stage: &Stage) -> f64 {
    let ended = |reason: &str| stage.counted("restpipe_pipes_ended_total", reason);
    ended("reason=\"eof\"") + ended("reason=\"io\"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_cut_at_any_of_its_bytes_is_never_run() {
    let stage = Stage::new();
    let whole = request(1, Verb::Post, "never", 0, b"body", true);
    for at in 0..whole.len() {
        let mut peer = stage.peer(&format!("cut-{at}")).await;
        peer.send(&whole[..at]).await.expect("it is open");
        peer.cut(Cut::of(at));
        let all = (at + 1) as f64;
        eventually(&format!("P6: the cut after {at} bytes is seen"), || cut_off(&stage) == all);
        stage.good.goes_on();
    }
    assert_eq!(stage.runs("never"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_cut_at_any_of_its_bytes_leaves_its_caller_in_doubt_and_says_so() {
    let stage = Stage::new();
    let len = reply(2, b"body").len();
    for at in 0..len {
        let name = format!("P6: a reply cut after {at} bytes");
        let mut peer = stage.peer(&format!("cut-{at}")).await;
        let caller = stage.ask("p6");
        let asked = stage.within(SOON, peer.next_of(Kind::Req)).await.expect("the question");
        peer.send(&reply(asked.stream, b"body")[..at]).await.expect("it is open");
        peer.cut(Cut::of(at));
        let answer = stage.within(SOON, caller).await.expect("a caller").expect("an answer");
        assert_eq!(answer.outcome(), (502, "unknown", "false"), "{name}");
        assert_eq!(answer.code(), "peer-lost", "{name}");
        stage.is_alone();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_begins_and_is_followed_by_silence_ends_its_pipe_by_the_heartbeat() {
    let stage = Stage::with(
        |server| server.flag("--heartbeat", "1s"),
        |_| restpipe_tests::app::Say::answer("200 OK", &[], "good"),
    );
    let whole = request(1, Verb::Post, "never", 0, b"body", true);
    let mut peers = Vec::new();
    let cuts = [1, 15, 16, whole.len() - 1];
    for at in cuts {
        // Before the pipe: the node looks at its clock before it reads.
        let began = Instant::now();
        let mut peer = stage.peer(&format!("silent-{at}")).await;
        peer.send(&whole[..at]).await.expect("it is open");
        peers.push((began, peer));
    }
    for (began, mut peer) in peers {
        // The server asks whether it is alive, once, and then closes; before
        // that it may say that it is itself.
        stage.within(SOON, peer.next_of(Kind::Ping)).await.expect("a ping");
        assert!(stage.within(SOON, peer.has_ended()).await);
        let took = began.elapsed();
        assert!((2..6).contains(&took.as_secs()), "P6: {took:?}");
    }
    let silent = || stage.counted("restpipe_pipes_ended_total", "reason=\"silent\"");
    eventually("P6: all are counted", || silent() == cuts.len() as f64);
    assert_eq!(stage.runs("never"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_request_whose_sender_then_goes_is_run_once_at_most() {
    let stage = Stage::new();
    let mut peer = stage.peer("gone").await;
    peer.send(&request(1, Verb::Post, "once", 0, b"body", true)).await.expect("it is open");
    let frame = answer(&mut peer).await;
    assert_eq!((frame.kind, frame.stream), (Kind::Rep, 1));
    peer.cut(Cut::Rst);
    eventually("P6: the cut is seen", || cut_off(&stage) == 1.0);
    assert_eq!(stage.runs("once"), 1);
    stage.good.goes_on();
}
