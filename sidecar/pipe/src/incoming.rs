//! An event of the peer, and the means to answer it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use restpipe_proto::pb::{CancelReason, ReplyHead, RequestHead};
use restpipe_proto::{MAX_PAYLOAD, head};

use crate::body::RecvBody;
use crate::handle::{Commands, ToDriver};
use crate::room::{BodySender, Room, RoomOwner};
use crate::session::Command;

/// An event that the peer sent.
#[derive(Debug)]
pub struct Incoming {
    /// What is asked.
    pub head: RequestHead,
    /// Its body.
    pub body: RecvBody,
    /// When the caller's deadline passes; the driver stops the handler then.
    pub deadline: Option<Instant>,
    /// The way back.
    pub responder: Responder,
}

/// Answers one event. Dropping it unused tells the caller that the handler
/// was lost.
#[derive(Debug)]
pub struct Responder {
    stream: u64,
    commands: Commands,
    answered: bool,
}

/// The reply's head is larger than a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply's headers take more than {MAX_PAYLOAD} bytes")]
pub struct HeadTooLarge;

impl Responder {
    pub(crate) fn new(stream: u64, commands: Commands) -> Self {
        Self { stream, commands, answered: false }
    }

    fn check(&mut self, head: &ReplyHead) -> Result<(), HeadTooLarge> {
        if head::framed_len(head) > MAX_PAYLOAD {
            let detail = HeadTooLarge.to_string();
            self.cancel_with(CancelReason::BadReply, detail);
            return Err(HeadTooLarge);
        }
        Ok(())
    }

    /// Answers with a body that is all there, at most 16 KiB.
    ///
    /// # Errors
    /// If the head is too large; the caller has been told.
    pub fn reply(mut self, head: ReplyHead, body: Bytes) -> Result<(), HeadTooLarge> {
        self.check(&head)?;
        self.answered = true;
        self.commands.send(Command::Reply {
            stream: self.stream,
            head: Box::new(head),
            body,
            end: true,
        });
        Ok(())
    }

    /// Answers with a body that is streamed; `first` is at most 16 KiB.
    ///
    /// # Errors
    /// If the head is too large; the caller has been told.
    pub fn reply_streamed(
        mut self,
        head: ReplyHead,
        first: Bytes,
    ) -> Result<BodySender, HeadTooLarge> {
        self.check(&head)?;
        self.answered = true;
        let room = Arc::new(Room::default());
        let stream = self.stream;
        // If the driver is gone the sender finds its room closed.
        let _ = self.commands.push(ToDriver::Room { stream, room: RoomOwner::new(&room) });
        self.commands.send(Command::Reply {
            stream,
            head: Box::new(head),
            body: first,
            end: false,
        });
        Ok(BodySender::new(stream, room, self.commands.clone(), CancelReason::HandlerLost))
    }

    /// Ends the event without an answer.
    pub fn cancel(mut self, reason: CancelReason, detail: String) {
        self.cancel_with(reason, detail);
    }

    fn cancel_with(&mut self, reason: CancelReason, detail: String) {
        self.answered = true;
        self.commands.send(Command::Cancel { stream: self.stream, reason, detail });
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            let detail = "the handler ended without an answer".to_owned();
            self.cancel_with(CancelReason::HandlerLost, detail);
        }
    }
}
