//! What the session asks for: calls to settle, handlers to start, bodies to
//! hand on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use restpipe_proto::pb::{GoAway, GoAwayReason, Hello, ReplyHead, RequestHead};

use super::{Driver, MAX_PEER_STREAMS};
use crate::body::RecvBody;
use crate::error::CallError;
use crate::handle::{Answer, Commands, PeerInfo, PipeState, Shared};
use crate::inbox::inbox;
use crate::incoming::{Incoming, Responder};
use crate::session::{Command, Output};

impl<T> Driver<T> {
    pub(super) fn deliver(&mut self) {
        while let Some(output) = self.session.next_output() {
            self.on_output(output);
        }
    }

    pub(super) fn on_output(&mut self, output: Output) {
        match output {
            Output::Opened(hello) => self.on_opened(*hello),
            Output::Request { stream, head, body, end, deadline } => {
                self.start_handler(stream, *head, body, end, deadline);
            }
            Output::Refused(reason) => self.service.on_refused(reason),
            Output::Abort { stream } => {
                if let Some(handler) = self.handlers.get(&stream) {
                    handler.abort();
                }
                self.bodies.remove(&stream);
                self.rooms.remove(&stream);
            }
            Output::Reply { stream, head, body, end } => self.on_reply(stream, head, body, end),
            Output::Data { stream, chunk, end } => self.on_data(stream, chunk, end),
            Output::Failed { stream, error } => self.fail(stream, error),
            Output::Room { stream, bytes } => {
                if let Some(room) = self.rooms.get(&stream) {
                    room.add(bytes);
                }
            }
            Output::StopBody { stream } => drop(self.rooms.remove(&stream)),
            Output::HeartbeatRtt(rtt) => self.service.on_heartbeat(rtt),
            Output::GoingAway(away) if away.reason() == GoAwayReason::Replace => {
                self.handle.shared().state.send_if_modified(|state| {
                    let first = matches!(state, PipeState::Open);
                    if first {
                        *state = PipeState::Replacing(away);
                    }
                    first
                });
            }
            Output::GoingAway(away) => {
                // The first word counts.
                let _ = self.handle.shared().farewell.set(away.clone());
                self.stop_new_calls(away);
            }
            Output::Limit(streams) => self.limit_streams(streams),
            Output::Notice(notice) => {
                if self.handle.shared().hear_reload_failed(&notice.reload_failed) {
                    self.service.on_reload_failed(self.handle.reload_failed().as_deref());
                }
            }
        }
    }

    fn on_reply(&mut self, stream: u64, head: Box<ReplyHead>, body: Bytes, end: bool) {
        let Some(settle) = self.calls.remove(&stream) else { return };
        let answer = if end {
            Answer::Whole(body)
        } else {
            let (sender, inbox) = inbox();
            self.bodies.insert(stream, sender);
            Answer::Streamed(body, inbox)
        };
        // Who has stopped waiting cancels the call.
        let _ = settle.send(Ok((head, answer)));
    }

    pub(super) fn stop_new_calls(&mut self, away: GoAway) {
        let shared = self.handle.shared();
        shared.usable.store(false, Ordering::Relaxed);
        // Before the slots close: who waits for one looks at the state then.
        shared.state.send_replace(PipeState::Draining(away));
        shared.slots.close();
    }

    fn on_opened(&mut self, hello: Hello) {
        let streams = hello.limits.as_ref().map_or(0, |limits| limits.max_streams);
        let commands = self.handle.commands().clone();
        let shared = commands.shared();
        // It is set once: a second HELLO ends the pipe.
        let _ = shared.peer.set(PeerInfo { hello: Arc::new(hello) });
        self.limit_streams(streams);
        shared.state.send_if_modified(|state| {
            let opening = matches!(state, PipeState::Opening);
            if opening {
                shared.usable.store(true, Ordering::Relaxed);
                *state = PipeState::Open;
            }
            opening
        });
    }

    fn limit_streams(&mut self, streams: u32) {
        let streams = streams.min(MAX_PEER_STREAMS);
        let Shared { slots, slots_owed, .. } = self.handle.shared();
        let before = std::mem::replace(&mut self.peer_streams, streams);
        if streams < before {
            let less = (before - streams) as usize;
            // Those in use go when they are given back.
            let owed = less - slots.forget_permits(less);
            slots_owed.fetch_add(owed, Ordering::Relaxed);
        } else {
            let more = (streams - before) as usize;
            let forgive = |owed: usize| Some(owed.saturating_sub(more));
            let owed = slots_owed.try_update(Ordering::Relaxed, Ordering::Relaxed, forgive);
            slots.add_permits(more.saturating_sub(owed.unwrap_or(0)));
        }
    }

    fn start_handler(
        &mut self,
        stream: u64,
        head: RequestHead,
        body: Bytes,
        end: bool,
        deadline: Option<Instant>,
    ) {
        let commands = self.handle.commands().clone();
        let body = if end {
            RecvBody::whole(body)
        } else {
            let (sender, inbox) = inbox();
            self.bodies.insert(stream, sender);
            RecvBody::streamed(body, stream, inbox, commands.clone(), false, None)
        };
        let responder = Responder::new(stream, commands.clone());
        let event = Incoming { head, body, deadline, responder };
        let Shared { serving, events, .. } = commands.shared();
        serving.fetch_add(1, Ordering::Relaxed);
        events.fetch_add(1, Ordering::Relaxed);
        let done = HandlerDone { stream, commands };
        // Made here and not in its task: what is spawned is moved five times.
        let handling = self.service.serve(event);
        let handler = tokio::spawn(async move {
            let _done = done;
            handling.await;
        });
        self.handlers.insert(stream, handler.abort_handle());
    }

    fn on_data(&mut self, stream: u64, chunk: Bytes, end: bool) {
        let Some(body) = self.bodies.get(&stream) else { return };
        // A consumer that is gone has said so by a command.
        if !chunk.is_empty() {
            body.push(chunk);
        }
        if end && let Some(body) = self.bodies.remove(&stream) {
            body.end(Ok(()));
        }
    }

    /// A call or a body will not be finished.
    pub(super) fn fail(&mut self, stream: u64, error: CallError) {
        self.rooms.remove(&stream);
        if let Some(settle) = self.calls.remove(&stream) {
            // Who has stopped waiting does not hear it.
            let _ = settle.send(Err(error));
        } else if let Some(body) = self.bodies.remove(&stream) {
            body.end(Err(error));
        }
    }
}

/// Says that a handler has ended, however it did: by returning, by a panic,
/// or because it was stopped.
struct HandlerDone {
    stream: u64,
    commands: Commands,
}

impl Drop for HandlerDone {
    fn drop(&mut self) {
        self.commands.shared().serving.fetch_sub(1, Ordering::Relaxed);
        self.commands.send(Command::HandlerDone { stream: self.stream });
    }
}
