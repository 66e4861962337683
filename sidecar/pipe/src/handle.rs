//! What everybody but the driver holds of a pipe.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use restpipe_proto::MAX_PAYLOAD;
use restpipe_proto::head::{self, RequestTail};
use restpipe_proto::pb::{CancelReason, GoAway, GoAwayReason, Hello, ReplyHead};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::Role;
use crate::call::{Call, PendingReply, StartedCall};
use crate::error::{CallError, NotSent, Why};
use crate::inbox::Inbox;
use crate::limits::OVERLAP;
use crate::room::{BodySender, Room, RoomOwner};
use crate::session::{Command, Request};

/// What a driver is told.
///
/// The channel is unbounded, and bounded all the same: requests by the peer's
/// streams, replies by ours, data by the room that was offered, and the rest
/// by a few for each of those. It always has room for 32 of these, on idle
/// pipes too: what is large is in a box.
#[derive(Debug)]
pub(crate) enum ToDriver {
    Session(Box<Command>),
    /// The handler of a stream of the peer has ended; there is one of these for each event.
    HandlerDone {
        stream: u64,
    },
    /// A call.
    Call {
        request: Box<Request>,
        settle: oneshot::Sender<Settled>,
    },
    /// A body is going to be streamed. It comes before its call or reply, which
    /// may be sent, and make room, at once.
    Room {
        stream: u64,
        room: RoomOwner,
    },
    /// Ends the pipe at once.
    Close(Box<str>),
}

/// How a call ended: with an answer, or without.
pub(crate) type Settled = Result<(Box<ReplyHead>, Answer), CallError>;

/// The body of an answer as the driver hands it over.
#[derive(Debug)]
pub(crate) enum Answer {
    Whole(Bytes),
    Streamed(Bytes, Inbox),
}

/// Sends commands to a driver; those for a pipe that ended go nowhere.
///
/// It is the one thing that calls and handlers hold of their pipe, and all that is shared is
/// behind it: each further handle would be two more locked instructions a call.
#[derive(Clone, Debug)]
pub(crate) struct Commands(Arc<Shared>);

impl Commands {
    pub(crate) fn send(&self, command: Command) {
        // A pipe that has ended has settled everything already.
        let _ = self.push(match command {
            Command::HandlerDone { stream } => ToDriver::HandlerDone { stream },
            command => ToDriver::Session(Box::new(command)),
        });
    }

    /// # Errors
    /// If the driver takes nothing any more.
    pub(crate) fn push(&self, told: ToDriver) -> Result<(), NotSent> {
        self.0.driver.send(told).map_err(|_| NotSent::Ended)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

/// One taken stream of the peer.
#[derive(Debug)]
pub(crate) struct SlotPermit {
    pub(crate) commands: Commands,
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        let Shared { in_flight, slots, slots_owed, .. } = self.commands.shared();
        in_flight.fetch_sub(1, Ordering::Relaxed);
        let pay = |owed: usize| owed.checked_sub(1);
        if slots_owed.try_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_err() {
            slots.add_permits(1);
        }
    }
}

/// What the peer said of itself.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its HELLO.
    pub hello: Arc<Hello>,
}

/// How far a pipe is.
#[derive(Clone, Debug, PartialEq)]
pub enum PipeState {
    /// HELLO has not come.
    Opening,
    /// Calls can be made.
    Open,
    /// The peer asks for another pipe; calls can still be made.
    Replacing(GoAway),
    /// No new calls; what is open is finished.
    Draining(GoAway),
    /// It has ended.
    Ended(Why),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) role: Role,
    driver: mpsc::UnboundedSender<ToDriver>,
    /// One for each stream that the peer takes; a [`SlotPermit`] gives its own back.
    pub(crate) slots: Semaphore,
    /// Slots that the peer took back while they were in use.
    pub(crate) slots_owed: AtomicUsize,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) serving: AtomicUsize,
    /// Events of both directions since the pipe came up.
    pub(crate) events: AtomicU64,
    pub(crate) usable: AtomicBool,
    pub(crate) state: watch::Sender<PipeState>,
    pub(crate) peer: OnceLock<PeerInfo>,
    /// The peer's first word that it goes away. The state may have moved on
    /// before anybody has looked at it.
    pub(crate) farewell: OnceLock<GoAway>,
    /// What the peer has told of its renewals, in a word.
    pub(crate) reload_failed: Mutex<Option<Box<str>>>,
    /// The next stream id. The lock is held while the command is sent, so
    /// that ids reach the session in rising order.
    next: Mutex<u64>,
}

