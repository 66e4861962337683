//! Connections that never become a pipe, and limits on those that do.

use std::time::{Duration, Instant};

use restpipe_tests::binary::{Node, eventually};
use restpipe_tests::site::{CLIENT, Site};
use restpipe_tests::usage::{MIB, Usage, allow_files, metric};
use restpipe_tests::wire::{Wire, WirePeer, local};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{ALONE, each, quiet};

/// So soon a client with a certificate is in.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Whether the server closes a connection soon.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(AT_ONCE / 4, stream.read(&mut [0; 64])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

/// Connections that begin TLS, and how many of them the server closes.
async fn closed_of(wire: &Wire, addresses: &[usize]) -> usize {
    let mut all = Vec::new();
    for address in addresses {
        let mut stream = wire.connect(local(*address)).await.expect("a socket");
        let _ = stream.write_all(&wire.client_hello()[..1]).await;
        all.push(stream);
    }
    let mut closed = 0;
    for stream in &mut all {
        closed += usize::from(is_closed(stream).await);
    }
    closed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_are_limited_in_all_and_for_each_address() {
    let _alone = ALONE.lock().await;
    let site = Site::new();
    let limited = |all, each| {
        let server = quiet(site.server()).flag("--max-handshakes", all);
        let server = server.flag("--max-handshakes-per-source", each).start();
        let wire = Wire::new(&site, CLIENT, server.pipe());
        (server, wire)
    };
    let (server, wire) = limited("3", "2");
    assert_eq!(closed_of(&wire, &[2, 2, 2]).await, 1);
    eventually("it is counted", || refused(&server, "source-busy") == 1.0);
    let (server, wire) = limited("3", "2");
    assert_eq!(closed_of(&wire, &[2, 3, 4, 5, 6]).await, 2);
    eventually("they are counted", || refused(&server, "busy") == 2.0);
    let (server, wire) = limited("3", "2");
    // Who has two makes room for who has none.
    assert_eq!(closed_of(&wire, &[2, 2, 3, 4]).await, 1);
    eventually("it is counted", || refused(&server, "gave-way") == 1.0);
}

fn refused(server: &Node, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    metric(server, "restpipe_handshakes_failed_total", &label)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_never_more_pipes_than_may_be_however_many_come_at_once() {
    const PIPES: usize = 3;
    let _alone = ALONE.lock().await;
    let site = Site::new();
    let server = quiet(site.server()).flag("--max-pipes", PIPES.to_string()).start();
    let wire = Wire::new(&site, CLIENT, server.pipe());
    let peers = tokio::sync::Mutex::new(Vec::new());
    each(40, 40, |_, number| {
        let (wire, peers) = (&wire, &peers);
        async move {
            // Its own HELLO comes in any case; what counts is what follows it.
            if let Ok(peer) = wire.open(local(2 + number), &format!("n{number}")).await {
                peers.lock().await.push(peer);
            }
        }
    })
    .await;
    let refused_all = || refused(&server, "full") + refused(&server, "busy");
    eventually("all but three are refused", || refused_all() == (40 - PIPES) as f64);
    assert_eq!(metric(&server, "restpipe_pipes", ""), PIPES as f64);
    assert_eq!(metric(&server, "restpipe_pipes_opened_total", ""), PIPES as f64);
    assert!(refused(&server, "full") > 0.0);
    // One goes, and there is room for one.
    let peers: Vec<WirePeer> = peers.into_inner();
    drop(peers);
    eventually("all have gone", || metric(&server, "restpipe_pipes", "") == 0.0);
    let _one = wire.open(local(2), "late").await.expect("a pipe");
    eventually("it is in", || metric(&server, "restpipe_pipes", "") == 1.0);
}

/// Connections that say nothing, or next to nothing.
const SILENT: usize = 5_000;

/// All of them together cost the node no more.
const SILENT_COST: u64 = 100 * MIB;

/// Files that this test has open: both ends are not in one process.
const FILES: usize = SILENT + 500;

/// How often a client tries to come in; the median counts, as others use this
/// machine too.
const TRIES: usize = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_silent_connections_cost_little_and_keep_nobody_out() {
    let _alone = ALONE.lock().await;
    allow_files(FILES);
    let site = Site::new();
    let server = quiet(site.server()).start();
    let wire = Wire::new(&site, CLIENT, server.pipe());
    drop(wire.open(local(1), "first").await.expect("a pipe"));
    let before = Usage::at_rest(&server);
    Usage::forget_peak(&server);
    let silent = tokio::sync::Mutex::new(Vec::new());
    each(SILENT, 64, |_, number| {
        let (wire, silent) = (&wire, &silent);
        async move {
            // Some addresses have many, most have one.
            let from = if number.is_multiple_of(4) { number % 8 } else { number };
            let mut stream = wire.connect(local(1000 + from)).await.expect("a socket");
            if number.is_multiple_of(2) {
                // The server may have closed it already.
                let _ = stream.write_all(&wire.client_hello()[..1]).await;
            }
            silent.lock().await.push(stream);
        }
    })
    .await;
    let mut times = Vec::new();
    for number in 0..TRIES {
        let started = Instant::now();
        // One that is turned away comes again.
        while wire.open(local(2), &format!("n{number}")).await.is_err() {}
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let cost = Usage::peak(&server).saturating_sub(before.resident);
    eprintln!("in within {times:?}, {} KiB for the silent", cost / 1024);
    assert!(times[TRIES / 2] <= AT_ONCE, "{times:?}");
    assert!(cost <= SILENT_COST, "{cost} bytes");
    drop(silent);
    eventually("all have gone", || Usage::of(&server).files == before.files);
}
