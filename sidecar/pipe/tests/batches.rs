//! Which calls share a write, with a peer that counts what each read brings.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restpipe_pipe::limits::STAND_BACK_BELOW_HEADS;
use restpipe_pipe::pb::{Hello, Limits, RequestHead};
use restpipe_pipe::{Call, NoEvents, PipeConfig, PipeHandle, Role, open};
use restpipe_proto::{Class, Flags, Frame, Kind, MAX_FRAME, head};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Sockets that the runtime of these tests looks at before their tasks run.
const SOCKETS_AT_ONCE: usize = 2;

/// Requests in each read of a peer, of calls that are each begun when a socket
/// is readable, as all of them are at the same time.
fn requests_read_at_once(calls: usize) -> Vec<usize> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_io_events_per_tick(SOCKETS_AT_ONCE);
    runtime.build().expect("a runtime").block_on(async {
        let (near, mut peer) = tokio::io::duplex(64 * 1024);
        say_hello(&mut peer).await;
        let (pipe, driver) = open(near, Role::Dialer, PipeConfig::default(), Arc::new(NoEvents));
        let driver = tokio::spawn(driver);
        pipe.opened().await.expect("opens");
        let mut callers: Vec<_> = (0..calls).map(|_| begin_when_told(pipe.clone())).collect();
        // That new sockets are writable is seen before.
        for _ in 0..2 * calls {
            tokio::task::yield_now().await;
        }
        for caller in &mut callers {
            caller.write_all(b"!").expect("there is room");
        }
        let reads = count_requests(&mut peer, calls).await;
        assert!(!driver.is_finished());
        reads
    })
}

/// Calls when what is returned was written to.
fn begin_when_told(pipe: PipeHandle) -> UnixStream {
    let (tell, told) = UnixStream::pair().expect("a pair");
    told.set_nonblocking(true).expect("set");
    let mut told = tokio::net::UnixStream::from_std(told).expect("registered");
    tokio::spawn(async move {
        told.read_u8().await.expect("told");
        let call = pipe.start(call()).await.expect("starts");
        call.reply.wait().await.expect_err("nobody answers");
    });
    tell
}

async fn say_hello(peer: &mut DuplexStream) {
    let limits = Some(Limits { max_streams: 100 });
    let hello = Hello { min_version: 2, max_version: 2, limits, ..Hello::default() };
    let (kind, flags, class) = (Kind::Hello, Flags::NONE, Class::Control);
    let mut wire = BytesMut::new();
    Frame { kind, flags, class, stream: 0, payload: head::to_bytes(&hello) }.encode(&mut wire);
    peer.write_all(&wire).await.expect("written");
}

fn call() -> Call {
    let later = Instant::now() + Duration::from_secs(60);
    Call {
        head: RequestHead::default().into(),
        body: Bytes::new(),
        end: true,
        deadline: later,
        wait_until: later,
    }
}

async fn count_requests(peer: &mut DuplexStream, all: usize) -> Vec<usize> {
    let mut reads = Vec::new();
    while reads.iter().sum::<usize>() < all {
        let mut wire = BytesMut::with_capacity(MAX_FRAME);
        peer.read_buf(&mut wire).await.expect("readable");
        let mut requests = 0;
        while let Some(frame) = Frame::decode(&mut wire).expect("good frames") {
            requests += usize::from(frame.kind == Kind::Req);
        }
        reads.extend(Some(requests).filter(|&requests| requests > 0));
    }
    reads
}

#[test]
fn calls_share_a_write_as_long_as_each_look_at_the_sockets_brings_more() {
    assert_eq!(requests_read_at_once(10), [10]);
}

#[test]
fn enough_calls_do_not_wait_for_more() {
    let (enough, rest) = (STAND_BACK_BELOW_HEADS, 4);
    assert_eq!(requests_read_at_once(enough + rest), [enough, rest]);
}
