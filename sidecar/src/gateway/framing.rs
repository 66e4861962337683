//! What hyper takes of a request's framing and does not tell: a length beside
//! chunks, a length said twice, lines that end in a bare LF.
//!
//! RFC 9112 (sections 2.2, 6.1 and 6.3) lets a server repair each of them, and
//! hyper does. But a proxy in front of the gateway may repair them in another
//! way, and then the two do not agree where a request ends and the next one
//! begins. So they are refused. hyper stays the parser: this only follows where
//! lines, bodies and chunks end, and what it refuses it makes unreadable, so
//! that hyper answers 400 in turn and closes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a line that are looked at, and kept if the rest of it is still to
/// come: a length or a transfer coding takes no more.
const MAX_FRAMING_LINE: usize = 128;

/// Stands for the end of a refused line. No part of a head, of a chunk's size
/// or of a trailer may hold it.
const UNREADABLE: u8 = 0;

/// Comes behind a refused line: hyper does not look at a head that came in
/// parts before it has come to an end.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A stream of requests, of which those with doubtful framing are made
/// unreadable.
#[derive(Debug)]
pub(super) struct Strict<T> {
    io: T,
    framing: Framing,
    /// Why a line was refused. Nothing is read after it.
    doubt: Option<&'static str>,
    /// [`END_OF_HEAD`] has been read.
    ended: bool,
}

impl<T> Strict<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, framing: Framing::default(), doubt: None, ended: false }
    }

    /// Why a request was refused, if one was.
    pub(super) fn doubt(&self) -> Option<&'static str> {
        self.doubt
    }

    pub(super) fn into_inner(self) -> T {
        self.io
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Strict<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.doubt.is_some() {
            // Without room for it the head has been too large anyway.
            if !this.ended && buf.remaining() >= END_OF_HEAD.len() {
                buf.put_slice(END_OF_HEAD);
                this.ended = true;
            }
            return Poll::Ready(Ok(()));
        }
        let old = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if let Err(Doubt { at, why }) = this.framing.follow(&buf.filled()[old..]) {
            buf.filled_mut()[old + at] = UNREADABLE;
            buf.set_filled(old + at + 1);
            this.doubt = Some(why);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Strict<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Follows requests, one behind the other, through bytes that come in any
/// parts.
#[derive(Debug, Default)]
struct Framing {
    part: Part,
    /// The beginning of a line whose end is still to come.
    line: Line,
}

/// What the next bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Head(Head),
    /// So many bytes of a body with a length.
    Body(u64),
    /// A chunk's size.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line's end behind a chunk.
    ChunkEnd,
    /// The fields behind the last chunk, up to an empty line.
    Trailers,
}

/// What a head has said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Head {
    length: Option<u64>,
    chunked: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

/// A line that leaves room for doubt.
#[derive(Debug, PartialEq)]
struct Doubt {
    /// Where its LF is in the bytes that were given.
    at: usize,
    why: &'static str,
}

impl Framing {
    /// Follows `bytes`, which come behind those of the last call, up to the
    /// first line that leaves room for doubt.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), Doubt> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let Part::Body(left) | Part::Chunk(left) = &mut self.part {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= len as u64;
                at += len;
                if *left == 0 {
                    self.part = match self.part {
                        Part::Chunk(_) => Part::ChunkEnd,
                        _ => Part::default(),
                    };
                }
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                self.line.push(rest);
                break;
            };
            let next = if self.line.is_empty() {
                self.part.behind(&rest[..end], end)
            } else {
                self.line.push(&rest[..end]);
                let line = std::mem::take(&mut self.line);
                self.part.behind(&line.kept, line.len)
            };
            self.part = next.map_err(|why| Doubt { at: at + end, why })?;
            at += end + 1;
        }
        Ok(())
    }
}

impl Part {
    /// What comes behind a line of it, which is given without its LF; of one
    /// with more than [`MAX_FRAMING_LINE`] bytes its beginning and its last
    /// byte are enough.
    ///
    /// # Errors
    /// Why it leaves room for doubt.
    fn behind(mut self, line: &[u8], len: usize) -> Result<Self, &'static str> {
        let Some((b'\r', line)) = line.split_last() else {
            return Err("a line ends in LF without CR");
        };
        match &mut self {
            // An empty line before a head ends nothing.
            Self::Head(head) if line.is_empty() => self = head.end(),
            Self::Head(head) => head.field(line, len)?,
            Self::Size => match size(line).ok_or("a chunk's size is no number")? {
                0 => self = Self::Trailers,
                size => self = Self::Chunk(size),
            },
            Self::ChunkEnd => self = Self::Size,
            Self::Trailers if line.is_empty() => self = Self::default(),
            Self::Trailers | Self::Body(_) | Self::Chunk(_) => {}
        }
        Ok(self)
    }
}

impl Head {
    /// Takes a field; a request's first line is none that counts.
    ///
    /// # Errors
    /// Why with it there is doubt about where the body ends.
    fn field(&mut self, line: &[u8], len: usize) -> Result<(), &'static str> {
        if let Some(value) = value(line, b"content-length") {
            let length =
                std::str::from_utf8(value).ok().and_then(|text| text.trim_ascii().parse().ok());
            if self.length.is_some() {
                return Err("Content-Length is there twice");
            }
            self.length = Some(length.ok_or("Content-Length is no number")?);
        } else if value(line, b"transfer-encoding").is_some() {
            self.chunked = true;
        } else {
            return Ok(());
        }
        if self.chunked && self.length.is_some() {
            return Err("Content-Length stands beside Transfer-Encoding");
        }
        if len > MAX_FRAMING_LINE {
            return Err("Content-Length or Transfer-Encoding is too long");
        }
        Ok(())
    }

    /// What comes behind this head.
    fn end(self) -> Part {
        match self.length {
            // hyper refuses a request whose last coding is not `chunked`.
            _ if self.chunked => Part::Size,
            Some(length) if length > 0 => Part::Body(length),
            _ => Part::default(),
        }
    }
}

/// The value in a field's line, if that is its name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

/// The bytes that a chunk's first line promises (RFC 9112, section 7.1).
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // Of so many there may have been more.
    if digits >= MAX_FRAMING_LINE {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

/// A line that comes in parts.
#[derive(Debug, Default)]
struct Line {
    /// Its first [`MAX_FRAMING_LINE`] bytes; behind them only its last one.
    kept: Vec<u8>,
    /// Bytes of all of it.
    len: usize,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.kept.truncate(MAX_FRAMING_LINE);
        let room = MAX_FRAMING_LINE - self.kept.len();
        let (kept, behind) = bytes.split_at(room.min(bytes.len()));
        self.kept.extend_from_slice(kept);
        self.kept.extend(behind.last());
        self.len = self.len.saturating_add(bytes.len());
    }
}

#[cfg(test)]
mod tests;
