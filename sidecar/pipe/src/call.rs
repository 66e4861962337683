//! One call and its answer, as whoever makes it sees them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use restpipe_proto::pb::{CancelReason, ReplyHead, RequestHead};
use tokio::sync::oneshot;

use crate::body::RecvBody;
use crate::error::{CallError, Why};
use crate::handle::{Answer, Settled, SlotPermit};
use crate::room::BodySender;
use crate::session::Command;

/// A call to make.
#[derive(Debug)]
pub struct Call {
    /// What is asked, without deadline and credit. It is shared with whoever
    /// may send it again.
    pub head: Arc<RequestHead>,
    /// The first bytes of the body, at most 16 KiB.
    pub body: Bytes,
    /// Whether they are all.
    pub end: bool,
    /// When the answer is due.
    pub deadline: Instant,
    /// Until when a free stream is waited for.
    pub wait_until: Instant,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its head.
    pub head: ReplyHead,
    /// Its body.
    pub body: RecvBody,
}

/// A call that is on its way.
#[derive(Debug)]
pub struct StartedCall {
    /// Takes the rest of the request's body, if there is one.
    pub body: Option<BodySender>,
    /// The answer.
    pub reply: PendingReply,
}

/// The answer to come. Dropping it cancels the call.
#[derive(Debug)]
pub struct PendingReply {
    stream: u64,
    settled: oneshot::Receiver<Settled>,
    /// Freed when the answer is over; `None` once the answer's body holds it.
    slot: Option<SlotPermit>,
    /// No answer has come.
    open: bool,
}

impl PendingReply {
    /// Of a call that has been handed to the driver.
    pub(crate) fn new(stream: u64, settled: oneshot::Receiver<Settled>, slot: SlotPermit) -> Self {
        Self { stream, settled, slot: Some(slot), open: true }
    }

    /// Waits for the answer, at most until the call's deadline.
    ///
    /// # Errors
    /// If there will be none; the error says what is known of the handler.
    pub async fn wait(mut self) -> Result<Reply, CallError> {
        // A driver that is dropped, not ended, settles nothing.
        let settled = (&mut self.settled).await.unwrap_or(Err(CallError::Lost(Why::Eof)));
        self.open = false;
        let (head, answer) = settled?;
        let body = match answer {
            Answer::Whole(bytes) => RecvBody::whole(bytes),
            Answer::Streamed(first, inbox) => {
                let slot = self.slot.take().expect("it is taken here only");
                let commands = slot.commands.clone();
                RecvBody::streamed(first, self.stream, inbox, commands, true, Some(slot))
            }
        };
        Ok(Reply { head: *head, body })
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        if let (true, Some(slot)) = (self.open, &self.slot) {
            let (stream, reason) = (self.stream, CancelReason::CallerGone);
            slot.commands.send(Command::Cancel { stream, reason, detail: String::new() });
        }
    }
}
