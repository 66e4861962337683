//! P14: goodbyes.

use std::sync::{Arc, Condvar, Mutex};

use restpipe_pipe::pb::{Cancel, CancelReason, GoAway, GoAwayReason, Verb};
use restpipe_proto::{Kind, head};
use restpipe_tests::app::Say;
use restpipe_tests::binary::{SOON, eventually};
use restpipe_tests::http::Ask;
use restpipe_tests::wire::{go_away, reply, request};

use crate::stage::Stage;
use crate::table::{answer, is_alive};

/// Two goodbyes of the bad client, which has been asked on streams 2 and 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_goodbyes_the_lowest_last_stream_counts() {
    let stage = Stage::new();
    for (name, first, second) in
        [("P14: rising", 2, 4), ("P14: falling", 4, 2), ("P14: the same", 2, 2)]
    {
        eprintln!("{name}");
        let mut peer = stage.peer(name).await;
        let mut callers = Vec::new();
        for stream in [2, 4] {
            callers.push(stage.ask("p14"));
            let asked = stage.within(SOON, peer.next_of(Kind::Req)).await.expect("a question");
            assert_eq!(asked.stream, stream, "{name}");
        }
        let draining = |last| go_away(GoAwayReason::Draining, last);
        peer.send(&[draining(first), draining(second)].concat()).await.expect("it is open");
        let late = callers.pop().expect("the second");
        let late = stage.within(SOON, late).await.expect("a caller").expect("an answer");
        assert_eq!(
            (late.status, late.header("x-event-retriable")),
            (503, Some("true")),
            "{name}: {}",
            late.text()
        );
        let outcome = late.header("x-event-outcome").unwrap_or_default();
        assert!(["refused", "not-sent"].contains(&outcome), "{name}: {outcome}");
        // What was said to be served is; what was not is dropped.
        peer.send(&[reply(4, b"late"), reply(2, b"in time")].concat()).await.expect("it is open");
        let served = callers.pop().expect("the first");
        let served = stage.within(SOON, served).await.expect("a caller").expect("an answer");
        assert_eq!((served.status, served.text().as_str()), (200, "in time"), "{name}");
        is_alive(&mut peer).await;
        // A peer that goes away asks on until it closes.
        peer.send(&request(1, Verb::Post, "p14", 0, b"asked", true)).await.expect("it is open");
        let frame = answer(&mut peer).await;
        assert_eq!((frame.kind, frame.stream), (Kind::Rep, 1), "{name}");
        drop(peer);
        stage.is_alone();
        stage.good.goes_on();
    }
}

/// Callers wait until it is opened.
#[derive(Default)]
struct Door(Mutex<(usize, bool)>, Condvar);

impl Door {
    fn wait(&self) {
        let mut state = self.0.lock().expect("no panic");
        state.0 += 1;
        drop(self.1.wait_while(state, |state| !state.1).expect("no panic"));
    }

    fn waiting(&self) -> usize {
        self.0.lock().expect("no panic").0
    }

    fn open(&self) {
        self.0.lock().expect("no panic").1 = true;
        self.1.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_behind_the_server_s_goodbye_is_refused_and_those_before_are_answered() {
    let door = Arc::<Door>::default();
    let in_app = door.clone();
    let mut stage = Stage::with(
        |server| server,
        move |asked| {
            if asked.path().contains("door") {
                in_app.wait();
            }
            Say::answer("200 OK", &[], &String::from_utf8_lossy(&asked.body))
        },
    );
    let mut peer = stage.peer("behind").await;
    peer.send(&request(1, Verb::Post, "door", 0, b"before", true)).await.expect("it is open");
    let (gateway, ask) =
        (stage.good.gateway().clone(), Ask::new("POST", "/server/door").body("good"));
    let good = tokio::task::spawn_blocking(move || ask.send(&gateway));
    eventually("both are in the app", || door.waiting() == 2);
    // New calls of the good client find the server gone from here on.
    stage.good.stop();
    stage.server.signal("TERM");
    let away = peer.next_of(Kind::GoAway).await.expect("a goodbye");
    let away: GoAway = head::whole(away.payload).expect("a goodbye");
    assert_eq!((away.reason(), away.last_stream), (GoAwayReason::Draining, 1));
    peer.send(&request(3, Verb::Post, "behind", 0, b"", true)).await.expect("it is open");
    let frame = answer(&mut peer).await;
    assert_eq!((frame.kind, frame.stream), (Kind::Cancel, 3), "{frame:?}");
    let cancel: Cancel = head::whole(frame.payload).expect("a cancel");
    assert_eq!(cancel.reason(), CancelReason::RefusedGoingAway);
    door.open();
    let frame = answer(&mut peer).await;
    assert_eq!((frame.kind, frame.stream), (Kind::Rep, 1), "{frame:?}");
    let good = tokio::time::timeout(SOON, good).await.expect("soon").expect("a caller");
    assert_eq!((good.status, good.text().as_str()), (200, "good"));
    assert_eq!(stage.runs("behind"), 0);
    assert_eq!(stage.server.exit_code(), Some(0));
}
