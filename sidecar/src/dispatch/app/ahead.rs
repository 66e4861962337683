//! How much of the app's replies is read before the pipe takes it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::MAX_BUFFER;
use crate::io::Io;

/// Bytes that are read ahead of all replies together, before each gets less
/// than [`MAX_BUFFER`]: peers decide how many replies wait for them.
const READ_AHEAD: usize = 1024 * 1024;

/// Bytes that are read at once of any reply; smaller ones would be calls of
/// the system for nothing.
const READ_LEAST: usize = 8 * 1024;

/// Replies that are being read; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Replies(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct OneReply(Replies);

impl Replies {
    pub(super) fn one_more(&self) -> OneReply {
        self.0.fetch_add(1, Ordering::Relaxed);
        OneReply(self.clone())
    }

    fn share(&self) -> usize {
        let replies = self.0.load(Ordering::Relaxed).max(1);
        (READ_AHEAD / replies).clamp(READ_LEAST, MAX_BUFFER)
    }
}

impl Drop for OneReply {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to the app of which no more is read at once than its share.
#[derive(Debug)]
pub(super) struct AppIo {
    io: Io,
    replies: Replies,
}

impl AppIo {
    pub(super) fn new(io: Io, replies: Replies) -> Self {
        Self { io, replies }
    }
}

impl AsyncRead for AppIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let share = this.replies.share();
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
