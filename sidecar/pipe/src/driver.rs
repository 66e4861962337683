//! The one task that owns a pipe's stream.
//!
//! It turns readiness into calls of the session: read, take commands, look at
//! the time, write. Reading never waits for a stream, and a write that blocks
//! does not stop reading (libp2p/rust-yamux#102 deadlocked that way).

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use restpipe_proto::Frame;
use restpipe_proto::pb::{GoAway, GoAwayReason, Hello, RequestHead};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use crate::Role;
use crate::body::{BodyEvent, RecvBody, Room};
use crate::error::{CallError, Why};
use crate::handle::{Answer, Commands, PeerInfo, PipeHandle, PipeState, Settled, ToDriver};
use crate::incoming::{Incoming, Responder};
use crate::limits::{LINGER, PipeConfig, READ_BATCH, WRITE_STALL};
use crate::session::{Batch, Command, Output, Session};

/// Commands taken before the socket gets its turn.
const COMMAND_BATCH: usize = 256;

/// Batches written before other tasks get their turn.
const WRITES_PER_TURN: usize = 4;

/// I/O vectors handed over at once: a batch of bulk is four chunks with a
/// header before each.
const MAX_IO_SLICES: usize = 16;

/// Streams that a peer may allow at most; more would be memory, not speed.
const MAX_PEER_STREAMS: u32 = 4096;

/// Who handles the peer's events.
pub trait Service: Send + Sync + 'static {
    /// Handles one event, in a task of its own. A panic in it ends that event
    /// and nothing else.
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// A ping was answered after `rtt`.
    fn on_heartbeat(&self, _rtt: Duration) {}
}

