//! Streams that the peer opened: events for this side's handlers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use restpipe_proto::pb::{CancelReason, ReplyHead, RequestHead};
use restpipe_proto::{Frame, head};

use super::window::{Charge, Window};
use super::{Output, Session};
use crate::error::{CallError, Why};
use crate::limits::{CREDIT_STALL, MAX_ARGS, MAX_HEADERS};

/// One event. It keeps its slot until its handler has ended, whatever the
/// caller does: a peer that opens and cancels cannot start more handlers than
/// it has slots (the "rapid reset" of HTTP/2, CVE-2023-44487).
#[derive(Debug)]
pub(super) struct IncomingStream {
    /// Of a request's body that did not come with its head, until its consumer
    /// has all of it or wants no more. Of a cancelled event it stays until the
    /// handler has ended: so long its bytes may be held.
    pub(super) window: Option<Window>,
    /// No more of the request's body is expected: all of it has come, or the
    /// event was cancelled.
    pub(super) body_over: bool,
    /// When the caller's deadline passes; of an answer that goes on, when it
    /// is next looked at.
    pub(super) due: Option<Instant>,
    /// The handler has answered, or was stopped: nothing more is to be said.
    settled: bool,
    /// All of the reply has been sent, or never will be.
    reply_ended: bool,
    handler_done: bool,
    /// What the budgets hold for the request itself.
    charge: Charge,
    /// Bytes of reply that the caller takes unasked.
    reply_credit: u32,
    /// All credit that the reply had got when it was last looked at, if it was
    /// used up then.
    starved_at: Option<u64>,
}

impl IncomingStream {
    /// Bytes that the peer made this side keep, or may.
    pub(super) fn held(&self) -> usize {
        self.charge.pipe + self.window.as_ref().map_or(0, Window::size)
    }
}

impl Session {
    pub(super) fn on_request(&mut self, now: Instant, frame: Frame) -> Result<(), Why> {
        let Frame { stream, flags, payload, .. } = frame;
        if stream == 0 || self.role.owns(stream) {
            return Err(Why::Protocol(format!(
                "a request with id {stream}, which is not the peer's"
            )));
        }
        if stream <= self.last_peer {
            return Err(Why::Protocol(format!("stream id {stream} was used before")));
        }
        self.last_peer = stream;
        let end = flags.is_end();
        let frame = payload.len();
        let (head, body) = match split(payload) {
            Ok(parts) => parts,
            Err(detail) => {
                self.refuse(stream, end, CancelReason::RefusedInvalid, detail);
                return Ok(());
            }
        };
        if self.told_last.is_some_and(|last| stream > last) {
            let detail = "this node is going away".to_owned();
            self.refuse(stream, end, CancelReason::RefusedGoingAway, detail);
            return Ok(());
        }
        if self.incoming.len() >= self.max_streams as usize {
            let detail = format!("all {} streams are taken", self.max_streams);
            self.refuse(stream, end, CancelReason::RefusedBusy, detail);
            return Ok(());
        }
        let charge = Charge::of(frame, &head, body.len());
        if !self.budgets.charge(charge) {
            let detail = "no memory is left for requests".to_owned();
            self.refuse(stream, end, CancelReason::RefusedBusy, detail);
            return Ok(());
        }
        self.accept(now, stream, head, body, end, charge);
        Ok(())
    }

    fn accept(
        &mut self,
        now: Instant,
        stream: u64,
        head: RequestHead,
        body: Bytes,
        end: bool,
        charge: Charge,
    ) {
        let due =
            (head.deadline_ms > 0).then(|| now + Duration::from_millis(head.deadline_ms.into()));
        let mut window = (!end).then(|| Window::for_request(now, &self.budgets));
        if let Some(window) = &mut window {
            let credit = window.grant(now, self.heartbeat.rtt(), &self.budgets);
            self.push_credit(stream, credit);
        }
        if let Some(due) = due {
            self.watch(due);
        }
        let event = IncomingStream {
            window,
            body_over: end,
            due,
            settled: false,
            reply_ended: false,
            handler_done: false,
            charge,
            reply_credit: head.reply_credit,
            starved_at: None,
        };
        self.incoming.insert(stream, event);
        let head = Box::new(head);
        self.outputs.push_back(Output::Request { stream, head, body, end, deadline: due });
    }

    /// Refuses an event that no handler has seen.
    fn refuse(&mut self, stream: u64, end: bool, reason: CancelReason, detail: String) {
        self.outputs.push_back(Output::Refused(reason));
        self.push_cancel(stream, reason, detail);
        if !end {
            self.remember(stream);
        }
    }

    pub(super) fn on_request_data(&mut self, now: Instant, frame: Frame) -> Result<(), Why> {
        let Frame { stream, flags, payload: chunk, kind, .. } = frame;
        let Some(event) = self.incoming.get_mut(&stream) else {
            return self.on_stray(now, stream, kind);
        };
        let Some(window) = event.window.as_mut().filter(|_| !event.body_over) else {
            return self.on_stray(now, stream, kind);
        };
        if window.on_data(chunk.len()).is_err() {
            return Err(Why::Protocol(format!("more DATA on stream {stream} than was granted")));
        }
        let end = flags.is_end();
        event.body_over = end;
        self.outputs.push_back(Output::Data { stream, chunk, end });
        if end {
            self.finish_request_body(stream);
        }
        Ok(())
    }

    /// Gives the budgets back what they lent for a body that has come and was
    /// taken, however long its event goes on.
    pub(super) fn finish_request_body(&mut self, stream: u64) {
        let Some(event) = self.incoming.get_mut(&stream) else { return };
        let done = |window: &mut Window| event.body_over && !window.is_waiting();
        if let Some(window) = event.window.take_if(done) {
            window.close(&self.budgets);
        }
    }