/// A pipe, to whoever makes calls on it. Clones are the same pipe.
#[derive(Clone, Debug)]
pub struct PipeHandle {
    pub(crate) commands: Commands,
}

impl PipeHandle {
    pub(crate) fn new(role: Role, driver: mpsc::UnboundedSender<ToDriver>) -> Self {
        let shared = Shared {
            role,
            driver,
            slots: Semaphore::new(0),
            slots_owed: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            serving: AtomicUsize::new(0),
            events: AtomicU64::new(0),
            usable: AtomicBool::new(false),
            state: watch::Sender::new(PipeState::Opening),
            peer: OnceLock::new(),
            farewell: OnceLock::new(),
            reload_failed: Mutex::default(),
            next: Mutex::new(role.first_stream()),
        };
        Self { commands: Commands(Arc::new(shared)) }
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.commands.shared()
    }

    /// Waits until the peer's HELLO has come.
    ///
    /// # Errors
    /// Why the pipe ended instead.
    pub async fn opened(&self) -> Result<PeerInfo, Why> {
        let mut state = self.shared().state.subscribe();
        loop {
            if let PipeState::Ended(why) = &*state.borrow_and_update() {
                return Err(why.clone());
            }
            if let Some(peer) = self.shared().peer.get() {
                return Ok(peer.clone());
            }
            if state.changed().await.is_err() {
                return Err(Why::Eof);
            }
        }
    }

    /// Follows the pipe's state.
    pub fn state(&self) -> watch::Receiver<PipeState> {
        self.shared().state.subscribe()
    }

    /// What the peer said of itself; `None` before its HELLO.
    pub fn peer(&self) -> Option<&PeerInfo> {
        self.shared().peer.get()
    }

    /// The peer's first word that it goes away, if it has said so.
    pub fn farewell(&self) -> Option<&GoAway> {
        self.shared().farewell.get()
    }

    /// Whether new calls can be made.
    pub fn is_usable(&self) -> bool {
        self.shared().usable.load(Ordering::Relaxed)
    }

    /// Whether the peer has asked for another pipe. Calls can still be made.
    pub fn is_replacing(&self) -> bool {
        matches!(&*self.shared().state.borrow(), PipeState::Replacing(_))
    }

    /// Calls of this side that wait for an answer.
    pub fn in_flight(&self) -> usize {
        self.shared().in_flight.load(Ordering::Relaxed)
    }

    /// Events of the peer that are being handled.
    pub fn serving(&self) -> usize {
        self.shared().serving.load(Ordering::Relaxed)
    }

    /// Events of both directions since the pipe came up.
    pub fn events(&self) -> u64 {
        self.shared().events.load(Ordering::Relaxed)
    }

