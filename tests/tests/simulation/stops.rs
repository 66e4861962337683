//! One step at a time: what a node that stops tells those who wait.

use std::time::Duration;

use restpipe::Verb;
use tokio::time::{Instant, sleep};

use crate::cable::DIALER;
use crate::tamper::{Bug, Tamper};
use crate::world::{Ask, Callers, World};

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_peer_is_told_at_once_that_its_own_node_stops() {
    let world = World::new(Tamper::new(Bug::None));
    world.start(DIALER);
    let mut callers = Callers::default();
    let (timeout, wait) = (Duration::from_secs(60), Duration::from_secs(20));
    let (verb, noun) = (Verb::Post, "work");
    let ask = Ask { side: DIALER, verb, noun, time: Duration::ZERO, timeout, wait, body: 0 };
    callers.ask(&world, ask);
    // There is no server, so it waits.
    sleep(Duration::from_millis(10)).await;
    let told = Instant::now();
    world.drain(DIALER);
    assert_eq!(callers.answered().await, 0);
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    let summary = world.history.check().expect("the contract is kept");
    assert_eq!((summary.requests, summary.not_sent), (1, 1));
}
