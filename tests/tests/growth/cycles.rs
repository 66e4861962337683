//! Pipes that come and are cut off, again and again.

use std::time::Duration;

use restpipe_pipe::pb::Verb;
use restpipe_proto::{Flags, Kind};
use restpipe_tests::binary::eventually;
use restpipe_tests::site::{CLIENT, Site};
use restpipe_tests::usage::{Usage, busy, metric};
use restpipe_tests::wire::{
    Cut, Wire, WirePeer, WireServer, frame, hello_of, local, replace, request,
};
use tokio::io::AsyncWriteExt;

use crate::app::{self, ENDLESS, SILENT, WHOLE};
use crate::{ALONE, PERCENT, each, quiet};

/// Pipes that come and go.
const CYCLES: usize = 10_000;

/// So many before that, after which a node has what it goes on with.
const WARM_UP: usize = 800;

/// At once; each is a client's pipe, and all are of one client.
const AT_ONCE: usize = 16;

/// The first stream of a dialler.
const STREAM: u64 = 1;

/// One cycle takes no longer, or the node has left a peer without its answer.
const CYCLE: Duration = Duration::from_secs(5);

/// One connection, and how far it comes before it is cut.
async fn cycle(wire: &Wire, worker: usize, number: usize) -> std::io::Result<()> {
    let cut = Cut::of(number / 8);
    let tcp = wire.connect(local(2 + number % 1000)).await?;
    let mut peer = match number % 8 {
        0 => {
            let (mut tcp, hello) = (tcp, wire.client_hello());
            tcp.write_all(&hello[..number % hello.len()]).await?;
            cut.end(tcp);
            return Ok(());
        }
        1 => {
            WirePeer::from(wire.secure(tcp).await?).cut(cut);
            return Ok(());
        }
        _ => WirePeer::greet(wire.secure(tcp).await?, &hello_of(&format!("n{worker}"))).await?,
    };
    match number % 8 {
        2 => {}
        3 => peer.send(&request(STREAM, Verb::Get, WHOLE, 0, b"", true)).await?,
        4 => {
            // Half of a frame.
            let ask = request(STREAM, Verb::Get, WHOLE, 0, &[0; 10_000], true);
            peer.send(&ask[..1 + number % (ask.len() - 1)]).await?;
        }
        5 => peer.send(&request(STREAM, Verb::Post, SILENT, 0, &[0; 10_000], false)).await?,
        6 => {
            peer.send(&request(STREAM, Verb::Get, WHOLE, 0, b"", true)).await?;
            peer.next_of(Kind::Rep).await?;
        }
        _ => {
            peer.send(&request(STREAM, Verb::Post, ENDLESS, 100_000, b"body", false)).await?;
            peer.next_of(Kind::Rep).await?;
            peer.send(&frame(Kind::Data, Flags::NONE, STREAM, vec![0; 10_000])).await?;
            peer.next_of(Kind::Data).await?;
        }
    }
    peer.cut(cut);
    Ok(())
}

async fn cycles(wire: &Wire, count: usize) {
    each(count, AT_ONCE, |worker, number| async move {
        let done = tokio::time::timeout(CYCLE, cycle(wire, worker, number)).await;
        done.unwrap_or_else(|_| panic!("cycle {number} does not end")).expect("a pipe");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pipes_that_are_cut_off_leave_nothing_behind() {
    let _alone = ALONE.lock().await;
    let site = Site::new();
    let server = quiet(site.server()).flag("--app", app::app(&site).0);
    let server = server.flag("--max-handshakes-per-source", "64").start();
    let wire = Wire::new(&site, CLIENT, server.pipe());
    let gone = || metric(&server, "restpipe_pipes", "") == 0.0;
    cycles(&wire, WARM_UP).await;
    eventually("all have gone", gone);
    let before = Usage::at_rest(&server);
    cycles(&wire, CYCLES).await;
    eventually("all have gone", gone);
    before.returns(&server, PERCENT);
}

/// Pipes of a client whose server cuts them off; of the last the call ends, as
/// a quarter of them is a multiple of the three kinds of calls.
const REDIALS: usize = 600;

/// Asks for pipe after pipe and cuts each off when the next is there. The last
/// one stays: a client without a pipe would be dialling while it is looked at.
async fn redials(server: &WireServer, last: &mut Option<WirePeer>, count: usize) {
    for number in 0..count {
        if let Some(last) = last {
            // A client that is asked for another pipe dials without a pause.
            last.send(&replace()).await.expect("sent");
        }
        let accepted = tokio::time::timeout(CYCLE, server.accept()).await;
        let mut peer = accepted.expect("the client dials").expect("a pipe");
        let noun = [SILENT, ENDLESS, WHOLE][number % 3];
        peer.send(&request(2, Verb::Post, noun, 100_000, b"body", false)).await.expect("sent");
        if noun != SILENT {
            peer.next_of(Kind::Rep).await.expect("an answer");
        }
        if let Some(last) = last.replace(peer) {
            last.cut(Cut::of(number));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_pipes_are_cut_off_dials_for_ever_and_grows_not() {
    let _alone = ALONE.lock().await;
    let site = Site::new();
    let server = WireServer::new(&site).await;
    let client = quiet(site.client_of(CLIENT, &server.address().to_string()));
    let client = client.flag("--app", app::app(&site).0).start();
    let mut last = None;
    redials(&server, &mut last, REDIALS / 4).await;
    eventually("its calls have ended", || busy(&client) == 0);
    let before = Usage::at_rest(&client);
    redials(&server, &mut last, REDIALS).await;
    eventually("its calls have ended", || busy(&client) == 0);
    before.returns(&client, PERCENT);
}