    /// Whether both handles are of the same pipe.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.commands.0, &other.commands.0)
    }

    /// Makes a call. Returns once it is queued; waits for a free stream of
    /// the peer until `call.wait_until`.
    ///
    /// # Errors
    /// If it could not be queued: nothing was sent.
    pub async fn start(&self, call: Call) -> Result<StartedCall, CallError> {
        let Call { head, body, end, deadline, wait_until } = call;
        // Two fields of a byte and at most five, and a length that takes more for that.
        const TAIL: usize = 16;
        if head::framed_len(&*head) + TAIL > MAX_PAYLOAD {
            return Err(NotSent::TooLarge.into());
        }
        let slot = self.slot(wait_until.min(deadline)).await?;
        let (settle, settled) = oneshot::channel();
        let room = (!end).then(Arc::<Room>::default);

        let stream = {
            let mut next = self.shared().next.lock().unwrap_or_else(PoisonError::into_inner);
            let stream = *next;
            let tail = RequestTail::default();
            let request = Box::new(Request { stream, head, tail, body, end, deadline });
            if let Some(room) = room.as_ref().map(RoomOwner::new) {
                self.commands.push(ToDriver::Room { stream, room })?;
            }
            self.commands.push(ToDriver::Call { request, settle })?;
            *next += 2;
            stream
        };
        let body = room.map(|room| {
            BodySender::new(stream, room, self.commands.clone(), CancelReason::CallerGone)
        });
        let reply = PendingReply::new(stream, settled, slot);
        Ok(StartedCall { body, reply })
    }

    async fn slot(&self, until: Instant) -> Result<SlotPermit, CallError> {
        if !self.is_usable() {
            return Err(self.not_usable().into());
        }
        let Shared { slots, in_flight, events, .. } = self.shared();
        let permit = match slots.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let wait = tokio::time::timeout_at(until.into(), slots.acquire());
                wait.await.map_err(|_| NotSent::Busy)?.map_err(|_| self.not_usable())?
            }
        };
        permit.forget();
        in_flight.fetch_add(1, Ordering::Relaxed);
        events.fetch_add(1, Ordering::Relaxed);
        Ok(SlotPermit { commands: self.commands.clone() })
    }

    fn not_usable(&self) -> NotSent {
        match &*self.shared().state.borrow() {
            PipeState::Draining(_) => NotSent::Draining,
            _ => NotSent::Ended,
        }
    }

    /// Tells the peer to open no more streams and why. New calls of this side
    /// end too, unless the reason is [`GoAwayReason::Replace`].
    pub fn go_away(&self, reason: GoAwayReason, detail: &str, retry_after: Duration) {
        if reason != GoAwayReason::Replace {
            self.shared().usable.store(false, Ordering::Relaxed);
        }
        self.commands.send(Command::GoAway { reason, detail: detail.to_owned(), retry_after });
    }

    /// Ends the pipe in good order after a newer one has taken its place, and
    /// waits for that. The peer is first told to use the other one and only
    /// then that this one takes nothing more: calls that were on their way
    /// would be refused otherwise.
    pub async fn retire(self) -> Why {
        let detail = "a newer pipe has taken over";
        self.go_away(GoAwayReason::Replace, detail, Duration::ZERO);
        if let Ok(why) = tokio::time::timeout(OVERLAP, self.ended()).await {
            return why;
        }
        self.go_away(GoAwayReason::Draining, detail, Duration::ZERO);
        self.ended().await
    }

    /// Ends the pipe at once: open calls are lost.
    pub fn close(&self, why: &str) {
        self.shared().usable.store(false, Ordering::Relaxed);
        let _ = self.commands.push(ToDriver::Close(why.into()));
    }

    /// Waits until the pipe has ended.
    pub async fn ended(&self) -> Why {
        let mut state = self.shared().state.subscribe();
        let ended = state.wait_for(|state| matches!(state, PipeState::Ended(_))).await;
        match ended.as_deref() {
            Ok(PipeState::Ended(why)) => why.clone(),
            _ => Why::Eof,
        }
    }

    /// Which side of the connection this is.
    pub fn role(&self) -> Role {
        self.shared().role
    }

    /// Tells the peer how many streams it may have open from now on.
    pub fn limit_streams(&self, max_streams: u32) {
        self.commands.send(Command::Limit { max_streams });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pipe_s_channel_always_has_room_for_is_three_quarters_of_a_kilobyte() {
        assert!(size_of::<ToDriver>() <= 24, "{}", size_of::<ToDriver>());
    }
}
