//! One connection between two simulated hosts: bytes take their time, wait in
//! front of a partition, or are lost when the connection breaks.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::tamper::Tamper;

/// Bytes that wait on the way before a writer has to: a socket's buffers.
const CAPACITY: usize = 256 * 1024;

/// From which end.
pub(crate) const DIALER: usize = 0;
pub(crate) const ACCEPTOR: usize = 1;

#[derive(Default)]
struct Way {
    flying: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    delay: Duration,
    /// A partition: what is written waits here until it is over.
    held: bool,
    /// Its writer is gone.
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    tamper: Tamper,
}

impl Way {
    fn wake(&mut self) {
        [self.reader.take(), self.writer.take()].into_iter().flatten().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct State {
    ways: [Way; 2],
    broken: bool,
}

/// The connection, for who breaks it. Clones are the same.
#[derive(Clone)]
pub(crate) struct Cable(Arc<Mutex<State>>);

impl Cable {
    /// A connection of which each byte takes `delay`, and its two ends: the
    /// dialler's and the acceptor's.
    pub(crate) fn new(delay: Duration, tamper: &Tamper) -> (Self, [End; 2]) {
        let way = || Way { delay, tamper: tamper.on_a_new_pipe(), ..Way::default() };
        let state = State { ways: [way(), way()], broken: false };
        let cable = Self(Arc::new(Mutex::new(state)));
        let end = |me| End { cable: cable.clone(), me, sleep: None };
        (cable.clone(), [end(DIALER), end(ACCEPTOR)])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is reset: what is on its way is lost.
    pub(crate) fn cut(&self) {
        let mut state = self.lock();
        state.broken = true;
        state.ways.iter_mut().for_each(Way::wake);
    }

    /// Nothing that `from` sends arrives any more, or all of it does again.
    pub(crate) fn hold(&self, from: usize, held: bool) {
        let mut state = self.lock();
        let way = &mut state.ways[from];
        way.held = held;
        let due = Instant::now() + way.delay;
        way.flying.iter_mut().for_each(|(at, _)| *at = (*at).max(due));
        way.wake();
    }
}

/// One end of a connection.
pub(crate) struct End {
    cable: Cable,
    me: usize,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let cable = self.cable.clone();
        let mut state = cable.lock();
        if state.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let way = &mut state.ways[1 - self.me];
        way.reader = Some(cx.waker().clone());
        let due = way.flying.front().map(|(at, _)| *at).filter(|_| !way.held);
        match due {
            None if way.closed && way.flying.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
            Some(at) if at > Instant::now() => {
                let mut sleep = Box::pin(tokio::time::sleep_until(at));
                let ready = sleep.as_mut().poll(cx).is_ready();
                self.sleep = Some(sleep);
                if ready {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Some(_) => {
                if let Some((_, bytes)) = way.flying.front_mut() {
                    let part = bytes.split_to(bytes.len().min(buf.remaining()));
                    buf.put_slice(&part);
                    way.bytes -= part.len();
                    if !bytes.has_remaining() {
                        way.flying.pop_front();
                    }
                }
                way.writer.take().into_iter().for_each(Waker::wake);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl restpipe_pipe::Wire for End {}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.cable.lock();
        // Who has gone reads nothing more; its kernel says so, behind what it
        // has sent itself.
        let back = &state.ways[1 - self.me];
        if state.broken || (back.closed && back.flying.is_empty()) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let way = &mut state.ways[self.me];
        let room = CAPACITY.saturating_sub(way.bytes);
        if room == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = buf.len().min(room);
        let carried = way.tamper.carry(&buf[..len]);
        if !carried.is_empty() {
            way.bytes += carried.len();
            way.flying.push_back((Instant::now() + way.delay, carried));
        }
        way.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.cable.lock();
        state.ways[self.me].closed = true;
        state.ways[self.me].wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.cable.lock();
        state.ways[self.me].closed = true;
        state.ways.iter_mut().for_each(Way::wake);
    }
}
