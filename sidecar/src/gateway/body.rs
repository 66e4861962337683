//! Bodies of the gateway's answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body, Frame, SizeHint};
use restpipe_pipe::{CallError, RecvBody};
use tokio::sync::mpsc;

/// The body of an answer.
#[derive(Debug)]
pub enum GatewayBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes over the pipe.
    Pipe(Box<PipeBody>),
    /// Lines of an event stream.
    Lines(mpsc::Receiver<Bytes>),
}

/// A body that broke off; the connection is closed, so that the caller does
/// not take the part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BrokenOff(String);

/// A body that comes over the pipe.
#[derive(Debug)]
pub struct PipeBody {
    body: RecvBody,
    /// What came while the answer's head was still being made.
    ahead: Option<Bytes>,
    /// Bytes that are left, where known.
    left: Option<u64>,
    /// It has broken off, and what came before is being written.
    broken: Option<CallError>,
}

impl PipeBody {
    /// Takes what there is of a body.
    ///
    /// # Errors
    /// If it has broken off already, so that nothing need be begun.
    pub(super) fn begin(mut body: RecvBody, left: Option<u64>) -> Result<Self, CallError> {
        let ahead = match body.chunk().now_or_never() {
            Some(Some(chunk)) => Some(chunk?),
            Some(None) | None => None,
        };
        Ok(Self { body, ahead, left, broken: None })
    }

    fn is_end(&self) -> bool {
        self.ahead.is_none() && self.broken.is_none() && self.body.is_end()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let chunk = match (self.ahead.take(), self.broken.take()) {
            (Some(ahead), _) => ahead,
            (None, Some(error)) => return Poll::Ready(Some(Err(BrokenOff(error.to_string())))),
            (None, None) => match std::task::ready!(self.body.poll_chunk(cx)) {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => {
                    tracing::warn!(%error, "reply broken off");
                    // hyper throws away what it has not written when a body
                    // fails; given a moment, it writes head and parts first.
                    self.broken = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                None => return Poll::Ready(None),
            },
        };
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(chunk.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

impl GatewayBody {
    /// A body that is all there.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    /// Takes the body off an answer to HEAD.
    pub(super) fn empty(&mut self) {
        *self = Self::Whole(None);
    }
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pipe(body) => body.poll(cx),
            Self::Lines(lines) => {
                lines.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Pipe(body) => body.is_end(),
            Self::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Pipe(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}