/// Opens a pipe over `io`. The driver is to be spawned; it ends when the pipe
/// does.
pub fn open<T>(
    io: T,
    role: Role,
    config: PipeConfig,
    service: Arc<dyn Service>,
) -> (PipeHandle, Driver<T>) {
    let (sender, commands) = mpsc::unbounded_channel();
    let handle = PipeHandle::new(role, sender);
    let now = now();
    let driver = Driver {
        io,
        session: Session::new(role, config, now),
        commands,
        taken: Vec::new(),
        handle: handle.clone(),
        service,
        calls: HashMap::new(),
        handlers: HashMap::new(),
        rooms: HashMap::new(),
        bodies: HashMap::new(),
        peer_streams: 0,
        read: BytesMut::new(),
        batch: Batch::default(),
        stood_back: false,
        needs_flush: false,
        write_blocked: None,
        sleep: Box::pin(tokio::time::sleep_until(now.into())),
        wake_at: now,
        closing: None,
        ended: false,
    };
    (handle, driver)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

thread_local! {
    /// One read buffer for all pipes of a thread: a pipe holds it only while
    /// it reads, so that an idle one holds none.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// How far the end of a pipe is.
#[derive(Debug)]
struct Closing {
    why: Why,
    /// Our end of stream has been sent.
    shut: bool,
    until: Instant,
}

/// Drives one pipe until it ends; see the module's text.
#[must_use = "a pipe lives while its driver is polled"]
pub struct Driver<T> {
    io: T,
    session: Session,
    commands: mpsc::UnboundedReceiver<ToDriver>,
    /// Commands taken from the channel; kept for its memory.
    taken: Vec<ToDriver>,
    handle: PipeHandle,
    service: Arc<dyn Service>,
    calls: HashMap<u64, oneshot::Sender<Settled>>,
    handlers: HashMap<u64, AbortHandle>,
    rooms: HashMap<u64, Arc<Room>>,
    bodies: HashMap<u64, mpsc::UnboundedSender<BodyEvent>>,
    peer_streams: u32,
    read: BytesMut,
    batch: Batch,
    stood_back: bool,
    needs_flush: bool,
    write_blocked: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
    wake_at: Instant,
    closing: Option<Closing>,
    ended: bool,
}

impl<T> std::fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = Why;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Why> {
        let this = self.get_mut();
        let now = now();
        if this.closing.is_none()
            && let Err(why) = this.turn(cx, now)
        {
            this.begin_close(why, now);
        }
        match this.closing {
            Some(_) => this.poll_close(cx, now),
            None => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        self.poll_read(cx, now)?;
        self.poll_commands(cx, now)?;
        self.look_at_time(now)?;
        self.deliver();
        self.poll_write(cx, now)?;
        if self.session.is_drained() && self.batch.segments().is_empty() && !self.needs_flush {
            return Err(Why::Drained);
        }
        self.arm(cx, now);
        Ok(())
    }

    // === reading ===

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        if self.read.capacity() == 0 {
            self.read = SCRATCH.with_borrow_mut(std::mem::take);
        }
        let result = self.read_until_pending(cx, now);
        if self.read.is_empty() {
            let empty = std::mem::take(&mut self.read);
            SCRATCH.with_borrow_mut(|scratch| *scratch = empty);
        }
        result
    }

    fn read_until_pending(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        let mut left = READ_BATCH;
        loop {
            if self.read.capacity() - self.read.len() < READ_BATCH / 4 {
                self.read.reserve(READ_BATCH);
            }
            let got = match pin!(self.io.read_buf(&mut self.read)).poll(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(self.why_gone(error)),
                Poll::Ready(Ok(0)) if self.session.is_drained() => return Err(Why::Drained),
                Poll::Ready(Ok(0)) => return Err(Why::Eof),
                Poll::Ready(Ok(got)) => got,
            };
            self.session.on_bytes(now);
            while let Some(frame) = Frame::decode(&mut self.read)? {
                self.session.on_frame(now, frame)?;
            }
            self.deliver();
            left = left.saturating_sub(got);
            if left == 0 {
                cx.waker().wake_by_ref();
                return Ok(());
            }
        }
    }

    /// A peer that has drained may drop its end without a word.
    fn why_gone(&self, error: io::Error) -> Why {
        if self.session.is_drained() { Why::Drained } else { Why::Io(error.to_string()) }
    }

    // === commands ===

    fn poll_commands(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        let mut taken = std::mem::take(&mut self.taken);
        let mut left = COMMAND_BATCH;
        let mut result = Ok(());
        while left > 0 && result.is_ok() {
            let Poll::Ready(count) = self.commands.poll_recv_many(cx, &mut taken, left) else {
                break;
            };
            left -= count;
            result = taken.drain(..).try_for_each(|command| self.on_command(now, command));
        }
        self.taken = taken;
        if left == 0 {
            cx.waker().wake_by_ref();
        }
        result
    }

    fn on_command(&mut self, now: Instant, command: ToDriver) -> Result<(), Why> {
        let command = match command {
            ToDriver::Session(command) => command,
            ToDriver::Call { command, stream, settle, room } => {
                self.calls.insert(stream, settle);
                if let Some(room) = room {
                    self.rooms.insert(stream, room);
                }
                command
            }
            ToDriver::Room { stream, room } => {
                self.rooms.insert(stream, room);
                return Ok(());
            }
            ToDriver::Close(why) => return Err(Why::ClosedHere(why)),
        };
        let mut end = None;
        match &command {
            Command::Cancel { stream, .. } => {
                self.calls.remove(stream);
                self.bodies.remove(stream);
                self.close_room(*stream);
            }
            Command::Data { stream, end: true, .. } => {
                self.rooms.remove(stream);
            }
            Command::HandlerDone { stream } => {
                self.handlers.remove(stream);
                self.handle.shared().serving.fetch_sub(1, Ordering::Relaxed);
            }
            Command::GoAway { reason, detail, .. } => end = self.on_own_go_away(*reason, detail),
            _ => {}
        }
        self.session.on_command(now, command);
        end.map_or(Ok(()), Err)
    }

    /// This side goes away. Returns why the pipe ends, if it does at once.
    fn on_own_go_away(&mut self, reason: GoAwayReason, detail: &str) -> Option<Why> {
        match reason {
            GoAwayReason::Replace => None,
            GoAwayReason::Draining | GoAwayReason::Replaced => {
                self.stop_new_calls(GoAway {
                    reason: reason.into(),
                    detail: detail.to_owned(),
                    ..GoAway::default()
                });
                None
            }
            _ => Some(Why::ClosedHere(detail.to_owned())),
        }
    }

    fn stop_new_calls(&mut self, away: GoAway) {
        let shared = self.handle.shared();
        shared.usable.store(false, Ordering::Relaxed);
        // Before the slots close: who waits for one looks at the state then.
        shared.state.send_replace(PipeState::Draining(away));
        shared.slots.close();
    }

    // === outputs of the session ===

    fn deliver(&mut self) {
        while let Some(output) = self.session.next_output() {
            self.on_output(output);
        }
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Opened(hello) => self.on_opened(*hello),
            Output::Request { stream, head, body, end, deadline } => {
                self.start_handler(stream, *head, body, end, deadline);
            }
            Output::Abort { stream } => {
                if let Some(handler) = self.handlers.get(&stream) {
                    handler.abort();
                }
                self.bodies.remove(&stream);
                self.close_room(stream);
            }
            Output::Reply { stream, head, body, end } => {
                let Some(settle) = self.calls.remove(&stream) else { return };
                let answer = if end {
                    Answer::Whole(body)
                } else {
                    let (events, receiver) = mpsc::unbounded_channel();
                    self.bodies.insert(stream, events);
                    Answer::Streamed(body, receiver)
                };
                // Who has stopped waiting cancels the call.
                let _ = settle.send(Ok((head, answer)));
            }
            Output::Data { stream, chunk, end } => self.on_data(stream, chunk, end),
            Output::Failed { stream, error } => {
                self.close_room(stream);
                if let Some(settle) = self.calls.remove(&stream) {
                    let _ = settle.send(Err(error));
                } else if let Some(body) = self.bodies.remove(&stream) {
                    let _ = body.send(BodyEvent::Failed(error));
                }
            }
            Output::Room { stream, bytes } => {
                if let Some(room) = self.rooms.get(&stream) {
                    room.add(bytes);
                }
            }
            Output::StopBody { stream } => self.close_room(stream),
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
            Output::GoingAway(away) => self.stop_new_calls(away),
            Output::Limit(streams) => self.limit_streams(streams),
        }
    }

    fn on_opened(&mut self, hello: Hello) {
        let streams = hello.limits.as_ref().map_or(0, |limits| limits.max_streams);
        let shared = self.handle.shared().clone();
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
        let slots = &self.handle.shared().slots;
        if streams > self.peer_streams {
            slots.add_permits((streams - self.peer_streams) as usize);
            self.peer_streams = streams;
        } else {
            // Taken slots cannot be called back; the free ones are what goes.
            let forgotten = slots.forget_permits((self.peer_streams - streams) as usize);
            self.peer_streams -= forgotten as u32;
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
            let (events, receiver) = mpsc::unbounded_channel();
            self.bodies.insert(stream, events);
            RecvBody::streamed(body, stream, receiver, commands.clone(), false, None)
        };
        let responder = Responder::new(stream, commands.clone());
        let event = Incoming { head, body, deadline, responder };
        let done = HandlerDone { stream, commands };
        let service = self.service.clone();
        self.handle.shared().serving.fetch_add(1, Ordering::Relaxed);
        self.handle.shared().events.fetch_add(1, Ordering::Relaxed);
        let handler = tokio::spawn(async move {
            let _done = done;
            service.serve(event).await;
        });
        self.handlers.insert(stream, handler.abort_handle());
    }

    fn on_data(&mut self, stream: u64, chunk: Bytes, end: bool) {
        let Some(body) = self.bodies.get(&stream) else { return };
        // A consumer that is gone has said so by a command.
        if !chunk.is_empty() {
            let _ = body.send(BodyEvent::Chunk(chunk));
        }
        if end {
            let _ = body.send(BodyEvent::End);
            self.bodies.remove(&stream);
        }
    }

    fn close_room(&mut self, stream: u64) {
        if let Some(room) = self.rooms.remove(&stream) {
            room.close();
        }
    }

    // === writing ===

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        for _ in 0..WRITES_PER_TURN {
            if self.poll_write_batch(cx)?.is_pending() {
                self.write_blocked.get_or_insert(now);
                return Ok(());
            }
            self.write_blocked = None;
            if !self.session.has_frames() {
                self.batch.shrink();
                return Ok(());
            }
            if !self.stood_back && self.session.may_stand_back() {
                self.stood_back = true;
                break;
            }
            self.stood_back = false;
            self.session.fill(&mut self.batch);
            self.deliver();
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn poll_write_batch(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Why> {
        while !self.batch.segments().is_empty() {
            let segments = self.batch.segments();
            let mut slices = [IoSlice::new(&[]); MAX_IO_SLICES];
            let count = segments.len().min(MAX_IO_SLICES);
            for (slice, segment) in slices.iter_mut().zip(segments.iter()) {
                *slice = IoSlice::new(segment);
            }
            let written = match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(error)) => return Err(self.why_gone(error)),
                Poll::Ready(Ok(0)) => return Err(Why::Eof),
                Poll::Ready(Ok(written)) => written,
            };
            self.needs_flush = true;
            self.write_blocked = None;
            advance(self.batch.segments(), written);
        }
        if self.needs_flush {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(error)) => return Err(self.why_gone(error)),
                Poll::Ready(Ok(())) => self.needs_flush = false,
            }
        }
        Ok(Poll::Ready(()))
    }

    // === time ===

    fn look_at_time(&mut self, now: Instant) -> Result<(), Why> {
        if self.write_blocked.is_some_and(|since| now - since >= WRITE_STALL) {
            return Err(Why::WriteStalled(WRITE_STALL));
        }
        if self.session.deadline() <= now { self.session.on_timeout(now) } else { Ok(()) }
    }

    fn due(&self) -> Instant {
        let due = self.session.deadline();
        match (&self.closing, self.write_blocked) {
            (Some(closing), _) => closing.until,
            (None, Some(since)) => due.min(since + WRITE_STALL),
            (None, None) => due,
        }
    }

    /// Sees to it that this task is woken when it is due. A sleep that is too
    /// early is left alone: most deadlines are met long before.
    fn arm(&mut self, cx: &mut Context<'_>, now: Instant) {
        let due = self.due();
        if due < self.wake_at || self.wake_at <= now {
            self.wake_at = due;
            self.sleep.as_mut().reset(due.into());
            if self.sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }

    // === ending ===

    fn begin_close(&mut self, why: Why, now: Instant) {
        tracing::trace!(%why, "pipe ends");
        self.session.say_why(&why);
        self.settle_all(&why);
        self.closing = Some(Closing { why, shut: false, until: now + LINGER });
    }

    /// Flushes what is queued, sends our end of stream, and waits a moment
    /// for the peer's.
    fn poll_close(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Why> {
        let Some(closing) = &self.closing else { return Poll::Pending };
        let why = closing.why.clone();
        let speak = matches!(why, Why::Drained | Why::ClosedHere(_) | Why::Protocol(_));
        if !speak || now >= closing.until || self.poll_farewell(cx).is_ready() {
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
    fn settle_all(&mut self, why: &Why) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let shared = self.handle.shared().clone();
        shared.usable.store(false, Ordering::Relaxed);
        shared.state.send_replace(PipeState::Ended(why.clone()));
        shared.slots.close();
        self.session.end(why);
        while let Some(output) = self.session.next_output() {
            if let Output::Failed { stream, error } = output {
                if let Some(settle) = self.calls.remove(&stream) {
                    let _ = settle.send(Err(error));
                } else if let Some(body) = self.bodies.remove(&stream) {
                    let _ = body.send(BodyEvent::Failed(error));
                }
            }
        }
        self.handlers.values().for_each(AbortHandle::abort);
        self.rooms.values().for_each(|room| room.close());
        self.refuse_queued();
    }

    /// Calls that were queued and never seen by the session were not sent.
    fn refuse_queued(&mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                ToDriver::Call { settle, room, .. } => {
                    let _ = settle.send(Err(CallError::NotSent(crate::NotSent::Ended)));
                    if let Some(room) = room {
                        room.close();
                    }
                }
                ToDriver::Room { room, .. } => room.close(),
                ToDriver::Session(_) | ToDriver::Close(_) => {}
            }
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.settle_all(&Why::ClosedHere("the pipe's task was stopped".to_owned()));
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
        self.commands.send(Command::HandlerDone { stream: self.stream });
    }
}

/// Takes `written` bytes off the front of `segments`.
fn advance(segments: &mut std::collections::VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = segments.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        segments.pop_front();
    }
}