    pub(super) fn send_reply(
        &mut self,
        now: Instant,
        stream: u64,
        head: Box<ReplyHead>,
        body: Bytes,
        end: bool,
    ) {
        let Some(event) = self.incoming.get_mut(&stream).filter(|event| !event.settled) else {
            // Answered before, cancelled, or its handler has long ended.
            self.outputs.push_back(Output::StopBody { stream });
            return;
        };
        event.settled = true;
        event.due = (!end).then(|| now + CREDIT_STALL);
        self.queue.reply(stream, head, body, end, event.reply_credit.into());
        if let Some(due) = event.due {
            self.watch(due);
        }
    }

    pub(super) fn on_reply_end_sent(&mut self, stream: u64) {
        if let Some(event) = self.incoming.get_mut(&stream) {
            event.reply_ended = true;
            event.due = None;
            self.finish_event(stream);
        }
    }

    pub(super) fn on_handler_done(&mut self, stream: u64) {
        let Some(event) = self.incoming.get_mut(&stream) else { return };
        event.handler_done = true;
        if !event.settled {
            let detail = "the handler ended without an answer".to_owned();
            self.cancel_reply(stream, CancelReason::HandlerLost, detail);
        }
        self.finish_event(stream);
    }

    /// Frees the slot of an event of which handler and reply have ended.
    fn finish_event(&mut self, stream: u64) {
        let done = |event: &IncomingStream| event.handler_done && event.reply_ended;
        if !self.incoming.get(&stream).is_some_and(done) {
            return;
        }
        if self.stop_request_body(stream) {
            // Whoever still reads it, beyond the handler's life, is told.
            let (reason, detail) = (CancelReason::BodyUnwanted, "the event is over".to_owned());
            let error = CallError::Failed { reason, detail };
            self.outputs.push_back(Output::Failed { stream, error });
        }
        if let Some(event) = self.incoming.remove(&stream) {
            self.budgets.release(event.charge);
        }
    }

    /// Tells the caller that the rest of its body is not wanted. Returns
    /// whether there was a rest.
    pub(super) fn stop_request_body(&mut self, stream: u64) -> bool {
        let Some(event) = self.incoming.get_mut(&stream) else { return false };
        let Some(window) = event.window.take() else { return false };
        let rest = !event.body_over;
        window.close(&self.budgets);
        if rest {
            event.body_over = true;
            self.push_cancel(stream, CancelReason::BodyUnwanted, String::new());
            self.remember(stream);
        }
        rest
    }

    /// Ends an event from this side: no answer will come, or no more of it.
    pub(super) fn cancel_reply(&mut self, stream: u64, reason: CancelReason, detail: String) {
        let Some(event) = self.incoming.get_mut(&stream) else { return };
        if event.reply_ended {
            return;
        }
        event.settled = true;
        event.reply_ended = true;
        let late_data = !std::mem::replace(&mut event.body_over, true);
        event.due = None;
        self.queue.forget(stream);
        self.push_cancel(stream, reason, detail);
        if late_data {
            self.remember(stream);
        }
        self.finish_request_body(stream);
        self.finish_event(stream);
    }

    pub(super) fn on_caller_cancel(&mut self, stream: u64) {
        let Some(event) = self.incoming.get_mut(&stream) else { return };
        event.settled = true;
        let answered = std::mem::replace(&mut event.reply_ended, true);
        event.body_over = true;
        event.due = None;
        self.queue.forget(stream);
        self.outputs.push_back(if answered {
            // The caller has its answer; what the handler does now is its own.
            let (reason, detail) = (CancelReason::CallerGone, "the event is over".to_owned());
            Output::Failed { stream, error: CallError::Failed { reason, detail } }
        } else {
            Output::Abort { stream }
        });
        self.finish_request_body(stream);
        self.finish_event(stream);
    }

    pub(super) fn on_handler_deadline(&mut self, now: Instant, stream: u64) {
        let Some(event) = self.incoming.get_mut(&stream) else { return };
        let mut detail = String::new();
        if event.settled {
            // The answer has begun in time; what may be missing is its credit.
            let starved = self.queue.starved(stream);
            if starved.is_none() || starved != event.starved_at {
                event.starved_at = starved;
                let due = now + CREDIT_STALL;
                event.due = Some(due);
                return self.watch(due);
            }
            detail = format!("no credit for the rest of the answer came for {CREDIT_STALL:?}");
        }
        self.cancel_reply(stream, CancelReason::HandlerDeadline, detail);
        self.outputs.push_back(Output::Abort { stream });
    }

    pub(super) fn end_handlers(&mut self) {
        let mut events: Vec<_> = std::mem::take(&mut self.incoming).into_iter().collect();
        events.sort_unstable_by_key(|(stream, _)| *stream);
        for (stream, event) in events {
            self.budgets.release(event.charge);
            if let Some(window) = event.window {
                window.close(&self.budgets);
            }
            self.outputs.push_back(Output::Abort { stream });
        }
    }
}

/// Takes a request apart, or says what is wrong with it.
fn split(payload: Bytes) -> Result<(RequestHead, Bytes), String> {
    let (head, body) = head::split::<RequestHead>(payload).map_err(|error| error.to_string())?;
    if head.headers.len() > MAX_HEADERS || head.args.len() > MAX_ARGS {
        return Err(format!("over {MAX_HEADERS} headers or {MAX_ARGS} arguments"));
    }
    Ok((head, body))
}
