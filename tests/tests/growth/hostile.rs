//! What one peer can make a node hold, however it goes about it.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use restpipe_pipe::pb::{Header, ReplyHead, RequestHead, Verb};
use restpipe_proto::{DEFAULT_MAX_STREAMS, Flags, INITIAL_CREDIT, Kind, MAX_PAYLOAD, head};
use restpipe_tests::binary::{Node, eventually};
use restpipe_tests::site::{CLIENT, Site};
use restpipe_tests::usage::{MIB, Usage, busy, metric};
use restpipe_tests::wire::{Wire, WirePeer, frame, local, ping, request};

use crate::app::{self, DEAF, ENDLESS, Seen, WHOLE};
use crate::{ALONE, quiet};

/// What docs/wire-protocol.md promises.
const BOUND: u64 = 12 * MIB;

/// The same of one that does everything at once.
const BOTH_BOUNDS: u64 = 16 * MIB;

/// A node that has said nothing for this long has nothing more to say.
const QUIET: Duration = Duration::from_millis(500);

/// The streams that a peer may open.
fn streams() -> impl Iterator<Item = u64> {
    (0..u64::from(DEFAULT_MAX_STREAMS)).map(|number| 2 * number + 1)
}

/// A server at rest, a hostile peer of it, and its app.
struct Siege {
    server: Node,
    peer: WirePeer,
    seen: Seen,
    idle: u64,
    /// Requests that the node did not take.
    refused: usize,
    _site: Site,
}

impl Siege {
    async fn begin() -> Self {
        let site = Site::new();
        let (url, seen) = app::app(&site);
        let server = quiet(site.server()).flag("--app", url).start();
        let wire = Wire::new(&site, CLIENT, server.pipe());
        // What a node holds once it has done anything at all is not the peer's.
        let mut peer = wire.open(local(2), "honest").await.expect("a pipe");
        peer.send(&request(1, Verb::Get, WHOLE, 0, b"", true)).await.expect("sent");
        peer.next_of(Kind::Rep).await.expect("an answer");
        drop(peer);
        let idle = Usage::at_rest(&server).resident;
        let peer = wire.open(local(3), "hostile").await.expect("a pipe");
        Usage::forget_peak(&server);
        Self { server, peer, seen, idle, refused: 0, _site: site }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.peer.send(bytes).await.expect("the pipe is up");
    }

    /// Sends as much of every body as the node takes, each byte by `data`.
    async fn fill(&mut self, data: impl Fn(u64, usize) -> BytesMut) {
        for stream in streams() {
            self.send(&data(stream, INITIAL_CREDIT as usize)).await;
        }
        while let Ok(next) = tokio::time::timeout(QUIET, self.peer.next()).await {
            let frame = next.expect("the pipe is up").expect("the pipe is up");
            match frame.kind {
                Kind::Credit => {
                    let credit = head::credit(frame.payload).expect("a number");
                    self.send(&data(frame.stream, credit as usize)).await;
                }
                Kind::Cancel => self.refused += 1,
                _ => {}
            }
        }
    }

    /// Waits until the app's endless answers are held up.
    async fn wait_for_replies(&self) {
        let seen = || (self.seen.connections(), self.seen.written());
        let mut before = (0, 0);
        while before.1 == 0 || before != seen() {
            before = seen();
            tokio::time::sleep(QUIET).await;
        }
        eprintln!("{} connections to the app, {} KiB of answers", before.0, before.1 / 1024);
    }

    /// The most that the node has held.
    fn ends(self, bound: u64) {
        let peak = Usage::peak(&self.server).saturating_sub(self.idle);
        eprintln!("{} refused; {} KiB at most", self.refused, peak / 1024);
        assert!(peak <= bound, "{peak} bytes for one peer");
    }
}

/// `len` bytes of a body in frames of `size`.
fn data(stream: u64, len: usize, size: usize) -> BytesMut {
    let mut out = BytesMut::new();
    let mut left = len;
    while left > 0 {
        let next = left.min(size);
        out.unsplit(frame(Kind::Data, Flags::NONE, stream, vec![b'x'; next]));
        left -= next;
    }
    out
}

