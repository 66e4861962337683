//! The sending end of a streamed body, outside the session.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use restpipe_proto::pb::CancelReason;

use crate::handle::Commands;
use crate::session::Command;

/// How much a body's source may queue; shared by source and driver.
#[derive(Debug, Default)]
pub(crate) struct Room {
    state: Mutex<RoomState>,
}

#[derive(Debug, Default)]
struct RoomState {
    bytes: usize,
    closed: bool,
    waiting: Option<Waker>,
}

impl Room {
    fn update(&self, change: impl FnOnce(&mut RoomState)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    fn add(&self, bytes: usize) {
        self.update(|state| state.bytes += bytes);
    }

    fn close(&self) {
        self.update(|state| state.closed = true);
    }

    fn is_closed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Up to `want` bytes of room, at least one; `None` once it is closed.
    fn poll_take(&self, cx: &mut Context<'_>, want: usize) -> Poll<Option<usize>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Poll::Ready(None);
        }
        let bytes = want.min(state.bytes);
        if bytes == 0 {
            state.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.bytes -= bytes;
        Poll::Ready(Some(bytes))
    }
}

/// The driver's end of a room. However it goes, the source is not left
/// waiting.
#[derive(Debug)]
pub(crate) struct RoomOwner(Arc<Room>);

impl RoomOwner {
    pub(crate) fn new(room: &Arc<Room>) -> Self {
        Self(room.clone())
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.add(bytes);
    }
}

impl Drop for RoomOwner {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The sending end of a body. Dropping it without [`BodySender::end`] ends
/// the stream as failed.
#[derive(Debug)]
pub struct BodySender {
    stream: u64,
    room: Arc<Room>,
    commands: Commands,
    open: bool,
    /// What the other side is told if the source fails.
    on_drop: CancelReason,
}

/// Nobody wants more of the body: the stream is over or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl BodySender {
    pub(crate) fn new(
        stream: u64,
        room: Arc<Room>,
        commands: Commands,
        on_drop: CancelReason,
    ) -> Self {
        Self { stream, room, commands, open: true, on_drop }
    }

    /// Sends `chunk`, waiting for credit as needed.
    ///
    /// # Errors
    /// [`Stopped`] if nobody wants it any more.
    pub async fn send(&mut self, chunk: Bytes) -> Result<(), Stopped> {
        let mut parts = VecDeque::from([chunk]);
        while let Some(mut rest) = parts.pop_front().filter(|rest| !rest.is_empty()) {
            let room = std::future::poll_fn(|cx| self.room.poll_take(cx, rest.len())).await;
            let Some(bytes) = room else {
                self.open = false;
                return Err(Stopped);
            };
            let chunk = rest.split_to(bytes);
            self.commands.send(Command::Data { stream: self.stream, chunk, end: false });
            parts.push_back(rest);
        }
        Ok(())
    }

    /// Waits until nobody wants more of it.
    pub async fn stopped(&self) {
        std::future::poll_fn(|cx| self.room.poll_closed(cx)).await;
    }

    /// Says that the body is complete.
    pub fn end(mut self) {
        self.open = false;
        self.commands.send(Command::Data { stream: self.stream, chunk: Bytes::new(), end: true });
    }

    /// Ends the stream as failed, with a sentence for the peer's people.
    pub fn fail(mut self, reason: CancelReason, detail: String) {
        self.open = false;
        self.commands.send(Command::Cancel { stream: self.stream, reason, detail });
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        // A source that was told to stop breaks nothing off.
        if self.open && !self.room.is_closed() {
            let (stream, reason) = (self.stream, self.on_drop);
            let detail = "the body's source ended early".to_owned();
            self.commands.send(Command::Cancel { stream, reason, detail });
        }
    }
}
