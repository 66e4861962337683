//! How much of the app's replies is read before the pipe takes it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::MAX_BUFFER;
use crate::io::Io;

/// Bytes of replies that wait for the pipe, before less than [`MAX_BUFFER`] is
/// read at once: peers decide how many replies wait for them.
const READ_AHEAD: usize = 512 * 1024;

/// Bytes that are read at once of any reply. One more would fill the buffer
/// that hyper begins with, and hyper doubles a buffer that was filled.
const READ_LEAST: usize = 8 * 1024 - 1;

/// Replies of which something was read that the pipe has not taken; clones
/// share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct WaitingReply(Waiting);

impl Waiting {
    pub(super) fn one_more(&self) -> WaitingReply {
        self.0.fetch_add(1, Ordering::Relaxed);
        WaitingReply(self.clone())
    }

    /// Bytes that may be read at once.
    fn share(&self) -> usize {
        let waiting = self.0.load(Ordering::Relaxed).max(1);
        (READ_AHEAD / waiting).clamp(READ_LEAST, MAX_BUFFER)
    }
}

impl Drop for WaitingReply {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to the app of which no more is read at once than its share.
#[derive(Debug)]
pub(super) struct AppIo {
    io: Io,
    waiting: Waiting,
}

impl AppIo {
    pub(super) fn new(io: Io, waiting: Waiting) -> Self {
        Self { io, waiting }
    }
}

impl AsyncRead for AppIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let share = this.waiting.share();
        if buf.remaining() <= share {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(share));
        let polled = Pin::new(&mut this.io).poll_read(cx, &mut part);
        let got = part.filled().len();
        buf.advance(got);
        polled
    }
}

impl AsyncWrite for AppIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