/// A request whose body goes on, in a frame that is full.
fn full_request(stream: u64, head: &RequestHead) -> BytesMut {
    let mut payload = BytesMut::new();
    head::put(&mut payload, head).expect("it fits");
    payload.put_bytes(b'x', MAX_PAYLOAD - payload.len());
    frame(Kind::Req, Flags::NONE, stream, payload.freeze())
}

fn deaf() -> RequestHead {
    RequestHead { verb: Verb::Post.into(), noun: DEAF.to_owned(), ..RequestHead::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_fills_all_bodies_is_held_to_the_bound() {
    let _alone = ALONE.lock().await;
    for size in [MAX_PAYLOAD, 5_000, 1_024] {
        let mut siege = Siege::begin().await;
        for stream in streams() {
            siege.send(&full_request(stream, &deaf())).await;
        }
        siege.fill(|stream, len| data(stream, len, size)).await;
        siege.ends(BOUND);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_bodies_come_in_pieces_between_other_bytes_is_held_to_the_bound() {
    let _alone = ALONE.lock().await;
    let mut siege = Siege::begin().await;
    // A node skips these, having read them into memory like all else.
    let mut other = frame(Kind::Ping, Flags::NONE, 0, vec![0; MAX_PAYLOAD]);
    other[3] = 0x80;
    let other = [&other[..]; 3].concat();
    for stream in streams() {
        siege.send(&full_request(stream, &deaf())).await;
        siege.send(&other).await;
    }
    siege
        .fill(|stream, len| {
            let mut out = data(stream, len, 5_000);
            out.extend_from_slice(&other);
            out
        })
        .await;
    siege.ends(BOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_no_reply_is_held_to_the_bound() {
    let _alone = ALONE.lock().await;
    let mut siege = Siege::begin().await;
    for stream in streams() {
        siege.send(&request(stream, Verb::Get, ENDLESS, u32::MAX, b"", true)).await;
    }
    siege.wait_for_replies().await;
    siege.ends(BOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_fills_bodies_and_reads_no_reply_is_held_to_both_bounds() {
    let _alone = ALONE.lock().await;
    let mut siege = Siege::begin().await;
    let head = RequestHead { noun: ENDLESS.to_owned(), ..deaf() };
    for stream in streams() {
        siege.send(&full_request(stream, &head)).await;
    }
    siege.fill(|stream, len| data(stream, len, MAX_PAYLOAD)).await;
    for stream in streams() {
        let credit = head::credit_payload(u32::MAX);
        siege.send(&frame(Kind::Credit, Flags::NONE, stream, credit)).await;
    }
    siege.wait_for_replies().await;
    siege.ends(BOTH_BOUNDS);
}

/// Heads that fill a frame, each in another way.
fn large_heads() -> Vec<RequestHead> {
    let header = |number: usize, len: usize| Header {
        name: format!("x-{number}"),
        value: vec![b'x'; len].into(),
    };
    let headers = |count, len| (0..count).map(|number| header(number, len)).collect::<Vec<_>>();
    vec![
        RequestHead { headers: headers(256, 50), ..deaf() },
        RequestHead { headers: headers(1, 16_000), ..deaf() },
        RequestHead { args: (0..1000).map(|number| format!("{number:013}")).collect(), ..deaf() },
        RequestHead { query: "x".repeat(16_000), ..deaf() },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_the_largest_heads_is_held_to_the_bound() {
    let _alone = ALONE.lock().await;
    for head in large_heads() {
        let mut siege = Siege::begin().await;
        for stream in streams() {
            siege.send(&full_request(stream, &head)).await;
        }
        siege.fill(|stream, len| data(stream, len, MAX_PAYLOAD)).await;
        siege.ends(BOUND);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_sends_half_a_frame_is_held_to_the_bound() {
    let _alone = ALONE.lock().await;
    let mut siege = Siege::begin().await;
    for stream in streams() {
        siege.send(&full_request(stream, &deaf())).await;
    }
    let half = data(1, MAX_PAYLOAD, MAX_PAYLOAD);
    siege.send(&half[..half.len() - 1]).await;
    let next = tokio::time::timeout(QUIET, siege.peer.next_of(Kind::GoAway)).await;
    assert!(next.is_err(), "the pipe is up");
    siege.ends(BOUND);
}

/// An executable, and the bytes that it answers: nearly all that it may.
const LARGE: (&str, usize) = ("large", 1_000_000);

/// As much as takes no room of its peer's.
const MEDIUM: (&str, usize) = ("medium", 16_000);

/// Next to nothing.
const SMALL: (&str, usize) = ("small", 2);

/// So many answers without room there are beside large ones, which have the rest
/// of the streams.
const MEDIUMS: usize = 240;

/// So soon another client is answered, whatever is held up: half of the time
/// that executables wait for room.
const MEANWHILE: Duration = Duration::from_secs(5);

/// A node pings after longer silence.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// So much more memory than before, in percent, a node may have that has been
/// made to hold nearly twice as much: its allocator keeps what was freed for
/// the next time. What is meant is that it does not add up.
const KEPT_BY_THE_ALLOCATOR: u64 = 70;

/// Asks an executable, and reads all of its answer.
async fn ask(peer: &mut WirePeer, stream: u64, (noun, bytes): (&str, usize)) {
    peer.send(&request(stream, Verb::Get, noun, u32::MAX, b"", true)).await.expect("sent");
    let mut got = 0;
    loop {
        let frame = peer.next().await.expect("the pipe is up").expect("the pipe is up");
        let end = frame.flags.is_end();
        match frame.kind {
            Kind::Rep => {
                let (head, body) = head::split::<ReplyHead>(frame.payload).expect("a head");
                assert_eq!(head.status, 200, "{noun}: {body:?}");
                got += body.len();
            }
            Kind::Data => got += frame.payload.len(),
            Kind::Cancel => panic!("{noun}: {frame:?}"),
            _ => continue,
        }
        if end {
            assert_eq!(got, bytes, "{noun}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_no_answers_of_executables_is_held_to_the_bound_and_holds_up_no_other() {
    let _alone = ALONE.lock().await;
    let site = Site::new();
    for (noun, bytes) in [LARGE, MEDIUM, SMALL] {
        site.script(&format!("handlers/get_{noun}"), &format!("head -c {bytes} /dev/zero"));
    }
    let server = quiet(site.server()).flag("--handlers", site.path("handlers")).start();
    let hostile = Wire::new(&site, CLIENT, server.pipe());
    let other = Wire::new(&site, "other", server.pipe());
    let mut other = other.open(local(2), "other").await.expect("a pipe");
    let mut ids = (1..).step_by(2);
    let mut id = || ids.next().expect("there is no last one");
    for executable in [LARGE, MEDIUM, SMALL] {
        ask(&mut other, id(), executable).await;
    }
    let before = Usage::at_rest(&server);
    Usage::forget_peak(&server);
    let given_up = || metric(&server, "restpipe_events_total", "code=\"handler-failed\"");
    for mediums in [0, MEDIUMS] {
        let mut peer = hostile.open(local(3), "hostile").await.expect("a pipe");
        for (number, stream) in streams().enumerate() {
            let (noun, _) = if number < mediums { MEDIUM } else { LARGE };
            // Nothing of the answer may be sent, so the node has to keep it.
            peer.send(&request(stream, Verb::Get, noun, 0, b"", true)).await.expect("sent");
        }
        let (given_up_before, mut signed) = (given_up(), Instant::now());
        // Until there was no room for one of them.
        while given_up() == given_up_before {
            let answer = tokio::time::timeout(MEANWHILE, ask(&mut other, id(), SMALL)).await;
            answer.expect("another client does not wait for the hostile one");
            if signed.elapsed() > SIGN_OF_LIFE {
                peer.send(&ping(1)).await.expect("the pipe is up");
                signed = Instant::now();
            }
        }
        let peak = Usage::peak(&server).saturating_sub(before.resident);
        eprintln!("{mediums} without room; {} KiB at most", peak / 1024);
        assert!(peak <= BOUND, "{peak} bytes for one peer");
        drop(peer);
        eventually("none is handled", || busy(&server) == 0);
    }
    // It has all of its room again, several times over.
    let mut peer = hostile.open(local(3), "honest").await.expect("a pipe");
    for stream in streams().take(10) {
        ask(&mut peer, stream, LARGE).await;
    }
    drop(peer);
    before.returns(&server, KEPT_BY_THE_ALLOCATOR);
}
