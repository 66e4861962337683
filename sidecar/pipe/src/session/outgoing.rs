//! Streams that this side opened: its calls.

use std::time::Instant;

use bytes::Bytes;
use restpipe_proto::head::RequestTail;
use restpipe_proto::pb::{Cancel, CancelReason, ReplyHead};
use restpipe_proto::{Frame, INITIAL_CREDIT, head};

use super::command::Request;
use super::window::Window;
use super::{Output, Session};
use crate::error::{CallError, NotSent, Why};
use crate::limits::{BODY_STALL, MAX_HEADERS};

/// One call.
#[derive(Debug)]
pub(super) struct OutgoingStream {
    /// It was handed to TLS: from here on the handler may run.
    sent: bool,
    /// The reply's head has come.
    replied: bool,
    /// All of the reply has come.
    pub(super) reply_ended: bool,
    /// All of the request has been sent, or is not wanted.
    request_ended: bool,
    pub(super) window: Window,
    /// When the reply is due; while it comes, when the consumer is next looked at.
    pub(super) due: Option<Instant>,
    /// Bytes of the reply that the consumer has taken.
    pub(super) consumed: u64,
    /// The same, when it was last looked at.
    consumed_before: u64,
}

impl OutgoingStream {
    /// Whether the pipe is not needed for it any more.
    pub(super) fn is_over(&self) -> bool {
        self.reply_ended && self.request_ended
    }
}

