//! The protocol without sockets or a clock.
//!
//! Frames, commands and the time come in; frames to send ([`Session::fill`])
//! and [`Output`]s come out. The caller feeds it until nothing more comes and
//! calls [`Session::on_timeout`] at [`Session::deadline`].

mod heartbeat;
mod incoming;
mod outgoing;
mod queue;
mod window;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use restpipe_proto::pb::{
    Cancel, CancelReason, GoAway, GoAwayReason, Hello, Limits, ReplyHead, RequestHead,
};
use restpipe_proto::{Frame, Kind, VERSION, head};

use crate::Role;
use crate::budget::Budget;
use crate::error::{CallError, Why};
use crate::limits::{
    HELLO_TIMEOUT, MAX_CONTROL_QUEUE, MAX_DETAIL, MAX_STRAYS, PIPE_BUDGET, PipeConfig,
    REMEMBERED_STREAMS, STAND_BACK_BELOW,
};
use heartbeat::{Heartbeat, Silence};
use incoming::IncomingStream;
use outgoing::OutgoingStream;
pub use queue::Batch;
use queue::{Queue, Sent};
use window::Budgets;

/// What callers and handlers ask of the session.
#[derive(Debug)]
pub enum Command {
    /// Opens a stream. Ids come in rising order and are never used twice.
    Request {
        /// An id that this side owns.
        stream: u64,
        /// Fits a frame; its deadline and credit are filled in here.
        head: RequestHead,
        /// The first bytes of the body, at most 16 KiB.
        body: Bytes,
        /// Whether they are all.
        end: bool,
        /// When the answer is due.
        deadline: Instant,
    },
    /// Answers a stream of the peer.
    Reply {
        /// The stream.
        stream: u64,
        /// Fits a frame.
        head: ReplyHead,
        /// The first bytes of the body, at most 16 KiB.
        body: Bytes,
        /// Whether they are all.
        end: bool,
    },
    /// Sends more of a body, within the [`Output::Room`] it was offered.
    Data {
        /// The stream.
        stream: u64,
        /// Bytes of the body.
        chunk: Bytes,
        /// Whether they are the last.
        end: bool,
    },
    /// A received body's consumer took so many bytes.
    Consumed {
        /// The stream.
        stream: u64,
        /// Bytes.
        bytes: usize,
    },
    /// A received request's body is not wanted any further.
    Unwanted {
        /// The stream.
        stream: u64,
    },
    /// Ends a stream early.
    Cancel {
        /// The stream.
        stream: u64,
        /// Why.
        reason: CancelReason,
        /// A sentence for the peer's people.
        detail: String,
    },
    /// The handler of a stream of the peer has ended, whatever it did.
    HandlerDone {
        /// The stream.
        stream: u64,
    },
    /// Tells the peer to open no more streams.
    GoAway {
        /// Why. Reasons other than draining and replacing end the pipe.
        reason: GoAwayReason,
        /// A sentence for the peer's people.
        detail: String,
        /// What the peer should wait before it dials again.
        retry_after: Duration,
    },
    /// Tells the peer how many streams it may have open from now on.
    Limit {
        /// Streams.
        max_streams: u32,
    },
}

