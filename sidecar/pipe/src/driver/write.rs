//! From the session's queue to the stream.

use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::task::yield_now;

use super::Driver;
use crate::error::Why;
use crate::wire::Wire;

/// Batches written before other tasks get their turn.
const WRITES_PER_TURN: usize = 4;

/// I/O vectors handed over at once: a batch of bulk is four chunks with a
/// header before each.
const MAX_IO_SLICES: usize = 16;

impl<T: Wire> Driver<T> {
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        for _ in 0..WRITES_PER_TURN {
            if self.poll_write_batch(cx)?.is_pending() {
                self.write_blocked.get_or_insert(now);
                return Ok(());
            }
            self.write_blocked = None;
            if !self.session.has_frames() {
                self.batch.shrink();
                return Ok(());
            }
            if self.stand_back(cx) {
                return Ok(());
            }
            self.session.fill(&mut self.batch);
            self.deliver();
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Lets the runtime look at its sockets before what is queued is written,
    /// if that may put more into one record, and again as long as each look
    /// brings more. Returns whether this task has stood back; it is woken then.
    fn stand_back(&mut self, cx: &mut Context<'_>) -> bool {
        let last = self.stood_back.take();
        self.stood_back =
            self.session.may_stand_back().filter(|&heads| last.is_none_or(|last| heads > last));
        // Polled once, it wakes this task after that look; what it would return
        // then does not matter.
        self.stood_back.is_some() && pin!(yield_now()).poll(cx).is_pending()
    }

    pub(super) fn poll_write_batch(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Why> {
        while !self.batch.segments().is_empty() {
            let segments = self.batch.segments();
            let mut slices = [IoSlice::new(&[]); MAX_IO_SLICES];
            let count = segments.len().min(MAX_IO_SLICES);
            for (slice, segment) in slices.iter_mut().zip(segments.iter()) {
                *slice = IoSlice::new(segment);
            }
            let written = match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(error)) => return Err(self.why_gone(error)),
                Poll::Ready(Ok(0)) => return Err(Why::Eof),
                Poll::Ready(Ok(written)) => written,
            };
            self.needs_flush = true;
            self.write_blocked = None;
            advance(self.batch.segments(), written);
        }
        if self.needs_flush {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(error)) => return Err(self.why_gone(error)),
                Poll::Ready(Ok(())) => self.needs_flush = false,
            }
        }
        Ok(Poll::Ready(()))
    }
}

/// Takes `written` bytes off the front of `segments`.
fn advance(segments: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = segments.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        segments.pop_front();
    }
}
