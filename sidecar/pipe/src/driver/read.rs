//! From the stream to the session.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use restpipe_proto::{Frame, MAX_FRAME};
use tokio::io::AsyncReadExt;

use super::Driver;
use crate::error::Why;
use crate::limits::{FRAME_BATCH, READ_BATCH};
use crate::wire::Wire;

thread_local! {
    /// One read buffer for all pipes of a thread: a pipe holds it only while
    /// it reads, so that an idle one holds none.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

impl<T: Wire> Driver<T> {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        if self.read.capacity() == 0 {
            self.read = SCRATCH.with_borrow_mut(std::mem::take);
        }
        let result = self.read_until_pending(cx, now);
        if self.read.is_empty() {
            let empty = std::mem::take(&mut self.read);
            SCRATCH.with_borrow_mut(|scratch| *scratch = empty);
        }
        result
    }

    fn read_until_pending(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        let mut frames = FRAME_BATCH;
        let mut bytes = READ_BATCH;
        while self.take_frames(now, &mut frames)? && bytes > 0 {
            self.make_room();
            let got = match pin!(self.io.read_buf(&mut self.read)).poll(cx) {
                Poll::Pending => {
                    self.note_part_of_record(now);
                    return Ok(());
                }
                Poll::Ready(Err(error)) => return Err(self.why_gone(error)),
                Poll::Ready(Ok(0)) if self.session.is_drained() => return Err(Why::Drained),
                Poll::Ready(Ok(0)) => return Err(Why::Eof),
                Poll::Ready(Ok(got)) => got,
            };
            self.unnoted += got;
            // All that came until now counts by what was read of it.
            self.received = self.io.received();
            bytes = bytes.saturating_sub(got);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// What came and cannot be read yet is a sign of life all the same.
    fn note_part_of_record(&mut self, now: Instant) {
        let received = self.io.received();
        let more = received - std::mem::replace(&mut self.received, received);
        if more > 0 {
            self.session.on_part_of_record(now, more);
        }
    }

    /// Hands what was read to the session, at most `left` frames of it.
    /// Returns whether nothing is left but a part of a frame.
    fn take_frames(&mut self, now: Instant, left: &mut usize) -> Result<bool, Why> {
        while *left > 0 {
            let Some(frame) = Frame::decode(&mut self.read)? else {
                let got = std::mem::take(&mut self.unnoted);
                if got > 0 {
                    self.session.on_bytes(now, got, self.read.len());
                }
                self.deliver();
                return Ok(true);
            };
            *left -= 1;
            self.session.on_frame(now, frame)?;
        }
        // A frame that had begun is there. Whether another one has is seen when
        // the rest is taken, in the next turn.
        self.session.on_bytes(now, self.unnoted, 0);
        self.deliver();
        Ok(false)
    }

    /// Makes room for the rest of one frame, and not more: see [`MAX_FRAME`].
    pub(super) fn make_room(&mut self) {
        let begun = self.read.len();
        if self.read.capacity() >= MAX_FRAME || self.read.try_reclaim(MAX_FRAME - begun) {
            return;
        }
        let mut next = BytesMut::with_capacity(MAX_FRAME);
        next.extend_from_slice(&self.read);
        self.read = next;
    }

    /// A peer that has drained may drop its end without a word.
    pub(super) fn why_gone(&self, error: io::Error) -> Why {
        match error.kind() {
            _ if self.session.is_drained() => Why::Drained,
            // TLS says so when the stream ends without its goodbye.
            io::ErrorKind::UnexpectedEof => Why::Eof,
            _ => Why::Io(error.to_string()),
        }
    }
}