/// What the session asks of its surroundings.
#[derive(Debug)]
pub enum Output {
    /// The peer's HELLO came and fits.
    Opened(Box<Hello>),
    /// A handler is to be started.
    Request {
        /// The stream.
        stream: u64,
        /// What is asked.
        head: Box<RequestHead>,
        /// The first bytes of the body.
        body: Bytes,
        /// Whether they are all.
        end: bool,
        /// When the caller's deadline passes.
        deadline: Option<Instant>,
    },
    /// The handler of a stream is to be stopped.
    Abort {
        /// The stream.
        stream: u64,
    },
    /// A call was answered.
    Reply {
        /// The stream.
        stream: u64,
        /// The answer.
        head: Box<ReplyHead>,
        /// The first bytes of the body.
        body: Bytes,
        /// Whether they are all.
        end: bool,
    },
    /// More of a received body.
    Data {
        /// The stream.
        stream: u64,
        /// Bytes of the body.
        chunk: Bytes,
        /// Whether they are the last.
        end: bool,
    },
    /// A call or a received body will not be finished.
    Failed {
        /// The stream.
        stream: u64,
        /// Why.
        error: CallError,
    },
    /// A body's source may queue so many bytes more.
    Room {
        /// The stream.
        stream: u64,
        /// Bytes.
        bytes: usize,
    },
    /// Nobody wants more of a body that is being sent.
    StopBody {
        /// The stream.
        stream: u64,
    },
    /// A ping was answered after this time.
    HeartbeatRtt(Duration),
    /// The peer takes no more streams, or asks for another pipe.
    GoingAway(GoAway),
    /// The peer takes so many streams at once from now on.
    Limit(u32),
}

/// One end of a pipe.
#[derive(Debug)]
pub struct Session {
    role: Role,
    max_streams: u32,
    budgets: Budgets,
    heartbeat: Heartbeat,
    /// Until the peer's HELLO: when it is due.
    hello_due: Option<Instant>,
    /// The next id that this side has not used.
    next_own: u64,
    /// The highest id that the peer has used.
    last_peer: u64,
    outgoing: HashMap<u64, OutgoingStream>,
    incoming: HashMap<u64, IncomingStream>,
    deadlines: BTreeSet<(Instant, u64)>,
    queue: Queue,
    outputs: VecDeque<Output>,
    /// What the last fill did; kept for its memory.
    sent: Vec<Sent>,
    /// Streams that this side ended while the peer may still send on them.
    remembered: VecDeque<u64>,
    strays: u32,
    /// The last stream of the peer that is served, once it was told.
    told_last: Option<u64>,
    /// This side has heard that it may open no more streams.
    heard_last: bool,
}

