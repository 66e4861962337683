//! Events that are taken back.

use restpipe_pipe::pb::Verb;
use restpipe_proto::Kind;
use restpipe_tests::binary::eventually;
use restpipe_tests::site::{CLIENT, Site};
use restpipe_tests::usage::{Usage, busy, metric};
use restpipe_tests::wire::{Wire, WirePeer, cancel, local, request};

use crate::app::{self, SILENT, WHOLE};
use crate::{ALONE, PERCENT, quiet};

/// Events that are taken back.
const CANCELS: usize = 100_000;

/// In one turn; fewer than a node takes at once, so that none is refused.
const AT_ONCE: usize = 200;

/// One turn in so many waits until the handlers have begun.
const BEGUN: usize = 10;

/// So many turns before that, after which a node has what it goes on with.
const WARM_UP: usize = 100;

/// A peer that asks and takes back.
struct Fickle {
    peer: WirePeer,
    next: u64,
}

impl Fickle {
    fn id(&mut self) -> u64 {
        self.next += 2;
        self.next - 2
    }

    /// Asks what is answered at once: what was sent before has been seen by
    /// the node then.
    async fn catch_up(&mut self) {
        let id = self.id();
        self.peer.send(&request(id, Verb::Get, WHOLE, 0, b"", true)).await.expect("sent");
        while self.peer.next_of(Kind::Rep).await.expect("the pipe is up").stream != id {}
    }

    /// Asks [`AT_ONCE`] times and takes all back.
    async fn turn(&mut self, number: usize) {
        let ids: Vec<u64> = (0..AT_ONCE).map(|_| self.id()).collect();
        let body = [0; 100];
        let mut asked = Vec::new();
        for id in &ids {
            // In part with bodies that never end.
            let end = id % 4 == 1;
            asked.extend_from_slice(&request(*id, Verb::Post, SILENT, 1000, &body, end));
        }
        if number.is_multiple_of(BEGUN) {
            self.peer.send(&asked).await.expect("sent");
            self.catch_up().await;
            asked.clear();
        }
        ids.iter().for_each(|id| asked.extend_from_slice(&cancel(*id)));
        self.peer.send(&asked).await.expect("sent");
        self.catch_up().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_events_that_are_taken_back_leave_nothing_behind() {
    let _alone = ALONE.lock().await;
    let site = Site::new();
    let server = quiet(site.server()).flag("--app", app::app(&site).0).start();
    let wire = Wire::new(&site, CLIENT, server.pipe());
    let peer = wire.open(local(2), "fickle").await.expect("a pipe");
    let mut fickle = Fickle { peer, next: 1 };
    // How much it holds goes up and down with how many handlers have begun
    // when they are taken back.
    let mut most = 0;
    for number in 0..WARM_UP {
        fickle.turn(number).await;
        most = most.max(Usage::of(&server).resident);
    }
    eventually("none is handled", || busy(&server) == 0);
    let before = Usage { resident: most, ..Usage::at_rest(&server) };
    for number in 0..CANCELS / AT_ONCE {
        fickle.turn(number).await;
    }
    eventually("none is handled", || busy(&server) == 0);
    before.returns(&server, PERCENT);
    // All over one and the same pipe.
    assert_eq!(metric(&server, "restpipe_pipes_opened_total", ""), 1.0);
}

/// So many events at once that most are refused, and no refusal is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_no_refusals_loses_its_own_pipe_and_no_other() {
    let _alone = ALONE.lock().await;
    let site = Site::new();
    let server = quiet(site.server()).flag("--app", app::app(&site).0).start();
    let wire = Wire::new(&site, CLIENT, server.pipe());
    let honest = wire.open(local(2), "honest").await.expect("a pipe");
    let mut honest = Fickle { peer: honest, next: 1 };
    let deaf = wire.open(local(3), "deaf").await.expect("a pipe");
    let mut deaf = Fickle { peer: deaf, next: 1 };
    let mut cut_off = false;
    for _ in 0..CANCELS / AT_ONCE {
        let ids: Vec<u64> = (0..10 * AT_ONCE).map(|_| deaf.id()).collect();
        let mut flood = Vec::new();
        for id in &ids {
            flood.extend_from_slice(&request(*id, Verb::Get, SILENT, 0, b"", true));
        }
        ids.iter().for_each(|id| flood.extend_from_slice(&cancel(*id)));
        if deaf.peer.send(&flood).await.is_err() {
            cut_off = true;
            break;
        }
    }
    assert!(cut_off, "a peer that reads nothing is let go");
    eventually("it is counted", || {
        metric(&server, "restpipe_pipes_ended_total", "reason=\"protocol\"") == 1.0
    });
    honest.catch_up().await;
}
