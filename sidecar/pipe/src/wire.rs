//! What a pipe runs over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_rustls::{client, server};

/// A stream that a pipe can run over.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Bytes that have come from the peer so far, those too that cannot be
    /// read yet: a TLS record is 16 KiB, for which a slow link may need
    /// longer than a pipe may be silent. A stream that keeps nothing back may say 0.
    fn received(&self) -> u64 {
        0
    }
}

impl Wire for DuplexStream {}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire for client::TlsStream<Heard<S>> {
    fn received(&self) -> u64 {
        self.get_ref().0.received
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire for server::TlsStream<Heard<S>> {
    fn received(&self) -> u64 {
        self.get_ref().0.received
    }
}

/// A stream under TLS that counts what it receives.
#[derive(Debug)]
pub struct Heard<S> {
    stream: S,
    received: u64,
}

impl<S> Heard<S> {
    /// Counts from now on.
    pub fn new(stream: S) -> Self {
        Self { stream, received: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.received += (buf.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
