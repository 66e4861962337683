//! One direction of a byte link between two sessions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

#[derive(Debug, Default)]
pub(crate) struct Link {
    flying: VecDeque<(Instant, Bytes)>,
    pub(crate) delay: Duration,
    /// After so many bytes the whole connection breaks; the rest is lost.
    pub(crate) cut_after: Option<usize>,
    /// Takes bytes and delivers none.
    pub(crate) swallows: bool,
    /// Bytes that may be under way at once; the sender waits beyond them.
    pub(crate) capacity: Option<usize>,
    pub(crate) carried: usize,
    /// Nothing will be put in any more.
    pub(crate) closed: bool,
}

impl Link {
    pub(crate) fn takes_more(&self) -> bool {
        let flying: usize = self.flying.iter().map(|(_, bytes)| bytes.len()).sum();
        !self.closed && self.capacity.is_none_or(|capacity| flying < capacity)
    }

    /// Whether the connection broke over these bytes.
    #[must_use]
    pub(crate) fn put(&mut self, now: Instant, mut bytes: Bytes) -> bool {
        let broken = self.cut_after.is_some_and(|cut| self.carried + bytes.len() > cut);
        if let Some(cut) = self.cut_after.filter(|_| broken) {
            bytes.truncate(cut.saturating_sub(self.carried));
        }
        self.carried += bytes.len();
        if !self.swallows && !bytes.is_empty() {
            self.flying.push_back((now + self.delay, bytes));
        }
        broken
    }

    pub(crate) fn take(&mut self, now: Instant) -> Option<Bytes> {
        let due = self.flying.front()?.0 <= now;
        if due { self.flying.pop_front().map(|(_, bytes)| bytes) } else { None }
    }

    /// All that was put in has been taken, and nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.closed && !self.swallows && self.flying.is_empty()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.flying.front().map(|(at, _)| *at)
    }

    /// The connection broke elsewhere: what is under way is lost.
    pub(crate) fn lose(&mut self) {
        self.closed = true;
        self.flying.clear();
    }
}
