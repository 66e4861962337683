//! Bodies of the gateway's answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use restpipe_pipe::RecvBody;
use tokio::sync::mpsc;

/// The body of an answer.
#[derive(Debug)]
pub enum GatewayBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes over the pipe; so many bytes, where known, are left.
    Pipe(Box<RecvBody>, Option<u64>),
    /// Lines of an event stream.
    Lines(mpsc::Receiver<Bytes>),
}

/// A body that broke off; the connection is closed, so that the caller does
/// not take the part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BrokenOff(String);

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
            Self::Pipe(body, left) => {
                let chunk = std::task::ready!(body.poll_chunk(cx));
                if let (Some(Ok(chunk)), Some(left)) = (&chunk, left) {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                Poll::Ready(chunk.map(|result| {
                    result.map(Frame::data).map_err(|error| {
                        tracing::warn!(%error, "reply broken off");
                        BrokenOff(error.to_string())
                    })
                }))
            }
            Self::Lines(lines) => {
                lines.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Pipe(body, _) => body.is_end(),
            Self::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Pipe(_, Some(left)) => SizeHint::with_exact(*left),
            Self::Pipe(_, None) | Self::Lines(_) => SizeHint::default(),
        }
    }
}