impl Session {
    pub(super) fn send_request(&mut self, now: Instant, mut request: Box<Request>) {
        let Request { stream, deadline, .. } = *request;
        debug_assert!(stream >= self.next_own, "ids rise");
        self.next_own = stream + 2;
        if self.heard_last || self.told_last.is_some() {
            return self.fail(stream, NotSent::Draining.into());
        }
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return self.fail(stream, NotSent::Deadline.into());
        }
        let window = Window::for_reply(now, &self.budgets);
        // 0 would mean that there is no deadline.
        request.tail = RequestTail {
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            reply_credit: window.granted(),
        };
        let call = OutgoingStream {
            sent: false,
            replied: false,
            reply_ended: false,
            request_ended: false,
            window,
            due: Some(deadline),
            consumed: 0,
            consumed_before: 0,
        };
        self.outgoing.insert(stream, call);
        self.watch(deadline);
        self.queue.request(request, INITIAL_CREDIT.into());
    }

    fn fail(&mut self, stream: u64, error: CallError) {
        self.outputs.push_back(Output::Failed { stream, error });
    }

    /// Takes a call off the books for a reason of this side.
    fn drop_call(&mut self, stream: u64, reason: CancelReason, detail: String) {
        let Some(call) = self.outgoing.remove(&stream) else { return };
        let waiting = self.queue.forget(stream);
        if !waiting && !call.is_over() {
            self.push_cancel(stream, reason, detail);
            self.remember(stream);
        }
        call.window.close(&self.budgets);
    }

    pub(super) fn cancel_call(&mut self, stream: u64, reason: CancelReason, detail: String) {
        self.drop_call(stream, reason, detail);
    }

    pub(super) fn on_request_sent(&mut self, stream: u64) {
        if let Some(call) = self.outgoing.get_mut(&stream) {
            call.sent = true;
        }
    }

    pub(super) fn on_request_end_sent(&mut self, stream: u64) {
        if let Some(call) = self.outgoing.get_mut(&stream) {
            call.request_ended = true;
            self.finish_call(stream);
        }
    }

    /// Forgets a call of which both sides have ended. What the consumer has
    /// not taken yet still counts against the budgets.
    pub(super) fn finish_call(&mut self, stream: u64) {
        let done = |call: &OutgoingStream| call.is_over() && !call.window.is_waiting();
        if self.outgoing.get(&stream).is_some_and(done)
            && let Some(call) = self.outgoing.remove(&stream)
        {
            call.window.close(&self.budgets);
        }
    }

    pub(super) fn on_reply(&mut self, now: Instant, frame: Frame) -> Result<(), Why> {
        let Frame { stream, flags, payload, kind, .. } = frame;
        if !self.role.owns(stream) {
            return Err(Why::Protocol(format!(
                "a reply to stream {stream}, which is the peer's own"
            )));
        }
        let Some(call) = self.outgoing.get_mut(&stream) else {
            return self.on_stray(now, stream, kind);
        };
        if !call.sent {
            return Err(Why::Protocol(format!(
                "a reply to stream {stream}, which was never opened"
            )));
        }
        if call.replied {
            return Err(Why::Protocol(format!("a second reply to stream {stream}")));
        }
        let (head, body) = match split(payload) {
            Ok(parts) => parts,
            Err(detail) => {
                self.drop_call(stream, CancelReason::CallerGone, detail.clone());
                self.fail(stream, CallError::Failed { reason: CancelReason::BadReply, detail });
                return Ok(());
            }
        };
        let end = flags.is_end();
        call.replied = true;
        call.reply_ended = end;
        call.due = None;
        if !end {
            let due = now + BODY_STALL;
            call.due = Some(due);
            let credit = call.window.grant(now, self.heartbeat.rtt(), &self.budgets);
            self.watch(due);
            self.push_credit(stream, credit);
        }
        self.outputs.push_back(Output::Reply { stream, head: Box::new(head), body, end });
        if end {
            self.after_reply(stream);
        }
        Ok(())
    }

    /// The whole reply is here: what is left of the request nobody reads.
    fn after_reply(&mut self, stream: u64) {
        if self.queue.forget_body(stream) {
            self.outputs.push_back(Output::StopBody { stream });
            if let Some(call) = self.outgoing.get_mut(&stream) {
                call.request_ended = true;
            }
            // The peer keeps the stream until its request's end is in sight.
            self.push_cancel(stream, CancelReason::CallerGone, String::new());
        }
        self.finish_call(stream);
    }

    pub(super) fn on_reply_data(&mut self, now: Instant, frame: Frame) -> Result<(), Why> {
        let Frame { stream, flags, payload: chunk, kind, .. } = frame;
        let Some(call) = self.outgoing.get_mut(&stream) else {
            return self.on_stray(now, stream, kind);
        };
        if !call.replied || call.reply_ended {
            return Err(Why::Protocol(format!("DATA outside the reply of stream {stream}")));
        }
        if call.window.on_data(chunk.len()).is_err() {
            return Err(Why::Protocol(format!("more DATA on stream {stream} than was granted")));
        }
        let end = flags.is_end();
        call.reply_ended = end;
        self.outputs.push_back(Output::Data { stream, chunk, end });
        if end {
            self.after_reply(stream);
        }
        Ok(())
    }

    pub(super) fn on_call_cancelled(&mut self, stream: u64, cancel: Cancel) {
        let reason = cancel.reason();
        if self.outgoing.get(&stream).is_some_and(|call| !call.sent) {
            // The peer cannot know of it yet.
            return;
        }
        if reason == CancelReason::BodyUnwanted {
            if self.queue.forget_body(stream) {
                self.outputs.push_back(Output::StopBody { stream });
                if let Some(call) = self.outgoing.get_mut(&stream) {
                    call.request_ended = true;
                }
                self.finish_call(stream);
            }
            return;
        }
        if let Some(call) = self.outgoing.remove(&stream) {
            self.queue.forget(stream);
            call.window.close(&self.budgets);
            self.fail(stream, CallError::from_cancel(reason, cancel.detail));
        }
    }

    pub(super) fn on_call_deadline(&mut self, now: Instant, stream: u64) {
        let Some(call) = self.outgoing.get_mut(&stream) else { return };
        if call.replied {
            let stalled = call.window.is_waiting() && call.consumed == call.consumed_before;
            call.consumed_before = call.consumed;
            if !stalled {
                let due = now + BODY_STALL;
                call.due = Some(due);
                return self.watch(due);
            }
            let detail = format!("the caller took nothing of the reply for {BODY_STALL:?}");
            self.drop_call(stream, CancelReason::CallerGone, detail.clone());
            return self
                .fail(stream, CallError::Failed { reason: CancelReason::CallerGone, detail });
        }
        let error = if call.sent { CallError::Deadline } else { NotSent::Deadline.into() };
        self.drop_call(stream, CancelReason::CallerDeadline, String::new());
        self.fail(stream, error);
    }

    /// The peer will serve no stream above `last`.
    pub(super) fn refuse_streams_above(&mut self, last: u64) {
        let mut refused: Vec<_> = self
            .outgoing
            .iter()
            // What is being answered has run, whatever the peer says.
            .filter(|(id, call)| !call.sent || (**id > last && !call.replied))
            .map(|(id, _)| *id)
            .collect();
        refused.sort_unstable();
        for stream in refused {
            let Some(call) = self.outgoing.remove(&stream) else { continue };
            self.queue.forget(stream);
            call.window.close(&self.budgets);
            let error = if call.sent {
                let detail = "the peer is going away".to_owned();
                CallError::Refused { reason: CancelReason::RefusedGoingAway, detail }
            } else {
                NotSent::Draining.into()
            };
            self.fail(stream, error);
        }
    }

    pub(super) fn end_calls(&mut self, why: &Why) {
        let mut calls: Vec<_> = std::mem::take(&mut self.outgoing).into_iter().collect();
        calls.sort_unstable_by_key(|(stream, _)| *stream);
        for (stream, call) in calls {
            call.window.close(&self.budgets);
            if call.reply_ended {
                continue; // Its consumer has it all.
            }
            let error =
                if call.sent { CallError::Lost(why.clone()) } else { NotSent::Ended.into() };
            self.outputs.push_back(Output::Failed { stream, error });
        }
    }
}

/// Takes a reply apart, or says what is wrong with it.
fn split(payload: Bytes) -> Result<(ReplyHead, Bytes), String> {
    let (head, body) = head::split::<ReplyHead>(payload).map_err(|error| error.to_string())?;
    if head.headers.len() > MAX_HEADERS {
        return Err(format!("over {MAX_HEADERS} headers"));
    }
    Ok((head, body))
}
