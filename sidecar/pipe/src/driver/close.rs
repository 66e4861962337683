//! The end of a pipe: everything is settled, then a farewell.

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::AsyncReadExt;

use super::{Closing, Driver};
use crate::error::{CallError, Why};
use crate::handle::{PipeState, ToDriver};
use crate::limits::LINGER;
use crate::session::Output;
use crate::wire::Wire;

impl<T: Wire> Driver<T> {
    pub(super) fn begin_close(&mut self, why: Why, now: Instant) {
        tracing::trace!(%why, "pipe ends");
        self.session.say_why(&why);
        self.settle_all(&why);
        self.closing = Some(Closing { why, shut: false, until: now + LINGER });
    }

    /// Flushes what is queued, sends our end of stream, and waits a moment
    /// for the peer's.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Why> {
        let Some(closing) = &self.closing else { return Poll::Pending };
        let why = closing.why.clone();
        if !why.has_farewell() || now >= closing.until || self.poll_farewell(cx).is_ready() {
            return Poll::Ready(why);
        }
        self.arm(cx, now);
        Poll::Pending
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shut = self.closing.as_ref().is_some_and(|closing| closing.shut);
        if !shut {
            loop {
                match self.poll_write_batch(cx) {
                    Err(_) => return Poll::Ready(()),
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(())) if !self.session.has_frames() => break,
                    Ok(Poll::Ready(())) => self.session.fill(&mut self.batch),
                }
            }
            if ready!(Pin::new(&mut self.io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            if let Some(closing) = &mut self.closing {
                closing.shut = true;
            }
        }
        loop {
            self.read.clear();
            self.make_room();
            match ready!(pin!(self.io.read_buf(&mut self.read)).poll(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }
}

impl<T> Driver<T> {
    /// Whether nothing is kept for any stream. For tests: so nothing leaks.
    #[doc(hidden)]
    pub fn is_idle(&self) -> bool {
        self.session.is_idle()
            && self.calls.is_empty()
            && self.handlers.is_empty()
            && self.rooms.is_empty()
            && self.bodies.is_empty()
    }

    /// Ends every call, handler and body, and says so to who waits.
    pub(super) fn settle_all(&mut self, why: &Why) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // An answer may have come right before the end.
        self.session.end(why);
        while let Some(output) = self.session.next_output() {
            if !matches!(output, Output::Request { .. }) {
                self.on_output(output);
            }
        }
        let commands = self.handle.commands().clone();
        let shared = commands.shared();
        shared.usable.store(false, Ordering::Relaxed);
        shared.state.send_replace(PipeState::Ended(why.clone()));
        shared.slots.close();
        self.handlers.drain().for_each(|(_, handler)| handler.abort());
        self.rooms.clear();
        self.bodies.drain().for_each(|(_, body)| body.end(Err(CallError::Lost(why.clone()))));
        self.refuse_queued();
    }

    /// Calls that were queued and never seen by the session were not sent.
    fn refuse_queued(&mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            self.refuse_command(command);
        }
    }

    pub(super) fn refuse_command(&self, command: ToDriver) {
        if let ToDriver::Call { settle, .. } = command {
            let _ = settle.send(Err(CallError::NotSent(crate::NotSent::Ended)));
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.settle_all(&Why::ClosedHere("the pipe's task was stopped".to_owned()));
    }
}
