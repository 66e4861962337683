//! The one task that owns a pipe's stream.
//!
//! It turns readiness into calls of the session: read, take commands, look at
//! the time, write. Reading never waits for a stream, and a write that blocks
//! does not stop reading (libp2p/rust-yamux#102 deadlocked that way).

mod close;
mod outputs;
mod read;
mod write;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use foldhash::HashMap;
use restpipe_proto::pb::{CancelReason, GoAway, GoAwayReason};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use crate::Role;
use crate::clock::now;
use crate::error::{CallError, Why};
use crate::handle::{PipeHandle, Settled, ToDriver};
use crate::inbox::InboxSender;
use crate::incoming::Incoming;
use crate::limits::{PipeConfig, WRITE_STALL};
use crate::room::RoomOwner;
use crate::session::{Batch, Command, Session};
use crate::wire::Wire;

/// Commands taken before the socket gets its turn.
const COMMAND_BATCH: usize = 256;

/// Streams that a peer may allow at most; more would be memory, not speed.
const MAX_PEER_STREAMS: u32 = 4096;

/// Who handles the peer's events.
pub trait Service: Send + Sync + 'static {
    /// Handles one event. What it returns runs in a task of its own: a panic
    /// in that ends the event and nothing else, one before it ends the pipe.
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// An event was refused before it could be handled.
    fn on_refused(&self, _reason: CancelReason) {}

    /// A ping was answered after `rtt`.
    fn on_heartbeat(&self, _rtt: Duration) {}

    /// The peer tells why it does not take the newest files of its identity,
    /// or that it does again.
    fn on_reload_failed(&self, _word: Option<&str>) {}
}

/// Answers nothing: for a side that only asks.
#[derive(Clone, Copy, Debug)]
pub struct NoEvents;

impl Service for NoEvents {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let detail = "this side of the pipe answers no events".to_owned();
        event.responder.cancel(CancelReason::RefusedInvalid, detail);
        Box::pin(std::future::ready(()))
    }
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
        calls: HashMap::default(),
        handlers: HashMap::default(),
        rooms: HashMap::default(),
        bodies: HashMap::default(),
        peer_streams: 0,
        read: BytesMut::new(),
        unnoted: 0,
        received: 0,
        batch: Batch::default(),
        stood_back: None,
        needs_flush: false,
        write_blocked: None,
        sleep: Box::pin(tokio::time::sleep_until(now.into())),
        wake_at: now,
        started: false,
        closing: None,
        ended: false,
    };
    (handle, driver)
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
    rooms: HashMap<u64, RoomOwner>,
    bodies: HashMap<u64, InboxSender>,
    peer_streams: u32,
    read: BytesMut,
    /// Bytes read of which the session has not been told.
    unnoted: usize,
    /// What the wire had received when it was last asked.
    received: u64,
    batch: Batch,
    /// Requests and replies that waited when this task last stood back from
    /// writing them.
    stood_back: Option<usize>,
    needs_flush: bool,
    write_blocked: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
    wake_at: Instant,
    started: bool,
    closing: Option<Closing>,
    ended: bool,
}

impl<T> std::fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<T: Wire> Future for Driver<T> {
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

impl<T: Wire> Driver<T> {
    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Why> {
        if !std::mem::replace(&mut self.started, true) {
            // Who turns a peer away before the first read starts none of its
            // events.
            self.poll_commands(cx, now)?;
        }
        self.poll_read(cx, now)?;
        self.poll_commands(cx, now)?;
        self.look_at_time(now)?;
        self.deliver();
        self.poll_write(cx, now)?;
        if self.session.may_close() && self.batch.segments().is_empty() && !self.needs_flush {
            return Err(Why::Drained);
        }
        self.arm(cx, now);
        Ok(())
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
            let mut commands = taken.drain(..);
            result = commands.try_for_each(|command| self.on_command(now, command));
            // What came behind the pipe's end was never sent.
            commands.for_each(|command| self.refuse_command(command));
        }
        self.taken = taken;
        if left == 0 {
            cx.waker().wake_by_ref();
        }
        result
    }

    fn on_command(&mut self, now: Instant, command: ToDriver) -> Result<(), Why> {
        let command = match command {
            ToDriver::Session(command) => *command,
            ToDriver::HandlerDone { stream } => Command::HandlerDone { stream },
            ToDriver::Call { request, settle } => {
                self.calls.insert(request.stream, settle);
                Command::Request(request)
            }
            ToDriver::Room { stream, room } => {
                self.rooms.insert(stream, room);
                return Ok(());
            }
            ToDriver::Close(why) => return Err(Why::ClosedHere(why.into())),
        };
        let mut end = None;
        match &command {
            Command::Cancel { stream, reason, detail } => {
                let error = CallError::Failed { reason: *reason, detail: detail.clone() };
                self.fail(*stream, error);
            }
            Command::Data { stream, end: true, .. } => {
                self.rooms.remove(stream);
            }
            Command::Unwanted { stream } => {
                self.bodies.remove(stream);
            }
            Command::HandlerDone { stream } => {
                self.handlers.remove(stream);
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

    // === time ===

    fn look_at_time(&mut self, now: Instant) -> Result<(), Why> {
        if self.write_blocked.is_some_and(|since| now - since >= WRITE_STALL) {
            return Err(Why::WriteStalled(WRITE_STALL));
        }
        if self.session.deadline() > now {
            return Ok(());
        }
        self.shrink();
        self.session.on_timeout(now)
    }

    /// Frees what an idle pipe need not hold. Called at deadlines, of which
    /// an idle pipe has one for each heartbeat.
    fn shrink(&mut self) {
        self.session.shrink();
        self.taken = Vec::new();
        if self.calls.is_empty() {
            self.calls = HashMap::default();
        }
        if self.handlers.is_empty() {
            self.handlers = HashMap::default();
        }
        if self.rooms.is_empty() {
            self.rooms = HashMap::default();
        }
        if self.bodies.is_empty() {
            self.bodies = HashMap::default();
        }
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
        }
        // Each time, as the task may be another one now.
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
