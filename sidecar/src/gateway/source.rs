//! The body of a request on its way into a pipe.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use restpipe_pipe::limits::SEND_QUEUE;
use restpipe_pipe::pb::CancelReason;
use restpipe_pipe::{BodySender, Outcome};
use restpipe_proto::INITIAL_CREDIT;

use super::problem::Problem;
use super::request::too_large;
use super::upload::Upload;
use crate::event::INLINE_BODY;

/// Bytes behind the first part that are kept so that they can be sent again. A
/// pipe takes no more, but for a part, before its peer has granted credit, and
/// a peer that refuses an event without asking its app has granted none.
const KEPT: usize = SEND_QUEUE + INITIAL_CREDIT as usize;

/// A request's body, as far as it has been read.
pub(super) enum RequestBody {
    Whole(Bytes),
    /// Its first bytes, and the rest.
    Streamed(Bytes, Source),
}

/// The rest of a body that is sent while it is read.
#[derive(Debug)]
pub(super) struct Source {
    /// What was read for a try before this one.
    ahead: VecDeque<Bytes>,
    body: Upload,
    /// Bytes of the whole body that have been read.
    read: u64,
    /// Bytes of the largest body, if there is a limit.
    limit: Option<u64>,
}

/// What was read for a try, so that it can be read for another.
#[derive(Debug)]
struct Kept {
    /// All of it, until it is too much.
    parts: Option<VecDeque<Bytes>>,
    /// Bytes that the parts take, themselves and what holds them.
    size: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { parts: Some(VecDeque::new()), size: 0 }
    }
}

impl Kept {
    fn keep(&mut self, part: &Bytes) {
        if self.size > KEPT {
            self.parts = None;
        }
        if let Some(parts) = &mut self.parts {
            self.size += part.len() + size_of::<Bytes>();
            parts.push_back(part.clone());
        }
    }
}

impl RequestBody {
    /// Reads a short body whole, and the beginning of any other.
    ///
    /// # Errors
    /// If it breaks off, or is larger than `limit` bytes already.
    pub(super) async fn begin(mut body: Upload, limit: Option<u64>) -> Result<Self, Problem> {
        if body.is_end() {
            return Ok(Self::Whole(Bytes::new()));
        }
        let short = body.len().is_some_and(|len| len <= INLINE_BODY as u64);
        let mut first = BytesMut::new();
        loop {
            // Who sends without a length may wait for an answer to its first
            // part, so no more is waited for than is there.
            let next = if short || first.is_empty() {
                body.part().await?
            } else {
                match body.part().now_or_never() {
                    Some(next) => next?,
                    None => return Ok(Self::streamed(first, body, limit)),
                }
            };
            let Some(chunk) = next else { return Ok(Self::Whole(first.freeze())) };
            if first.is_empty() && body.is_end() && chunk.len() <= INLINE_BODY {
                return Ok(Self::Whole(chunk));
            }
            first.extend_from_slice(&chunk);
            if let Some(limit) = limit.filter(|limit| first.len() as u64 > *limit) {
                return Err(too_large(limit));
            }
            if first.len() > INLINE_BODY {
                return Ok(Self::streamed(first, body, limit));
            }
        }
    }

    fn streamed(first: BytesMut, body: Upload, limit: Option<u64>) -> Self {
        let read = first.len() as u64;
        Self::Streamed(first.freeze(), Source { ahead: VecDeque::new(), body, read, limit })
    }
}

impl Source {
    /// Sends the rest. Returns the source if it can be sent once more from
    /// where it was.
    ///
    /// # Errors
    /// What went wrong on the caller's side; the call has been cancelled.
    pub(super) async fn pump(mut self, mut sender: BodySender) -> Result<Option<Self>, Problem> {
        let mut kept = Kept::default();
        let problem = loop {
            let next = tokio::select! {
                biased;
                next = self.next() => next,
                () = sender.stopped() => return Ok(self.back(kept)),
            };
            match next {
                Ok(None) => {
                    sender.end();
                    return Ok(self.back(kept));
                }
                Ok(Some(part)) => {
                    kept.keep(&part);
                    if sender.send(part).await.is_err() {
                        return Ok(self.back(kept));
                    }
                }
                Err(problem) => break problem,
            }
        };
        sender.fail(CancelReason::CallerGone, problem.detail.clone());
        // The handler may have begun on what it was sent.
        Err(Problem { outcome: Outcome::Unknown, ..problem })
    }

    /// The next part; `None` at the end. Nothing is lost if it is not waited for.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if let Some(part) = self.ahead.pop_front() {
            return Ok(Some(part));
        }
        let part = self.body.part().await?;
        self.read += part.as_ref().map_or(0, Bytes::len) as u64;
        match self.limit.filter(|limit| self.read > *limit) {
            Some(limit) => Err(too_large(limit)),
            None => Ok(part),
        }
    }

    /// The source as it was before `kept` was taken from it.
    fn back(mut self, kept: Kept) -> Option<Self> {
        let mut ahead = kept.parts?;
        ahead.append(&mut self.ahead);
        Some(Self { ahead, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_tiny_parts_costs_little_to_keep() {
        let mut kept = Kept::default();
        for _ in 0..KEPT {
            kept.keep(&Bytes::from_static(b"x"));
        }
        assert!(kept.parts.is_none(), "80,000 parts take megabytes beside their bytes");
    }

    #[test]
    fn what_was_read_is_there_from_its_first_byte_or_not_at_all() {
        let part = Bytes::from(vec![0; KEPT / 4]);
        let mut kept = Kept::default();
        for count in 1..=4 {
            kept.keep(&part);
            assert_eq!(kept.parts.as_ref().map(VecDeque::len), Some(count));
        }
        kept.keep(&part);
        kept.keep(&Bytes::from_static(b"x"));
        assert!(kept.parts.is_none());
    }
}
