//! P11 and P12: ids of streams, and answers that nobody waits for.

use std::io;

use restpipe_pipe::pb::{GoAwayReason, Verb};
use restpipe_proto::{Flags, Kind};
use restpipe_tests::binary::{SOON, eventually};
use restpipe_tests::http::{Answer, Ask, Connection};
use restpipe_tests::site::CLIENT;
use restpipe_tests::wire::{Wire, WirePeer, cancel, frame, hello_of, reply, reply_part, request};
use tokio::task::JoinHandle;

use crate::stage::{Stage, ask};
use crate::table::{End, Row, ends_with, is_alive, row};

/// So many frames that nobody waits for are dropped. In figures, as the page
/// says it.
const MAX_STRAYS: u32 = 100;

/// A whole request for something that the app echoes.
fn asks(stream: u64) -> Vec<u8> {
    request(stream, Verb::Post, "p12", 0, b"body", true).to_vec()
}

/// A request whose body goes on.
fn begins(stream: u64) -> Vec<u8> {
    request(stream, Verb::Post, "p12", 0, b"body", false).to_vec()
}

fn data(stream: u64, bytes: &'static [u8]) -> Vec<u8> {
    frame(Kind::Data, Flags::NONE, stream, bytes).to_vec()
}

fn p12() -> Vec<Row> {
    let both = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    let beyond = (1_u64 << 32) + 1;
    vec![
        row(
            "P12: an id that is in flight",
            both(begins(1), asks(1)),
            End::Pipe("1 was used before"),
        ),
        row(
            "P12: an id below one that was used",
            both(begins(5), asks(3)),
            End::Pipe("3 was used before"),
        ),
        row("P12: id 0", asks(0), End::Pipe("id 0, which is not the peer's")),
        row("P12: an id of the other side", asks(2), End::Pipe("id 2, which is not the peer's")),
        row("P12: an id where 32 bits end", asks(beyond - 2), End::Answered(beyond - 2, "body")),
        row("P12: an id beyond 32 bits", asks(beyond), End::Answered(beyond, "body")),
        row(
            "P12: the same id in 32 bits as one in flight",
            both(begins(1), asks(beyond)),
            End::Answered(beyond, "body"),
        ),
        row("P12: the last id there is", asks(u64::MAX), End::Answered(u64::MAX, "body")),
        row(
            "P12: an id behind the last",
            both(begins(u64::MAX), asks(1)),
            End::Pipe("1 was used before"),
        ),
        row(
            "P12: data for a stream that never was",
            data(7, b"x"),
            End::Pipe("7, which was never opened"),
        ),
        row("P12: a cancel for a stream that never was", cancel(7), End::Nothing),
        row(
            "P12: credit for a stream that never was",
            frame(Kind::Credit, Flags::NONE, 7, &[0, 0, 1, 0][..]),
            End::Nothing,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_are_not_the_next_ones_end_their_pipe_and_nothing_else() {
    let stage = Stage::new();
    stage.check(p12()).await;
}

/// What the bad client answers to one question of the server's, on the stream
/// that it came on.
type Answers = fn(u64) -> Vec<u8>;

/// What becomes of the question.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// 502 `peer-lost`, `unknown`; a POST is not to be sent again.
    Lost,
    /// The first answer.
    First,
    /// The beginning of an answer, which then breaks off.
    Part,
}

fn twice(stream: u64) -> Vec<u8> {
    [reply(stream, b"first"), reply(stream, b"second")].concat()
}

fn p11() -> Vec<(&'static str, Answers, Told, Option<&'static str>)> {
    use Told::{First, Lost, Part};
    vec![
        (
            "P11: a reply to a stream that never was",
            |id| reply(id + 2, b"").to_vec(),
            Lost,
            Some("never opened"),
        ),
        (
            "P11: a reply to a stream of its own",
            |_| reply(1, b"").to_vec(),
            Lost,
            Some("which is the peer's own"),
        ),
        ("P11: data before the reply", |id| data(id, b"x"), Lost, Some("outside the reply")),
        (
            "P11: a second reply while the first goes on",
            |id| [reply_part(id, b"x", false), reply(id, b"")].concat(),
            Part,
            Some("a second reply"),
        ),
        ("P11: a reply twice", twice, First, None),
        (
            "P11: data behind the end",
            |id| [reply(id, b"first").to_vec(), data(id, b"x")].concat(),
            First,
            None,
        ),
        (
            "P11: a cancel behind the end",
            |id| [reply(id, b"first"), cancel(id)].concat(),
            First,
            None,
        ),
        (
            "P11: a reply that cannot be read",
            |id| frame(Kind::Rep, Flags::END, id, &[9][..]).to_vec(),
            Lost,
            None,
        ),
    ]
}

/// Asks the bad client, and waits until it has the question.
async fn asked(stage: &Stage, peer: &mut WirePeer) -> (JoinHandle<io::Result<Answer>>, u64) {
    let caller = stage.ask("p11");
    let frame = stage.within(SOON, peer.next_of(Kind::Req)).await.expect("the question");
    (caller, frame.stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_nobody_waits_for_are_dropped_or_end_their_pipe() {
    let stage = Stage::new();
    let ended = || stage.counted("restpipe_pipes_ended_total", "reason=\"protocol\"");
    for (number, (name, answers, told, end)) in p11().into_iter().enumerate() {
        eprintln!("{name}");
        let before = ended();
        let mut peer = stage.peer(&format!("p11-{number}")).await;
        let (caller, stream) = asked(&stage, &mut peer).await;
        peer.send(&answers(stream)).await.expect("it is open");
        let answer = stage.within(SOON, caller).await.expect("a caller");
        match (told, &answer) {
            (Told::First, Ok(answer)) => {
                assert_eq!((answer.status, answer.text().as_str()), (200, "first"), "{name}");
            }
            (Told::Lost, Ok(answer)) => {
                let said = answer.text();
                assert_eq!(answer.outcome(), (502, "unknown", "false"), "{name}: {said}");
            }
            // No HTTP client takes it for a whole one.
            (Told::Part, Err(_)) => {}
            (_, answer) => panic!("{name}: {told:?} is due, not {answer:?}"),
        }
        match end {
            Some(words) => {
                ends_with(&mut peer, GoAwayReason::ProtocolError, words).await;
                eventually(name, || ended() == before + 1.0);
            }
            None => {
                if matches!(told, Told::Lost) {
                    // What could not be read is cancelled.
                    peer.next_of(Kind::Cancel).await.expect("a cancel");
                }
                is_alive(&mut peer).await;
            }
        }
        drop(peer);
        stage.is_alone();
        stage.good.goes_on();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_after_a_cancel_are_dropped_uncounted() {
    let stage = Stage::new();
    let mut peer = stage.peer("late").await;
    let ask = Ask::new("POST", &format!("/client/{CLIENT}/x"));
    let mut caller = Connection::open(stage.server.gateway());
    caller.send(ask.body("x").bytes());
    let stream = stage.within(SOON, peer.next_of(Kind::Req)).await.expect("the question").stream;
    drop(caller);
    let cancelled = stage.within(SOON, peer.next_of(Kind::Cancel)).await.expect("a cancel");
    assert_eq!(cancelled.stream, stream);
    let begun = reply_part(stream, b"late", false).to_vec();
    let more: Vec<u8> = (0..2 * MAX_STRAYS).flat_map(|_| data(stream, b"late")).collect();
    peer.send(&[begun, more].concat()).await.expect("it is open");
    is_alive(&mut peer).await;
    stage.good.goes_on();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_replies_that_nobody_waits_for_are_dropped_and_more_end_the_pipe() {
    let stage = Stage::new();
    let mut peer = stage.peer("strays").await;
    let (caller, stream) = asked(&stage, &mut peer).await;
    let strays = |count: u32| (0..count).flat_map(|_| reply(stream, b"again")).collect::<Vec<u8>>();
    peer.send(&[reply(stream, b"first").to_vec(), strays(MAX_STRAYS)].concat())
        .await
        .expect("open");
    let answer = stage.within(SOON, caller).await.expect("a caller").expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "first"));
    is_alive(&mut peer).await;
    // Some of the hundred may have been forgotten by now, not all of them.
    peer.send(&strays(MAX_STRAYS)).await.expect("it is open");
    ends_with(&mut peer, GoAwayReason::ProtocolError, "over 100 frames").await;
    stage.good.goes_on();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_on_another_s_pipe_answers_nobody_else_s_question() {
    let stage = Stage::new();
    let other = Wire::new(&stage.site, "other", stage.server.pipe());
    let mut other = stage.open(&other, &hello_of("other")).await;
    let caller = ask(stage.server.gateway(), "other", "p11");
    let stream = stage.within(SOON, other.next_of(Kind::Req)).await.expect("the question").stream;
    let mut peer = stage.peer("thief").await;
    peer.send(&reply(stream, b"stolen")).await.expect("it is open");
    ends_with(&mut peer, GoAwayReason::ProtocolError, "never opened").await;
    other.send(&reply(stream, b"mine")).await.expect("it is open");
    let answer = stage.within(SOON, caller).await.expect("a caller").expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "mine"));
}
