//! What waits between a driver and the consumer of one body.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use crate::error::{CallError, Why};

/// Chunks below this many bytes are gathered into one: a peer may send its
/// credit byte by byte, and each chunk of its own would cost many times that.
const GATHER_BELOW: usize = 1024;

/// Bytes gathered into one chunk at most.
const GATHERED: usize = 4 * 1024;

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Small chunks that follow the ones above.
    small: BytesMut,
    /// How the body ended.
    end: Option<Result<(), CallError>>,
    waiting: Option<Waker>,
}

impl State {
    fn push(&mut self, chunk: Bytes) {
        if chunk.len() < GATHER_BELOW && self.small.len() + chunk.len() <= GATHERED {
            self.small.extend_from_slice(&chunk);
            return;
        }
        if !self.small.is_empty() {
            self.chunks.push_back(self.small.split().freeze());
        }
        if chunk.len() < GATHER_BELOW {
            self.small.extend_from_slice(&chunk);
        } else {
            self.chunks.push_back(chunk);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let gathered = || Some(self.small.split().freeze()).filter(|bytes| !bytes.is_empty());
        self.chunks.pop_front().or_else(gathered)
    }
}

/// The end that fills; bounded by the window that the session grants the
/// peer. Dropping it without an end tells the consumer that the pipe broke.
#[derive(Debug)]
pub(crate) struct InboxSender(Arc<Mutex<State>>);

/// The end that is read.
#[derive(Debug)]
pub(crate) struct Inbox(Arc<Mutex<State>>);

/// A new inbox.
pub(crate) fn inbox() -> (InboxSender, Inbox) {
    let state = Arc::new(Mutex::new(State::default()));
    (InboxSender(state.clone()), Inbox(state))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InboxSender {
    /// Adds bytes.
    pub(crate) fn push(&self, chunk: Bytes) {
        self.update(|state| state.push(chunk));
    }

    /// Says how the body ended; the first word stands.
    pub(crate) fn end(self, how: Result<(), CallError>) {
        self.update(|state| state.end = state.end.take().or(Some(how)));
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        // Nobody reads: nothing is kept.
        if Arc::strong_count(&self.0) == 1 {
            return;
        }
        let mut state = lock(&self.0);
        change(&mut state);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Drop for InboxSender {
    fn drop(&mut self) {
        self.update(|state| state.end = state.end.take().or(Some(Err(CallError::Lost(Why::Eof)))));
    }
}

impl Inbox {
    /// The next bytes, or `None` and how the body ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, CallError>> {
        let mut state = lock(&self.0);
        if let Some(chunk) = state.pop() {
            return Poll::Ready(Ok(Some(chunk)));
        }
        match &state.end {
            Some(how) => Poll::Ready(how.clone().map(|()| None)),
            None => {
                state.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_chunks_are_gathered_in_order_between_large_ones() {
        let (sender, mut inbox) = inbox();
        for len in [1, 2, 5_000, 3, 900, 2_000, 1] {
            sender.push(vec![u8::try_from(len % 251).unwrap_or(0); len].into());
        }
        sender.end(Ok(()));
        let mut cx = Context::from_waker(Waker::noop());
        let mut lens = Vec::new();
        while let Poll::Ready(Ok(Some(chunk))) = inbox.poll(&mut cx) {
            lens.push(chunk.len());
        }
        assert_eq!(lens, [3, 5_000, 903, 2_000, 1]);
        assert_eq!(inbox.poll(&mut cx), Poll::Ready(Ok(None)));
    }

    #[test]
    fn a_sender_dropped_before_the_end_is_a_broken_body() {
        let (sender, mut inbox) = inbox();
        drop(sender);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(inbox.poll(&mut cx), Poll::Ready(Err(CallError::Lost(_)))));
    }
}
