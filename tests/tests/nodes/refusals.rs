//! Events that are sent again after a peer has refused them, as the peer sees
//! it: a server of a few lines that says what it likes.

use std::time::Duration;

use restpipe_pipe::pb::{CancelReason, RequestHead};
use restpipe_proto::{Flags, INITIAL_CREDIT, Kind, head};
use restpipe_tests::http::{Answer, Ask};
use restpipe_tests::site::{CLIENT, Site};
use restpipe_tests::wire::{WirePeer, WireServer, cancel_for, frame, reply};
use tokio::task::{JoinHandle, spawn_blocking};

/// Nothing here takes longer.
const SOON: Duration = Duration::from_secs(20);

/// A client node, and the server's end of its pipe.
async fn dialled(test: impl AsyncFnOnce(WirePeer, &dyn Fn(Vec<u8>) -> JoinHandle<Answer>)) {
    let site = Site::new();
    let server = WireServer::new(&site).await;
    let client = site.client_of(CLIENT, &server.address().to_string()).start();
    let at = client.gateway();
    let upload = |body: Vec<u8>| {
        let at = at.clone();
        spawn_blocking(move || Ask::new("POST", "/server/upload").body(body).send(&at))
    };
    let peer = server.accept().await.expect("the client dials");
    tokio::time::timeout(SOON, test(peer, &upload)).await.expect("it ends");
}

/// Takes the next request with its body up to `enough` bytes, or to its end;
/// grants nothing.
async fn taken(peer: &mut WirePeer, enough: usize) -> (u64, Vec<u8>) {
    let request = peer.next_of(Kind::Req).await.expect("a request");
    let (_, first) = head::split::<RequestHead>(request.payload).expect("a head");
    let (mut body, mut ended) = (first.to_vec(), request.flags.is_end());
    while !ended && body.len() < enough {
        let data = peer.next_of(Kind::Data).await.expect("more of the body");
        assert_eq!(data.stream, request.stream);
        ended = data.flags.is_end();
        body.extend_from_slice(&data.payload);
    }
    (request.stream, body)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn credit(stream: u64, bytes: u32) -> Vec<u8> {
    frame(Kind::Credit, Flags::NONE, stream, head::credit_payload(bytes)).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_a_peer_refuses_is_sent_again_from_its_first_byte() {
    // Of the first, all has been sent when it is refused; of the second, what
    // needs no credit.
    for len in [20_000, 60_000] {
        dialled(async |mut peer, upload| {
            let sent = bytes(len);
            let answer = upload(sent.clone());
            for _ in 0..2 {
                let (stream, begun) = taken(&mut peer, 16_000 + INITIAL_CREDIT as usize / 2).await;
                assert_eq!(begun, sent[..begun.len()]);
                let refusal = cancel_for(stream, CancelReason::RefusedBusy);
                peer.send(&refusal).await.expect("sent");
            }
            let request = peer.next_of(Kind::Req).await.expect("a third try");
            let stream = request.stream;
            peer.send(&credit(stream, 100_000)).await.expect("sent");
            let (_, first) = head::split::<RequestHead>(request.payload).expect("a head");
            let mut body = first.to_vec();
            while body.len() < len {
                body.extend_from_slice(&peer.next_of(Kind::Data).await.expect("more").payload);
            }
            assert_eq!(body, sent);
            peer.send(&reply(stream, b"stored")).await.expect("sent");
            let answer = answer.await.expect("an answer");
            assert_eq!(
                (answer.outcome(), answer.text()),
                ((200, "executed", "-"), "stored".into())
            );
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_refused_late_is_refused_to_its_caller() {
    dialled(async |mut peer, upload| {
        let answer = upload(bytes(1_000_000));
        let request = peer.next_of(Kind::Req).await.expect("a request");
        let stream = request.stream;
        peer.send(&credit(stream, 500_000)).await.expect("sent");
        let mut came = 0;
        while came < 400_000 {
            came += peer.next_of(Kind::Data).await.expect("more").payload.len();
        }
        // Its app takes no connections, say.
        let refusal = cancel_for(stream, CancelReason::RefusedByApp);
        peer.send(&refusal).await.expect("sent");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.outcome(), (503, "refused", "true"));
    })
    .await;
}
