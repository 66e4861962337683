//! P4, P5, P7, P13 and P16: the frames themselves.

use std::time::{Duration, Instant};

use restpipe_pipe::pb::{GoAwayReason, RequestHead, Verb};
use restpipe_proto::{Flags, Kind, MAX_PAYLOAD, head};
use restpipe_tests::binary::{SOON, eventually};
use restpipe_tests::wire::{frame, header, ping, request};
use tokio::io::AsyncWriteExt;

use crate::stage::Stage;
use crate::table::{End, Row, answer, ends_with, is_alive, row};

const REQ: u8 = Kind::Req as u8;
const PING: u8 = Kind::Ping as u8;
const DATA: u8 = Kind::Data as u8;

/// So many pings a peer may send in a second. In figures, as the page says it.
const MOST_PINGS: u64 = 10;

/// A frame of an unknown type, and its payload.
fn unknown(kind: u8, len: usize) -> Vec<u8> {
    let mut out = header(len as u32, kind, 0xff, 0xff, 0xffff, 9);
    out.resize(out.len() + len, 0);
    out
}

fn p4() -> Vec<Row> {
    vec![
        row("P4: type 0", header(0, 0, 0, 0, 0, 0), End::Pipe("type 0x00")),
        row(
            "P4: type 11, the first that is not known",
            header(0, 11, 0, 0, 0, 0),
            End::Pipe("type 0x0b"),
        ),
        row("P4: type 0x7f", header(0, 0x7f, 0, 0, 0, 0), End::Pipe("type 0x7f")),
        row("P4: type 255", header(0, 255, 0, 0, 0, 0), End::Pipe("type 0xff")),
        row("P4: type 0x80, which may be skipped", unknown(0x80, 0), End::Nothing),
        row("P4: type 0xfe with a full payload", unknown(0xfe, MAX_PAYLOAD), End::Nothing),
        row("P4: an undefined flag", header(0, PING, 0x04, 0, 0, 0), End::Pipe("flags 0x04")),
        row("P4: class 3", header(0, PING, 0, 3, 0, 0), End::Pipe("class 3")),
        row("P4: a reserved byte", header(0, PING, 0, 0, 3, 0), End::Pipe("0x0003")),
        row(
            "P16: the flag that could mean compression",
            header(0, DATA, 0x80, 2, 0, 1),
            End::Pipe("flags 0x80"),
        ),
    ]
}

fn p5() -> Vec<Row> {
    let empty = [
        &request(1, Verb::Post, "empty", 0, b"a", false)[..],
        &frame(Kind::Data, Flags::END, 1, &b""[..]),
    ]
    .concat();
    let over = (MAX_PAYLOAD + 1) as u32;
    vec![
        row("P5: length 0 where a body may be empty", empty, End::Answered(1, "a")),
        row("P5: length 0 of a request", header(0, REQ, 1, 1, 0, 1), End::Refused(1, "length")),
        row(
            "P5: length 0 of a ping",
            header(0, PING, 0, 0, 0, 0),
            End::Pipe("0 bytes where 8 are due"),
        ),
        // Not refused for its event alone: no node makes such a frame, so what
        // made this one has lost count, or means harm.
        row("P5: one byte over the limit", header(over, DATA, 0, 2, 0, 1), End::Pipe("16369")),
        row(
            "P5: one byte over the limit of a type that is skipped",
            header(over, 0x80, 0, 0, 0, 0),
            End::Pipe("16369"),
        ),
        row(
            "P5: the largest length there is",
            header(0xff_ffff, DATA, 0, 2, 0, 1),
            End::Pipe("16777215"),
        ),
        row("P5: 2^32 - 1 where other protocols have a length", [0xff; 16], End::Pipe("16777215")),
    ]
}

fn p13() -> Vec<Row> {
    let pongs: Vec<u8> = (0..1_000)
        .flat_map(|token| frame(Kind::Pong, Flags::NONE, 0, head::ping_payload(token)))
        .collect();
    let flood = |count: u64| (0..count).flat_map(ping).collect::<Vec<u8>>();
    vec![
        row("P13: a thousand pongs without a ping", pongs, End::Nothing),
        row("P13: one ping over the limit", flood(MOST_PINGS + 1), End::Pipe("too many pings")),
        row("P13: ten thousand pings", flood(10_000), End::Pipe("too many pings")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_none_end_their_pipe_and_nothing_else() {
    let stage = Stage::new();
    stage.check(p4()).await;
    stage.check(p5()).await;
    stage.check(p13()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_frame_is_taken_and_as_many_pings_as_may_be_are_answered() {
    let stage = Stage::new();
    let mut peer = stage.peer("good-frames").await;
    let head =
        RequestHead { verb: Verb::Post.into(), noun: "longest".into(), ..RequestHead::default() };
    let body = "x".repeat(MAX_PAYLOAD - head::framed_len(&head));
    let longest = request(1, Verb::Post, "longest", 0, body.as_bytes(), true);
    assert_eq!(longest.len(), 16 * 1024, "P5: one TLS record");
    peer.send(&longest).await.expect("it is open");
    let reply = stage.within(SOON, peer.next_of(Kind::Rep)).await.expect("an answer");
    assert_eq!(reply.stream, 1);
    assert_eq!(stage.runs("longest"), 1);
    let mut peer = stage.peer("pings").await;
    for token in 1..MOST_PINGS {
        peer.send(&ping(token)).await.expect("it is open");
        assert_eq!(head::ping(answer(&mut peer).await.payload), Ok(token), "P13");
    }
    is_alive(&mut peer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_frame_byte_by_byte_is_let_go_after_ten_seconds() {
    let stage = Stage::new();
    let mut peer = stage.peer("slow").await;
    let slow = request(1, Verb::Post, "slow", 0, &[b'x'; 1_000], true);
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(&mut peer.stream);
    // Each byte is a sign of life, so silence is not what ends it.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut said = Vec::new();
    let send = async {
        for byte in slow.chunks(1) {
            pace.tick().await;
            if write.write_all(byte).await.is_err() || write.flush().await.is_err() {
                break;
            }
        }
    };
    let hear = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut said);
    tokio::select! {
        () = send => panic!("P7: a second for each 10 bytes is let pass"),
        heard = hear => assert!(heard.is_ok(), "P7: {heard:?}"),
    }
    let took = began.elapsed();
    assert!((10..20).contains(&took.as_secs()), "P7: {took:?}");
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("slower than 1024 bytes a second"), "P7: {said:?}");
    let counted = || stage.counted("restpipe_pipes_ended_total", "reason=\"too-slow\"");
    eventually("P7 is counted", || counted() == 1.0);
    assert_eq!(stage.runs("slow"), 0);
    stage.good.goes_on();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_said_once_and_what_follows_a_broken_frame_is_never_read() {
    let stage = Stage::new();
    let mut peer = stage.peer("behind").await;
    let behind =
        [header(0, 0, 0, 0, 0, 0), request(1, Verb::Post, "behind", 0, b"", true).to_vec()];
    peer.send(&behind.concat()).await.expect("it is open");
    stage.within(SOON, ends_with(&mut peer, GoAwayReason::ProtocolError, "type 0x00")).await;
    stage.is_alone();
    assert_eq!(stage.runs("behind"), 0);
}
