//! Drivers over in-memory streams, with the clock standing still unless
//! nothing else is to be done.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use restpipe_pipe::limits::{FRAME_BATCH, FRAME_PATIENCE};
use restpipe_pipe::pb::{CancelReason, GoAwayReason, ReplyHead, RequestHead};
use restpipe_pipe::{
    Call, CallError, Incoming, NotSent, PipeConfig, PipeHandle, Reply, Role, Service, Why, open,
};
use restpipe_proto::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

/// Answers by noun: `echo` gives the body back, `hang` never answers, `panic`
/// panics, `big` gives a mebibyte, `decline` does so after it has said that it
/// wants no body, `ignore` answers without reading.
struct Nouns;

const BIG: usize = 1024 * 1024;

impl Service for Nouns {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Incoming { head, mut body, responder, .. } = event;
            let ok = ReplyHead { status: 200, ..ReplyHead::default() };
            match head.noun.as_str() {
                "hang" => std::future::pending().await,
                "panic" => panic!("a handler that panics"),
                "ignore" => drop(responder.reply(ok, Bytes::new())),
                "big" | "decline" => {
                    if head.noun == "decline" {
                        drop(body);
                    }
                    let mut out = responder.reply_streamed(ok, Bytes::new()).expect("small head");
                    if out.send(vec![7; BIG].into()).await.is_ok() {
                        out.end();
                    }
                }
                _ => {
                    let mut out = responder.reply_streamed(ok, Bytes::new()).expect("small head");
                    while let Some(Ok(chunk)) = body.chunk().await {
                        if out.send(chunk).await.is_err() {
                            return;
                        }
                    }
                    out.end();
                }
            }
        })
    }
}

fn start(io: DuplexStream, role: Role, config: PipeConfig) -> PipeHandle {
    let (handle, driver) = open(io, role, config, Arc::new(Nouns));
    tokio::spawn(driver);
    handle
}

async fn pair() -> (PipeHandle, PipeHandle) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let near = start(near, Role::Dialer, PipeConfig::default());
    let far = start(far, Role::Acceptor, PipeConfig::default());
    near.opened().await.expect("opens");
    far.opened().await.expect("opens");
    (near, far)
}

fn in_(time: Duration) -> Instant {
    tokio::time::Instant::now().into_std() + time
}

fn call(noun: &str, body: &'static [u8], end: bool) -> Call {
    Call {
        head: RequestHead { noun: noun.into(), ..RequestHead::default() }.into(),
        body: Bytes::from_static(body),
        end,
        deadline: in_(Duration::from_secs(60)),
        wait_until: in_(Duration::from_secs(20)),
    }
}

async fn ask(pipe: &PipeHandle, noun: &str, body: &'static [u8]) -> Result<Reply, CallError> {
    pipe.start(call(noun, body, true)).await?.reply.wait().await
}

async fn read_all(mut reply: Reply) -> Result<usize, CallError> {
    let mut bytes = 0;
    while let Some(chunk) = reply.body.chunk().await {
        bytes += chunk?.len();
    }
    Ok(bytes)
}