impl Session {
    /// A session that begins by sending its HELLO.
    pub fn new(role: Role, config: PipeConfig, now: Instant) -> Self {
        let PipeConfig { mut hello, max_streams, heartbeat, budget } = config;
        hello.min_version = VERSION;
        hello.max_version = VERSION;
        hello.limits = Some(Limits { max_streams });
        hello.heartbeat_ms = u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX);
        let mut queue = Queue::default();
        queue.control(Kind::Hello, 0, head::to_bytes(&hello));
        Self {
            role,
            max_streams,
            budgets: Budgets { pipe: Budget::new(PIPE_BUDGET), process: budget },
            heartbeat: Heartbeat::new(now, heartbeat),
            hello_due: Some(now + HELLO_TIMEOUT),
            next_own: role.first_stream(),
            last_peer: 0,
            outgoing: HashMap::new(),
            incoming: HashMap::new(),
            deadlines: BTreeSet::new(),
            queue,
            outputs: VecDeque::new(),
            sent: Vec::new(),
            remembered: VecDeque::new(),
            strays: 0,
            told_last: None,
            heard_last: false,
        }
    }

    /// The next thing to do, until there is none.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether [`Self::fill`] would give anything.
    pub fn has_frames(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether writing a moment later may put more calls into one record:
    /// several are open and little is queued.
    pub fn may_stand_back(&self) -> bool {
        self.outgoing.len() + self.incoming.len() > 1 && self.queue.is_small(STAND_BACK_BELOW)
    }

    /// Moves frames into `batch`; they count as sent from here on.
    pub fn fill(&mut self, batch: &mut Batch) {
        let mut sent = std::mem::take(&mut self.sent);
        self.queue.fill(batch, &mut sent);
        batch.seal();
        for event in sent.drain(..) {
            match event {
                Sent::Request(stream) => self.on_request_sent(stream),
                Sent::End(stream) => self.on_end_sent(stream),
                Sent::Room(stream, bytes) => self.outputs.push_back(Output::Room { stream, bytes }),
            }
        }
        self.sent = sent;
    }

    /// Whether one side has said that it goes away and nothing is open: an end
    /// of the stream is then no loss.
    pub fn is_drained(&self) -> bool {
        (self.told_last.is_some() || self.heard_last)
            && self.outgoing.values().all(OutgoingStream::is_over)
            && self.incoming.is_empty()
            && self.queue.is_empty()
    }

    /// Whether this side may end the pipe now. Only the side that said GOAWAY
    /// ends it: the peer knows then that what was not served never will be.
    /// A side that only heard one may have requests on their way to it.
    pub fn may_close(&self) -> bool {
        self.told_last.is_some() && self.is_drained()
    }

    /// Frees what an idle pipe need not hold.
    pub fn shrink(&mut self) {
        self.queue.shrink();
        if self.outgoing.is_empty() {
            self.outgoing = HashMap::new();
        }
        if self.incoming.is_empty() {
            self.incoming = HashMap::new();
        }
        if self.outputs.is_empty() {
            self.outputs = VecDeque::new();
        }
        self.sent = Vec::new();
    }

    /// Whether nothing is kept for any stream. For tests: so nothing leaks.
    #[doc(hidden)]
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
            && self.incoming.is_empty()
            && self.deadlines.is_empty()
            && self.queue.holds_no_stream()
            && self.budgets.pipe.left() == PIPE_BUDGET
    }

    /// Bytes of body that the peer sent or may send at once. For tests.
    #[doc(hidden)]
    pub fn held(&self) -> usize {
        let replies = self.outgoing.values().map(|call| call.window.size());
        let requests = self.incoming.values().map(IncomingStream::held);
        replies.chain(requests).sum()
    }

    /// When [`Self::on_timeout`] is due.
    pub fn deadline(&self) -> Instant {
        let mut due = self.heartbeat.deadline();
        if let Some(hello_due) = self.hello_due {
            due = due.min(hello_due);
        }
        match self.deadlines.first() {
            Some((first, _)) => due.min(*first),
            None => due,
        }
    }

    /// Notes that bytes came, even if they are no whole frame yet.
    pub fn on_bytes(&mut self, now: Instant) {
        self.heartbeat.on_bytes(now);
    }

    /// Does what the time asks for.
    ///
    /// # Errors
    /// If the pipe cannot go on: the peer is silent, or said no HELLO.
    pub fn on_timeout(&mut self, now: Instant) -> Result<(), Why> {
        if self.hello_due.is_some_and(|due| due <= now) {
            return Err(Why::NoHello(HELLO_TIMEOUT));
        }
        match self.heartbeat.on_timeout(now) {
            Silence::Fine => {}
            Silence::Ping(token) => self.queue.control(Kind::Ping, 0, head::ping_payload(token)),
            Silence::Dead(silent) => return Err(Why::Silent(silent)),
        }
        while let Some((due, stream)) = self.deadlines.first().copied() {
            if due > now {
                break;
            }
            self.deadlines.pop_first();
            if self.role.owns(stream) {
                self.on_call_deadline(now, stream);
            } else {
                self.on_handler_deadline(stream);
            }
        }
        Ok(())
    }

    /// Takes one frame of the peer.
    ///
    /// # Errors
    /// If the pipe cannot go on.
    pub fn on_frame(&mut self, now: Instant, frame: Frame) -> Result<(), Why> {
        self.heartbeat.on_bytes(now);
        if self.hello_due.is_some() && !matches!(frame.kind, Kind::Hello | Kind::GoAway) {
            return Err(Why::Protocol(format!("{:?} came before HELLO", frame.kind)));
        }
        match frame.kind {
            Kind::Hello => self.on_hello(head::whole(frame.payload)?)?,
            Kind::Req => self.on_request(now, frame)?,
            Kind::Rep => self.on_reply(now, frame)?,
            Kind::Data => self.on_data(frame)?,
            Kind::Credit => self.on_credit(frame.stream, head::credit(frame.payload)?),
            Kind::Cancel => self.on_cancel(frame.stream, head::whole(frame.payload)?),
            Kind::Ping => self.on_ping(now, head::ping(frame.payload)?)?,
            Kind::Pong => {
                if let Some(rtt) = self.heartbeat.on_pong(now, head::ping(frame.payload)?) {
                    self.outputs.push_back(Output::HeartbeatRtt(rtt));
                }
            }
            Kind::GoAway => self.on_go_away(head::whole(frame.payload)?)?,
            Kind::Limits => {
                let limits: Limits = head::whole(frame.payload)?;
                self.outputs.push_back(Output::Limit(limits.max_streams));
            }
        }
        if self.queue.control_len() > MAX_CONTROL_QUEUE {
            return Err(Why::Protocol("the peer asks for answers that it does not read".into()));
        }
        Ok(())
    }

    fn on_credit(&mut self, stream: u64, bytes: u32) {
        if let Some(bytes) = self.queue.credit(stream, bytes) {
            self.outputs.push_back(Output::Room { stream, bytes });
        }
    }

    fn on_ping(&mut self, now: Instant, token: u64) -> Result<(), Why> {
        if !self.heartbeat.may_be_pinged(now) {
            return Err(Why::Protocol("too many pings in a second".into()));
        }
        self.queue.control(Kind::Pong, 0, head::ping_payload(token));
        Ok(())
    }

    fn on_hello(&mut self, hello: Hello) -> Result<(), Why> {
        if self.hello_due.take().is_none() {
            return Err(Why::Protocol("a second HELLO".into()));
        }
        if !(hello.min_version..=hello.max_version).contains(&VERSION) {
            let detail = format!(
                "the peer ({}) speaks versions {} to {} of the protocol, this node {VERSION}: update the older of the two",
                hello.software, hello.min_version, hello.max_version
            );
            self.push_go_away(GoAwayReason::Version, detail.clone(), Duration::ZERO);
            return Err(Why::ClosedHere(detail));
        }
        self.outputs.push_back(Output::Opened(Box::new(hello)));
        Ok(())
    }

    fn on_go_away(&mut self, away: GoAway) -> Result<(), Why> {
        let reason = away.reason();
        if reason != GoAwayReason::Replace {
            self.heard_last = true;
            // Also where the pipe ends here: what is above never ran.
            self.refuse_streams_above(away.last_stream);
        }
        match reason {
            GoAwayReason::Draining | GoAwayReason::Replace | GoAwayReason::Replaced => {}
            _ => {
                let retry_after = Duration::from_millis(away.retry_after_ms.into());
                return Err(Why::PeerSaid { reason, detail: away.detail, retry_after });
            }
        }
        self.outputs.push_back(Output::GoingAway(away));
        Ok(())
    }

    /// Carries out a command.
    pub fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Request { stream, head, body, end, deadline } => {
                self.send_request(now, stream, head, body, end, deadline);
            }
            Command::Reply { stream, head, body, end } => self.send_reply(stream, head, body, end),
            Command::Data { stream, chunk, end } => {
                if !self.queue.data(stream, chunk, end) {
                    self.outputs.push_back(Output::StopBody { stream });
                }
            }
            Command::Consumed { stream, bytes } => self.on_consumed(now, stream, bytes),
            Command::Unwanted { stream } => self.stop_request_body(stream),
            Command::Cancel { stream, reason, detail } => {
                if self.role.owns(stream) {
                    self.cancel_call(stream, reason, detail);
                } else {
                    self.cancel_reply(stream, reason, detail);
                }
            }
            Command::HandlerDone { stream } => self.on_handler_done(stream),
            Command::GoAway { reason, detail, retry_after } => {
                self.push_go_away(reason, detail, retry_after);
            }
            Command::Limit { max_streams } => {
                self.max_streams = max_streams;
                self.queue.control(Kind::Limits, 0, head::to_bytes(&Limits { max_streams }));
            }
        }
    }

    /// Queues a GOAWAY that says why the pipe ends; for errors of the peer.
    pub fn say_why(&mut self, why: &Why) {
        if let Why::Protocol(detail) = why {
            self.push_go_away(GoAwayReason::ProtocolError, detail.clone(), Duration::ZERO);
        }
    }

    fn push_go_away(&mut self, reason: GoAwayReason, detail: String, retry_after: Duration) {
        let last_stream = if reason == GoAwayReason::Replace {
            u64::MAX
        } else {
            // The first word stands: a second GOAWAY must not take more.
            *self.told_last.get_or_insert(self.last_peer)
        };
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let away =
            GoAway { last_stream, retry_after_ms, reason: reason.into(), detail: cut(detail) };
        self.queue.control(Kind::GoAway, 0, head::to_bytes(&away));
    }

    /// The pipe is over: settles every call and stops every handler.
    pub fn end(&mut self, why: &Why) {
        // What was reported as not sent must not leave with the farewell.
        self.queue.drop_streams();
        self.end_calls(why);
        self.end_handlers();
        self.deadlines.clear();
    }

    fn push_cancel(&mut self, stream: u64, reason: CancelReason, detail: String) {
        let cancel = Cancel { reason: reason.into(), detail: cut(detail) };
        self.queue.control(Kind::Cancel, stream, head::to_bytes(&cancel));
    }

    fn push_credit(&mut self, stream: u64, bytes: u32) {
        if bytes > 0 {
            self.queue.control(Kind::Credit, stream, head::credit_payload(bytes));
        }
    }

    /// Expects late frames for a stream that this side has ended.
    fn remember(&mut self, stream: u64) {
        if self.remembered.len() == REMEMBERED_STREAMS {
            self.remembered.pop_front();
        }
        self.remembered.push_back(stream);
    }

    /// Judges a frame for a stream that is not open.
    fn on_stray(&mut self, stream: u64, kind: Kind) -> Result<(), Why> {
        let ever_open = if self.role.owns(stream) {
            stream < self.next_own
        } else {
            stream != 0 && stream <= self.last_peer
        };
        if !ever_open {
            return Err(Why::Protocol(format!(
                "{kind:?} for stream {stream}, which was never opened"
            )));
        }
        if !self.remembered.contains(&stream) {
            self.strays += 1;
            if self.strays > MAX_STRAYS {
                return Err(Why::Protocol(format!(
                    "over {MAX_STRAYS} frames for streams that had ended"
                )));
            }
        }
        Ok(())
    }

    fn on_data(&mut self, frame: Frame) -> Result<(), Why> {
        if self.role.owns(frame.stream) {
            self.on_reply_data(frame)
        } else {
            self.on_request_data(frame)
        }
    }

    fn on_consumed(&mut self, now: Instant, stream: u64, bytes: usize) {
        let rtt = self.heartbeat.rtt();
        let window = if self.role.owns(stream) {
            self.outgoing.get_mut(&stream).map(|call| {
                call.consumed += bytes as u64;
                (&mut call.window, call.reply_ended)
            })
        } else {
            let event = self.incoming.get_mut(&stream);
            event.and_then(|event| Some((event.window.as_mut()?, event.body_over)))
        };
        let Some((window, ended)) = window else { return };
        window.on_consumed(bytes);
        if ended {
            self.finish_call(stream);
            self.finish_request_body(stream);
        } else {
            let credit = window.grant(now, rtt, &self.budgets);
            self.push_credit(stream, credit);
        }
    }

    fn on_cancel(&mut self, stream: u64, cancel: Cancel) {
        if self.role.owns(stream) {
            self.on_call_cancelled(stream, cancel);
        } else {
            self.on_caller_cancel(stream);
        }
    }

    fn on_end_sent(&mut self, stream: u64) {
        if self.role.owns(stream) {
            self.on_request_end_sent(stream);
        } else {
            self.on_reply_end_sent(stream);
        }
    }
}

/// A sentence that fits its frame, whoever wrote it.
fn cut(mut detail: String) -> String {
    if detail.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|end| detail.is_char_boundary(*end));
        detail.truncate(end.unwrap_or(0));
    }
    detail
}
