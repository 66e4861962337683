//! The receiving end of a streamed body, outside the session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use crate::error::CallError;
use crate::handle::{Commands, SlotPermit};
use crate::inbox::Inbox;
use crate::session::Command;
use bytes::{Bytes, BytesMut};
use restpipe_proto::pb::CancelReason;

/// A consumer's bytes are reported in lots of this size: half of the smallest
/// window, so that the peer is never left without credit.
const REPORT_EVERY: usize = restpipe_proto::INITIAL_CREDIT as usize / 2;

/// A body is larger than its reader allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is larger than {0} bytes")]
pub struct BodyTooLarge(pub usize);

/// Why a body could not be read whole.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// It broke off.
    #[error("the body broke off: {0}")]
    Broken(#[from] CallError),
    /// It is too large.
    #[error(transparent)]
    TooLarge(#[from] BodyTooLarge),
}

/// The receiving end of a body. What it was not asked for stays with the
/// peer: at most one window of bytes waits in it.
#[derive(Debug)]
pub struct RecvBody {
    first: Option<Bytes>,
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    inbox: Inbox,
    taken: Arc<Taken>,
    /// Whether this is a reply: dropping it early then cancels the call.
    of_reply: bool,
    /// The call's slot, freed when its reply is over.
    _slot: Option<SlotPermit>,
}

impl RecvBody {
    /// A body that is all there.
    pub fn whole(bytes: Bytes) -> Self {
        Self { first: Some(bytes).filter(|bytes| !bytes.is_empty()), rest: None }
    }

    /// A body that goes on.
    pub(crate) fn streamed(
        first: Bytes,
        stream: u64,
        inbox: Inbox,
        commands: Commands,
        of_reply: bool,
        slot: Option<SlotPermit>,
    ) -> Self {
        let taken = Arc::new(Taken::new(stream, commands));
        let rest = Rest { inbox, taken, of_reply, _slot: slot };
        Self { first: Some(first).filter(|bytes| !bytes.is_empty()), rest: Some(rest) }
    }

    /// Whether nothing is left to come.
    pub fn is_end(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    /// The whole body, if it came with its head.
    pub fn as_whole(&self) -> Option<&Bytes> {
        static EMPTY: Bytes = Bytes::new();
        match (&self.rest, &self.first) {
            (None, Some(first)) => Some(first),
            (None, None) => Some(&EMPTY),
            (Some(_), _) => None,
        }
    }

    /// The next bytes; `None` at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        let taken = |chunk: Bytes, taken: &Arc<Taken>| {
            taken.add(chunk.len());
            chunk
        };
        self.poll_next(cx, taken)
    }

    /// The next bytes, for somebody who writes them to where they may be held
    /// up: they count as taken once they are dropped, so that what waits there
    /// is part of the window. Who gathers chunks must not ask for them so.
    pub fn poll_lent(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        let lend = |bytes: Bytes, taken: &Arc<Taken>| {
            Bytes::from_owner(Lent { bytes, taken: taken.clone() })
        };
        self.poll_next(cx, lend)
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        hand_over: impl FnOnce(Bytes, &Arc<Taken>) -> Bytes,
    ) -> Poll<Option<Result<Bytes, CallError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let result = match std::task::ready!(rest.inbox.poll(cx)) {
            Ok(Some(chunk)) => return Poll::Ready(Some(Ok(hand_over(chunk, &rest.taken)))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        };
        if let Some(rest) = self.rest.take() {
            rest.taken.end();
        }
        Poll::Ready(result)
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, CallError>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The whole body, if it is no larger than `limit` bytes.
    ///
    /// # Errors
    /// If it breaks off or is larger.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes, ReadError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            let chunk = chunk?;
            if all.len() + chunk.len() > limit {
                return Err(BodyTooLarge(limit).into());
            }
            if all.is_empty() && self.is_end() {
                return Ok(chunk);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let Taken { stream, commands, ended, .. } = &*self.taken;
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let stream = *stream;
        commands.send(if self.of_reply {
            Command::Cancel { stream, reason: CancelReason::CallerGone, detail: String::new() }
        } else {
            Command::Unwanted { stream }
        });
    }
}

/// What was taken of a body, and the way to say so.
#[derive(Debug)]
struct Taken {
    stream: u64,
    commands: Commands,
    /// Bytes taken and not yet reported.
    bytes: AtomicUsize,
    /// The body has come to its end: there is nothing to gather reports for.
    ended: AtomicBool,
}

impl Taken {
    fn new(stream: u64, commands: Commands) -> Self {
        Self { stream, commands, bytes: AtomicUsize::new(0), ended: AtomicBool::new(false) }
    }

    fn add(&self, bytes: usize) {
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all >= REPORT_EVERY || self.ended.load(Ordering::Relaxed) {
            self.report();
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.report();
    }

    fn report(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            self.commands.send(Command::Consumed { stream: self.stream, bytes });
        }
    }
}

/// Bytes that count as taken once they are dropped.
struct Lent {
    bytes: Bytes,
    taken: Arc<Taken>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.taken.add(self.bytes.len());
    }
}