#[tokio::test(start_paused = true)]
async fn either_side_asks_the_other() {
    let (near, far) = pair().await;
    for pipe in [near, far] {
        let reply = ask(&pipe, "echo", b"hello").await.expect("answers");
        assert_eq!(read_all(reply).await, Ok(5));
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_stream_both_ways_at_once() {
    let (near, _far) = pair().await;
    let mut call = near.start(call("echo", b"", false)).await.expect("starts");
    let mut body = call.body.take().expect("the body is streamed");
    let sender = tokio::spawn(async move {
        for _ in 0..64 {
            body.send(vec![1; 100_000].into()).await.expect("wanted");
        }
        body.end();
    });
    let reply = call.reply.wait().await.expect("answers");
    assert_eq!(read_all(reply).await, Ok(6_400_000));
    sender.await.expect("sends all");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_stops_nobody_else() {
    let (near, _far) = pair().await;
    let stalled = ask(&near, "big", b"").await.expect("answers");
    for _ in 0..1000 {
        let reply = ask(&near, "echo", b"x").await.expect("answers");
        assert_eq!(read_all(reply).await, Ok(1));
    }
    assert_eq!(read_all(stalled).await, Ok(BIG));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_handler_ends_its_own_call_and_nothing_else() {
    let (near, _far) = pair().await;
    let error = ask(&near, "panic", b"").await.expect_err("no answer");
    assert!(
        matches!(error, CallError::Failed { reason: CancelReason::HandlerLost, .. }),
        "{error}"
    );
    ask(&near, "echo", b"x").await.expect("the pipe lives on");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_cut_off_at_the_deadline_and_its_slot_is_freed() {
    let (near, far) = pair().await;
    let mut late = call("hang", b"", true);
    late.deadline = in_(Duration::from_secs(1));
    let error = near.start(late).await.expect("starts").reply.wait().await.expect_err("late");
    assert_eq!(error, CallError::Deadline);
    ask(&near, "echo", b"x").await.expect("answers");
    assert_eq!((near.in_flight(), far.serving()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_frees_the_peer_s_slot() {
    let (near, far) = pair().await;
    let left = near.start(call("hang", b"", true)).await.expect("starts");
    ask(&near, "echo", b"x").await.expect("answers");
    assert_eq!(far.serving(), 1);
    drop(left);
    ask(&near, "echo", b"x").await.expect("answers");
    tokio::task::yield_now().await;
    assert_eq!(far.serving(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_is_stopped_when_the_answer_is_there() {
    let (near, _far) = pair().await;
    let mut call = near.start(call("ignore", b"", false)).await.expect("starts");
    let mut body = call.body.take().expect("streamed");
    let sender = tokio::spawn(async move {
        let mut sent = 0_u32;
        while body.send(vec![1; 100_000].into()).await.is_ok() {
            sent += 1;
        }
        sent
    });
    call.reply.wait().await.expect("answers");
    assert!(sender.await.expect("stops") < 10);
}

#[tokio::test(start_paused = true)]
async fn over_the_peer_s_streams_a_call_waits_and_is_then_not_sent() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let near = start(near, Role::Dialer, PipeConfig::default());
    let far_config = PipeConfig { max_streams: 1, ..PipeConfig::default() };
    let _far = start(far, Role::Acceptor, far_config);
    near.opened().await.expect("opens");
    let _hanging = near.start(call("hang", b"", true)).await.expect("starts");
    let error = ask(&near, "echo", b"").await.expect_err("no slot");
    assert_eq!(error, NotSent::Busy.into());
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_is_open_and_refuses_what_is_new() {
    let (near, far) = pair().await;
    let open = near.start(call("echo", b"", false)).await.expect("starts");
    ask(&near, "echo", b"x").await.expect("answers");
    far.go_away(GoAwayReason::Draining, "stopping", Duration::ZERO);
    near.state()
        .wait_for(|state| matches!(state, restpipe_pipe::PipeState::Draining(_)))
        .await
        .expect("told");
    assert_eq!(ask(&near, "echo", b"").await.expect_err("late"), NotSent::Draining.into());

    let mut body = open.body.expect("streamed");
    body.send(Bytes::from_static(b"late")).await.expect("still wanted");
    body.end();
    let reply = open.reply.wait().await.expect("in flight is finished");
    assert_eq!(read_all(reply).await, Ok(4));
    assert_eq!(near.ended().await, Why::Drained);
    assert_eq!(far.ended().await, Why::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_dead_after_two_heartbeats_and_calls_are_lost() {
    let (near, mut silent) = tokio::io::duplex(64 * 1024);
    let near = start(near, Role::Dialer, PipeConfig::default());
    // A HELLO, then nothing.
    let mut hello = bytes::BytesMut::new();
    let frame = restpipe_proto::Frame {
        kind: restpipe_proto::Kind::Hello,
        flags: restpipe_proto::Flags::NONE,
        class: restpipe_proto::Class::Control,
        stream: 0,
        payload: restpipe_proto::head::to_bytes(&restpipe_pipe::pb::Hello {
            min_version: 2,
            max_version: 2,
            limits: Some(restpipe_pipe::pb::Limits { max_streams: 4 }),
            ..Default::default()
        }),
    };
    frame.encode(&mut hello);
    silent.write_all(&hello).await.expect("written");
    near.opened().await.expect("opens");
    let started = tokio::time::Instant::now();
    let error = ask(&near, "echo", b"").await.expect_err("nobody answers");
    assert!(matches!(error, CallError::Lost(Why::Silent(_))), "{error}");
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_no_hello_is_let_go_after_two_seconds() {
    let (near, _silent) = tokio::io::duplex(64);
    let near = start(near, Role::Acceptor, PipeConfig::default());
    assert_eq!(near.opened().await.expect_err("no hello").reason(), "no-hello");
}

#[tokio::test(start_paused = true)]
async fn an_idle_pipe_stays_up_on_its_heartbeats() {
    let (near, far) = pair().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(near.is_usable() && far.is_usable());
}

/// Carries what comes from `from` as a slow link does: it takes a bufferful,
/// and the next one only when the last byte of that has left.
async fn slow_link(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    const BUFFER: usize = 48 * 1024;
    const BYTES_PER_SECOND: usize = 1536;
    let mut buffer = vec![0; BUFFER];
    while let Ok(got @ 1..) = from.read(&mut buffer).await {
        for piece in buffer[..got].chunks(BYTES_PER_SECOND) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_gets_a_long_body_over_a_slow_link_is_not_taken_for_silent_nor_the_link_for_stalled() {
    let (near, near_end) = tokio::io::duplex(64 * 1024);
    let (far, far_end) = tokio::io::duplex(64 * 1024);
    let (from_near, to_near) = tokio::io::split(near_end);
    let (from_far, to_far) = tokio::io::split(far_end);
    tokio::spawn(slow_link(from_far, to_near));
    tokio::spawn(async move { tokio::io::copy(&mut { from_near }, &mut { to_far }).await });
    let near = start(near, Role::Dialer, PipeConfig::default());
    let _far = start(far, Role::Acceptor, PipeConfig::default());
    near.opened().await.expect("opens");
    let reply = ask(&near, "big", b"").await.expect("answers");
    assert_eq!(read_all(reply).await, Ok(BIG));
}

#[tokio::test(start_paused = true)]
async fn a_pipe_whose_task_is_dropped_loses_its_calls_and_says_so() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (near, driver) = open(near, Role::Dialer, PipeConfig::default(), Arc::new(Nouns));
    let task = tokio::spawn(driver);
    let _far = start(far, Role::Acceptor, PipeConfig::default());
    near.opened().await.expect("opens");
    let call = near.start(call("hang", b"", true)).await.expect("starts");
    ask(&near, "echo", b"x").await.expect("answers");
    task.abort();
    assert!(matches!(call.reply.wait().await, Err(CallError::Lost(_))));
    assert_eq!(ask(&near, "echo", b"").await.expect_err("over"), NotSent::Ended.into());
}

#[tokio::test(start_paused = true)]
async fn a_body_s_sender_dropped_early_fails_the_call_with_words_not_as_a_broken_pipe() {
    let (near, far) = pair().await;
    let mut started = near.start(call("echo", b"", false)).await.expect("starts");
    ask(&near, "echo", b"x").await.expect("answers");
    drop(started.body.take());
    let error = match started.reply.wait().await {
        Err(error) => error,
        Ok(reply) => read_all(reply).await.expect_err("the body never ended"),
    };
    let gone = CancelReason::CallerGone;
    assert!(matches!(&error, CallError::Failed { reason, .. } if *reason == gone), "{error}");
    ask(&near, "echo", b"x").await.expect("the pipe lives on");
    tokio::task::yield_now().await;
    assert_eq!(far.serving(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_s_sender_dropped_after_its_body_was_declined_leaves_the_answer_alone() {
    let (near, _far) = pair().await;
    let mut started = near.start(call("decline", b"", false)).await.expect("starts");
    let body = started.body.take();
    let mut reply = started.reply.wait().await.expect("answers");
    // That the body is not wanted was said before the answer began.
    let first = reply.body.chunk().await.expect("goes on").expect("is fine").len();
    drop(body);
    assert_eq!(read_all(reply).await, Ok(BIG - first));
}

#[tokio::test(start_paused = true)]
async fn when_a_pipe_has_ended_nobody_is_being_served() {
    let (near, far) = pair().await;
    let _hanging = near.start(call("hang", b"", true)).await.expect("starts");
    ask(&near, "echo", b"x").await.expect("answers");
    assert_eq!(far.serving(), 1);
    far.close("test");
    far.ended().await;
    near.ended().await;
    tokio::task::yield_now().await;
    assert_eq!(far.serving(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_queued_behind_the_end_of_its_pipe_was_not_sent_and_its_body_is_stopped() {
    let (near, _far) = pair().await;
    near.close("test");
    // `close` marks the pipe at once; this call slips in as if it had raced.
    let late = near.start(call("echo", b"", false)).await;
    assert_eq!(late.expect_err("closed").outcome(), restpipe_pipe::Outcome::NotSent);

    let (near, _far) = pair().await;
    let mut before = near.start(call("echo", b"", false)).await.expect("starts");
    let mut body = before.body.take().expect("streamed");
    near.close("test");
    assert!(before.reply.wait().await.is_err());
    assert!(body.send(Bytes::from_static(b"x")).await.is_err(), "it does not wait for ever");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_fewer_streams_than_before_is_given_fewer() {
    let (near, far) = pair().await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(near.start(call("hang", b"", true)).await.expect("starts"));
    }
    ask(&near, "echo", b"x").await.expect("answers");
    far.limit_streams(2);
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(open);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let _two =
        [near.start(call("hang", b"", true)).await, near.start(call("hang", b"", true)).await];
    let third = near.start(call("hang", b"", true)).await.expect_err("only two");
    assert_eq!(third, NotSent::Busy.into());
    far.limit_streams(3);
    tokio::time::sleep(Duration::from_millis(1)).await;
    near.start(call("hang", b"", true)).await.expect("three");
}

#[tokio::test(start_paused = true)]
async fn an_answer_and_the_goaway_that_ends_the_pipe_in_one_read_are_both_heard() {
    let (near, mut raw) = tokio::io::duplex(64 * 1024);
    let near = start(near, Role::Dialer, PipeConfig::default());
    say(&mut raw, Kind::Hello, 0, false, hello()).await;
    near.opened().await.expect("opens");
    let call = near.start(call("x", b"", true)).await.expect("starts");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut both = frame(Kind::Rep, 1, true, Bytes::from_static(&[0, 7]));
    both.extend_from_slice(&frame(Kind::GoAway, 0, false, Bytes::from_static(&[0x18, 7])));
    raw.write_all(&both).await.expect("written");
    let reply = call.reply.wait().await.expect("it was answered");
    assert_eq!(read_all(reply).await, Ok(1));
    assert_eq!(near.ended().await.reason(), "suspended");
}

fn frame(kind: Kind, stream: u64, end: bool, payload: Bytes) -> bytes::BytesMut {
    let (flags, class) = (restpipe_proto::Flags::end_if(end), restpipe_proto::Class::Control);
    let mut out = bytes::BytesMut::new();
    restpipe_proto::Frame { kind, flags, class, stream, payload }.encode(&mut out);
    out
}

fn hello() -> Bytes {
    restpipe_proto::head::to_bytes(&restpipe_pipe::pb::Hello {
        min_version: 2,
        max_version: 2,
        limits: Some(restpipe_pipe::pb::Limits { max_streams: 4 }),
        ..Default::default()
    })
}

async fn say(io: &mut DuplexStream, kind: Kind, stream: u64, end: bool, payload: Bytes) {
    let bytes = frame(kind, stream, end, payload);
    io.write_all(&bytes).await.expect("written");
}

/// Runs `body` while it drives `driver` in this very task.
async fn beside<T>(
    driver: &mut restpipe_pipe::Driver<DuplexStream>,
    body: impl Future<Output = T>,
) -> T {
    let mut body = std::pin::pin!(body);
    std::future::poll_fn(|cx| {
        let _ = Pin::new(&mut *driver).poll(cx);
        body.as_mut().poll(cx)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_driver_keeps_nothing_of_streams_that_are_over() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let near = start(near, Role::Dialer, PipeConfig::default());
    let (far, mut driver) = open(far, Role::Acceptor, PipeConfig::default(), Arc::new(Nouns));
    let caller = near.clone();
    let work = async {
        caller.opened().await.expect("opens");
        for noun in ["echo", "big", "ignore", "panic", "decline"] {
            for streamed in [false, true] {
                let mut started = caller.start(call(noun, b"x", !streamed)).await.expect("starts");
                if let Some(mut body) = started.body.take() {
                    let _ = body.send(vec![1; 20_000].into()).await;
                    body.end();
                }
                if let Ok(reply) = started.reply.wait().await {
                    let _ = read_all(reply).await;
                }
                drop(caller.start(call("hang", b"x", !streamed)).await);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    beside(&mut driver, work).await;
    assert!(driver.is_idle(), "{driver:?}");
    assert_eq!((near.in_flight(), far.serving()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_given_after_its_handler_has_ended_finds_its_body_stopped() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let near = start(near, Role::Dialer, PipeConfig::default());
    let (give, mut take) = tokio::sync::mpsc::unbounded_channel();
    let (_far, driver) = open(far, Role::Acceptor, PipeConfig::default(), Arc::new(GiveAway(give)));
    tokio::spawn(driver);
    near.opened().await.expect("opens");
    let call = near.start(call("x", b"", true)).await.expect("starts");
    let event = take.recv().await.expect("an event");
    assert!(matches!(call.reply.wait().await, Err(CallError::Failed { .. })));
    let mut out =
        event.responder.reply_streamed(ReplyHead::default(), Bytes::new()).expect("small");
    assert!(out.send(Bytes::from_static(b"late")).await.is_err());
}

/// Ends at once and leaves the answer to somebody else.
struct GiveAway(tokio::sync::mpsc::UnboundedSender<Incoming>);

impl Service for GiveAway {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _ = self.0.send(event);
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_changes_its_task_is_still_woken_in_time() {
    let (near, _far) = tokio::io::duplex(64 * 1024);
    let (near, mut driver) = open(near, Role::Dialer, PipeConfig::default(), Arc::new(Nouns));
    // Polled once in this task, then moved to another.
    std::future::poll_fn(|cx| {
        let _ = Pin::new(&mut driver).poll(cx);
        std::task::Poll::Ready(())
    })
    .await;
    tokio::spawn(driver);
    let ended = tokio::time::timeout(Duration::from_secs(5), near.ended()).await;
    assert_eq!(ended.expect("the HELLO is overdue").reason(), "no-hello");
}

#[tokio::test(start_paused = true)]
async fn many_tiny_chunks_cost_little_more_than_their_bytes() {
    let (far, mut raw) = tokio::io::duplex(1024 * 1024);
    let (give, mut take) = tokio::sync::mpsc::unbounded_channel();
    let (_far, driver) = open(far, Role::Acceptor, PipeConfig::default(), Arc::new(Hold(give)));
    tokio::spawn(driver);
    say(&mut raw, Kind::Hello, 0, false, hello()).await;
    say(&mut raw, Kind::Req, 1, false, Bytes::from_static(&[0])).await;
    for _ in 0..10_000 {
        say(&mut raw, Kind::Data, 1, false, Bytes::from_static(b"x")).await;
    }
    say(&mut raw, Kind::Data, 1, true, Bytes::new()).await;
    let Incoming { mut body, responder: _unused, .. } = take.recv().await.expect("an event");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut chunks, mut bytes) = (0, 0);
    while let Some(chunk) = body.chunk().await {
        chunks += 1;
        bytes += chunk.expect("whole").len();
    }
    assert_eq!(bytes, 10_000);
    assert!(chunks < 20, "{chunks} chunks");
}

/// Answers at once, and sees how many others have been started and have not.
#[derive(Default)]
struct AtOnce {
    pipe: OnceLock<PipeHandle>,
    most: AtomicUsize,
}

impl Service for AtOnce {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let serving = self.pipe.get().expect("it is set before the driver runs").serving();
        self.most.fetch_max(serving, Relaxed);
        let _ = event.responder.reply(ReplyHead::default(), Bytes::new());
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_events_in_one_read_a_few_are_begun_before_there_is_more() {
    let (far, mut raw) = tokio::io::duplex(64 * 1024);
    say(&mut raw, Kind::Hello, 0, false, hello()).await;
    for call in 0..100 {
        say(&mut raw, Kind::Req, 1 + 2 * call, true, Bytes::from_static(&[0])).await;
    }
    let service = Arc::new(AtOnce::default());
    let (far, driver) = open(far, Role::Acceptor, PipeConfig::default(), service.clone());
    service.pipe.set(far).expect("only here");
    tokio::spawn(driver);
    let mut wire = bytes::BytesMut::new();
    let mut replies = 0;
    while replies < 100 {
        raw.read_buf(&mut wire).await.expect("readable");
        while let Some(frame) = restpipe_proto::Frame::decode(&mut wire).expect("good frames") {
            replies += usize::from(frame.kind == Kind::Rep);
        }
    }
    assert_eq!(service.most.load(Relaxed), FRAME_BATCH);
}

#[tokio::test(start_paused = true)]
async fn what_waited_while_this_node_stood_still_was_not_sent_too_slowly() {
    let (far, mut raw) = tokio::io::duplex(64 * 1024);
    let (far, mut driver) = open(far, Role::Acceptor, PipeConfig::default(), Arc::new(Nouns));
    say(&mut raw, Kind::Hello, 0, false, hello()).await;
    let first = frame(Kind::Req, 1, true, Bytes::from_static(&[0]));
    let (begun, rest) = first.split_at(first.len() / 2);
    raw.write_all(begun).await.expect("written");
    beside(&mut driver, far.opened()).await.expect("opens");
    raw.write_all(rest).await.expect("written");
    for call in 1..100 {
        say(&mut raw, Kind::Req, 1 + 2 * call, true, Bytes::from_static(&[0])).await;
    }
    tokio::time::advance(FRAME_PATIENCE * 2).await;
    beside(&mut driver, async {}).await;
    let ended = tokio::time::timeout(Duration::from_millis(1), beside(&mut driver, far.ended()));
    assert!(ended.await.is_err(), "the pipe has ended");
}

/// Gives the event away and stays.
struct Hold(tokio::sync::mpsc::UnboundedSender<Incoming>);

impl Service for Hold {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _ = self.0.send(event);
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_turned_away_at_the_door_gets_no_event_in_first() {
    let (far, mut raw) = tokio::io::duplex(64 * 1024);
    say(&mut raw, Kind::Hello, 0, false, hello()).await;
    say(&mut raw, Kind::Req, 1, true, Bytes::from_static(&[0])).await;
    let (far, driver) = open(far, Role::Acceptor, PipeConfig::default(), Arc::new(Nouns));
    far.go_away(GoAwayReason::Suspended, "not you", Duration::ZERO);
    tokio::spawn(driver);
    let mut wire = bytes::BytesMut::new();
    let away = loop {
        raw.read_buf(&mut wire).await.expect("readable");
        let next = restpipe_proto::Frame::decode(&mut wire).expect("good frames");
        if let Some(frame) = next.filter(|frame| frame.kind == Kind::GoAway) {
            break frame;
        }
        if let Some(frame) = restpipe_proto::Frame::decode(&mut wire).expect("good frames") {
            break frame;
        }
    };
    let away: restpipe_pipe::pb::GoAway =
        restpipe_proto::head::whole(away.payload).expect("a GOAWAY");
    assert_eq!((away.reason(), away.last_stream), (GoAwayReason::Suspended, 0));
}
