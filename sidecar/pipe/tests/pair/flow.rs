//! Order and back-pressure on the wire.

use std::time::Duration;

use restpipe_pipe::Outcome;
use restpipe_pipe::limits::WRITE_BATCH;
use restpipe_proto::{Kind, MAX_PAYLOAD};

use crate::harness::{A, D, Pair};

#[test]
fn a_small_call_leaves_within_one_batch_whatever_bulk_is_under_way() {
    let mut pair = Pair::opened();
    for link in &mut pair.links {
        link.delay = Duration::from_millis(5);
        link.capacity = Some(WRITE_BATCH);
    }
    let bulk: Vec<_> = (0..16)
        .map(|at| {
            if at % 2 == 0 {
                pair.call(D, "stream/2000000", 0, None)
            } else {
                pair.call(D, "echo", 0, Some(2_000_000))
            }
        })
        .collect();
    pair.advance(Duration::from_millis(50));
    for _ in 0..20 {
        let before = pair.sides.each_ref().map(|side| side.batches.len());
        let small = pair.call(D, "echo", 30, None);
        pair.advance(Duration::from_millis(40));
        assert_eq!(pair.outcomes(D, small), [Outcome::Executed], "answered in 40 ms");
        let batch = |side: usize, kind: Kind| {
            let mut later = pair.sides[side].batches[before[side]..].iter();
            later.position(|batch| batch.iter().any(|frame| (frame.0, frame.1) == (kind, small)))
        };
        // The request leaves with the next batch, so it is the first since.
        assert_eq!(batch(D, Kind::Req), Some(0));
        assert!(batch(A, Kind::Rep).is_some());
    }
    assert!(bulk.iter().any(|call| pair.outcomes(D, *call).is_empty()), "bulk was under way");
    pair.advance(Duration::from_secs(30));
    for call in bulk {
        assert_eq!(pair.outcomes(D, call), [Outcome::Executed]);
    }
    pair.assert_whole();
    let most = pair
        .sides
        .iter()
        .flat_map(|side| &side.batches)
        .map(|batch| batch.iter().map(|frame| frame.2).sum::<usize>());
    assert!(most.max() <= Some(WRITE_BATCH + 2 * MAX_PAYLOAD));
}

#[test]
fn bulk_streams_get_equal_shares() {
    let mut pair = Pair::opened();
    pair.links[A].capacity = Some(WRITE_BATCH);
    pair.links[A].delay = Duration::from_millis(1);
    let calls: Vec<_> = (0..4).map(|_| pair.call(D, "stream/3000000", 0, None)).collect();
    pair.advance(Duration::from_millis(60));
    let got = calls.iter().map(|call| pair.sides[D].app.calls[call].answer());
    let (least, most) = (got.clone().min(), got.max());
    assert!(most.zip(least).is_some_and(|(most, least)| most < 2 * least), "{least:?} {most:?}");
}

#[test]
fn a_consumer_that_takes_nothing_stops_nobody_else() {
    let mut pair = Pair::opened();
    pair.sides[D].app.thirst = 0;
    let slow = pair.call_within(D, "stream/5000000", 0, None, Duration::from_secs(200));
    pair.advance(Duration::from_secs(1));
    for _ in 0..100 {
        let small = pair.call(D, "echo", 10, None);
        pair.run();
        assert_eq!(pair.outcomes(D, small), [Outcome::Executed]);
    }
    pair.sides[D].app.thirst = 10_000;
    pair.advance(Duration::from_secs(100));
    assert_eq!(pair.outcomes(D, slow), [Outcome::Executed]);
    pair.assert_whole();
}

#[test]
fn a_request_body_that_came_and_was_read_gives_its_budget_back_before_the_answer() {
    let mut pair = Pair::opened();
    let call = pair.call(D, "hang", 0, Some(300_000));
    pair.run();
    assert_eq!(pair.sides[A].budget.left(), crate::harness::PROCESS_BUDGET);
    pair.drop_call(D, call);
    pair.run();
    pair.assert_whole();
}

#[test]
fn a_reply_that_nobody_takes_is_given_up_in_the_end() {
    let mut pair = Pair::opened();
    pair.sides[D].app.thirst = 0;
    let call = pair.call(D, "stream/500000", 0, None);
    pair.advance(Duration::from_secs(601));
    assert_eq!(pair.outcomes(D, call), [Outcome::Unknown]);
    pair.assert_whole();
}
